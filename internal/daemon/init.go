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

// NoUID is for an operator without a uid of its own.
const NoUID = -1

// Init makes a state directory: mode 0700, database, default tenant, first operator with its key. On the unix socket the
// operator is who has the uid. A directory that was initialized already is left as it is.
func Init(ctx context.Context, stateDir, operator string, uid int64) (Initialized, error) {
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
	_, err = db.TenantByName(ctx, forge.DefaultTenant)
	switch {
	case err == nil:
		return out, (&forge.Error{Kind: forge.KindConflict, Op: "init", Field: "state_dir", Err: fmt.Errorf("%s is initialized already; nothing was changed", stateDir)}).
			WithHint("forged serve --state-dir %s; a lost operator key is replaced by: forged key --state-dir %s", stateDir, stateDir)
	case forge.KindOf(err) != forge.KindNotFound:
		return out, err
	}
	first := forge.User{Name: operator, Role: forge.RoleOperator}
	if uid != NoUID {
		first.UnixUID = &uid
	}
	out.Key, out.Secret, err = db.Bootstrap(ctx, forge.DefaultTenant, first)
	return out, err
}

// NewOperatorKey replaces a lost key, and lets in as an operator whoever it is for. Whoever can write the state
// directory may have it.
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
