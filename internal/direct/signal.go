package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// stubborn is how long a shim may take to carry out a stop, beyond the grace of its ranks, before Poll
// kills it: a stop is asked for once, so nobody else would.
const stubborn = 10 * time.Second

// Signal asks an attempt to save, to stop, or to die. The request is durable before anyone is
// nudged, so a shim that is just starting, or a nudge that is lost, changes nothing. A weaker request
// never replaces a stronger one.
func (e *Executor) Signal(ctx context.Context, id forge.ExternalID, s forge.SignalKind) error {
	var intent forge.Intent
	switch s {
	case forge.SignalLimit: // ranks know one way to save; why is the shim's to tell
		s, intent = forge.SignalCheckpoint, forge.IntentCheckpointLimit
	case forge.SignalCheckpoint: // why is forged's to record
	case forge.SignalCancel:
		intent = forge.IntentCancel
	case forge.SignalKill:
		intent = forge.IntentKill
	default:
		return forge.Invalidf("signal", "%q: want %q, %q, %q or %q", s, forge.SignalCheckpoint, forge.SignalLimit, forge.SignalCancel, forge.SignalKill)
	}
	a, err := e.attempt(id)
	if err != nil {
		return forge.Errorf(forge.KindNotFound, "direct.signal", "%w", err)
	}
	defer e.lockKey(a.at)()
	before, err := rundir.ReadStop(a.at)
	asked := err == nil && rundir.Strength(before.Signal) >= rundir.Strength(s)
	if !asked {
		stop := rundir.Stop{Signal: s, Intent: intent, At: time.Now().UTC()}
		if err := rundir.WriteJSON(a.at.StopPath(), stop); err != nil {
			return forge.Errorf(forge.KindUnavailable, "direct.signal", "%w", err)
		}
	}
	var errs []error
	for node := range a.perNode {
		lock, err := rundir.ProbeLock(a.at.LockPath(node))
		switch {
		case err != nil:
			errs = append(errs, err)
		case lock.Held && lock.By.PID != 0:
			if err := lock.By.Signal(syscall.SIGUSR1); err != nil && !errors.Is(err, os.ErrProcessDone) {
				errs = append(errs, fmt.Errorf("signal shim of node %d: %w", node, err))
			}
		case lock.Dead() && s == forge.SignalKill:
			_, err := a.left.Kill()
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return forge.Errorf(forge.KindUnavailable, "direct.signal", "%w", err)
	}
	return nil
}
