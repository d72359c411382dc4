package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

const (
	// effectBudget is what each of the two looks ahead may take that stand beside a dry run or a change of priority.
	effectBudget = 80 * time.Millisecond
	// whatIfBudget is what each may take of somebody who asked for nothing else.
	whatIfBudget = 2 * time.Second
	whatIfRuns   = 1000
	whatIfNodes  = 10_000
	// soonEnough is by how much a start must move before anybody is told.
	soonEnough = time.Minute
)

// effect plays the queue on as it is and as it would be. What was not known within the budget does not count.
func (d *Daemon) effect(ctx context.Context, was, then forge.Snapshot, run forge.RunID) (before, after *api.Start, e *api.Effect) {
	p := d.policy()
	a, err := lookAhead(ctx, was, p, sim.ForecastOptions{Budget: effectBudget})
	if err != nil {
		return &api.Start{Note: "not known yet"}, &api.Start{Note: "not known yet"}, nil
	}
	b, err := lookAhead(ctx, then, p, sim.ForecastOptions{Budget: effectBudget})
	if err != nil {
		return a.start(run), &api.Start{Note: "not known yet"}, nil
	}
	x := moved(a, b, run)
	return a.start(run), b.start(run), &x
}

// moved counts the runs whose start moves; but is left out.
func moved(a, b *forecast, but forge.RunID) api.Effect {
	var e api.Effect
	for id, x := range a.starts {
		y := b.starts[id].Start
		if id == but || x.Start.IsZero() {
			continue
		}
		switch by := y.Sub(x.Start); {
		case y.IsZero():
			e.Never++
		case by >= soonEnough:
			e.Later++
			e.Most = max(e.Most, forge.Duration(by.Round(time.Second)))
		case by <= -soonEnough:
			e.Sooner++
		}
	}
	return e
}

// wouldWait is the queue with one more run: what would be known of it is taken from the newest that waits and has as many GPUs.
func wouldWait(s forge.Snapshot, p forge.Principal, spec forge.RunSpec) (forge.Snapshot, forge.RunID) {
	r := pendingRun(forge.Run{ID: "~would-wait", Tenant: p.Tenant, User: p.User, Spec: spec, SubmittedAt: s.Now})
	left := time.Hour
	if spec.TimeLimit > 0 {
		left = spec.TimeLimit.D() / 2
	}
	r.Work = forge.Work{Rank: forge.GPUTimeOf(left, r.Gang.GPUs()), Source: forge.WorkIndex}
	var newest time.Time
	for i := range s.Pending {
		if q := &s.Pending[i]; q.Tenant == p.Tenant && q.Gang == r.Gang && q.Work.Ran == 0 && q.SubmittedAt.After(newest) {
			newest, r.Work = q.SubmittedAt, q.Work
		}
	}
	s.Pending = append(slices.Clone(s.Pending), r) // "~" comes after all ids
	return s, r.ID
}

// dryRun says when a run would start and what that would do to others.
func (d *Daemon) dryRun(ctx context.Context, p forge.Principal, spec forge.RunSpec, out *api.Submitted) {
	if len(spec.After) > 0 {
		out.Start = &api.Start{Note: "not before the runs that it is to wait for"}
		return
	}
	was := d.outlooks.of(d.world, d.policy(), time.Now()).snap
	then, id := wouldWait(was, p, spec)
	_, out.Start, out.Effect = d.effect(ctx, was, then, id)
}

// WhatIf plays the queue on as it is and as it would be. Only operators see runs of all tenants; to others those are amounts.
func (s rundata) WhatIf(ctx context.Context, p forge.Principal, q api.WhatIfQuery) (api.WhatIf, error) {
	now := s.d.outlooks.of(s.d.world, s.d.policy(), time.Now())
	then, policy := now.snap, now.by
	var err error
	if q.Policy != "" && q.Policy != policy.Preset {
		if policy, err = scheduler.Preset(q.Policy); err != nil {
			return api.WhatIf{}, asField(err, "policy")
		}
	}
	then.Nodes = slices.Clone(then.Nodes)
	for _, n := range q.Drain {
		if err := drainIn(then.Nodes, n); err != nil {
			return api.WhatIf{}, err
		}
	}
	for _, a := range q.AddNodes {
		if then.Nodes, err = addNodes(then.Nodes, a); err != nil {
			return api.WhatIf{}, err
		}
	}
	select { // one at a time: each costs seconds of one core on a long queue
	case s.d.whatIf <- struct{}{}:
		defer func() { <-s.d.whatIf }()
	case <-ctx.Done():
		return api.WhatIf{}, forge.Errorf(forge.KindUnavailable, "queue.what-if", "others ask at the same time")
	}
	a, err := lookAhead(ctx, now.snap, now.by, sim.ForecastOptions{Budget: whatIfBudget})
	if err != nil {
		return api.WhatIf{}, err
	}
	b, err := lookAhead(ctx, then, policy, sim.ForecastOptions{Budget: whatIfBudget})
	if err != nil {
		return api.WhatIf{}, err
	}
	out := api.WhatIf{Now: figuresOf(now.snap, now.by, a, b), Then: figuresOf(then, policy, b, a), Runs: []api.WhatIfRun{}, Others: moved(a, b, "")}
	for _, r := range now.queue() {
		if r.Tenant != p.Tenant && p.Role != forge.RoleOperator {
			continue
		}
		if len(out.Runs) >= whatIfRuns {
			out.More++
			continue
		}
		x := api.WhatIfRun{Run: r.Number, GPUs: r.Gang.GPUs(), Now: a.start(r.ID).At, Then: b.start(r.ID).At}
		if v, ok := s.d.world.run(r.ID); ok {
			x.Name = v.Spec.Name
		}
		if p.Role == forge.RoleOperator {
			x.Tenant = r.Tenant
		}
		out.Runs = append(out.Runs, x)
	}
	return out, nil
}

