package store

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// OldRun is a run that has ended, with what of it may lie on a disk.
type OldRun struct {
	Run      forge.Run
	Attempts []forge.Attempt
	Saves    []forge.Checkpoint // that are not known to be gone; highest step first
}

const openStates = `('pending', 'provisioning', 'running')`

// OldRuns lists runs that ended before a moment and had an attempt, in the order of their ids, after the given one. Tenant "" is every tenant's.
func (db *DB) OldRuns(ctx context.Context, tenant forge.TenantID, ended time.Time, after forge.RunID, limit int) ([]OldRun, error) {
	const op = "gc.list"
	rows, err := db.read.QueryContext(ctx, `SELECT id FROM runs WHERE (? = '' OR tenant = ?) AND id > ? AND state NOT IN `+openStates+` AND attempt > 0 AND ended_at < ? ORDER BY id LIMIT ?`,
		string(tenant), string(tenant), string(after), int64(stampOf(ended)), limit)
	if err != nil {
		return nil, classify(op, err)
	}
	ids, err := firstColumn(rows)
	if err != nil {
		return nil, classify(op, err)
	}
	out := make([]OldRun, 0, len(ids))
	for _, id := range ids {
		r, err := db.OldRun(ctx, forge.RunID(id))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// OldRun reads one, as it is now.
func (db *DB) OldRun(ctx context.Context, id forge.RunID) (OldRun, error) {
	var out OldRun
	var err error
	if out.Run, err = db.RunByID(ctx, id); err != nil {
		return out, err
	}
	if out.Attempts, err = db.AttemptsOf(ctx, id); err != nil {
		return out, err
	}
	all, err := db.CheckpointsOf(ctx, id)
	for _, c := range all {
		if c.Removed.IsZero() {
			out.Saves = append(out.Saves, c)
		}
	}
	return out, err
}

func firstColumn(rows *sql.Rows) (all []string, err error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// Uses is what of the past is in use.
type Uses struct {
	Needed   map[forge.RunID]string // runs that others build on, and which
	Roots    map[string]bool        // where registered artefacts of any tenant lie
	RootsOf  map[forge.RunID][]string
	Versions map[forge.RunID][]MadeVersion
}

// MadeVersion is a version that a run has registered.
type MadeVersion struct{ Name, Root string }

// runID finds ids of runs in specs and in paths: whatever names one keeps it.
var runID = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}`)

// UsesOf reads them, of one run or (empty) of all. A run that ended since the given moment still keeps what it began from: a retry begins there again.
func (db *DB) UsesOf(ctx context.Context, run forge.RunID, since time.Time) (Uses, error) {
	const op = "gc.uses"
	u := Uses{Needed: map[forge.RunID]string{}, Roots: map[string]bool{}, RootsOf: map[forge.RunID][]string{}, Versions: map[forge.RunID][]MadeVersion{}}
	id := string(run)
	note := func(user, number, text string) {
		for _, named := range runID.FindAllString(text, -1) {
			if named != user {
				u.Needed[forge.RunID(named)] = "run " + number
			}
		}
	}
	err := db.eachRow(ctx, `SELECT r.id, r.number, coalesce(r.parent, '') || ' ' || s.spec FROM runs AS r JOIN run_specs AS s ON s.run = r.id
		WHERE r.state IN `+openStates+` AND (? = '' OR r.parent = ? OR instr(s.spec, ?) > 0)`, []any{id, id, id}, 3, func(c []string) { note(c[0], c[1], c[2]) })
	if err != nil {
		return u, classify(op, err)
	}
	err = db.eachRow(ctx, `SELECT r.id, r.number, json_extract(s.spec, '$.resume_from.run') FROM runs AS r JOIN run_specs AS s ON s.run = r.id
		WHERE r.ended_at >= ? AND (? = '' OR instr(s.spec, ?) > 0) AND json_extract(s.spec, '$.resume_from.run') IS NOT NULL`,
		[]any{int64(stampOf(since)), id, id}, 3, func(c []string) { note(c[0], c[1], c[2]) })
	if err != nil {
		return u, classify(op, err)
	}
	err = db.eachRow(ctx, `SELECT DISTINCT root FROM artifacts WHERE ? = '' OR instr(root, ?) > 0`, []any{id, id}, 1, func(c []string) {
		u.Roots[c[0]] = true
		for _, named := range runID.FindAllString(c[0], -1) {
			u.RootsOf[forge.RunID(named)] = append(u.RootsOf[forge.RunID(named)], c[0])
		}
	})
	if err != nil {
		return u, classify(op, err)
	}
	err = db.eachRow(ctx, `SELECT v.run, m.name || '@' || v.number, f.root FROM model_versions AS v JOIN models AS m ON m.id = v.model JOIN artifacts AS f ON f.id = v.artifact
		WHERE v.run IS NOT NULL AND (? = '' OR v.run = ?)`, []any{id, id}, 3, func(c []string) {
		u.Versions[forge.RunID(c[0])] = append(u.Versions[forge.RunID(c[0])], MadeVersion{Name: c[1], Root: c[2]})
	})
	return u, classify(op, err)
}

// RootInUse says whether an artefact of any tenant is registered there.
func (db *DB) RootInUse(ctx context.Context, root string) (bool, error) {
	n := 0
	err := db.eachRow(ctx, `SELECT id FROM artifacts WHERE root = ? LIMIT 1`, []any{clean(root)}, 1, func([]string) { n++ })
	return n > 0, classify("gc.uses", err)
}

// SnapshotsInUse are the working directories of a tenant's runs that have not ended before a moment, by digest.
func (db *DB) SnapshotsInUse(ctx context.Context, tenant forge.TenantID, ended time.Time) (map[string]bool, error) {
	used := map[string]bool{}
	err := db.eachRow(ctx, `SELECT DISTINCT json_extract(s.spec, '$.source.sha256') FROM runs AS r JOIN run_specs AS s ON s.run = r.id
		WHERE r.tenant = ? AND (r.state IN `+openStates+` OR r.ended_at >= ?) AND json_extract(s.spec, '$.source.sha256') IS NOT NULL`,
		[]any{string(tenant), int64(stampOf(ended))}, 1, func(c []string) { used[c[0]] = true })
	return used, classify("gc.uses", err)
}

func (db *DB) eachRow(ctx context.Context, query string, args []any, columns int, do func([]string)) error {
	rows, err := db.sqlRead.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	cells, at := make([]string, columns), make([]any, columns)
	for i := range cells {
		at[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(at...); err != nil {
			return err
		}
		do(cells)
	}
	return rows.Err()
}

// Gone is what of a run was removed from its disk.
type Gone struct {
	Run     forge.RunID
	Actor   string
	Bytes   int64
	Message string // what, in words, after "of run 12: "
	Steps   []forge.Checkpoint
}

// GCGone notes it: checkpoints as removed, and one event of the run, where there are words.
func (db *DB) GCGone(ctx context.Context, g Gone) error {
	return db.write(ctx, "gc.gone", func(t *tx) error {
		for _, c := range g.Steps {
			if _, err := t.exec(`UPDATE checkpoints SET removed_at = ? WHERE run = ? AND attempt = ? AND step = ? AND removed_at = 0`,
				int64(stampOf(t.now)), string(g.Run), c.Attempt, c.Step); err != nil {
				return err
			}
		}
		if g.Message == "" {
			return nil
		}
		var tenant string
		var number int64
		if err := t.one(`SELECT tenant, number FROM runs WHERE id = ?`, []any{string(g.Run)}, &tenant, &number); err != nil {
			return err
		}
		return t.event(forge.Event{Tenant: forge.TenantID(tenant), Actor: g.Actor, Type: forge.EventGCDone, Run: g.Run, Number: number, Reason: string(forge.WhyRequested),
			Message: fmt.Sprintf("of run %d: %s", number, g.Message), Data: map[string]any{"bytes": g.Bytes}})
	})
}
