package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// CostQuery says of which period costs are asked for, and what they are added up by.
type CostQuery struct {
	By    forge.CostBy
	Since time.Time // zero: 30 days ago
	Until time.Time // zero: now
}
