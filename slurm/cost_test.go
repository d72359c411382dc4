package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// thousands makes n running attempts on two nodes with eight ranks each, and a squeue that lists them.
func thousands(t testing.TB, n int) (*Executor, []forge.ExternalID) {
	t.Helper()
	root, bin := t.TempDir(), t.TempDir()
	var listing strings.Builder
	var ids []forge.ExternalID
	for i := range n {
		run := forge.RunID(fmt.Sprintf("01CROWD%019d", i))
		at := rundir.At(filepath.Join(root, string(run)), 1)
		l := forge.Launch{Run: run, Attempt: 1, RunDir: at.RunDir, Spec: forge.RunSpec{Gang: forge.Gang{Nodes: 2, GPUsPerNode: 8}}}
		must(t, os.MkdirAll(filepath.Join(at.Dir(), "nodes"), 0o750))
		write(t, at.LaunchPath(), rundir.LaunchFile{Launch: l})
		write(t, at.ClaimPath(), rundir.Claim{By: "shim", Holder: fmt.Sprintf("%d.0", i+1)})
		for node := range 2 {
			must(t, os.Mkdir(at.NodeDir(node), 0o750))
			write(t, at.LivePath(node), rundir.Live{StartedAt: time.Now(), Node: "n1"})
		}
		for r := range 16 {
			must(t, os.MkdirAll(at.RankDir(r), 0o750))
		}
		fmt.Fprintf(&listing, "%d|RUNNING|0|0|1795648537|1795648538|1827184538|N/A|main|root|n[1-2]|None|%s\n", i+1, JobName("hpc", run, 1))
		ids = append(ids, externalID("", at))
	}
	must(t, os.WriteFile(filepath.Join(bin, "jobs"), []byte(listing.String()), 0o600))
	must(t, os.WriteFile(filepath.Join(bin, "squeue"), []byte("#!/bin/sh\nexec cat "+bin+"/jobs\n"), 0o755))
	e, err := New(Options{Cluster: "hpc", Tools: Tools{Bin: bin}, RunRoot: root, Shim: "/bin/true", PollEvery: time.Nanosecond, Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e, ids
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, v any) {
	t.Helper()
	c, err := rundir.JSON(path, v)
	must(t, err)
	must(t, rundir.WriteFast(c))
}

// cpu is what this process and its children have used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var all time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		must(t, syscall.Getrusage(who, &u))
		all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return all
}

// BenchmarkPoll is one look at a thousand running attempts, with an answer of squeue and none of their records changed.
func BenchmarkPoll(b *testing.B) {
	e, ids := thousands(b, 1000)
	poll := func() {
		e.mu.Lock()
		e.asker.pause = 0
		for _, a := range e.known {
			a.looked = time.Time{}
		}
		e.mu.Unlock()
		if _, err := e.Poll(b.Context(), ids); err != nil {
			b.Fatal(err)
		}
	}
	for began := time.Now(); time.Since(began) < 2*racy; {
		poll()
	}
	began := cpu(b)
	for b.Loop() {
		poll()
	}
	b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
}

func TestALookAtRunningAttemptsReadsNothingAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds until records are old enough to be trusted")
	}
	e, ids := thousands(t, 20)
	o, err := e.Poll(t.Context(), ids)
	must(t, err)
	for _, x := range o {
		if x.State != forge.ObservRunning {
			t.Fatalf("%+v", x)
		}
	}
	own := e.hand.(*Own)
	// Directories that have just been made may change once more within the same tick of the filesystem's clock.
	readAt := func() (n int, last time.Time) {
		own.mu.Lock()
		defer own.mu.Unlock()
		for _, b := range own.books {
			if b.settled {
				n++
			}
			if b.readAt.After(last) {
				last = b.readAt
			}
		}
		return n, last
	}
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	look := func() {
		e.mu.Lock()
		for _, a := range e.known {
			a.looked = time.Time{}
		}
		e.mu.Unlock()
		_, err := e.Poll(t.Context(), ids)
		must(t, err)
	}
	for n, _ := readAt(); n < len(ids); n, _ = readAt() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are settled", n, len(ids))
		}
		<-tick.C
		look()
	}
	_, before := readAt()
	look()
	if _, after := readAt(); !after.Equal(before) {
		t.Error("records were read again that had not changed")
	}
	t.Run("and sees a record that appears", func(t *testing.T) {
		_, at, err := e.parseID(ids[3])
		must(t, err)
		write(t, at.ExitPath(0), rundir.Exit{Cause: forge.StopRankExit, ByUID: -1})
		write(t, at.ExitPath(1), rundir.Exit{Cause: forge.StopRankExit, ByUID: -1})
		look()
		o, err := e.Poll(t.Context(), ids[3:4])
		must(t, err)
		if o[0].State != forge.ObservExited || !o[0].Released {
			t.Errorf("%+v", o[0])
		}
	})
	t.Run("nor are directories opened that inotify sees all of", func(t *testing.T) {
		e.near = true
		asked := func() time.Time {
			own.mu.Lock()
			defer own.mu.Unlock()
			return own.books[e.known[ids[5]].at].askedAt
		}
		_, err := e.Poll(t.Context(), ids[5:6])
		must(t, err)
		before := asked()
		e.mu.Lock()
		e.known[ids[5]].looked = time.Now().Add(-10 * readAgain)
		e.mu.Unlock()
		_, err = e.Poll(t.Context(), ids[5:6])
		must(t, err)
		if !asked().Equal(before) {
			t.Error("they were opened")
		}
	})
	t.Run("and what a rank left is read once its job is over, though no directory has changed", func(t *testing.T) {
		_, at, err := e.parseID(ids[7])
		must(t, err)
		write(t, at.RankExitPath(3), forge.RankExit{Rank: 3, Code: 41})
		jobs := filepath.Join(e.o.Tools.Bin, "jobs")
		b, err := os.ReadFile(jobs)
		must(t, err)
		must(t, os.WriteFile(jobs, []byte(strings.Replace(string(b), "\n8|RUNNING", "\n8|FAILED", 1)), 0o600))
		e.mu.Lock()
		e.asker.pause = 0
		e.mu.Unlock()
		_, err = e.Poll(t.Context(), ids[7:8])
		must(t, err)
		e.mu.Lock()
		defer e.mu.Unlock()
		if a := e.known[ids[7]]; len(a.records.Ranks) != 1 || a.records.Ranks[0].Code != 41 {
			t.Errorf("job %+v, ranks %+v", a.job, a.records.Ranks)
		}
	})
}
