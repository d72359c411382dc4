package server

import (
	"context"
	"net/http"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// RunInput names a run. It is exported because huma looks into embedded fields only then.
type RunInput struct {
	Run string `path:"run" maxLength:"64" doc:"Run number or id" example:"12"`
}

// RunQuery is what both listings of runs take besides their limit.
type RunQuery struct {
	State  []string `query:"state" enum:"pending,provisioning,running,completed,failed,cancelled" doc:"Only these states, comma-separated"`
	User   string   `query:"user" maxLength:"64" doc:"Only this user's"`
	Cursor int64    `query:"cursor" minimum:"0" doc:"next of the page before"`
}

func (f RunQuery) filter(limit int) api.RunFilter {
	out := api.RunFilter{User: f.User, Limit: limit, Before: f.Cursor}
	for _, s := range f.State {
		out.States = append(out.States, forge.RunState(s))
	}
	return out
}

type runsInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Runs at most"`
	RunQuery
}

type runRowsInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Rows at most"`
	RunQuery
}

func runCursor(n int64) string { return strconv.FormatInt(n, 10) }

func (s *server) runs() {
	s.runActions()
	operation(s, spec{
		id: "list-runs", method: http.MethodGet, path: "/v1/runs", tag: "runs",
		summary: "List runs", doc: "Newest first, whole. Durations are Go's form, memory is MiB per GPU, steps are optimizer steps.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *runsInput) (api.List[forge.Run], error) {
		items, err := s.Runs.Runs(ctx, p, in.filter(in.Limit))
		return list(items, in.Limit, func(r forge.Run) string { return runCursor(r.Number) }), err
	})
	operation(s, spec{
		id: "list-run-rows", method: http.MethodGet, path: "/v1/runs/rows", tag: "runs",
		summary: "List runs without their specs", doc: "Newest first; for listings of thousands. Steps are optimizer steps, gpus counts the whole gang.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *runRowsInput) (api.List[api.RunRow], error) {
		items, err := s.Runs.Runs(ctx, p, in.filter(in.Limit))
		rows := make([]api.RunRow, len(items))
		for i := range items {
			rows[i] = api.RowOf(&items[i])
		}
		return list(rows, in.Limit, func(r api.RunRow) string { return runCursor(r.Number) }), err
	})
	operation(s, spec{
		id: "get-run", method: http.MethodGet, path: "/v1/runs/{run}", tag: "runs",
		summary: "Show a run with its attempts", doc: "Durations are Go's form, memory is MiB per GPU, steps are optimizer steps, eta is a time in UTC.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.RunDetail, error) {
		d, err := s.Runs.Run(ctx, p, in.Run)
		if d.Attempts == nil {
			d.Attempts = []forge.Attempt{}
		}
		return d, err
	})
}

func (s *server) runActions() {
	operation(s, spec{
		id: "submit-run", method: http.MethodPost, path: "/v1/runs", tag: "runs", created: true,
		summary: "Submit a run",
		doc: "Durable before it is answered. Zero values mean the recipe's default. Durations are strings: minutes (\"90\"), Slurm's form (\"1-12:00:00\") or Go's (\"36h\"); " +
			"memory is MiB per GPU; GPUs are counted per node, or in all with gpus.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.SubmitRunRequest }) (api.Submitted, error) {
		return s.Runs.SubmitRun(ctx, p, in.Body)
	})
	operation(s, spec{
		id: "cancel-run", method: http.MethodPost, path: "/v1/runs/{run}/cancel", tag: "runs",
		summary: "Cancel a run",
		doc:     "term: TERM, then KILL after the run's grace (a duration); save: write a checkpoint first; now: KILL. Checkpoints stay.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Body *api.CancelRequest
	}) (forge.Run, error) {
		mode := forge.CancelTerm
		if in.Body != nil && in.Body.Mode != forge.CancelNone {
			mode = in.Body.Mode
		}
		return s.Runs.CancelRun(ctx, p, in.Run, mode)
	})
	operation(s, spec{
		id: "retry-run", method: http.MethodPost, path: "/v1/runs/{run}/retry", tag: "runs", created: true,
		summary: "Submit the same run again", doc: "Makes a new run with the old one as its parent.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.Submitted, error) {
		return s.Runs.RetryRun(ctx, p, in.Run)
	})
}
