package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	defaultRunLimit = 100
	pageOfRuns      = 256
)

// RunFilter narrows and orders a listing of runs; the zero value is the newest 100.
type RunFilter struct {
	States   []forge.RunState // any of these; empty: every state
	User     string           // submitted by this user; empty: by anyone
	Recipe   string
	Name     string    // names that begin with this
	Model    string    // registered as a version of this model
	Pipeline string    // step of the pipeline with this id, or of any with this name
	Batch    string    // has an attempt that the cluster's batch system knows by this id
	Since    time.Time // submitted at or after
	Until    time.Time // submitted before
	Sort     string    // number, priority, submitted_at, ended_at or loss, descending with a leading '-'; empty: -number
	Limit    int       // at most so many; 0: 100
	Cursor   string    // next of the page before; KindInvalid for one of another listing, tenant, filter or order
}

// runOrders are the orders of a listing, each total by the number. Those by columns that never change need no more.
//
// What a run ended at and with which loss comes while somebody turns pages: a run that ended between two of them would move to
// where nobody looks again. Such a listing is therefore one of the moment of its first page, which the cursor
// carries as the newest end that there was: a run that ended later stays among those that have not, which
// come last in both directions, as do those without a loss. (Losses of runs that go on change at
// every step, and are no order that one could turn pages in.)
var runOrders = []order{
	{name: "number", columns: []string{"number"}},
	{name: "priority", columns: []string{"priority", "number"}},
	{name: "submitted_at", columns: []string{"submitted_at", "number"}},
	{name: "ended_at", columns: []string{"ended_at"}},
	{name: "loss", columns: []string{"loss"}},
}

// settled is an order by what only ended runs have. It compares (missing, ±value, ±number), so that one direction fits all three.
func settled(o order, newest int64) order {
	sign := ""
	if o.desc {
		sign = "-"
	}
	ended := fmt.Sprintf("ended_at BETWEEN 1 AND %d", newest)
	if o.name == "loss" {
		ended += " AND loss IS NOT NULL"
	}
	return order{name: o.name, columns: []string{"NOT (" + ended + ")",
		fmt.Sprintf("CASE WHEN %s THEN %s%s ELSE 0 END", ended, sign, o.name), sign + "number"}}
}

// listed is what a listing reads: everything but the JSON of the spec.
const listed = `id, number, user_name, state, reason, hold_by, hold_reason, hold_at, cancel, attempt, retries, fruitless, not_before,
	step, total_steps, saved_step, loss, model, coalesce(parent, ''), submitted_at, started_at, ended_at, version, name, recipe, dataset,
	base, priority, cluster, register, nodes, gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit, batch, eval, narrowed, pinned`

func (r *runRow) place(o order, newest int64) []any {
	switch o.name {
	case "number":
		return []any{r.Number}
	case "priority":
		return []any{r.Priority, r.Number}
	case "submitted_at":
		return []any{r.SubmittedAt, r.Number}
	}
	sign := int64(1)
	if o.desc {
		sign = -1
	}
	missing, value := 0, any(sign*int64(r.EndedAt))
	if o.name == "loss" && r.Loss != nil {
		value = float64(sign) * *r.Loss
	}
	if r.EndedAt == 0 || int64(r.EndedAt) > newest || o.name == "loss" && r.Loss == nil {
		missing, value = 1, 0
	}
	return []any{newest, missing, value, sign * r.Number}
}

// Runs lists runs and says where the next page begins. Of the spec it fills what listings show: name, recipe, dataset and
// base model by name, gang, cluster, priority, time limit, register. Ten thousand runs are printed at once and decoding
// their parameters would be most of the work; Run has the whole.
func (t *Tenant) Runs(ctx context.Context, f RunFilter) ([]forge.Run, string, error) {
	const op = "run.list"
	o, err := orderOf(f.Sort, runOrders...)
	if err != nil {
		return nil, "", err
	}
	if f.Sort == "" {
		o.desc = true
	}
	states := slices.Sorted(slices.Values(f.States))
	b := t.bound(op, o, states, f.User, f.Recipe, f.Name, f.Model, f.Batch, f.Pipeline, stampOf(f.Since), stampOf(f.Until))
	var runs []forge.Run
	var next string
	err = t.db.snapshot(ctx, op, func(tx bun.Tx) error {
		runs, next, err = t.runs(ctx, tx, f, o, b)
		return err
	})
	return runs, next, err
}

