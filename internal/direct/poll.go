package direct

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// startPatience is how long a shim that nobody sees may take from its launch to its lock, before
// its claim is revoked: long enough for a host that swaps, short enough not to hold GPUs for nothing.
const startPatience = 30 * time.Second

// Poll looks at attempts. An id that cannot be judged is unknown and spoils nothing for the others;
// the error is only ever the context's.
func (e *Executor) Poll(ctx context.Context, ids []forge.ExternalID) ([]forge.Observation, error) {
	out := make([]forge.Observation, len(ids))
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i] = e.observe(id)
	}
	return out, nil
}

func (e *Executor) observe(id forge.ExternalID) forge.Observation {
	o := forge.Observation{ID: id, AsOf: time.Now().UTC(), State: forge.ObservUnknown, ByUID: -1}
	a, err := e.attempt(id)
	if err != nil {
		o.Detail = err.Error()
		if at, perr := e.parseID(id); perr == nil && revoked(at) {
			o.State, o.Released = forge.ObservAbsent, true
		}
		return o
	}
	if err := e.look(a, &o); err != nil {
		o.State, o.Released, o.Detail = forge.ObservUnknown, false, err.Error()
	}
	return o
}

func revoked(at rundir.Attempt) bool {
	c, err := rundir.ReadClaim(at)
	return err == nil && c.Revoked
}

// shimView is what was seen of one shim.
type shimView struct {
	lock rundir.LockState
	live *rundir.Live
	exit *rundir.Exit
}

// seeShim reads in the order that makes the answer true: the lock first, then what is written under it.
func seeShim(at rundir.Attempt, node int) (shimView, error) {
	var v shimView
	var err error
	if v.lock, err = rundir.ProbeLock(at.LockPath(node)); err != nil {
		return v, err
	}
	if live, err := rundir.ReadLive(at, node); err == nil {
		v.live = &live
	} else if !noRecord(err) {
		return v, err
	}
	if exit, err := rundir.ReadExit(at, node); err == nil {
		v.exit = &exit
	} else if !noRecord(err) {
		return v, err
	}
	return v, nil
}

// noRecord: one that is broken tells as little as one that is absent, and will not get better. To call
// the attempt unknown for it would hold its GPUs for ever.
func noRecord(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, rundir.ErrBroken)
}

func (e *Executor) look(a *attempt, o *forge.Observation) error {
	claim, err := rundir.ReadClaim(a.at)
	if err == nil && claim.Revoked {
		o.State, o.Released, o.Detail = forge.ObservAbsent, true, "its claim is revoked: it never started"
		e.forget(a)
		return nil
	}
	unclaimed := errors.Is(err, fs.ErrNotExist)

	views := make([]shimView, len(a.perNode))
	var held, live, exited, dead, missing int
	for i := range views {
		if views[i], err = seeShim(a.at, i); err != nil {
			return err
		}
		v := &views[i]
		if v.lock.Held {
			held++
			e.endStubborn(a, v)
			e.watchShim(a, i, v.lock.By)
		}
		switch {
		case v.exit != nil:
			exited++
		case v.lock.Dead():
			dead++
		case !v.lock.Held:
			missing++
		}
		if v.live != nil {
			live++
			a.left.Expect(v.live.Processes()...)
			if v.live.Cgroup.Is(a.at, i) {
				a.left.ExpectIn(v.live.Cgroup)
			}
			if v.live.StartedAt.After(o.StartedAt) {
				o.StartedAt = v.live.StartedAt
			}
		}
	}
	if live < len(views) {
		o.StartedAt = time.Time{} // not all ranks have started
	}
	readRecords(a, views, o)
	switch {
	case exited == len(views):
		o.State = forge.ObservExited
	case held > 0 && (exited+dead > 0 || stopAsked(a.at)):
		o.State = forge.ObservStopping
		return nil
	case held > 0 && live == len(views):
		o.State = forge.ObservRunning
		return nil
	case held > 0:
		o.State = forge.ObservStarting
		return nil
	case dead > 0:
		o.State = forge.ObservLost
		o.Detail = "the shim is gone and left no exit record"
	default: // nothing held, some missing: not there yet, or never coming
		return e.judgeMissing(a, unclaimed, o)
	}
	return e.release(a, held, o)
}

