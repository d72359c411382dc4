package server

import (
	"github.com/forge-ml/forge-ml/internal/api"
)

// PageInput is what every listing takes. It is exported because huma looks into embedded fields
// only then.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items at most"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next of the page before"`
}

// NamedInput is what listings of named things take.
type NamedInput struct {
	PageInput
	Name string `query:"name" maxLength:"64" doc:"Only names that begin with this"`
	Sort string `query:"sort" enum:"name,-name,created_at,-created_at" default:"name" doc:"Order; descending with a leading -"`
}

func (p NamedInput) listing() api.Listing {
	return api.Listing{Limit: p.Limit, Cursor: p.Cursor, Sort: p.Sort, Name: p.Name}
}

type nameInput struct {
	Name string `path:"name" maxLength:"64" doc:"Name"`
}

// whole is the envelope of a listing without pages.
func whole[T any](items []T) api.List[T] { return filled(api.List[T]{Items: items}) }

// filled answers [] where there is nothing.
func filled[T any](l api.List[T]) api.List[T] {
	if l.Items == nil {
		l.Items = []T{}
	}
	return l
}
