package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// StageMove asks that a version goes into another stage, as it was when the evidence for it was gathered.
type StageMove struct {
	Version    forge.ModelVersionID
	From, To   forge.Stage
	Production forge.ModelVersionID // of its model; empty: none
	Reason     string
	Forced     bool
	Report     *forge.GateReport
}

// PromoteVersion moves a version on. What it takes the place of in production is archived with the same commit, and is what a rollback brings
// back. KindConflict, naming what happened, where the version or what is in production is not what the move says it was.
func (t *Tenant) PromoteVersion(ctx context.Context, m StageMove) (forge.StageChange, error) {
	return t.changeStage(ctx, "model.promote", func(tx *tx) (*stageRow, error) {
		v, err := tx.versionToMove(t.p.Tenant, m)
		if err != nil {
			return nil, err
		}
		var displaced *modelVersionRow
		if m.To == forge.StageProduction {
			if displaced, err = tx.displace(t.p.Actor(), m.Production, v); err != nil {
				return nil, err
			}
		}
		line, err := tx.stageLine(v, stageRow{Action: forge.ActionPromote, Was: m.From, Becomes: m.To, Actor: t.p.Actor(), Reason: m.Reason, Forced: m.Forced}, m.Report)
		if err != nil || displaced == nil {
			return line, err
		}
		return line, tx.setAlias(displaced, forge.AliasPrevious, actorForged)
	})
}

// RollBack brings an archived version that was in production back there. From then on previous is what that version itself had displaced: a
// second rollback goes further back, and never to what the first one left. KindConflict as with PromoteVersion.
func (t *Tenant) RollBack(ctx context.Context, m StageMove) (forge.StageChange, error) {
	const op = "model.rollback"
	return t.changeStage(ctx, op, func(tx *tx) (*stageRow, error) {
		v, err := tx.versionToMove(t.p.Tenant, m)
		if err != nil {
			return nil, err
		}
		var before forge.ModelVersionID
		// A displacing promotion writes both lines at once, one behind the other.
		err = tx.one(`SELECT d.version FROM stage_changes AS s JOIN stage_changes AS d ON d.model = s.model AND d.seq = s.seq - 1 AND d.action = 'displace'
			WHERE s.version = ? AND s.action = 'promote' AND s.becomes = 'production' ORDER BY s.seq DESC LIMIT 1`, []any{string(v.ID)}, &before)
		if err != nil && !absent(err) {
			return nil, err
		}
		if _, err := tx.displace(t.p.Actor(), m.Production, v); err != nil {
			return nil, err
		}
		line, err := tx.stageLine(v, stageRow{Action: forge.ActionRollback, Was: m.From, Becomes: forge.StageProduction, Actor: t.p.Actor(), Reason: m.Reason}, m.Report)
		if err != nil {
			return nil, err
		}
		if before == "" || before == v.ID {
			_, err = tx.exec(`DELETE FROM model_aliases WHERE model = ? AND alias = ?`, string(v.Model), forge.AliasPrevious)
			return line, err
		}
		old, err := tx.ownVersion(t.p.Tenant, before)
		if err != nil {
			return nil, err
		}
		return line, tx.setAlias(old, forge.AliasPrevious, actorForged)
	})
}

// ArchiveVersion takes a version out of its stage. previous stays what it was.
func (t *Tenant) ArchiveVersion(ctx context.Context, m StageMove) (forge.StageChange, error) {
	return t.changeStage(ctx, "model.archive", func(tx *tx) (*stageRow, error) {
		v, err := tx.versionToMove(t.p.Tenant, m)
		if err != nil {
			return nil, err
		}
		return tx.stageLine(v, stageRow{Action: forge.ActionArchive, Was: m.From, Becomes: forge.StageArchived, Actor: t.p.Actor(), Reason: m.Reason}, nil)
	})
}