func (t *Tenant) runs(ctx context.Context, tx bun.Tx, f RunFilter, o order, b bound) ([]forge.Run, string, error) {
	var newest int64
	by, values := o, len(o.columns)
	moves := o.name == "ended_at" || o.name == "loss"
	if moves {
		values = 4
	}
	after, err := b.place(f.Cursor, values)
	if err != nil {
		return nil, "", err
	}
	if moves {
		if after == nil {
			err = tx.NewSelect().TableExpr("runs").ColumnExpr("coalesce(max(ended_at), 0)").Where("tenant = ?", t.p.Tenant).Scan(ctx, &newest)
		} else if newest, after = asInt(after[0]), after[1:]; newest < 0 {
			err = badCursor(f.Cursor)
		}
		if err != nil {
			return nil, "", err
		}
		by = settled(o, newest)
	}
	limit := pageSize(f.Limit, defaultRunLimit)
	q := by.apply(f.narrow(tx.NewSelect().TableExpr("runs").ColumnExpr(listed).Where("tenant = ?", t.p.Tenant)), after).Limit(int64(limit) + 1)
	// Scanned by hand: bun's reflection costs more than SQLite itself at this many columns.
	rows, err := q.Rows(ctx)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	// Runs are large values: growing one slice would copy ten thousand of them several times over.
	var pages [][]forge.Run
	next, last := "", (*runRow)(nil)
	for n := 0; rows.Next(); n++ {
		if n == limit { // there is more: the next page begins after the last of this one
			if next, err = b.cursor(last.place(o, newest)); err != nil {
				return nil, "", err
			}
			break
		}
		r := runRow{Tenant: t.p.Tenant}
		if err := rows.Scan(r.listed()...); err != nil {
			return nil, "", err
		}
		if n := len(pages); n == 0 || len(pages[n-1]) == cap(pages[n-1]) {
			pages = append(pages, make([]forge.Run, 0, min(limit, pageOfRuns)))
		}
		to := &pages[len(pages)-1]
		*to = append(*to, r.brief())
		last = &r
	}
	if len(pages) == 0 {
		return []forge.Run{}, "", rows.Err()
	}
	return slices.Concat(pages...), next, rows.Err()
}

func asInt(v any) int64 {
	if n, ok := v.(int64); ok {
		return n
	}
	return -1
}

func (f RunFilter) narrow(q *bun.SelectQuery) *bun.SelectQuery {
	if len(f.States) > 0 {
		q = q.Where("state IN (?)", bun.List(f.States))
	}
	for _, c := range []struct{ column, value string }{{"user_name", f.User}, {"recipe", f.Recipe}} {
		if c.value != "" {
			q = q.Where(c.column+" = ?", clean(c.value))
		}
	}
	if f.Model != "" {
		q = startsWith(q, "model", strings.TrimSuffix(f.Model, "@")+"@")
	}
	if f.Batch != "" {
		q = q.Where("id IN (SELECT run FROM attempts WHERE batch_id = ? AND batch_id <> '')", clean(f.Batch))
	}
	if f.Pipeline != "" {
		name := clean(f.Pipeline)
		q = q.Where("id IN (SELECT s.run FROM pipeline_steps AS s JOIN pipelines AS p ON p.id = s.pipeline WHERE p.tenant = runs.tenant AND (p.id = ? OR p.name = ?))", name, name)
	}
	if !f.Since.IsZero() {
		q = q.Where("submitted_at >= ?", stampOf(f.Since))
	}
	if !f.Until.IsZero() {
		q = q.Where("submitted_at < ?", stampOf(f.Until))
	}
	return startsWith(q, "name", f.Name)
}

// listed is where the columns of that name go.
func (r *runRow) listed() []any {
	return []any{(*string)(&r.ID), &r.Number, &r.User, (*string)(&r.State), (*string)(&r.Reason), &r.HoldBy, &r.HoldReason,
		(*int64)(&r.HoldAt), (*string)(&r.Cancel), &r.Attempt, &r.Retries, &r.Fruitless, (*int64)(&r.NotBefore), &r.Step, &r.TotalSteps,
		&r.SavedStep, &r.Loss, &r.Model, (*string)(&r.Parent), (*int64)(&r.SubmittedAt), (*int64)(&r.StartedAt), (*int64)(&r.EndedAt),
		&r.Version, &r.Name, &r.Recipe, &r.Dataset, &r.Base, &r.Priority, (*string)(&r.Cluster), &r.Register, &r.Nodes, &r.GPUs,
		&r.CPUs, &r.MemoryMiB, &r.TimeLimit, &r.Batch, &r.Eval, &r.Narrowed, &r.Pinned}
}
