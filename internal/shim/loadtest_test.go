package shim_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// tested is an attempt of one rank that leaves an output, and a load test in the shell's words.
func tested(t *testing.T, script string, change func(l *rundir.LaunchFile)) rundir.Attempt {
	t.Helper()
	return prepared(t, program(t, executortest.Act{Output: true}), func(l *rundir.LaunchFile) {
		l.Options.NeedOutput = true
		l.LoadTest = &forge.Entry{Command: []string{"/bin/sh", "-c", script}}
		if change != nil {
			change(l)
		}
	}, 1)
}

func outputOf(t *testing.T, a rundir.Attempt) []string {
	t.Helper()
	m, err := rundir.ReadOutput(a)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range m.Files {
		names = append(names, f.Path)
	}
	return names
}

func TestWhatTheLoadTestLeavesIsPartOfTheOutput(t *testing.T) {
	a := tested(t, `test "$RANK" = 0 && test -s "$FORGE_CONFIG" && test -z "$FORGED_SECRET" && echo fine && echo '{}' > "$FORGE_OUTPUT_DIR/load_test.json"`, nil)
	if _, x := runShim(t, a); x.Detail != "" || x.Cause != forge.StopRankExit {
		t.Errorf("%+v", x)
	}
	if got := strings.Join(outputOf(t, a), " "); !strings.Contains(got, "load_test.json") {
		t.Errorf("output.json has %s", got)
	}
	if b, err := os.ReadFile(a.LoadTestLog()); err != nil || string(b) != "fine\n" {
		t.Errorf("log %q, %v", b, err)
	}
}

func TestAnOutputThatDoesNotPassItsLoadTestIsNone(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		change func(l *rundir.LaunchFile)
		words  string
	}{
		"it says why":            {"echo loading; echo 'the logits of the model are not finite'; exit 87", nil, "does not pass its load test: the logits of the model are not finite ("},
		"it says nothing":        {"exit 3", nil, "it exited 3 and said nothing"},
		"it is killed":           {"echo loading; kill -KILL $$", nil, "was ended by signal 9 (killed): loading"},
		"it leaves a process":    {"sleep 60 & echo bad; exit 87", nil, "load test: bad"},
		"it cannot be started":   {"", func(l *rundir.LaunchFile) { l.LoadTest.Command = []string{"/no/such/python"} }, "could not be started: /no/such/python"},
		"there is no python":     {"", func(l *rundir.LaunchFile) { l.LoadTest = &forge.Entry{Module: "forge_train.load_test"} }, "names no Python interpreter"},
		"its log has no newline": {"printf 'half a line'; exit 1", nil, "half a line"},
	} {
		t.Run(name, func(t *testing.T) {
			a := tested(t, c.script, c.change)
			_, x := runShim(t, a)
			if !strings.Contains(x.Detail, c.words) || x.Cause != forge.StopRankExit || len(x.Ranks) != 1 || x.Ranks[0].Code != 0 {
				t.Errorf("%+v, want %q", x, c.words)
			}
			if got := outputOf(t, a); got != nil {
				t.Errorf("output.json has %v", got)
			}
			reason, words := forge.Judge(forge.Evidence{State: forge.ObservExited, Cause: x.Cause, Detail: x.Detail, Exits: x.Ranks, Ranks: 1, ByUID: -1})
			if reason != forge.EndOutputsInvalid || !strings.Contains(words, c.words) {
				t.Errorf("judged %s: %s", reason, words)
			}
		})
	}
}

func TestOnlyAGoodEndIsLoadTested(t *testing.T) {
	for name, change := range map[string]func(l *rundir.LaunchFile){
		"not where a rank failed": func(l *rundir.LaunchFile) {
			l.Spec.Entry.Command = program(t, executortest.Act{Output: true, Exit: 3})
		},
		"not where nothing was left": func(l *rundir.LaunchFile) { l.Spec.Entry.Command = program(t, executortest.Act{}) },
		"not where nobody asks":      func(l *rundir.LaunchFile) { l.LoadTest = nil },
	} {
		t.Run(name, func(t *testing.T) {
			a := tested(t, "echo tested", change)
			runShim(t, a)
			if _, err := os.Stat(a.LoadTestLog()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it was tested: %v", err)
			}
		})
	}
}

// waiting is a load test that says its pid and hangs.
const waiting = `echo $$ > "$FORGE_ATTEMPT_DIR/pid"; sleep 60`

func pidIn(t *testing.T, a rundir.Attempt) int {
	t.Helper()
	pid := 0
	eventually(t, "load test", func() bool {
		b, err := os.ReadFile(filepath.Join(a.Dir(), "pid"))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil
	})
	return pid
}

func TestAStopCutsTheLoadTestShort(t *testing.T) {
	for name, c := range map[string]struct {
		stop   rundir.Stop
		signal syscall.Signal
		reason forge.EndReason
	}{
		"a cancel at once":                     {stop: rundir.Stop{Signal: forge.SignalCancel, Intent: forge.IntentCancel}, reason: forge.EndCancelled},
		"a preemption at the end of its grace": {stop: rundir.Stop{Signal: forge.SignalCheckpoint, Intent: forge.IntentCheckpointPreempt}, reason: forge.EndCheckpointedPreempt},
		"a signal from outside":                {signal: syscall.SIGTERM, reason: forge.EndKilledExternally},
	} {
		t.Run(name, func(t *testing.T) {
			a := tested(t, waiting, func(l *rundir.LaunchFile) { l.Spec.Grace = forge.Duration(time.Second) })
			cmd := startNodes(t, a, 0)[0]
			pid := pidIn(t, a)
			if c.signal != 0 {
				_ = cmd.Process.Signal(c.signal)
			} else if err := rundir.WriteJSON(a.StopPath(), c.stop); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			x, err := rundir.ReadExit(a, 0)
			if err != nil || x.Cause != forge.StopUntested {
				t.Fatalf("%+v, %v", x, err)
			}
			if reason, words := forge.Judge(forge.Evidence{Intent: c.stop.Intent, State: forge.ObservExited, Cause: x.Cause, Detail: x.Detail, Exits: x.Ranks, Ranks: 1, ByUID: x.ByUID}); reason != c.reason {
				t.Errorf("judged %s: %s", reason, words)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("the load test lives on: %v", err)
			}
			if got := outputOf(t, a); got != nil {
				t.Errorf("output.json has %v", got)
			}
		})
	}
}

func TestAShimThatDiesWhileTheOutputIsTestedLeavesNoOutput(t *testing.T) {
	a := tested(t, waiting, nil)
	cmd := startNodes(t, a, 0)[0]
	pid := pidIn(t, a)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "end of the load test, which dies with its shim", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	rank, err := rundir.ReadRankExit(a, 0)
	if err != nil || rank.Code != 0 || outputOf(t, a) != nil {
		t.Fatalf("%+v, %v, output %v", rank, err, outputOf(t, a))
	}
	// the rank's own record would make it a good end, were there an output
	if reason, words := forge.Judge(forge.Evidence{State: forge.ObservLost, Exits: []forge.RankExit{rank}, Ranks: 1, ByUID: -1}); reason != forge.EndExecutorLost {
		t.Errorf("judged %s: %s", reason, words)
	}
}
