package slurm

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// What an executor may add, and operators use: see internal/daemon.

// Admit holds a run against the limits of its partition: notes are worth knowing, an error names the limit that it does not fit.
func (e *Executor) Admit(ctx context.Context, spec forge.RunSpec) (notes []string, err error) {
	return e.rules.admit(ctx, e.options(), spec)
}

// DrainNode lets Slurm give a node no new jobs. kept is what somebody else said of it before, which stays.
func (e *Executor) DrainNode(ctx context.Context, node forge.NodeName, reason string) (kept string, err error) {
	return drainNode(ctx, e.o.Tools, node, reason)
}

// UndrainNode takes our own drain back, and no other.
func (e *Executor) UndrainNode(ctx context.Context, node forge.NodeName) (kept string, err error) {
	return undrainNode(ctx, e.o.Tools, node)
}

// Check looks at the cluster with a job on it, and removes what it made.
func (e *Executor) Check(ctx context.Context, by CheckedBy) []Finding {
	o := e.options()
	var out []Finding
	if h, ok := e.hand.(*AsUser); ok {
		out = append(out, checkActing(ctx, h, o, by.Account, by.NoAccount))
	}
	return append(out, checkCluster(ctx, o, by)...)
}
