package shim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// sweepPatience is how long leftovers may take to die before the exit is recorded without them. A
	// process in an uninterruptible wait can outlive a KILL for hours; its lock then stays held, so
	// the GPUs stay allocated, while the exit codes are known.
	sweepPatience = 30 * time.Second
	// recordPatience is how long the last word is tried again, on a full disk for example.
	recordPatience = 2 * time.Minute
)

// end is every way out after the lock: leftovers, exit records, output, and exit.json as the last
// word. why is a refusal when the ranks did not start or not all of them.
func (s *shim) end(why error) int {
	s.endGPUs()
	x := rundir.Exit{ByUID: s.gang.byUID, Cause: s.gang.cause, Ranks: []forge.RankExit{}, GPUEvents: s.gpus.said()}
	x.GPUFault, x.Detail = s.gang.blame()
	var r *refusal
	switch {
	case errors.As(why, &r):
		x.Cause, x.Detail, x.ByUID = r.cause, r.detail, r.uid
	case why != nil:
		x.Cause, x.Detail = forge.StopLaunch, why.Error()
	}
	x.Cause = cmp.Or(x.Cause, forge.StopRankExit)

	clean := true
	for _, m := range s.gang.members {
		if m.ended {
			x.Ranks = append(x.Ranks, m.exit)
		}
	}
	if len(s.gang.members) > 0 {
		clean = s.sweep(sweepPatience)
		s.writes.Wait()
		x.Pattern = s.pattern()
		if words := s.endPrinted(); words != "" {
			x.Detail = sentence(x.Detail, words)
		}
		if !clean {
			x.Detail = sentence(x.Detail, "processes that do not die even by KILL are left")
		}
		if s.node == 0 && why == nil && s.gang.allZero() && s.peers.allEnded() && s.peers.zero {
			err := s.loadTest()
			if err == nil {
				err = s.recordOutput()
			}
			if errors.As(err, &r) {
				x.Cause = r.cause
			}
			if err != nil {
				x.Detail = sentence(x.Detail, err.Error())
			}
		}
	}
	x.Leftovers, x.Gone = s.swept, s.peers.quiet.gone
	slices.SortFunc(x.Ranks, func(a, b forge.RankExit) int { return cmp.Compare(a.Rank, b.Rank) })
	x.EndedAt = time.Now().UTC()
	if err := s.lastWord(x); err != nil {
		s.log.Error().Err(err).Msg("exit.json not written: forged will take this attempt for lost")
		return exitFailed
	}
	s.report()
	s.log.Info().Str("cause", string(x.Cause)).Str("detail", x.Detail).Int("leftovers", x.Leftovers).Msg("ended")
	for !clean {
		clean = s.sweep(time.Hour) // the lock is the proof that GPUs are free: it is held until they are
	}
	if x.Cause == forge.StopRevoked || x.Cause == forge.StopSuperseded {
		return forge.ExitSuperseded
	}
	if s.job != nil {
		return s.jobCode(x)
	}
	return exitRecorded
}

func sentence(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// sweep ends everything that outlived the ranks: children of ours, which by the subreaper rule is
// every descendant, processes with the attempt's marker that were started by others on its behalf, and what is in the ranks' cgroup.
// True: none is left.
func (s *shim) sweep(patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	marker := rundir.Marker{Run: s.launch.Run, Attempt: s.at.Number, Node: -1}
	if len(s.perNode) > 1 {
		marker.Node = s.node // two shims of a gang may share a host
	}
	left := rundir.NewSweep(marker)
	known := map[int]bool{}
	for pause := time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		var children []int
		var cerr error
		if !s.reap() { // the kernel says cheaper than /proc that there is no child
			children, cerr = rundir.Children(s.self.PID)
			children = slices.DeleteFunc(children, func(pid int) bool { return s.gpus.spared(pid) })
		}
		marked, merr := left.Left()
		empty, gerr := s.group.path.Empty()
		if cerr == nil && merr == nil && gerr == nil && empty && len(children)+len(marked) == 0 {
			s.group.drop()
			return true
		}
		if !empty {
			inside, err := s.group.path.Processes()
			for _, p := range inside {
				s.count(known, p.PID)
			}
			marked, gerr = append(marked, inside...), errors.Join(gerr, err, s.group.path.Kill())
		}
		for _, pid := range children {
			s.count(known, pid)
			_ = syscall.Kill(pid, syscall.SIGKILL) // ours and not collected: the pid is still its own
		}
		for _, p := range marked {
			s.count(known, p.PID)
			if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				s.log.Warn().Err(err).Int("pid", p.PID).Msg("leftover not killed")
			}
		}
		if err := errors.Join(cerr, merr, gerr); err != nil {
			s.log.Warn().Err(err).Msg("leftovers not listed")
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}

func (s *shim) count(known map[int]bool, pid int) {
	if !known[pid] {
		known[pid] = true
		s.swept++
	}
}

// recordOutput digests what the run was for.
func (s *shim) recordOutput() error {
	m, err := rundir.HashTree(context.Background(), s.at.OutputDir())
	switch {
	case os.IsNotExist(err), err == nil && len(m.Files) == 0:
		if s.launch.Options.NeedOutput {
			return errors.New("every rank exited 0 and output/ is empty")
		}
		return nil
	case err != nil:
		return fmt.Errorf("output is not readable: %w", err)
	}
	if err := rundir.WriteJSON(s.at.OutputPath(), m); err != nil {
		return fmt.Errorf("output.json not written: %w", err)
	}
	return nil
}

// lastWord writes exit.json, and tries again for a while: an exit code must not be lost to a disk
// that is full for a minute.
func (s *shim) lastWord(x rundir.Exit) error {
	crash.At("shim.before_exit_record")
	defer crash.At("shim.after_exit_record")
	deadline := time.Now().Add(recordPatience)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := rundir.WriteJSON(s.at.ExitPath(s.node), x)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		s.log.Warn().Err(err).Msg("exit.json not written, trying again")
		time.Sleep(pause)
	}
}