// figuresOf sums up a look ahead over the runs that start in both.
func figuresOf(s forge.Snapshot, p scheduler.Policy, f, other *forecast) api.AheadFigures {
	out := api.AheadFigures{Policy: p.Preset, Waiting: len(s.Pending)}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.State == forge.NodeReady {
			for j := range n.GPUs {
				if n.GPUs[j].Sick == "" {
					out.GPUs++
				}
			}
		}
	}
	var waits []float64
	sum := 0.0
	for i := range s.Pending {
		r := &s.Pending[i]
		x := f.starts[r.ID]
		if x.Start.IsZero() {
			continue
		}
		out.Start++
		if other.starts[r.ID].Start.IsZero() {
			continue
		}
		w := max(0, x.Start.Sub(r.SubmittedAt).Seconds())
		waits = append(waits, w)
		sum += w
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		out.AvgWaitS, out.P95WaitS, out.MaxWaitS = sum/float64(len(waits)), waits[(len(waits)*95+99)/100-1], waits[len(waits)-1]
	}
	return out
}

// drainIn keeps work away from a node, named by itself or as CLUSTER/NODE.
func drainIn(nodes []forge.Node, name string) error {
	at := -1
	for i := range nodes {
		n := &nodes[i]
		if string(n.Name) != name && string(n.Cluster)+"/"+string(n.Name) != name {
			continue
		}
		if at >= 0 {
			return forge.Invalidf("drain", "%.80q is in several clusters; want CLUSTER/NODE", name)
		}
		at = i
	}
	if at < 0 {
		return forge.Invalidf("drain", "%.80q: there is no such node", name).WithHint("forgectl node list")
	}
	nodes[at].State = forge.NodeDrained
	return nil
}

// addNodes adds NODESxGPUS:TYPE, each like a node with such GPUs that is there.
func addNodes(nodes []forge.Node, asked string) ([]forge.Node, error) {
	const want = "want NODESxGPUS:TYPE, such as 4x8:h100"
	size, typ, _ := strings.Cut(asked, ":")
	var n, g int
	if c, err := fmt.Sscanf(size, "%dx%d", &n, &g); err != nil || c != 2 || fmt.Sprintf("%dx%d", n, g) != size || n < 1 || g < 1 || n > whatIfNodes || g > 1024 {
		return nil, forge.Invalidf("add_nodes", "%.80q is no number of nodes; %s", asked, want)
	}
	var like *forge.Node
	for i := range nodes {
		x := &nodes[i]
		if len(x.GPUs) == 0 || typ != "" && !forge.NamesGPUType(typ, x.GPUs[0].Type) {
			continue
		}
		if typ == "" && like != nil && like.GPUs[0].Type != x.GPUs[0].Type {
			return nil, forge.Invalidf("add_nodes", "%.80q: there are GPUs of several types; %s", asked, want)
		}
		if like == nil || abs(len(x.GPUs)-g) < abs(len(like.GPUs)-g) {
			like = x
		}
	}
	if like == nil {
		return nil, forge.Invalidf("add_nodes", "%.80q: no node has GPUs of that type, so that nothing is known of what else such a node has", asked).WithHint("forgectl node list")
	}
	had, first, kind := len(like.GPUs), like.GPUs[0], *like
	for i := range n {
		x := forge.Node{Cluster: kind.Cluster, Name: forge.NodeName(fmt.Sprintf("added-%d-%d", len(nodes), i+1)), State: forge.NodeReady, CPUs: kind.CPUs * g / had, MemoryMiB: kind.MemoryMiB * int64(g) / int64(had), Labels: kind.Labels}
		for slot := range g {
			x.GPUs = append(x.GPUs, forge.GPU{Slot: slot, Kind: first.Kind, Type: first.Type, MemoryMiB: first.MemoryMiB})
		}
		nodes = append(nodes, x)
	}
	slices.SortFunc(nodes, func(a, b forge.Node) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
	})
	return nodes, nil
}

func abs(n int) int { return max(n, -n) }
