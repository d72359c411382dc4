package server

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type evalsInput struct {
	PageInput
	Model string `query:"model" maxLength:"80" doc:"Only of this model: NAME, or NAME@VERSION"`
	Suite string `query:"suite" maxLength:"64" doc:"Only of this suite"`
}

type evalSamplesInput struct {
	EvalInput
	PageInput
	Task   string `query:"task" required:"true" minLength:"1" maxLength:"128" doc:"Name of the task"`
	Filter string `query:"filter" default:"none" maxLength:"128" doc:"Name of the filter"`
}

// EvalInput names an eval.
type EvalInput struct {
	Run string `path:"run" maxLength:"160" doc:"Number or id of its run, or iN for the Nth that was imported" example:"12"`
}

type compareInput struct {
	EvalInput
	Baseline string `query:"baseline" required:"true" minLength:"1" maxLength:"160" doc:"An eval (12, i3), or NAME@VERSION with suite"`
	Suite    string `query:"suite" maxLength:"64" doc:"Where a side is named by its model: the newest whole eval of it by this suite"`
	Flips    int    `query:"flips" minimum:"0" maximum:"1000" default:"5" doc:"Most samples that are given of those that the two scored differently"`
}

// ImportInput is an eval on its way: it is passed on as it comes and never held in memory.
type ImportInput struct {
	SHA256 string `query:"sha256" required:"true" pattern:"^[0-9a-f]{64}$" doc:"Of the body"`
	body   io.Reader
}

// Resolve implements huma.Resolver.
func (in *ImportInput) Resolve(c huma.Context) []error {
	in.body = c.BodyReader()
	return nil
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
		summary: "List evals", doc: "Completed and imported ones, newest first, without their scores.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *evalsInput) (api.List[forge.Eval], error) {
		l, err := s.Evals.Evals(ctx, p, api.EvalFilter{Model: in.Model, Suite: in.Suite, Limit: in.Limit, Cursor: in.Cursor})
		return filled(l), err
	})
	operation(s, spec{
		id: "get-eval", method: http.MethodGet, path: "/v1/evals/{run}", tag: "evals", role: forge.RoleViewer,
		summary: "Show an eval", doc: "What the run found, by its number or id, or what was imported, by iN: every score with its standard error, and the facts that two evals must share to be compared.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *EvalInput) (api.EvalDetail, error) {
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
	operation(s, spec{
		id: "compare-evals", method: http.MethodGet, path: "/v1/evals/{run}/compare", tag: "evals", role: forge.RoleViewer,
		summary: "Compare two evals",
		doc: "Pair by pair: the eval of the path is the candidate, which may be named as NAME@VERSION with suite, too. Of each benchmark the difference with its interval, p and verdict; " +
			"what keeps the two from being compared is named, and the verdict is incomparable. The same two evals give the same numbers.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *compareInput) (api.EvalComparison, error) {
		return s.Evals.CompareEvals(ctx, p, api.CompareFilter{Candidate: in.Run, Baseline: in.Baseline, Suite: in.Suite, Flips: in.Flips})
	})
	acting(s, spec{
		id: "import-eval", method: http.MethodPost, path: api.EvalsPath, tag: "evals", role: forge.RoleMember, created: true, upload: api.EvalImportType,
		summary: "Import an eval",
		doc: "Results that were made elsewhere: a gzip of lines of JSON, first a head with the facts and scores, then every sample, as forgectl eval import makes it of lm-evaluation-harness's files. " +
			"Held against each other and against the suite as it is now. Which model answered is the importer's word: it is marked as imported for ever, and no gate takes it.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *ImportInput) (api.EvalDetail, error) {
		return s.Evals.ImportEval(ctx, p, in.SHA256, in.body)
	}, s.Evals.Eval)
}
