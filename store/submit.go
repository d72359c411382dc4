package store

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// NewRun is what a submission stores.
type NewRun struct {
	Spec   forge.RunSpec
	Parent forge.RunID // the run that this one retries: ended, or on hold, and then it is cancelled in the same write
}

// SubmitRun stores a pending run; when it returns the run survives kill -9 and power loss. A repeated request
// (Principal.Once) is answered with the run of the first. KindInvalid naming "after" or "parent" when the
// tenant has no such run; KindPrecondition for a parent that goes on; KindPrecondition
// when as many wait as may; KindConflict when the Idempotency-Key was used for another request.
func (t *Tenant) SubmitRun(ctx context.Context, n NewRun) (forge.Run, error) {
	const op = "run.submit"
	base, err := newRunRow(n.Spec)
	if err != nil {
		return forge.Run{}, classify(op, err)
	}
	var row *runRow
	err = t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			fresh := *base
			row = &fresh
			row.Tenant, row.User, row.Parent, row.SubmittedAt = t.p.Tenant, clean(t.p.Actor()), n.Parent, stampOf(tx.now)
			if err := tx.submit(row, n); err != nil || n.Parent == "" || n.Spec.Pipeline == nil {
				return string(row.ID), err
			}
			parent, err := tx.run(n.Parent)
			if err == nil {
				err = tx.followAgain(parent, row, t.p, n.Spec.Pipeline)
			}
			return string(row.ID), err
		}, func(ref string) (err error) { row, err = tx.run(forge.RunID(ref)); return err })
	})
	if err != nil {
		return forge.Run{}, err
	}
	run, err := row.forge(&t.db.specs)
	return run, classify(op, err)
}

func (t *tx) submit(row *runRow, n NewRun) error {
	if n.Parent != "" {
		parent, err := t.ownRun(row.Tenant, n.Parent, "parent")
		if err != nil {
			return err
		}
		if err := t.retried(parent, row.User); err != nil {
			return err
		}
	}
	var limit queueLimit
	if err := t.one(`UPDATE tenants SET last_run = last_run + 1 WHERE id = ? RETURNING last_run, name, max_queued`, []any{string(row.Tenant)},
		&row.Number, &limit.tenant, &limit.ofTenant); err != nil {
		if absent(err) {
			return notFound("run.submit", "there is no such tenant")
		}
		return err
	}
	if err := t.mayQueue(row, limit); err != nil {
		return err
	}
	if err := t.usable(row.Tenant, n.Spec.Dataset); err != nil {
		return err
	}
	row.ID = forge.RunID(t.id())
	if err := t.insertRun(row); err != nil {
		return err
	}
	if err := t.usesModels(row.ID, row.Tenant, &n.Spec); err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO run_specs (run, spec, params, origins) VALUES (?, ?, ?, ?)`, string(row.ID), row.Spec, row.Params, row.Origins); err != nil {
		return err
	}
	if err := t.joinPipeline(row, n.Spec.Pipeline); err != nil {
		return err
	}
	for _, needs := range n.Spec.After {
		dep, err := t.ownRun(row.Tenant, needs, "after")
		if err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO run_after (run, needs) VALUES (?, ?) ON CONFLICT DO NOTHING`, string(row.ID), string(needs)); err != nil {
			return err
		}
		// The world may have dropped a run that ended; planning this one needs to know how.
		if dep.State.Terminal() {
			if err := t.emitRun(dep); err != nil {
				return err
			}
		}
	}
	if err := t.emitRun(row); err != nil {
		return err
	}
	message := fmt.Sprintf("%s submitted: %s on %d × %d", row.name(), row.Recipe, row.Nodes, row.GPUs)
	if n.Parent != "" {
		message += ", a retry"
	}
	return t.runEvent(row, forge.Event{Actor: row.User, Type: forge.EventRunSubmitted, Message: message})
}

// retried makes sure that a run ends before its retry begins. One on hold would go on beside it when it is released.
func (t *tx) retried(parent *runRow, user string) error {
	if parent.State.Terminal() {
		return nil
	}
	if parent.HoldBy == "" {
		return forge.Errorf(forge.KindPrecondition, "run.retry", "%s is %s; only an ended or held run can be retried", parent.name(), parent.State).
			WithHint("forgectl run cancel %d ends it first", parent.Number)
	}
	return t.cancel(parent, forge.CancelTerm, user)
}

// insertRun binds its values instead of going through bun's model: a submission is mostly this one
// statement, and bun writes the values into its text, which SQLite then has to parse each time.
func (t *tx) insertRun(r *runRow) error {
	_, err := t.exec(`INSERT INTO runs (id, tenant, number, user_name, parent, submitted_at, name, recipe, dataset, base, priority, cluster, register,
			nodes, gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit, batch, eval, narrowed, pinned,
			state, reason, hold_by, hold_reason, hold_at, cancel, attempt, retries, fruitless, not_before, avoid,
			step, total_steps, saved_step, model, started_at, ended_at, version)
		VALUES (?, ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', '', '', '', 0, '', 0, 0, 0, 0, '', 0, 0, 0, '', 0, 0, 1)`,
		string(r.ID), string(r.Tenant), r.Number, r.User, string(r.Parent), int64(r.SubmittedAt), r.Name, r.Recipe, r.Dataset, r.Base, r.Priority,
		string(r.Cluster), r.Register, r.Nodes, r.GPUs, r.CPUs, r.MemoryMiB, r.TimeLimit, r.Batch, r.Eval, r.Narrowed, r.Pinned)
	return err
}

// ownRun loads a run that an input field names; another tenant's is as invalid as none.
func (t *tx) ownRun(tenant forge.TenantID, id forge.RunID, field string) (*runRow, error) {
	r := &runRow{}
	err := selectRuns(t.NewSelect(), r).Where("r.id = ?", clean(string(id))).Where("r.tenant = ?", tenant).Scan(t.ctx)
	if absent(err) {
		return nil, forge.Invalidf(field, "there is no run %q", id).WithHint("forgectl run list")
	}
	return r, err
}
