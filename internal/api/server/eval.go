package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type evalsInput struct {
	PageInput
	Model string `query:"model" maxLength:"80" doc:"Only of this model: NAME, or NAME@VERSION"`
	Suite string `query:"suite" maxLength:"64" doc:"Only of this suite"`
}

type evalSamplesInput struct {
	RunInput
	PageInput
	Task   string `query:"task" required:"true" minLength:"1" maxLength:"128" doc:"Name of the task"`
	Filter string `query:"filter" default:"none" maxLength:"128" doc:"Name of the filter"`
}

func (s *server) evals() {
	operation(s, spec{
		id: "list-suites", method: http.MethodGet, path: "/v1/suites", tag: "evals", role: forge.RoleViewer,
		summary: "List suites", doc: "Suites of benchmarks, by name. They are the site's, and the same for every tenant.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.SuiteRow], error) {
		items, err := s.Evals.Suites(ctx, p)
		return whole(items), err
	})
	operation(s, spec{
		id: "get-suite", method: http.MethodGet, path: "/v1/suites/{name}", tag: "evals", role: forge.RoleViewer,
		summary: "Show a suite", doc: "With its benchmarks: task, metric, filter, which way is better, threshold and margin.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (api.Suite, error) {
		return s.Evals.Suite(ctx, p, in.Name)
	})
	operation(s, spec{
		id: "list-evals", method: http.MethodGet, path: "/v1/evals", tag: "evals", role: forge.RoleViewer,
		summary: "List evals", doc: "Completed ones, newest first, without their scores.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *evalsInput) (api.List[forge.Eval], error) {
		l, err := s.Evals.Evals(ctx, p, api.EvalFilter{Model: in.Model, Suite: in.Suite, Limit: in.Limit, Cursor: in.Cursor})
		return filled(l), err
	})
	operation(s, spec{
		id: "get-eval", method: http.MethodGet, path: "/v1/evals/{run}", tag: "evals", role: forge.RoleViewer,
		summary: "Show an eval", doc: "What the run found, by its number or id: every score with its standard error, and the facts that two evals must share to be compared.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.EvalDetail, error) {
		return s.Evals.Eval(ctx, p, in.Run)
	})
	operation(s, spec{
		id: "list-eval-samples", method: http.MethodGet, path: "/v1/evals/{run}/samples", tag: "evals", role: forge.RoleViewer,
		summary: "List the samples of a task", doc: "How each document went, in the order in which they were evaluated.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *evalSamplesInput) (api.List[api.EvalSample], error) {
		l, err := s.Evals.EvalSamples(ctx, p, in.Run, api.SampleFilter{Task: in.Task, Filter: in.Filter, Limit: in.Limit, Cursor: in.Cursor})
		return filled(l), err
	})
}
