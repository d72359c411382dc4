package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// lookEvery is how soon a stop file is seen without a signal.
	lookEvery = 250 * time.Millisecond
	// refreshEvery is how soon it is seen over a network filesystem.
	refreshEvery = 2 * time.Second
	// peerPatience is how long a node waits for node 0 to choose a checkpoint: hashing hundreds of
	// gigabytes takes minutes, a node 0 that never comes must not hold GPUs for ever.
	peerPatience = 15 * time.Minute
	peerEvery    = 100 * time.Millisecond
)

// refusal is why the ranks do not start.
type refusal struct {
	cause  forge.StopCause
	detail string
	uid    int
}

func (r *refusal) Error() string { return r.detail }

func refuse(cause forge.StopCause, format string, args ...any) *refusal {
	return &refusal{cause: cause, detail: fmt.Sprintf(format, args...), uid: -1}
}

// claim makes sure that this attempt may still start. The fence is read after the claim: between a
// fence that was raised and a claim that was revoked nothing slips through.
func (s *shim) claim() error {
	if s.job == nil { // a job has claimed before it touched anything
		switch err := rundir.ClaimForShim(s.at, "", time.Now()); {
		case errors.Is(err, rundir.ErrRevoked):
			return refuse(forge.StopRevoked, "the claim was revoked before this shim came")
		case err != nil:
			return refuse(forge.StopLaunch, "%v", err)
		}
	}
	if err := s.fenced(); err != nil {
		return err
	}
	if stop, err := s.stop(); err == nil {
		return stopped(stop)
	}
	return nil
}

// stop reads what forged asks for. That there is no such file a network filesystem may answer from memory, for up to a minute, and a
// cancel would take that long; to open the directory is what makes it ask its server.
func (s *shim) stop() (rundir.Stop, error) {
	if now := time.Now().UnixNano(); s.job != nil && now-s.refreshed.Load() >= int64(refreshEvery) {
		s.refreshed.Store(now)
		if d, err := os.Open(s.at.Dir()); err == nil {
			_ = d.Close()
		}
	}
	return rundir.ReadStop(s.at)
}

// stopped is a stop that came before the ranks started.
func stopped(stop rundir.Stop) *refusal {
	if stop.Intent == forge.IntentCheckpointLimit {
		return refuse(forge.StopTimeLimit, "forged took the time limit for come before the ranks started")
	}
	return refuse(forge.StopIntent, "forged asked to %s before the ranks started", stop.Signal)
}

// fenced says whether this attempt is the newest that is allowed.
func (s *shim) fenced() error {
	fence, err := rundir.ReadFence(s.at.RunDir)
	switch {
	case err != nil:
		return refuse(forge.StopLaunch, "%v", err)
	case fence > s.at.Number:
		return refuse(forge.StopSuperseded, "attempt %d holds the fence", fence)
	case fence < s.at.Number:
		return refuse(forge.StopLaunch, "the fence is at %d: attempt %d was never allowed", fence, s.at.Number)
	}
	return nil
}

// prepare does what may take long, and can be stopped while it does: hashing inputs that changed,
// verifying checkpoints, waiting for node 0.
func (s *shim) prepare(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		s.guard(done, cancel)
	}()
	err := s.prepareSteps(ctx)
	if err == nil && s.job != nil {
		err = s.fenced() // it may have taken hours, on a node that was cut off meanwhile
	}
	close(done)
	<-guarded // from here on the events are the loop's again
	var why *refusal
	if errors.As(context.Cause(ctx), &why) {
		err = why
	}
	cancel(nil)
	return err
}

// guard ends the preparation when it is asked to, or when the time limit comes.
func (s *shim) guard(done <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-s.events.term:
			cancel(refuse(forge.StopSignal, "the shim was sent SIGTERM before the ranks started"))
		case <-s.events.limit:
			if s.job != nil {
				cancel(refuse(forge.StopTimeLimit, "Slurm said that the time limit is near, before the ranks started"))
			}
		case <-s.events.look:
		case <-tick.C:
		}
		if stop, err := s.stop(); err == nil {
			cancel(stopped(stop))
		}
		if s.gang.limit > 0 && time.Since(s.began) >= s.gang.limit {
			cancel(refuse(forge.StopTimeLimit, "the time limit of %s came before the ranks started", s.gang.limit))
		}
	}
}

func (s *shim) prepareSteps(ctx context.Context) error {
	for _, m := range s.launch.Inputs {
		if err := rundir.CheckInputsContext(ctx, m); err != nil {
			cause := forge.StopInputs
			if forge.KindOf(err) == forge.KindUnavailable {
				cause = forge.StopNodeEnv // this node cannot read it; another may
			}
			return refuse(cause, "%v", err)
		}
	}
	if path := s.launch.Spec.SecretsFile; path != "" {
		var err error
		if s.secrets, err = readSecrets(path); err != nil {
			return err
		}
	}
	if s.node > 0 {
		return s.awaitNodeZero(ctx)
	}
	if err := s.unpack(ctx); err != nil {
		return err
	}
	if err := s.chooseResume(ctx); err != nil {
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	var err error
	if s.master.Port, err = reservePort(s.launch.Options.PortMin, s.launch.Options.PortMax, s.self.PID); err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	if s.master.Addr, err = s.masterAddr(ctx); err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	if len(s.perNode) == 1 {
		return nil // published with live.json
	}
	resume, err := rundir.JSON(s.at.ResumePath(), s.resume)
	if err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	master, err := rundir.JSON(s.at.MasterPath(), s.master)
	if err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	if err := rundir.WriteDurable(resume, master); err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	return nil
}

// awaitNodeZero waits for the choices of node 0, and no longer than node 0 itself lives.
func (s *shim) awaitNodeZero(ctx context.Context) error {
	deadline := time.NewTimer(peerPatience)
	defer deadline.Stop()
	tick := time.NewTicker(peerEvery)
	defer tick.Stop()
	for {
		resume, rerr := rundir.ReadResume(s.at)
		master, merr := rundir.ReadMaster(s.at)
		if rerr == nil && merr == nil {
			s.resume, s.master = resume, master
			return nil
		}
		for _, err := range []error{rerr, merr} {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return refuse(forge.StopLaunch, "%v", err)
			}
		}
		if x, err := rundir.ReadExit(s.at, 0); err == nil {
			return refuse(x.Cause, "node 0 did not start: %s", x.Detail)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return refuse(forge.StopLaunch, "node 0 published no rendezvous within %s", peerPatience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// statSigns looks at the files by which ranks show progress.
func (s *shim) statSigns() signs {
	var out signs
	if st, err := os.Lstat(s.at.MetricsPath()); err == nil {
		out.size, out.mtime = st.Size(), st.ModTime()
	}
	if st, err := os.Lstat(s.at.HeartbeatPath()); err == nil {
		out.beat = st.ModTime()
	}
	return out
}