// endStubborn kills a shim that does not carry out a stop: it is frozen, or hangs in a read of its run
// directory. Its ranks die with it. A shim that has written its last word holds its lock as the proof
// about leftovers, and is left alone; so is one that was asked to save, which is worth waiting for.
func (e *Executor) endStubborn(a *attempt, v *shimView) {
	if v.exit != nil || v.lock.By.PID == 0 {
		return
	}
	stop, err := rundir.ReadStop(a.at)
	if err != nil {
		return
	}
	patience := stubborn
	switch stop.Signal {
	case forge.SignalCheckpoint:
		return
	case forge.SignalCancel:
		patience += a.grace
	}
	if time.Since(stop.At) < patience {
		return
	}
	e.logOf(a).Warn().Int("shim", v.lock.By.PID).Msg("a shim that did not stop in time is killed")
	if err := v.lock.By.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.logOf(a).Warn().Err(err).Int("shim", v.lock.By.PID).Msg("shim not killed")
	}
}

// judgeMissing decides about shims of which nothing is seen. While one may still come it is starting.
func (e *Executor) judgeMissing(a *attempt, unclaimed bool, o *forge.Observation) error {
	e.mu.Lock()
	coming := len(a.ours) > 0
	e.mu.Unlock()
	if coming || time.Since(a.made) < startPatience && !e.startedHere(a) {
		o.State = forge.ObservStarting
		return nil
	}
	if !unclaimed {
		o.State = forge.ObservLost
		o.Detail = "a shim claimed the attempt and is gone without a record"
		return e.release(a, 0, o)
	}
	defer e.lockKey(a.at)()
	won, err := rundir.Revoke(a.at, time.Now())
	if err != nil {
		return err
	}
	if !won {
		o.State = forge.ObservStarting // it came just now
		return nil
	}
	o.State, o.Released, o.Detail = forge.ObservAbsent, true, "its shim ended before it claimed the attempt; the claim is revoked now"
	return nil
}

// startedHere says that this process forked the shims itself, so that "no child lives" means that
// they have ended.
func (e *Executor) startedHere(a *attempt) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(a.watched) == len(a.perNode)
}

// release looks for proof that nothing of the attempt runs any more, nor is on its GPUs. What is left although its shim
// has ended is ours by its marker or by having been met, and is ended.
func (e *Executor) release(a *attempt, held int, o *forge.Observation) error {
	if held > 0 {
		return nil
	}
	left, err := a.left.Kill()
	if err != nil {
		e.logOf(a).Warn().Err(err).Msg("leftovers")
		return nil
	}
	if left > 0 {
		e.logOf(a).Warn().Int("processes", left).Msg("leftovers of an attempt whose shim is gone were ended")
		e.nudgeSoon()
		return nil
	}
	a.left.Remove()
	if o.Released, o.Held = e.emptied(a); o.Released {
		e.forget(a)
	}
	return nil
}

func stopAsked(at rundir.Attempt) bool {
	_, err := os.Lstat(at.StopPath())
	return err == nil
}

// readRecords copies what the attempt left. Records that cannot be read are left out: the state
// says whether more is to come.
func readRecords(a *attempt, views []shimView, o *forge.Observation) {
	seen := map[int]bool{}
	var first *rundir.Exit
	for _, v := range views {
		if v.exit == nil {
			continue
		}
		for _, x := range v.exit.Ranks {
			seen[x.Rank] = true
			o.Exits = append(o.Exits, x)
		}
		if first == nil || rundir.Tells(*v.exit, *first) {
			first = v.exit
		}
	}
	if first != nil {
		o.Cause, o.Detail, o.ByUID = first.Cause, first.Detail, first.ByUID
	}
	exits := make([]rundir.Exit, 0, len(views))
	for _, v := range views {
		if v.exit != nil {
			exits = append(exits, *v.exit)
		}
	}
	rundir.Explain(o, exits, first)
	total := 0
	for _, n := range a.perNode {
		total += n
	}
	for rank := range total {
		if seen[rank] {
			continue
		}
		if x, err := rundir.ReadRankExit(a.at, rank); err == nil {
			o.Exits = append(o.Exits, x)
		}
	}
	if st, err := rundir.ReadStatus(a.at); err == nil {
		o.Status = &st
	}
	if r, err := rundir.ReadResume(a.at); err == nil {
		o.Resume = &r
	}
	if m, err := rundir.ReadOutput(a.at); err == nil {
		o.Output = &m
	}
}
