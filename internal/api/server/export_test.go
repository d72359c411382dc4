package server

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/forge-ml/forge-ml/internal/api"
)

// Describe gives tests the description as values.
func Describe(s api.Services, o Options) *huma.OpenAPI {
	_, d := build(s, o)
	return d
}

// CheckJSON gives tests the look at a body.
func CheckJSON(b []byte) error { return checkJSON(b) }
