package shim

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// loadTestPatience bounds the load test: minutes for the largest models over a slow filesystem, never the night.
	loadTestPatience = 20 * time.Minute
	// loadTestWords bounds what of its log is read for the last line.
	loadTestWords = 8 << 10
)

// loadTest has the output loaded and used by a fresh process, in the environment of rank 0, whose GPUs are free by now. It comes before
// output.json, without which nothing is registered: a shim that dies meanwhile leaves no output, and the attempt that goes on is tested again.
// A refusal says that it was cut short, any other error that the output does not do.
func (s *shim) loadTest() error {
	if s.launch.LoadTest == nil || empty(s.at.OutputDir()) { // what is missing is told by recordOutput
		return nil
	}
	log := s.at.LoadTestLog()
	pid, err := s.startLoadTest(log)
	if err != nil {
		return fmt.Errorf("the load test of the output could not be started: %w", err)
	}
	began := time.Now()
	s.log.Info().Int("pid", pid).Msg("load test of the output")
	ws, cut := s.awaitLoadTest(pid, began)
	s.sweep(sweepPatience)
	switch {
	case cut != nil:
		return cut
	case ws.Exited() && ws.ExitStatus() == 0:
		s.log.Info().Dur("took", time.Since(began)).Msg("load test passed")
		return nil
	case ws.Exited():
		return fmt.Errorf("the output does not pass its load test: %s (%s)", cmp.Or(lastLine(log), fmt.Sprintf("it exited %d and said nothing", ws.ExitStatus())), log)
	case time.Since(began) >= loadTestPatience:
		return fmt.Errorf("the load test of the output had not ended after %s (%s)", loadTestPatience, log)
	default:
		return fmt.Errorf("the load test of the output was ended by signal %d (%s): %s (%s)", ws.Signal(), ws.Signal(), cmp.Or(lastLine(log), "it said nothing"), log)
	}
}

func (s *shim) startLoadTest(log string) (pid int, err error) {
	argv, err := command(s.launch, *s.launch.LoadTest)
	if err != nil {
		return 0, err
	}
	env := environment(s.launch, seat{perNode: s.perNode, master: s.master, home: home(), own: os.Environ(), job: s.job})
	env = append(env, "FORGE_LOAD_TEST=1") // a site's setup lines run here, too
	path, err := lookPath(argv[0], env, s.startDir())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", argv[0], err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	out, err := rundir.CreateAppend(log)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	if s.job != nil {
		defer s.events.deafToLimit()()
	}
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: s.startDir(), Env: env, Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
}

// awaitLoadTest collects the load test, and ends it when its time is over or the attempt is to stop: at once where it is cancelled, and after
// the grace where it may still save, since what it would save is done.
func (s *shim) awaitLoadTest(pid int, began time.Time) (ws syscall.WaitStatus, cut *refusal) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var asked time.Time
	deadline, killed := began.Add(loadTestPatience), false
	for {
		if got, ok := collect(pid); ok {
			return got, cut
		}
		now := time.Now()
		if stop, err := s.stop(); err == nil && cut == nil {
			if asked.IsZero() {
				asked = now
			}
			if rundir.Strength(stop.Signal) > rundir.Strength(forge.SignalCheckpoint) || now.Sub(asked) >= s.gang.grace {
				cause := forge.StopUntested
				if stop.Intent == forge.IntentCheckpointLimit {
					cause = forge.StopTimeLimit
				}
				cut = refuse(cause, "forged asked to %s while the output was load-tested", stop.Signal)
			}
		}
		if (cut != nil || now.After(deadline)) && !killed {
			_ = syscall.Kill(-pid, syscall.SIGKILL) // not collected yet: the group is still its own
			killed = true
		}
		select {
		case <-s.events.child:
		case <-s.events.look:
		case <-s.events.limit:
		case <-s.events.term:
			if cut == nil {
				cut = refuse(forge.StopUntested, "the shim was sent SIGTERM while the output was load-tested")
			}
		case <-tick.C:
		}
	}
}

// collect takes what has ended; true when that one has.
func collect(pid int) (syscall.WaitStatus, bool) {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil || got <= 0:
			return ws, false
		case got == pid:
			return ws, true
		}
	}
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}

// lastLine is what the load test said last.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > loadTestWords {
		_, _ = f.Seek(-loadTestWords, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(f, loadTestWords))
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return strings.ToValidUTF8(string(bytes.TrimSpace(lines[len(lines)-1])), "?")
}
