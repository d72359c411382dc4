package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// NewRun is what a submission stores.
type NewRun struct {
	Spec   forge.RunSpec
	Parent forge.RunID // the run that this one retries
	// IdempotencyKey, when given, makes a repeated submission answer with the run of the first.
	IdempotencyKey string
}

// SubmitRun stores a pending run; when it returns the run survives kill -9 and power loss.
// KindInvalid naming "after" or "parent" when the tenant has no such run; KindConflict when
// the idempotency key was used for another request.
func (t *Tenant) SubmitRun(ctx context.Context, n NewRun) (forge.Run, error) {
	const op = "run.submit"
	base, err := newRunRow(n.Spec)
	if err != nil {
		return forge.Run{}, classify(op, err)
	}
	var digest string
	if n.IdempotencyKey != "" {
		if digest, err = n.digest(); err != nil {
			return forge.Run{}, classify(op, err)
		}
	}
	var row *runRow
	err = t.db.write(ctx, op, func(tx *tx) error {
		if n.IdempotencyKey != "" {
			if earlier, err := tx.earlier(t.p.Tenant, op, n.IdempotencyKey, digest); err != nil || earlier != "" {
				if err == nil {
					row, err = tx.run(forge.RunID(earlier))
				}
				return err
			}
		}
		fresh := *base
		row = &fresh
		row.Tenant, row.User, row.Parent, row.SubmittedAt = t.p.Tenant, clean(t.p.User), n.Parent, stampOf(tx.now)
		return tx.submit(row, n, digest)
	})
	if err != nil {
		return forge.Run{}, err
	}
	run, err := row.forge(&t.db.specs)
	return run, classify(op, err)
}

func (t *tx) submit(row *runRow, n NewRun, digest string) error {
	if n.Parent != "" {
		if _, err := t.ownRun(row.Tenant, n.Parent, "parent"); err != nil {
			return err
		}
	}
	if err := t.one(`UPDATE tenants SET last_run = last_run + 1 WHERE id = ? RETURNING last_run`, []any{string(row.Tenant)}, &row.Number); err != nil {
		if absent(err) {
			return notFound("run.submit", "there is no such tenant")
		}
		return err
	}
	row.ID = forge.RunID(t.id())
	if err := t.insertRun(row); err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO run_specs (run, spec, params, origins) VALUES (?, ?, ?, ?)`, string(row.ID), row.Spec, row.Params, row.Origins); err != nil {
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
	if n.IdempotencyKey != "" {
		if _, err := t.exec(`INSERT INTO idempotency (tenant, user_id, op, key, request, ref, created_at) VALUES (?, '', ?, ?, ?, ?, ?)`,
			string(row.Tenant), "run.submit", n.IdempotencyKey, digest, string(row.ID), int64(stampOf(t.now))); err != nil {
			return err
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

// insertRun binds its values instead of going through bun's model: a submission is mostly this one
// statement, and bun writes the values into its text, which SQLite then has to parse each time.
func (t *tx) insertRun(r *runRow) error {
	_, err := t.exec(`INSERT INTO runs (id, tenant, number, user_name, parent, submitted_at, name, recipe, dataset, base, priority, cluster, register,
			nodes, gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit,
			state, reason, hold_by, hold_reason, hold_at, cancel, attempt, retries, fruitless, not_before, avoid,
			step, total_steps, saved_step, model, started_at, ended_at, version)
		VALUES (?, ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', '', '', '', 0, '', 0, 0, 0, 0, '', 0, 0, 0, '', 0, 0, 1)`,
		string(r.ID), string(r.Tenant), r.Number, r.User, string(r.Parent), int64(r.SubmittedAt), r.Name, r.Recipe, r.Dataset, r.Base, r.Priority,
		string(r.Cluster), r.Register, r.Nodes, r.GPUs, r.CPUs, r.MemoryMiB, r.TimeLimit)
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

func (n NewRun) digest() (string, error) {
	b, err := json.Marshal(struct {
		Spec   forge.RunSpec
		Parent forge.RunID
	}{n.Spec, n.Parent})
	if err != nil {
		return "", forge.Invalidf("params", "cannot be stored: %w", err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// earlier finds what the first request with the same key made; empty when there was none.
func (t *tx) earlier(tenant forge.TenantID, op, key, digest string) (string, error) {
	var request, ref string
	err := t.one(`SELECT request, ref FROM idempotency WHERE tenant = ? AND op = ? AND key = ?`, []any{string(tenant), op, key}, &request, &ref)
	if absent(err) {
		return "", nil
	}
	if err == nil && request != digest {
		return "", forge.Errorf(forge.KindConflict, op, "idempotency key %s was used for another request", strconv.Quote(key)).
			WithHint("use a new key for a new request")
	}
	return ref, err
}
