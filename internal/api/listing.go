package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Listing asks for a page of a listing. Cursor is opaque: next of the page before. One that is of another
// listing, another order or another tenant is KindInvalid. Pages are stable: what is inserted
// meanwhile neither repeats nor hides an item.
type Listing struct {
	Limit  int
	Cursor string
	Sort   string // a field, descending with a leading '-'; empty: the listing's own order
	Name   string // names that begin with this
	Kind   string // of models and datasets
}

// EventFilter narrows the trail.
type EventFilter struct {
	After int64 // only greater seqs
	Run   string
	Types []forge.EventType
	Actor string
	Since time.Time
}
