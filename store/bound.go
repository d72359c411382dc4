package store

import (
	"database/sql"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// What every launch and every end of a run reads and writes is bound here instead of going through bun's models: bun writes the values into
// the text of a statement, which SQLite then has to parse each time, and parsing was most of what the writer did. These texts
// never change, so that the connection keeps them prepared. A test holds each list against its row's model.

// Neither joins: a bound value that a join carries from one table to the other makes SQLite plan, and so parse, the statement again for each new value.
const (
	selectRun  = `SELECT ` + listed + `, tenant, avoid FROM runs WHERE id = ?`
	selectSpec = `SELECT spec, params, origins FROM run_specs WHERE run = ?`
)

// run loads a run for a change, without its spec: see specOf. KindNotFound when there is none.
func (t *tx) run(id forge.RunID) (*runRow, error) {
	r := &runRow{}
	err := t.one(selectRun, []any{clean(string(id))}, append(r.listed(), (*string)(&r.Tenant), &r.Avoid)...)
	if absent(err) {
		return nil, noRun(string(id))
	}
	return r, err
}

// specOf loads what only whoever is told of the run needs.
func (t *tx) specOf(r *runRow) error {
	if r.Spec != "" {
		return nil
	}
	return t.one(selectSpec, []any{string(r.ID)}, &r.Spec, &r.Params, &r.Origins)
}

// mutableRun is what saveRun writes: all that may change after submit.
var mutableRun = []string{"state", "reason", "hold_by", "hold_reason", "hold_at", "cancel", "attempt", "retries", "fruitless",
	"not_before", "avoid", "step", "total_steps", "saved_step", "loss", "model", "started_at", "ended_at", "priority", "version"}

// mutable are the values of those columns.
func (r *runRow) mutable() []any {
	return []any{string(r.State), string(r.Reason), r.HoldBy, r.HoldReason, int64(r.HoldAt), string(r.Cancel), r.Attempt, r.Retries, r.Fruitless,
		int64(r.NotBefore), r.Avoid, r.Step, r.TotalSteps, r.SavedStep, r.Loss, r.Model, int64(r.StartedAt), int64(r.EndedAt), r.Priority, r.Version}
}

var updateRun = update("runs", mutableRun, "id")

// columnsOfAttempt are all of the table; the first two are its key.
var columnsOfAttempt = []string{"run", "number", "state", "reason", "detail", "cluster", "placement", "external_id", "run_dir", "intent", "resume_step", "resume_from",
	"last_step", "saved_step", "unknown_since", "placed_at", "started_at", "exited_at", "ended_at", "exits", "batch", "batch_id", "handed_over", "rehearsal",
	"gpus", "price", "first_step_at", "last_step_at", "kept_at", "unheard_at", "version"}

// columns is where columnsOfAttempt go.
func (a *attemptRow) columns() []any {
	return []any{(*string)(&a.Run), &a.Number, (*string)(&a.State), (*string)(&a.Reason), &a.Detail, (*string)(&a.Cluster), &a.Placement, (*string)(&a.ExternalID), &a.RunDir,
		(*string)(&a.Intent), &a.ResumeStep, &a.ResumeFrom, &a.LastStep, &a.SavedStep, (*int64)(&a.Unknown), (*int64)(&a.PlacedAt), (*int64)(&a.StartedAt),
		(*int64)(&a.ExitedAt), (*int64)(&a.EndedAt), &a.Exits, &a.Batch, &a.BatchID, &a.HandedOver, &a.Rehearsal,
		&a.GPUs, &a.Price, (*int64)(&a.FirstStep), (*int64)(&a.LastStepAt), (*int64)(&a.KeptAt), (*int64)(&a.UnheardAt), &a.Version}
}

// mutableAttempt is what saveAttempt writes.
var mutableAttempt = []string{"state", "reason", "detail", "external_id", "intent", "resume_step", "resume_from", "last_step",
	"saved_step", "unknown_since", "started_at", "exited_at", "ended_at", "exits", "batch", "batch_id", "placement", "rehearsal",
	"gpus", "price", "first_step_at", "last_step_at", "kept_at", "unheard_at", "version"}

func (a *attemptRow) mutable() []any {
	return []any{string(a.State), string(a.Reason), a.Detail, string(a.ExternalID), string(a.Intent), a.ResumeStep, a.ResumeFrom, a.LastStep,
		a.SavedStep, int64(a.Unknown), int64(a.StartedAt), int64(a.ExitedAt), int64(a.EndedAt), a.Exits, a.Batch, a.BatchID, a.Placement, a.Rehearsal,
		a.GPUs, a.Price, int64(a.FirstStep), int64(a.LastStepAt), int64(a.KeptAt), int64(a.UnheardAt), a.Version}
}

// columnsOfAccount are what an account is made of.
var columnsOfAccount = []string{"id", "weight", "quota_gpus", "max_gpus", "max_running", "max_queued", "eval_gpus", "used_gpu_ms", "used_at",
	"name", "budget", "budget_gpu_hours", "budget_period", "budget_warn", "spent_since", "spent", "spent_gpu_ms", "spent_unpriced_ms"}

func (r *tenantRow) columns() []any {
	return []any{(*string)(&r.ID), &r.Weight, &r.GPUs, &r.MaxGPUs, &r.MaxRunning, &r.MaxQueued, &r.EvalGPUs, &r.UsedMS, (*int64)(&r.UsedAt),
		&r.Name, &r.Budget, &r.BudgetGPUHours, (*string)(&r.BudgetPeriod), &r.BudgetWarn, (*int64)(&r.SpentSince), &r.Spent, &r.SpentGPUMS, &r.SpentUnpriced}
}

var selectAccount = "SELECT " + strings.Join(columnsOfAccount, ", ") + " FROM tenants WHERE id = ?"

var (
	selectAttempt = "SELECT " + strings.Join(columnsOfAttempt, ", ") + " FROM attempts WHERE run = ? AND number = ?"
	insertAttempt = "INSERT INTO attempts (" + strings.Join(columnsOfAttempt, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columnsOfAttempt)-1) + ")"
	updateAttempt = update("attempts", mutableAttempt, "run", "number")
)

// attempt loads one for a change; sql.ErrNoRows when there is none.
func (t *tx) attempt(run forge.RunID, number int) (*attemptRow, error) {
	a := &attemptRow{}
	return a, t.one(selectAttempt, []any{string(run), number}, a.columns()...)
}

func (t *tx) insertAttempt(a *attemptRow) error {
	_, err := t.exec(insertAttempt, a.columns()...) // database/sql follows pointers
	return err
}

func update(table string, columns []string, key ...string) string {
	return "UPDATE " + table + " SET " + strings.Join(columns, " = ?, ") + " = ? WHERE " + strings.Join(key, " = ? AND ") + " = ?"
}

// claims reads those that a condition selects, in one order.
func (t *tx) claims(where string, args ...any) ([]claimRow, error) {
	rows, err := t.Conn.Conn.QueryContext(t.ctx, `SELECT cluster, node, slot, for_run, created_at, from_run FROM claims WHERE `+where+` ORDER BY cluster, node, slot`, args...)
	if err != nil {
		return nil, err
	}
	return scanned(rows, func(c *claimRow) []any {
		return []any{(*string)(&c.Cluster), (*string)(&c.Node), &c.Slot, (*string)(&c.For), (*int64)(&c.CreatedAt), (*string)(&c.From)}
	})
}

func scanned[R any](rows *sql.Rows, dest func(*R) []any) (all []R, err error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r R
		if err := rows.Scan(dest(&r)...); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}