// changeStage writes what do says, once for each request.
func (t *Tenant) changeStage(ctx context.Context, op string, do func(*tx) (*stageRow, error)) (out forge.StageChange, _ error) {
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			line, err := do(tx)
			if err != nil {
				return "", err
			}
			out, err = line.forge()
			return stageRef(line), err
		}, func(ref string) (err error) {
			row, err := stageByRef(t.p.Tenant, ref, func(query string, args []any, dest ...any) error { return tx.one(query, args, dest...) })
			if err == nil {
				out, err = row.forge()
			}
			return err
		})
	})
	if err != nil {
		return forge.StageChange{}, err
	}
	return out, nil
}

func stageRef(r *stageRow) string { return string(r.Model) + "/" + strconv.FormatInt(r.Seq, 10) }

// StageChange is the line that an earlier request left. KindNotFound.
func (t *Tenant) StageChange(ctx context.Context, ref string) (forge.StageChange, error) {
	row, err := stageByRef(t.p.Tenant, ref, func(query string, args []any, dest ...any) error {
		return t.db.sqlRead.QueryRowContext(ctx, query, args...).Scan(dest...)
	})
	if err != nil {
		return forge.StageChange{}, classify("model.history", err)
	}
	return row.forge()
}

func stageByRef(tenant forge.TenantID, ref string, one func(string, []any, ...any) error) (*stageRow, error) {
	model, seq, _ := strings.Cut(ref, "/")
	r := &stageRow{}
	err := one(`SELECT s.model, s.seq, s.tenant, s.version, s.version_sha256, s.action, s.was, s.becomes, s.actor, s.at, s.reason, s.forced, s.report, s.report_sha256, s.before, s.sha256,
		m.name || '@' || v.number FROM stage_changes AS s JOIN models AS m ON m.id = s.model JOIN model_versions AS v ON v.id = s.version
		WHERE s.tenant = ? AND s.model = ? AND s.seq = ?`, []any{string(tenant), model, seq},
		&r.Model, &r.Seq, &r.Tenant, &r.Version, &r.VersionSHA, &r.Action, &r.Was, &r.Becomes, &r.Actor, &r.At, &r.Reason, &r.Forced, &r.Report, &r.ReportSHA, &r.Before, &r.SHA256, &r.Name)
	return r, err
}

