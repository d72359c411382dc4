package store

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	onceKept   = 7 * 24 * time.Hour // a client that repeats a request later than this means a new one
	oncePruned = 8                  // rows that one new row takes away at most: the table shrinks faster than it grows, and no write is long
)

// once carries out what a request asks for, unless one with the same Idempotency-Key was carried out before: then
// again loads what that one made or changed, by the id that do returned then. The row is written in do's own
// savepoint, so that no crash separates the two, and the writer is one goroutine, so that of two
// that race the second finds the row of the first.
func (t *tx) once(p forge.Principal, do func() (ref string, err error), again func(ref string) error) error {
	if p.Once.Key == "" {
		_, err := do()
		return err
	}
	var request, ref string
	err := t.one(earlierSQL, earlierArgs(p), &request, &ref)
	if err == nil {
		if err := sameRequest(p, request); err != nil {
			return err
		}
		return again(ref)
	}
	if !absent(err) {
		return err
	}
	if ref, err = do(); err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO idempotency (tenant, user_id, op, key, request, ref, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		string(p.Tenant), string(p.UserID), p.Once.Op, p.Once.Key, p.Once.Digest, ref, int64(stampOf(t.now))); err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM idempotency WHERE (tenant, user_id, op, key) IN
		(SELECT tenant, user_id, op, key FROM idempotency WHERE created_at < ? ORDER BY created_at LIMIT ?)`,
		int64(stampOf(t.now.Add(-onceKept))), oncePruned)
	return err
}

const earlierSQL = `SELECT request, ref FROM idempotency WHERE tenant = ? AND user_id = ? AND op = ? AND key = ?`

func earlierArgs(p forge.Principal) []any {
	return []any{string(p.Tenant), string(p.UserID), p.Once.Op, p.Once.Key}
}

func sameRequest(p forge.Principal, request string) error {
	if request == p.Once.Digest {
		return nil
	}
	return forge.Errorf(forge.KindConflict, p.Once.Op, "the Idempotency-Key %q was used for another request", p.Once.Key).
		WithHint("use a new key for a new request")
}

// Earlier is the id that the first request with the principal's Idempotency-Key left; empty when there was
// none. KindConflict when that request was another one.
func (t *Tenant) Earlier(ctx context.Context) (string, error) {
	if t.p.Once.Key == "" {
		return "", nil
	}
	var request, ref string
	err := t.db.sqlRead.QueryRowContext(ctx, earlierSQL, earlierArgs(t.p)...).Scan(&request, &ref)
	switch {
	case absent(err):
		return "", nil
	case err != nil:
		return "", classify(t.p.Once.Op, err)
	}
	return ref, sameRequest(t.p, request)
}

// Noted is for a request that made nothing in the database: what it made is named by ref, and whoever repeats it is answered by that.
func (t *Tenant) Noted(ctx context.Context, ref string) error {
	if t.p.Once.Key == "" {
		return nil
	}
	return t.db.write(ctx, t.p.Once.Op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) { return ref, nil }, func(string) error { return nil })
	})
}
