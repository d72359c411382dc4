package store

import (
	"context"
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// setAlias lets a name point to a version, wherever it pointed before.
func (t *tx) setAlias(v *modelVersionRow, alias, by string) error {
	_, err := t.exec(`INSERT INTO model_aliases (model, alias, tenant, version, set_by, set_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version, set_by = excluded.set_by, set_at = excluded.set_at`,
		string(v.Model), alias, string(v.Tenant), string(v.ID), clean(by), int64(stampOf(t.now)))
	return err
}

// SetAlias lets a name of the model point to the version. KindInvalid for a name that is none or that forge keeps.
func (t *Tenant) SetAlias(ctx context.Context, id forge.ModelVersionID, alias string) (out forge.ModelAlias, _ error) {
	const op = "model.alias"
	if err := forge.CheckAlias(alias); err != nil {
		return out, forge.Invalidf("alias", "%w", err).WithOp(op)
	}
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			v, err := tx.ownVersion(t.p.Tenant, id)
			if err != nil {
				return "", err
			}
			was, err := tx.alias(v.Model, alias)
			if err != nil {
				return "", err
			}
			out = forge.ModelAlias{Alias: alias, Version: v.Number, SetBy: t.p.Actor(), SetAt: tx.now.UTC()}
			if was.Version == v.Number {
				out = was
				return string(v.Model) + "/" + alias, nil
			}
			if err := tx.setAlias(v, alias, t.p.Actor()); err != nil {
				return "", err
			}
			words := fmt.Sprintf("model %s: alias %s points to version %d", v.Name, alias, v.Number)
			if was.Version > 0 {
				words += fmt.Sprintf("; it pointed to %d", was.Version)
			}
			return string(v.Model) + "/" + alias, tx.event(forge.Event{Tenant: v.Tenant, Actor: t.p.Actor(), Type: forge.EventModelAlias, Message: words,
				Data: map[string]any{"model": v.Name, "version": v.Number, "alias": alias, "was": was.Version}})
		}, func(string) error {
			v, err := tx.ownVersion(t.p.Tenant, id)
			if err == nil {
				out, err = tx.alias(v.Model, alias)
			}
			return err
		})
	})
	if err != nil {
		return forge.ModelAlias{}, err
	}
	return out, nil
}

// RemoveAlias takes a name away. KindNotFound where there is none.
func (t *Tenant) RemoveAlias(ctx context.Context, model, alias string) (out forge.ModelAlias, _ error) {
	const op = "model.alias"
	err := t.db.write(ctx, op, func(tx *tx) error {
		var id forge.ModelID
		err := tx.one(`SELECT id FROM models WHERE tenant = ? AND name = ?`, []any{string(t.p.Tenant), clean(model)}, &id)
		if absent(err) {
			return noModel(model)
		}
		if err != nil {
			return err
		}
		return tx.once(t.p, func() (string, error) {
			if out, err = tx.alias(id, alias); err != nil {
				return "", err
			}
			if out.Version == 0 {
				return "", notFound(op, "model %s has no alias %q", model, alias).WithHint("forgectl model alias list %s", model)
			}
			if _, err := tx.exec(`DELETE FROM model_aliases WHERE model = ? AND alias = ?`, string(id), clean(alias)); err != nil {
				return "", err
			}
			return string(id) + "/" + alias, tx.event(forge.Event{Tenant: t.p.Tenant, Actor: t.p.Actor(), Type: forge.EventModelAlias,
				Message: fmt.Sprintf("model %s: alias %s, which pointed to version %d, is removed", model, alias, out.Version),
				Data:    map[string]any{"model": model, "alias": alias, "was": out.Version}})
		}, func(string) error { out = forge.ModelAlias{Alias: alias}; return nil })
	})
	if err != nil {
		return forge.ModelAlias{}, err
	}
	return out, nil
}

// alias reads where a name points; version 0: nowhere.
func (t *tx) alias(model forge.ModelID, alias string) (forge.ModelAlias, error) {
	a := forge.ModelAlias{Alias: alias}
	var at stamp
	err := t.one(`SELECT v.number, a.set_by, a.set_at FROM model_aliases AS a JOIN model_versions AS v ON v.id = a.version WHERE a.model = ? AND a.alias = ?`,
		[]any{string(model), clean(alias)}, &a.Version, &a.SetBy, &at)
	if absent(err) {
		return a, nil
	}
	a.SetAt = at.time()
	return a, err
}

// Aliases lists the names of a model's versions, previous among them. KindNotFound without the model.
func (t *Tenant) Aliases(ctx context.Context, model string) ([]forge.ModelAlias, error) {
	const op = "model.alias"
	m, err := t.modelID(ctx, model)
	if err != nil {
		return nil, err
	}
	rows, err := t.db.sqlRead.QueryContext(ctx, `SELECT a.alias, v.number, a.set_by, a.set_at FROM model_aliases AS a JOIN model_versions AS v ON v.id = a.version
		WHERE a.model = ? ORDER BY a.alias`, string(m))
	if err != nil {
		return nil, classify(op, err)
	}
	defer rows.Close()
	var out []forge.ModelAlias
	for rows.Next() {
		var a forge.ModelAlias
		var at stamp
		if err := rows.Scan(&a.Alias, &a.Version, &a.SetBy, &at); err != nil {
			return nil, classify(op, err)
		}
		a.SetAt = at.time()
		out = append(out, a)
	}
	return out, classify(op, rows.Err())
}

func (t *Tenant) modelID(ctx context.Context, name string) (forge.ModelID, error) {
	var id forge.ModelID
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT id FROM models WHERE tenant = ? AND name = ?`, string(t.p.Tenant), clean(name)).Scan(&id)
	if absent(err) {
		return "", noModel(name)
	}
	return id, classify("model.show", err)
}

// Alias is what a request before this one left: where a name points by now, or version 0 where it was taken away.
func (t *Tenant) Alias(ctx context.Context, ref string) (forge.ModelAlias, error) {
	model, alias, _ := strings.Cut(ref, "/")
	a := forge.ModelAlias{Alias: alias}
	var at stamp
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT v.number, a.set_by, a.set_at FROM model_aliases AS a JOIN model_versions AS v ON v.id = a.version
		WHERE a.tenant = ? AND a.model = ? AND a.alias = ?`, string(t.p.Tenant), model, alias).Scan(&a.Version, &a.SetBy, &at)
	if absent(err) {
		return a, nil
	}
	a.SetAt = at.time()
	return a, classify("model.alias", err)
}
