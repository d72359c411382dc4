package daemon

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// interpreter stands where a cluster's Python would: a program that leaves its question and environment behind and then does what
// the shell says. The real one is asked in internal/e2e and recipes/python/tests/test_precheck.py.
func interpreter(t *testing.T, r *rig, shell string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "python")
	script := "#!/bin/sh\ncd " + dir + "\necho x >> asked\nenv > env\necho \"$@\" > args\ncat > question\n" + shell + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	s := *r.live()
	c := *s.clusters["local"]
	c.Python = path
	s.clusters = maps.Clone(s.clusters) // the loops read the one in force
	s.clusters["local"] = &c            // the rig's only one
	r.settings.Store(&s)
	return dir
}

func wrote(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheTokenizersWordIsHeardAndRemembered(t *testing.T) {
	t.Setenv("FORGED_OWN", "leak")
	r := start(t, 1)
	dir := interpreter(t, r, "cat <<'E'\n"+`{"rows": 2, "warnings": ["1 of 2 rows are too\nlong"], "faults": []}`+"\nE")
	q := r.inputsOf(t, chat, template)
	for range 2 {
		notes, err := r.ask(t, q)
		if err != nil {
			t.Fatal(err)
		}
		hasNote(t, notes, "1 of 2 rows are too long")
	}
	q.Set = []string{"train.learning_rate=1e-5"}
	if _, err := r.ask(t, q); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(wrote(t, dir, "asked"), "x"); n != 1 {
		t.Errorf("asked %d times about the same rows, model and lengths; want once", n)
	}
	q.Set = []string{"train.max_length=77"}
	if _, err := r.ask(t, q); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(wrote(t, dir, "asked"), "x"); n != 2 {
		t.Errorf("another length was not asked about")
	}
	if got := wrote(t, dir, "question"); !strings.Contains(got, `"train.max_length":77`) || !strings.Contains(got, `"dataset_kind":"messages"`) || strings.Contains(got, "learning_rate") {
		t.Errorf("the question is %s", got)
	}
	if env := wrote(t, dir, "env"); strings.Contains(env, "leak") || !strings.Contains(env, "HF_HUB_OFFLINE=1") || !strings.Contains(env, "PYTHONPATH="+r.pythonPath) {
		t.Errorf("it has the environment\n%s", env)
	}
	q.Set, q.NoCheck = []string{"train.max_length=78"}, true
	if _, err := r.ask(t, q); err != nil || strings.Count(wrote(t, dir, "asked"), "x") != 2 {
		t.Errorf("asked although nobody wanted it, or %v", err)
	}
}

func TestWhatTheTokenizerCannotTakeIsRefusedByField(t *testing.T) {
	r := start(t, 1)
	interpreter(t, r, `echo '{"faults": [{"field": "params.train.max_length", "message": "no row has anything to learn from", "hint": "--set train.max_length=256"}, {"field": "base", "message": "m", "hint": "h"}]}'`)
	_, err := r.ask(t, r.inputsOf(t, chat, template))
	saysNo(t, err, "params.train.max_length", "no row has anything to learn from", "hint:--set train.max_length=256; and 1 more after that")
}

func TestThatNobodyCouldLookIsAWarning(t *testing.T) {
	r := start(t, 1)
	q := r.inputsOf(t, chat, template)
	t.Run("there is no training environment here", func(t *testing.T) {
		notes, err := r.ask(t, q)
		if err != nil {
			t.Fatal(err)
		}
		hasNote(t, notes, "not looked at by the tokenizer: no cluster of kind direct has a Python")
	})
	for name, c := range map[string]struct{ shell, says string }{
		"it fails":                   {"echo first >&2; echo 'MemoryError: no' >&2; exit 1", "ended with exit status 1: MemoryError: no"},
		"it says something else":     {"echo hello", "its answer cannot be read"},
		"it says more than anybody":  {"head -c 200000 /dev/zero | tr '\\0' x", "its answer cannot be read"},
		"it is killed, as by itself": {"kill -9 $$", "ended with signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			interpreter(t, r, c.shell)
			notes, err := r.ask(t, q)
			if err != nil {
				t.Fatal(err)
			}
			hasNote(t, notes, c.says)
			hasNote(t, notes, "the ranks look when they start")
		})
	}
	t.Run("it takes too long, and is ended with all that it started", func(t *testing.T) {
		r.pre.limit = 300 * time.Millisecond
		dir := interpreter(t, r, "sleep 1000 & echo $! > pid; wait")
		notes, err := r.ask(t, q)
		if err != nil {
			t.Fatal(err)
		}
		hasNote(t, notes, "no answer within 300ms")
		pid, err := strconv.Atoi(strings.TrimSpace(wrote(t, dir, "pid")))
		if err != nil {
			t.Fatal(err)
		}
		comesTrue(t, "its child has ended", func() bool { return gone(pid) })
		if again, err := r.ask(t, q); err != nil || len(again) == 0 || strings.Count(wrote(t, dir, "asked"), "x") != 2 {
			t.Errorf("that there was no answer is remembered as one: %v, %v", again, err)
		}
	})
}

// comesTrue waits for what other processes do.
func comesTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// gone says that a process has ended; one that only waits to be collected has.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestNoMoreThanTwoLookAtOnce(t *testing.T) {
	r := start(t, 1)
	q := r.inputsOf(t, chat, template)
	dir := interpreter(t, r, `until [ -e go ]; do sleep 0.02; done; echo '{}'`)
	var all sync.WaitGroup
	for i := range 4 {
		ask := q
		ask.Set = []string{"train.max_length=" + strconv.Itoa(100+i)}
		all.Go(func() {
			if _, err := r.ask(t, ask); err != nil {
				t.Error(err)
			}
		})
	}
	comesTrue(t, "two look", func() bool { return strings.Count(wrote(t, dir, "asked"), "x") >= precheckAtOnce })
	if n := len(r.pre.slots); n != precheckAtOnce {
		t.Errorf("%d look", n)
	}
	if n := strings.Count(wrote(t, dir, "asked"), "x"); n != precheckAtOnce {
		t.Errorf("%d were started", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if n := strings.Count(wrote(t, dir, "asked"), "x"); n != 4 {
		t.Errorf("%d of 4 were asked", n)
	}
}
