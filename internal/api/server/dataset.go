package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
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

func (s *server) datasets() {
	acting(s, spec{
		id: "add-dataset", method: http.MethodPost, path: "/v1/datasets", tag: "datasets", role: forge.RoleMember, created: true,
		summary: "Register a dataset version",
		doc:     "Reads the file or directory once on the server's host: digest, rows, columns, kind. The data stays where it is. Sizes are bytes. May take minutes for large data.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindConflict, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.AddDatasetRequest }) (forge.DatasetVersion, error) {
		return s.Datasets.AddDataset(ctx, p, in.Body)
	}, s.Datasets.DatasetVersion)
	operation(s, spec{
		id: "list-datasets", method: http.MethodGet, path: "/v1/datasets", tag: "datasets", role: forge.RoleViewer,
		summary: "List datasets", doc: "By name, with their versions.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *NamedInput) (api.List[forge.Dataset], error) {
		l, err := s.Datasets.Datasets(ctx, p, in.listing())
		return filled(l), err
	})
	operation(s, spec{
		id: "get-dataset", method: http.MethodGet, path: "/v1/datasets/{name}", tag: "datasets", role: forge.RoleViewer,
		summary: "Show a dataset", doc: "With all versions, oldest first. Sizes are bytes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (forge.Dataset, error) {
		return s.Datasets.Dataset(ctx, p, in.Name)
	})
}
