package server

import (
	"context"
	"net/http"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// RunInput names a run. It is exported because huma looks into embedded fields only then.
type RunInput struct {
	Run string `path:"run" maxLength:"64" doc:"Run number or id" example:"12"`
}

// RunQuery is what both listings of runs take besides their limit.
type RunQuery struct {
	State    []string  `query:"state" enum:"pending,provisioning,running,completed,failed,cancelled" doc:"Only these states, comma-separated"`
	User     string    `query:"user" maxLength:"64" doc:"Only this user's"`
	Recipe   string    `query:"recipe" maxLength:"64" doc:"Only of this recipe"`
	Name     string    `query:"name" maxLength:"64" doc:"Only names that begin with this"`
	Model    string    `query:"model" maxLength:"64" doc:"Only runs registered as a version of this model"`
	Pipeline string    `query:"pipeline" maxLength:"64" doc:"Only steps of the pipeline with this id, or of those with this name"`
	Batch    string    `query:"batch_job" maxLength:"64" doc:"Only the run whose attempt the cluster's batch system knows by this job id; ids are reused after years"`
	Since    time.Time `query:"since" doc:"Only runs submitted at this time or later, RFC 3339"`
	Until    time.Time `query:"until" doc:"Only runs submitted before this time, RFC 3339"`
	Sort     string    `query:"sort" enum:"number,-number,priority,-priority,submitted_at,-submitted_at,ended_at,-ended_at,loss,-loss" default:"-number" doc:"Order; descending with a leading -"`
	Cursor   string    `query:"cursor" maxLength:"512" doc:"next of the page before"`
}

func (f RunQuery) filter(limit int) api.RunFilter {
	out := api.RunFilter{User: f.User, Recipe: f.Recipe, Name: f.Name, Model: f.Model, Pipeline: f.Pipeline, Batch: f.Batch, Since: f.Since, Until: f.Until, Sort: f.Sort, Limit: limit, Cursor: f.Cursor}
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
	Limit int  `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Rows at most"`
	Cost  bool `query:"cost" doc:"With what each has had and what it cost up to now"`
	RunQuery
}

func (s *server) runs() {
	s.runActions()
	s.interrupts()
	s.pipelines()
	operation(s, spec{
		id: "list-runs", method: http.MethodGet, path: "/v1/runs", tag: "runs", role: forge.RoleViewer,
		summary: "List runs", doc: "Newest first, with what a listing shows of their specs: their parameters are in the run itself. Durations are Go's form, memory is MiB per GPU, steps are optimizer steps.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *runsInput) (api.List[forge.Run], error) {
		l, err := s.Runs.Runs(ctx, p, in.filter(in.Limit))
		for i := range l.Items { // a listing does not read them
			if spec := &l.Items[i].Spec; spec.Params == nil {
				spec.Params, spec.Origins = map[string]any{}, map[string]string{}
			}
		}
		return filled(l), err
	})
	operation(s, spec{
		id: "list-run-rows", method: http.MethodGet, path: "/v1/runs/rows", tag: "runs", role: forge.RoleViewer,
		summary: "List runs without their specs", doc: "Newest first; for listings of thousands. Steps are optimizer steps, gpus counts the whole gang.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *runRowsInput) (api.List[api.RunRow], error) {
		l, err := s.Runs.Runs(ctx, p, in.filter(in.Limit))
		rows := api.List[api.RunRow]{Items: make([]api.RunRow, len(l.Items)), Next: l.Next}
		for i := range l.Items {
			rows.Items[i] = api.RowOf(&l.Items[i])
		}
		if err != nil || !in.Cost {
			return rows, err
		}
		ids := make([]forge.RunID, len(rows.Items))
		for i := range rows.Items {
			ids[i] = rows.Items[i].ID
		}
		costs, err := s.Costs.RunCosts(ctx, p, ids)
		for i := range rows.Items {
			if c, had := costs[rows.Items[i].ID]; had {
				rows.Items[i].GPUHours, rows.Items[i].Cost = c.GPUHours, c.Money
			}
		}
		return rows, err
	})
	operation(s, spec{
		id: "get-run", method: http.MethodGet, path: "/v1/runs/{run}", tag: "runs", role: forge.RoleViewer,
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
	acting(s, spec{
		id: "submit-run", method: http.MethodPost, path: "/v1/runs", tag: "runs", role: forge.RoleMember, created: true,
		summary: "Submit a run",
		doc: "Durable before it is answered. Zero values mean the recipe's default. Durations are strings: minutes (\"90\"), Slurm's form (\"1-12:00:00\") or Go's (\"36h\"); " +
			"memory is MiB per GPU; GPUs are counted per node, or in all with gpus.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.SubmitRunRequest }) (api.Submitted, error) {
		return s.Runs.SubmitRun(ctx, p, in.Body)
	}, s.submittedAgain)
	operation(s, spec{
		id: "estimate-run", method: http.MethodPost, path: "/v1/estimates", tag: "runs", role: forge.RoleMember,
		summary: "Say what a run would take",
		doc: "Memory of one GPU by part, in bytes; which types of GPU hold it; steps, duration, GPU-hours and cost where they are known. The body is that of a submission; nothing is stored. " +
			"What it would have to guess is refused with the field's name (412).",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.SubmitRunRequest }) (api.Estimate, error) {
		return s.Estimates.EstimateRun(ctx, p, in.Body)
	})
	acting(s, spec{
		id: "cancel-run", method: http.MethodPost, path: "/v1/runs/{run}/cancel", tag: "runs", role: forge.RoleMember,
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
	}, s.runAgain)
	acting(s, spec{
		id: "retry-run", method: http.MethodPost, path: "/v1/runs/{run}/retry", tag: "runs", role: forge.RoleMember, created: true,
		summary: "Submit the same run again", doc: "Makes a new run with the old one as its parent.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.Submitted, error) {
		return s.Runs.RetryRun(ctx, p, in.Run)
	}, s.submittedAgain)
}

func (s *server) runAgain(ctx context.Context, p forge.Principal, ref string) (forge.Run, error) {
	d, err := s.Runs.Run(ctx, p, ref)
	return d.Run, err
}

func (s *server) submittedAgain(ctx context.Context, p forge.Principal, ref string) (api.Submitted, error) {
	r, err := s.runAgain(ctx, p, ref)
	if err != nil || r.State != forge.RunPending {
		return api.Submitted{Run: r}, err
	}
	w, err := s.RunData.Why(ctx, p, ref)
	return api.Submitted{Run: r, Position: w.Position, Waiting: w.Waiting}, err
}