// WasInProduction says whether a version of the tenant ever was in production.
func (t *Tenant) WasInProduction(ctx context.Context, id forge.ModelVersionID) (was bool, _ error) {
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM stage_changes WHERE tenant = ? AND version = ? AND becomes = 'production')`,
		string(t.p.Tenant), clean(string(id))).Scan(&was)
	return was, classify("model.history", err)
}

func (t *tx) ownVersion(tenant forge.TenantID, id forge.ModelVersionID) (*modelVersionRow, error) {
	row := &modelVersionRow{}
	err := selectModelVersions(t.NewSelect(), row, false).Where("v.tenant = ?", tenant).Where("v.id = ?", clean(string(id))).Scan(t.ctx)
	if absent(err) {
		return nil, noModel(string(id))
	}
	return row, err
}

// versionToMove finds the version, if it still stands where the move says, and if a stage is left so at all.
func (t *tx) versionToMove(tenant forge.TenantID, m StageMove) (*modelVersionRow, error) {
	v, err := t.ownVersion(tenant, m.Version)
	if err != nil {
		return nil, err
	}
	if v.Stage != m.From {
		return nil, t.movedMeanwhile(v, m.From)
	}
	if !forge.CanMoveStage(m.From, m.To) {
		return nil, forge.Errorf(forge.KindPrecondition, "model.stage", "%s is in %s, and no version goes from there to %s", v.name(), m.From, m.To)
	}
	return v, nil
}

func (r *modelVersionRow) name() string { return forge.Ref{Name: r.Name, Number: r.Number}.String() }

// movedMeanwhile says who was faster.
func (t *tx) movedMeanwhile(v *modelVersionRow, from forge.Stage) error {
	var actor string
	var action forge.StageAction
	var at stamp
	if err := t.one(`SELECT actor, action, at FROM stage_changes WHERE version = ? ORDER BY seq DESC LIMIT 1`, []any{string(v.ID)}, &actor, &action, &at); err != nil && !absent(err) {
		return err
	}
	return forge.Errorf(forge.KindConflict, "model.stage", "%s is no longer in %s: it went to %s at %s (%s, by %s)", v.name(), from, v.Stage,
		at.time().Format(time.RFC3339), action, actor).WithHint("forgectl model history %s", v.Name)
}

// displace archives what is in production, which has to be what was expected there.
func (t *tx) displace(actor string, expected forge.ModelVersionID, by *modelVersionRow) (*modelVersionRow, error) {
	now := &modelVersionRow{}
	err := selectModelVersions(t.NewSelect(), now, false).Where("v.model = ?", by.Model).Where("v.stage = ?", forge.StageProduction).Scan(t.ctx)
	if err != nil && !absent(err) {
		return nil, err
	}
	none := absent(err)
	if !none && now.ID == expected {
		_, err := t.stageLine(now, stageRow{Action: forge.ActionDisplace, Was: forge.StageProduction, Becomes: forge.StageArchived, Actor: actor,
			Reason: by.name() + " took its place"}, nil)
		return now, err
	}
	if none && expected == "" {
		return nil, nil
	}
	is := "nothing is there"
	if !none {
		var who string
		var at stamp
		if err := t.one(`SELECT actor, at FROM stage_changes WHERE version = ? ORDER BY seq DESC LIMIT 1`, []any{string(now.ID)}, &who, &at); err != nil {
			return nil, err
		}
		is = fmt.Sprintf("%s is there since %s, brought by %s", now.name(), at.time().Format(time.RFC3339), who)
	}
	return nil, forge.Errorf(forge.KindConflict, "model.stage", "what is in production of %s has changed meanwhile: %s", by.Name, is).
		WithHint("forgectl model history %s; the evidence was against what was there before, so ask again", by.Name)
}

// stageLine writes the next line of a model's history, and with it what it says. Nothing else moves a version.
func (t *tx) stageLine(v *modelVersionRow, l stageRow, report *forge.GateReport) (*stageRow, error) {
	l.Model, l.Tenant, l.Version, l.VersionSHA, l.Name = v.Model, v.Tenant, v.ID, v.SHA256, v.name()
	l.Actor, l.Reason, l.At = clean(l.Actor), clean(l.Reason), stampOf(t.now)
	if report != nil {
		text, err := encode(1, report)
		if err != nil {
			return nil, err
		}
		l.Report = clean(text)
	}
	var seq int64
	var head string
	if err := t.one(`SELECT history_seq, history_head FROM models WHERE id = ?`, []any{string(v.Model)}, &seq, &head); err != nil {
		return nil, err
	}
	l.seal(seq, head)
	if _, err := t.exec(insertStageSQL, l.values()...); err != nil {
		return nil, err
	}
	v.Stage = l.Becomes
	if l.Action == forge.ActionRegister {
		return &l, nil // the event of the registration has it
	}
	return &l, t.event(forge.Event{Tenant: v.Tenant, Actor: l.Actor, Type: forge.EventModelStage, Reason: string(l.Action), Message: stageWords(&l),
		Data: map[string]any{"model": v.Name, "version": v.Number, "from": string(l.Was), "to": string(l.Becomes), "action": string(l.Action), "forced": l.Forced,
			"reason": l.Reason, "sha256": v.SHA256, "line": l.Seq, "line_sha256": l.SHA256}})
}

func stageWords(l *stageRow) string {
	s := fmt.Sprintf("model %s: %s to %s (%s)", l.Name, l.Was, l.Becomes, l.Action)
	if l.Forced {
		s += ", past its gate"
	}
	if l.Reason != "" {
		s += ": " + l.Reason
	}
	return s
}
