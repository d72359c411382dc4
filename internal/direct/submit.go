package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Submit starts one attempt. It returns once every shim was forked; what they do is seen by Poll. A
// second Submit of the same attempt finds the first. An error means "not known to have started".
func (e *Executor) Submit(ctx context.Context, l forge.Launch) (forge.ExternalID, error) {
	at := rundir.At(l.RunDir, l.Attempt)
	if err := e.check(l); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	defer e.lockKey(at)()
	id := externalID(at)
	started, err := e.started(at)
	switch {
	case errors.Is(err, rundir.ErrRevoked):
		return "", forge.Errorf(forge.KindPrecondition, "direct.submit", "attempt %s: %w", l.Key, err)
	case err != nil:
		return "", forge.Errorf(forge.KindUnavailable, "direct.submit", "attempt %s: %w", l.Key, err)
	case started:
		return id, nil
	}
	o, with := e.o, e.with.Load()
	err = rundir.Prepare(rundir.LaunchFile{Launch: l, Options: rundir.LaunchOptions{
		Python: with.Python, PythonPath: o.PythonPath, Env: with.Env, PortMin: o.PortMin, PortMax: o.PortMax,
		Network: o.Network, NeedOutput: o.NeedOutput, LogLimit: with.LogLimit, GPU: with.GPU,
	}})
	if errors.Is(err, rundir.ErrFenceAhead) {
		return "", forge.Errorf(forge.KindPrecondition, "direct.submit", "attempt %s: %w", l.Key, err)
	}
	if err != nil {
		return "", forge.Errorf(forge.KindUnavailable, "direct.submit", "attempt %s: %w", l.Key, err)
	}
	crash.At("direct.after_fence")
	a := e.learn(l, time.Now())
	for node := range l.Placement {
		if err := e.startShim(ctx, a, node); err != nil {
			return "", forge.Errorf(forge.KindUnavailable, "direct.submit", "attempt %s: %w", l.Key, err)
		}
	}
	crash.At("direct.after_start")
	return id, nil
}

func (e *Executor) check(l forge.Launch) error {
	if err := e.confined(l.RunDir); err != nil {
		return err
	}
	if l.Attempt < 1 || l.Key != forge.AttemptKey(l.Run, l.Attempt) {
		return forge.Invalidf("key", "%q does not name attempt %d of run %s", l.Key, l.Attempt, l.Run)
	}
	if len(l.Placement) == 0 {
		return forge.Invalidf("placement", "attempt %s is placed nowhere", l.Key)
	}
	for _, share := range l.Placement {
		if share.Node != e.o.NodeName {
			return forge.Invalidf("placement", "node %q is not of this cluster; it has only %q", share.Node, e.o.NodeName)
		}
	}
	return nil
}

// started says whether anything of the attempt has begun: a claim, a shim that lives or was there, a
// record. rundir.ErrRevoked: it never will.
func (e *Executor) started(at rundir.Attempt) (bool, error) {
	c, err := rundir.ReadClaim(at)
	switch {
	case err == nil && c.Revoked:
		return false, rundir.ErrRevoked
	case err == nil:
		return true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return true, nil // unreadable: somebody made it, and that was not us with a revocation
	}
	e.mu.Lock()
	a := e.known[externalID(at)]
	child := a != nil && len(a.ours) > 0
	e.mu.Unlock()
	if child {
		return true, nil
	}
	nodes, err := os.ReadDir(filepath.Dir(at.NodeDir(0)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i := range nodes {
		lock, err := rundir.ProbeLock(at.LockPath(i))
		if err != nil {
			return false, err
		}
		if lock.Held || lock.By.PID != 0 {
			return true, nil
		}
		for _, path := range []string{at.ExitPath(i), at.LivePath(i)} {
			if _, err := os.Lstat(path); err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// Find says whether an attempt exists. When nothing of it is found its claim is revoked, so that a
// shim that comes late, from wherever, exits before work: only then is it absent.
func (e *Executor) Find(ctx context.Context, key, runDir string) forge.Lookup {
	run, n, err := forge.ParseAttemptKey(key)
	if err == nil {
		err = e.confined(runDir)
	}
	if err == nil {
		err = e.rootPresent()
	}
	if err != nil {
		return forge.Lookup{State: forge.LookupUnknown, Evidence: err.Error()}
	}
	at := rundir.At(runDir, n)
	defer e.lockKey(at)()
	started, err := e.started(at)
	switch {
	case errors.Is(err, rundir.ErrRevoked):
		return forge.Lookup{State: forge.LookupAbsent, Evidence: "its claim is revoked"}
	case err != nil:
		return forge.Lookup{State: forge.LookupUnknown, Evidence: err.Error()}
	case started:
		return e.found(at, run, "a shim has claimed it or is there")
	}
	// A forged that died right after the fork leaves a shim that has not locked yet: to revoke its
	// claim would be safe, and would cost the run an attempt for nothing.
	if coming, err := rundir.Invoked(rundir.AttemptFlags(at)...); err == nil && coming {
		return e.found(at, run, "its shim was started and has not claimed it yet")
	}
	// Nor need one that systemd has just started have read yet what it is for.
	if coming, err := rundir.Invoked(rundir.StartFlag); err == nil && coming {
		return forge.Lookup{State: forge.LookupUnknown, Evidence: "a shim has just been started and does not say yet for which attempt"}
	}
	won, err := e.revoke(at)
	switch {
	case err != nil:
		return forge.Lookup{State: forge.LookupUnknown, Evidence: err.Error()}
	case won:
		return forge.Lookup{State: forge.LookupAbsent, Evidence: "no shim had claimed it; the claim is revoked now"}
	}
	return e.found(at, run, "a shim claimed it just now")
}

func (e *Executor) found(at rundir.Attempt, run forge.RunID, evidence string) forge.Lookup {
	if l, err := rundir.ReadLaunch(at); err == nil && l.Run != run {
		return forge.Lookup{State: forge.LookupUnknown, Evidence: fmt.Sprintf("%s holds run %s, not %s", at.RunDir, l.Run, run)}
	}
	return forge.Lookup{State: forge.LookupFound, ID: externalID(at), Evidence: evidence}
}

func (e *Executor) revoke(at rundir.Attempt) (bool, error) {
	if err := rundir.MakeAttemptDir(at); err != nil {
		return false, err
	}
	return rundir.Revoke(at, time.Now())
}
