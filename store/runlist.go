package store

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	defaultRunLimit = 100
	pageOfRuns      = 256
)

// RunFilter narrows a listing of runs; the zero value is the newest 100.
type RunFilter struct {
	States []forge.RunState // any of these; empty: every state
	User   string           // submitted by this user; empty: by anyone
	Limit  int              // at most so many; 0: 100
	Before int64            // run number to go on below; 0: from the newest
}

// listed is what a listing reads: everything but the JSON of the spec.
const listed = `id, number, user_name, state, reason, hold_by, hold_reason, hold_at, cancel, attempt, retries, fruitless, not_before,
	step, total_steps, saved_step, loss, model, coalesce(parent, ''), submitted_at, started_at, ended_at, version, name, recipe, dataset,
	base, priority, cluster, register, nodes, gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit`

// Runs lists runs, newest first. Of the spec it fills what listings show: name, recipe, dataset and
// base model by name, gang, cluster, priority, time limit, register. Ten thousand runs are printed at once and decoding
// their parameters would be most of the work; Run has the whole.
func (t *Tenant) Runs(ctx context.Context, f RunFilter) ([]forge.Run, error) {
	const op = "run.list"
	q := t.db.read.NewSelect().TableExpr("runs").ColumnExpr(listed).Where("tenant = ?", t.p.Tenant).OrderExpr("number DESC")
	if len(f.States) > 0 {
		q = q.Where("state IN (?)", bun.List(f.States))
	}
	if f.User != "" {
		q = q.Where("user_name = ?", clean(f.User))
	}
	if f.Before > 0 {
		q = q.Where("number < ?", f.Before)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultRunLimit
	}
	// Scanned by hand: bun's reflection costs more than SQLite itself at this many columns.
	rows, err := q.Limit(int64(limit)).Rows(ctx)
	if err != nil {
		return nil, classify(op, err)
	}
	defer rows.Close()
	// Runs are large values: growing one slice would copy ten thousand of them several times over.
	var pages [][]forge.Run
	for rows.Next() {
		r := runRow{Tenant: t.p.Tenant}
		if err := rows.Scan(r.listed()...); err != nil {
			return nil, classify(op, err)
		}
		if n := len(pages); n == 0 || len(pages[n-1]) == cap(pages[n-1]) {
			pages = append(pages, make([]forge.Run, 0, min(limit, pageOfRuns)))
		}
		last := &pages[len(pages)-1]
		*last = append(*last, r.brief())
	}
	if len(pages) == 0 {
		return []forge.Run{}, classify(op, rows.Err())
	}
	return slices.Concat(pages...), classify(op, rows.Err())
}

// listed is where the columns of that name go.
func (r *runRow) listed() []any {
	return []any{(*string)(&r.ID), &r.Number, &r.User, (*string)(&r.State), (*string)(&r.Reason), &r.HoldBy, &r.HoldReason,
		(*int64)(&r.HoldAt), (*string)(&r.Cancel), &r.Attempt, &r.Retries, &r.Fruitless, (*int64)(&r.NotBefore), &r.Step, &r.TotalSteps,
		&r.SavedStep, &r.Loss, &r.Model, (*string)(&r.Parent), (*int64)(&r.SubmittedAt), (*int64)(&r.StartedAt), (*int64)(&r.EndedAt),
		&r.Version, &r.Name, &r.Recipe, &r.Dataset, &r.Base, &r.Priority, (*string)(&r.Cluster), &r.Register, &r.Nodes, &r.GPUs,
		&r.CPUs, &r.MemoryMiB, &r.TimeLimit}
}
