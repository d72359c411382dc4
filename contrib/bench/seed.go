package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// seed writes into the database of a site that no forged serves, past the daemon and the store:
// what a bench needs by the million, or before there is anyone to ask for it.
func seed(ctx context.Context, s *forgedtest.Site, do func(*sql.DB) error) error {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.State(), "forge.db")+"?_busy_timeout=5000")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if err := do(db); err != nil {
		_ = db.Close()
		return err
	}
	return db.Close()
}

// addTenant makes a tenant with one member and returns the secret of her key.
func addTenant(ctx context.Context, db *sql.DB, name string) (secret string, err error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	secret = "forge_" + hex.EncodeToString(raw[:])
	hash := sha256.Sum256([]byte(secret))
	tenant, user, now := ulid.Make().String(), ulid.Make().String(), time.Now().UnixNano()
	for _, q := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO tenants (id, name, created_at) VALUES (?, ?, ?)`, []any{tenant, name, now}},
		{`INSERT INTO users (id, tenant, name, created_at) VALUES (?, ?, 'ana', ?)`, []any{user, tenant, now}},
		{`INSERT INTO api_keys (id, tenant, user_id, role, prefix, hash, created_at) VALUES (?, ?, ?, 'member', ?, ?, ?)`,
			[]any{ulid.Make().String(), tenant, user, secret[:12], hex.EncodeToString(hash[:]), now}},
	} {
		if _, err := db.ExecContext(ctx, q.text, q.args...); err != nil {
			return "", err
		}
	}
	return secret, nil
}
