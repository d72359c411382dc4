package store

import (
	"context"
	"errors"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// ApplyOptions are what a placement needs from outside.
type ApplyOptions struct {
	RunDir func(forge.RunID, forge.ClusterName) string // where the run's directory is; recorded with the attempt
}

// refusal is a decision that does not hold; anything else that goes wrong in Apply is an error
// of the whole.
type refusal struct {
	why    string
	broken bool
}

func (r *refusal) Error() string { return r.why }

// stale refuses a decision because the world moved since the snapshot; broken because no world would allow it.
func stale(format string, args ...any) error {
	return &refusal{why: fmt.Sprintf(format, args...)}
}

func broken(format string, args ...any) error {
	return &refusal{why: fmt.Sprintf(format, args...), broken: true}
}

// batchWeight is how many slots and stops are written in one transaction, unless one decision alone has more. While a plan is written everybody
// else waits for the writer; and SQLite keeps in a list what a transaction with savepoints may have to undo, and walks it again and again: of
// one transaction with 6,000 stops each costs five times what it costs in one with hundreds.
const batchWeight = 256

// Apply commits the decisions of a plan that still hold, each in a savepoint of its own,
// and returns the others with reasons: a busy queue never starves planning, because one stale
// decision does not cost the rest. A refusal to Retry means that the world moved; a Broken one that a constraint of the schema or
// the shape of the gang forbids it in any world, which is a bug in the plan. A long plan takes several transactions, so that others write in
// between: each decision is whole in one, and is held against the world of that moment. Only a failure of the store is an error; what was placed before it is returned all the same.
func (db *DB) Apply(ctx context.Context, plan forge.Plan, opt ApplyOptions) ([]forge.Attempt, []forge.Refusal, error) {
	var placed []forge.Attempt
	var refused []forge.Refusal
	op := "plan.apply"
	if len(plan.Preempt) > 0 { // a crash point of its own
		op = "plan.preempt"
	}
	for _, part := range batches(plan) {
		var p []forge.Attempt
		var r []forge.Refusal
		err := db.writeIn(ctx, db.writer.plans, op, func(t *tx) (err error) {
			a := &applying{tx: t, opt: opt, named: part.named(), loads: map[forge.ClusterName]*clusterLoad{}}
			p, r, err = a.all(part)
			return err
		})
		if err != nil {
			return placed, refused, err
		}
		placed, refused = append(placed, p...), append(refused, r...)
	}
	return placed, refused, nil
}

// batch is decisions of one transaction: placements, and what is stopped for one run each.
type batch struct {
	place   []forge.Place
	preempt [][]forge.Preempt
}

func batches(plan forge.Plan) []batch {
	out, weight := []batch{{}}, 0
	next := func(n int) *batch {
		if weight > 0 && weight+n > batchWeight {
			out, weight = append(out, batch{}), 0
		}
		weight += n
		return &out[len(out)-1]
	}
	for _, p := range plan.Place {
		n := 1
		for _, s := range p.Shares {
			n += len(s.Slots)
		}
		b := next(n)
		b.place = append(b.place, p)
	}
	for _, group := range byClaimant(plan.Preempt) {
		n := len(group)
		for _, p := range group {
			n += len(p.Claims)
		}
		b := next(n)
		b.preempt = append(b.preempt, group)
	}
	return out
}

// all carries out the decisions of a batch that hold.
func (a *applying) all(b batch) (placed []forge.Attempt, refused []forge.Refusal, err error) {
	for _, p := range b.place {
		var attempt forge.Attempt
		err := a.sub(func() (err error) {
			attempt, err = a.place(p)
			return err
		})
		if err == nil && attempt.Run == "" { // held instead
			refused = append(refused, forge.Refusal{Run: p.Run, Why: "it is on hold now: what it needs was not registered", Retry: true})
		} else if err == nil {
			placed = append(placed, attempt)
			a.loads[p.Cluster].add(p.Shares)
		} else if refused, err = refuse(refused, p.Run, err); err != nil {
			return nil, nil, err
		}
	}
	for _, group := range b.preempt {
		err := a.sub(func() error { return a.preempt(group) })
		if err == nil {
			continue
		}
		if refused, err = refuse(refused, group[0].For, err); err != nil {
			return nil, nil, err
		}
	}
	return placed, refused, nil
}

func refuse(all []forge.Refusal, run forge.RunID, err error) ([]forge.Refusal, error) {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return append(all, forge.Refusal{Run: run, Why: r.why, Retry: !r.broken, Broken: r.broken}), nil
	case violates(err):
		return append(all, forge.Refusal{Run: run, Why: "a constraint of the store forbids it: " + err.Error(), Broken: true}), nil
	}
	return all, err
}

