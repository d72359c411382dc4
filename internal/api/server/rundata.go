package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type logInput struct {
	RunInput
	Rank    int    `query:"rank" minimum:"0" doc:"Global rank"`
	Attempt int    `query:"attempt" minimum:"0" doc:"Attempt number; 0 is the newest"`
	Stream  string `query:"stream" enum:"stdout,stderr" default:"stdout"`
	Offset  int64  `query:"offset" minimum:"0" doc:"Bytes from the start; next of the chunk before"`
	Max     int    `query:"max" minimum:"1" maximum:"1048576" default:"65536" doc:"Bytes at most"`
}

type metricsInput struct {
	RunInput
	Keys   []string `query:"keys" maxItems:"64" doc:"Only these curves, comma-separated; none means every key"`
	From   int64    `query:"from" minimum:"0" doc:"First step"`
	To     int64    `query:"to" minimum:"0" doc:"Last step; 0 means the newest"`
	Points int      `query:"points" minimum:"1" maximum:"2000" default:"200" doc:"Buckets at most, per key"`
}

type queueInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"10000" default:"10000" doc:"Entries at most; more counts those after them"`
}

type whatIfInput struct {
	AddNodes []string `query:"add_nodes" maxItems:"16" doc:"NODESxGPUS:TYPE, each like a node that is there: 4x8:h100"`
	Drain    []string `query:"drain" maxItems:"1000" doc:"Nodes that take no new work: NODE or CLUSTER/NODE"`
	Policy   string   `query:"policy" maxLength:"64" doc:"A preset instead of the site's policy"`
}

func (s *server) runData() {
	s.samples()
	s.measures()
	operation(s, spec{
		id: "what-if", method: http.MethodGet, path: "/v1/queue/what-if", tag: "queue", role: forge.RoleMember,
		summary: "Say what a change of the site would do to the queue",
		doc:     "Plays the queue on as it is and as it would be, by what is known of how long runs last; nothing is changed. Runs of other tenants are amounts, except to operators.",
		errors:  []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *whatIfInput) (api.WhatIf, error) {
		return s.RunData.WhatIf(ctx, p, api.WhatIfQuery{AddNodes: in.AddNodes, Drain: in.Drain, Policy: in.Policy})
	})
	operation(s, spec{
		id: "why-run", method: http.MethodGet, path: "/v1/runs/{run}/why", tag: "runs", role: forge.RoleViewer,
		summary: "Say why a run is where it is", doc: "One sentence, what it rests on, and commands that may help.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.Why, error) {
		return s.RunData.Why(ctx, p, in.Run)
	})
	operation(s, spec{
		id: "get-run-log", method: http.MethodGet, path: "/v1/runs/{run}/log", tag: "runs", role: forge.RoleViewer,
		summary: "Read a rank's output", doc: "From an offset in bytes. A follower asks again with the answer's attempt and next.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *logInput) (api.LogChunk, error) {
		return s.RunData.Log(ctx, p, in.Run, api.LogQuery{Rank: in.Rank, Attempt: in.Attempt, Stream: in.Stream, Offset: in.Offset, Max: in.Max})
	})
	operation(s, spec{
		id: "get-run-metrics", method: http.MethodGet, path: "/v1/runs/{run}/metrics", tag: "runs", role: forge.RoleViewer,
		summary: "Read a run's curves", doc: "Rolled up to buckets of steps with min, max and last. Steps are optimizer steps.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *metricsInput) (api.Metrics, error) {
		m, err := s.RunData.Metrics(ctx, p, in.Run, api.MetricsQuery{Keys: in.Keys, From: in.From, To: in.To, Points: in.Points})
		if m.Keys == nil {
			m.Keys = []string{}
		}
		if m.Curves == nil {
			m.Curves = map[string][]forge.MetricBucket{}
		}
		if m.Last == nil {
			m.Last = map[string]float64{}
		}
		return m, err
	})
	operation(s, spec{
		id: "list-run-checkpoints", method: http.MethodGet, path: "/v1/runs/{run}/checkpoints", tag: "runs", role: forge.RoleViewer,
		summary: "List a run's checkpoints", doc: "Highest step first, with what a look at the bytes said. Sizes are bytes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.List[forge.Checkpoint], error) {
		items, err := s.RunData.Checkpoints(ctx, p, in.Run)
		return whole(items), err
	})
	operation(s, spec{
		id: "get-queue", method: http.MethodGet, path: "/v1/queue", tag: "queue", role: forge.RoleViewer,
		summary: "Show what waits and runs", doc: "What runs, then what waits in the order of the plan. Other tenants' load is a count of runs and GPUs.",
	}, func(ctx context.Context, p forge.Principal, in *queueInput) (api.Queue, error) {
		q, err := s.RunData.Queue(ctx, p, in.Limit)
		if q.Entries == nil {
			q.Entries = []api.QueueEntry{}
		}
		return q, err
	})
}
