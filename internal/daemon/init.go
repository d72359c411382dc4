package daemon

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// SampleConfig is what init writes: every key with its default, as comments.
//
//go:embed sample.yaml
var SampleConfig []byte

// Initialized is what `forged init` made.
type Initialized struct {
	StateDir string
	Config   string
	Key      forge.Key
	Secret   string // shown once, stored only as a hash
}

// Init makes a state directory: mode 0700, database, default tenant, first operator key. A
// directory that was initialized already is left as it is.
func Init(ctx context.Context, stateDir, operator string) (Initialized, error) {
	out := Initialized{StateDir: stateDir, Config: filepath.Join(stateDir, configFile)}
	if err := forge.CheckName(operator); err != nil {
		return out, forge.Invalidf("user", "%v", err)
	}
	if err := prepareStateDir(stateDir); err != nil {
		return out, err
	}
	lock, err := lockState(stateDir)
	if err != nil {
		return out, err
	}
	defer func() { _ = lock.release() }()
	if _, err := os.Stat(out.Config); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(out.Config, SampleConfig, 0o600); err != nil {
			return out, stateDirError(stateDir, err)
		}
	}
	db, err := store.Open(ctx, filepath.Join(stateDir, dbFile), store.Options{Log: zerolog.Nop()})
	if err != nil {
		return out, err
	}
	defer func() { _ = db.Close() }()
	t, err := db.TenantByName(ctx, forge.DefaultTenant)
	switch {
	case err == nil:
		return out, (&forge.Error{Kind: forge.KindConflict, Op: "init", Field: "state_dir", Err: fmt.Errorf("%s is initialized already; nothing was changed", stateDir)}).
			WithHint("forged serve --state-dir %s; a lost operator key is replaced by: forged key --state-dir %s", stateDir, stateDir)
	case forge.KindOf(err) != forge.KindNotFound:
		return out, err
	}
	if t, err = db.CreateTenant(ctx, forge.DefaultTenant); err != nil {
		return out, err
	}
	out.Key, out.Secret, err = db.CreateKey(ctx, t.ID, operator, forge.RoleOperator, actorForged)
	return out, err
}

// NewOperatorKey replaces a lost key. Whoever can write the state directory may have it.
func NewOperatorKey(ctx context.Context, stateDir, operator string) (forge.Key, string, error) {
	lock, err := lockState(stateDir)
	if err != nil {
		return forge.Key{}, "", err
	}
	defer func() { _ = lock.release() }()
	db, err := store.Open(ctx, filepath.Join(stateDir, dbFile), store.Options{Log: zerolog.Nop()})
	if err != nil {
		return forge.Key{}, "", err
	}
	defer func() { _ = db.Close() }()
	t, err := db.TenantByName(ctx, forge.DefaultTenant)
	if err != nil {
		return forge.Key{}, "", err
	}
	return db.CreateKey(ctx, t.ID, operator, forge.RoleOperator, actorForged)
}