// applying is one batch of an Apply under way.
type applying struct {
	*tx
	opt   ApplyOptions
	named map[forge.ClusterName][]forge.NodeName
	loads map[forge.ClusterName]*clusterLoad
}

// named lists the nodes that a batch rests on: reading all of a site of thousands for the one that a run was placed on would hold up every
// other write. Of a cluster of which it names none, all are read.
func (b batch) named() map[forge.ClusterName][]forge.NodeName {
	type node struct {
		cluster forge.ClusterName
		name    forge.NodeName
	}
	seen, out := map[node]bool{}, map[forge.ClusterName][]forge.NodeName{}
	add := func(n node) {
		if !seen[n] {
			seen[n] = true
			out[n.cluster] = append(out[n.cluster], n.name)
		}
	}
	for _, p := range b.place {
		for _, s := range p.Shares {
			add(node{p.Cluster, s.Node})
		}
	}
	for _, group := range b.preempt {
		for _, p := range group {
			for _, c := range p.Claims {
				add(node{c.Cluster, c.Node})
			}
		}
	}
	return out
}

// clusterLoad is what those of a cluster's nodes that the plan names have and what open attempts use of it.
type clusterLoad struct {
	paused string
	nodes  map[forge.NodeName]forge.Node
	cpus   map[forge.NodeName]int
	memory map[forge.NodeName]int64
}

func (l *clusterLoad) add(shares []forge.Share) {
	for _, s := range shares {
		l.cpus[s.Node] += s.CPUs
		l.memory[s.Node] += s.MemoryMiB
	}
}

func (a *applying) load(cluster forge.ClusterName) (*clusterLoad, error) {
	if l, ok := a.loads[cluster]; ok {
		return l, nil
	}
	l := &clusterLoad{nodes: map[forge.NodeName]forge.Node{}, cpus: map[forge.NodeName]int{}, memory: map[forge.NodeName]int64{}}
	nodes, err := loadNodes(a.ctx, a.Conn, cluster, a.named[cluster]...)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		l.nodes[n.Name] = n
	}
	err = a.one(`SELECT paused_reason FROM clusters WHERE name = ? AND paused_at <> 0`, []any{string(cluster)}, &l.paused)
	if err == nil && l.paused == "" {
		l.paused = "no reason given"
	}
	if err != nil && !absent(err) {
		return nil, err
	}
	if err := a.used(cluster, l); err != nil {
		return nil, err
	}
	a.loads[cluster] = l
	return l, nil
}

// used counts what open attempts have of the nodes that are named. They are found by the slots that they hold: whoever holds none of ours (see
// ADR 13) has nothing else of ours either.
func (a *applying) used(cluster forge.ClusterName, l *clusterLoad) error {
	names, err := encode(len(a.named[cluster]), a.named[cluster])
	if err != nil || names == "" {
		return err
	}
	rows, err := a.Conn.Conn.QueryContext(a.ctx, usedQuery, string(cluster), names)
	if err != nil {
		return err
	}
	placements, err := scanned(rows, func(p *string) []any { return []any{p} })
	if err != nil {
		return err
	}
	for _, p := range placements {
		var shares []forge.Share
		if err := decode(p, &shares); err != nil {
			return err
		}
		l.add(shares)
	}
	return nil
}

const usedQuery = `SELECT placement FROM attempts WHERE (run, number) IN (SELECT run, attempt FROM allocations
	WHERE cluster = ? AND node IN (SELECT value FROM json_each(?))) AND state IN ('placed', 'launching', 'running', 'stopping')`
