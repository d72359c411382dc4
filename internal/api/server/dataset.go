package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type pageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items at most"`
	Cursor string `query:"cursor" maxLength:"64" doc:"next of the page before"`
}

func (p pageInput) page() api.Page { return api.Page{Limit: p.Limit, After: p.Cursor} }

type nameInput struct {
	Name string `path:"name" maxLength:"64" doc:"Name"`
}

// list makes the envelope of a page; a full page may have a next one.
func list[T any](items []T, limit int, cursor func(T) string) api.List[T] {
	l := api.List[T]{Items: items}
	if l.Items == nil {
		l.Items = []T{}
	}
	if limit > 0 && len(items) >= limit {
		l.Next = cursor(items[len(items)-1])
	}
	return l
}

func (s *server) datasets() {
	operation(s, spec{
		id: "add-dataset", method: http.MethodPost, path: "/v1/datasets", tag: "datasets", created: true,
		summary: "Register a dataset version",
		doc:     "Reads the file or directory once on the server's host: digest, rows, columns, kind. The data stays where it is. Sizes are bytes. May take minutes for large data.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindConflict, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.AddDatasetRequest }) (forge.DatasetVersion, error) {
		return s.Datasets.AddDataset(ctx, p, in.Body)
	})
	operation(s, spec{
		id: "list-datasets", method: http.MethodGet, path: "/v1/datasets", tag: "datasets",
		summary: "List datasets", doc: "By name, with their versions.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *pageInput) (api.List[forge.Dataset], error) {
		items, err := s.Datasets.Datasets(ctx, p, in.page())
		return list(items, in.Limit, func(d forge.Dataset) string { return d.Name }), err
	})
	operation(s, spec{
		id: "get-dataset", method: http.MethodGet, path: "/v1/datasets/{name}", tag: "datasets",
		summary: "Show a dataset", doc: "With all versions, oldest first. Sizes are bytes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (forge.Dataset, error) {
		return s.Datasets.Dataset(ctx, p, in.Name)
	})
}
