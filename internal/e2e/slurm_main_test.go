//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// slurmTimeout bounds one fault: a dead node is known to be dead after some ten seconds.
const slurmTimeout = 2 * time.Minute

// calmCluster is shared by the faults that leave Slurm's daemons, nodes and configuration alone.
var calmCluster struct {
	once sync.Once
	c    *slurmtest.Cluster
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if c := calmCluster.c; c != nil {
		if err := c.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func calm(t *testing.T) *slurmtest.Cluster {
	t.Helper()
	calmCluster.once.Do(func() {
		calmCluster.c, calmCluster.err = slurmtest.Start(context.Background(), slurmtest.Options{Nodes: 12, GPUs: 2})
	})
	must(t, calmCluster.err)
	return calmCluster.c
}

// hpc is a forged whose only cluster is a real Slurm.
type hpc struct {
	*forgedtest.Site
	t       *testing.T
	ctx     context.Context
	c       *slurmtest.Cluster
	cluster string // its name in forge: no other test's, since jobs are told apart by it
	began   time.Time
}

// hpcOptions is how a test's forged differs from others.
type hpcOptions struct {
	site  forgedtest.Options
	slurm forgedtest.Slurm
	limit time.Duration
}

var hpcCount struct {
	sync.Mutex
	n int
}

// openSlurm starts a forged on a Slurm cluster, with the probe recipe.
func openSlurm(t *testing.T, c *slurmtest.Cluster, change ...func(*hpcOptions)) *hpc {
	t.Helper()
	hpcCount.Lock()
	hpcCount.n++
	name := fmt.Sprintf("hpc%d", hpcCount.n)
	hpcCount.Unlock()
	o := hpcOptions{limit: slurmTimeout, slurm: forgedtest.Slurm{Cluster: c, Name: name, Poll: "1s", Settings: []string{"nodes_every: 5s"}},
		site: forgedtest.Options{Bin: binDir(t), WithProbe: true, Extra: "retry: {backoff_min: 50ms, backoff_max: 1s}\n"}}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), o.limit)
	t.Cleanup(cancel)
	must(t, o.site.OnSlurm(o.slurm))
	h := &hpc{t: t, ctx: ctx, c: c, cluster: name}
	var err error
	h.Site, err = forgedtest.New(ctx, o.site)
	must(t, err)
	t.Cleanup(h.close)
	must(t, h.Start(ctx))
	return h
}

// close leaves nothing of this test on a cluster that others use.
func (h *hpc) close() {
	if h.t.Failed() {
		h.t.Logf("forged's log:\n%s", h.LogTail())
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
		defer cancel()
		sound(h.t, ctx, h.Site)
	}
	if err := h.Site.Close(); err != nil {
		h.t.Error(err)
	}
	if _, err := os.Stat(h.c.Dir); err != nil {
		return // the cluster was this test's own
	}
	for _, j := range h.jobs() {
		_, _ = h.c.Run("scancel", j.id)
	}
}

// job is what squeue says of one job.
type slurmJob struct{ id, name, state, reason, nodes string }

func (h *hpc) queue(args ...string) []slurmJob {
	h.t.Helper()
	out, err := h.c.Run("squeue", append([]string{"-h", "-a", "-O", "JobID:|,Name:|,State:|,NodeList:|,Reason:"}, args...)...)
	if err != nil {
		h.t.Error(err)
	}
	var all []slurmJob
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), "|", 5)
		if len(f) == 5 && strings.HasPrefix(f[1], "forge-"+h.cluster+"-") {
			all = append(all, slurmJob{f[0], f[1], f[2], strings.TrimSpace(f[4]), f[3]})
		}
	}
	return all
}

// jobs are this forged's jobs that wait or run.
func (h *hpc) jobs() []slurmJob { h.t.Helper(); return h.queue() }

// job is the only one.
func (h *hpc) job() slurmJob {
	h.t.Helper()
	var all []slurmJob
	h.wait("one job in Slurm", func() bool { all = h.jobs(); return len(all) == 1 })
	return all[0]
}

// wait waits for a condition that forged has no word for.
func (h *hpc) wait(what string, so func() bool) {
	h.t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-h.ctx.Done():
			h.t.Fatalf("never: %s\n%s", what, h.c.Must(h.t, "squeue", "-a", "-t", "all"))
		case <-tick.C:
		}
	}
}

// gang submits a probe run of 2 nodes × 2 ranks that saves every ten of its steps, or never by itself.
func (h *hpc) gang(steps int, extra ...string) string {
	h.t.Helper()
	if !slices.Contains(extra, neverSaves[1]) {
		extra = append(slices.Clone(extra), "--set", "save_every=10")
	}
	return submit(h.t, h.ctx, h.Site, append([]string{"--nodes", "2", "--gpus-per-node", "2", "--cluster", h.cluster,
		"--set", fmt.Sprint("steps=", steps), "--set", "step_ms=20"}, extra...)...)
}

func (h *hpc) until(run, what string, ok func(api.RunDetail) bool) api.RunDetail {
	h.t.Helper()
	return until(h.t, h.ctx, h.Site, run, what, ok)
}

// half waits until a gang has saved something, and starts the clock of the fault.
func (h *hpc) half(run string) api.RunDetail {
	h.t.Helper()
	r := h.until(run, "half-way", atStep(25))
	h.strike()
	return r
}

// neverSaves keeps a gang from saving by itself: what is saved all the same was asked for.
var neverSaves = []string{"--set", "save_every=0"}

// underway waits until a gang that never saves by itself has done something, and starts the clock of the fault.
func (h *hpc) underway(run string) api.RunDetail {
	h.t.Helper()
	r := h.until(run, "under way", func(r api.RunDetail) bool { return r.State == forge.RunRunning && r.Step >= 25 })
	h.strike()
	return r
}

// strike marks the moment of the fault.
func (h *hpc) strike() { h.began = time.Now() }

// survived waits for the end of a run and demands what no fault may break: the result of an undisturbed run, and each
// rank of each attempt begun at most once, from what the ranks themselves wrote. The invariants follow at the end of the test.
func (h *hpc) survived(run string, steps int) api.RunDetail {
	h.t.Helper()
	r := h.until(run, "ended or held", func(r api.RunDetail) bool { return ended(r) || r.Hold != nil })
	if r.State != forge.RunCompleted || r.Loss == nil || *r.Loss != forgedtest.ProbeLoss(steps) {
		why, _ := h.Ctl(h.ctx, "run", "why", run)
		events, _ := h.Ctl(h.ctx, "run", "events", run)
		h.t.Errorf("run %s is %s (%s), hold %+v, loss %v; want completed with %v\n%s\n%s", run, r.State, r.Reason, r.Hold, r.Loss, forgedtest.ProbeLoss(steps), why, events)
	}
	h.once(r)
	h.row(r)
	return r
}

// starts are counted from what ranks append to, never from forged's own word.
func (h *hpc) starts(id forge.RunID) []forgedtest.Begun {
	h.t.Helper()
	all, err := h.Starts(string(id))
	must(h.t, err)
	return all
}

// once: no rank of an attempt began twice, and those of the attempt that completed all did.
func (h *hpc) once(r api.RunDetail) {
	h.t.Helper()
	seen := map[[2]int]int{}
	for _, s := range h.starts(r.ID) {
		seen[[2]int{s.Attempt, s.Rank}]++
	}
	for k, n := range seen {
		if n > 1 {
			h.t.Errorf("rank %d of attempt %d began %d times", k[1], k[0], n)
		}
	}
	for rank := range r.Spec.Gang.GPUs() {
		if r.State == forge.RunCompleted && seen[[2]int{r.Attempt, rank}] != 1 {
			h.t.Errorf("rank %d of the attempt that completed never began", rank)
		}
	}
}

// row prints this fault's row of docs/slurm-faults.md.
func (h *hpc) row(r api.RunDetail) {
	h.t.Helper()
	var said, did []string
	for _, a := range r.Attempts {
		if a.Batch != nil {
			said = append(said, strings.TrimSpace(a.Batch.State+" "+a.Batch.Reason))
		}
		did = append(did, fmt.Sprintf("%d: %s (from step %d)", a.Number, a.Reason, a.ResumeStep))
	}
	h.rowOf(strings.Join(said, ", "), strings.Join(did, ", ")+" → "+string(r.State))
}

func (h *hpc) rowOf(said, did string) {
	h.t.Helper()
	h.t.Logf("ROW | `%s` | %s | %s | %.1f |", h.t.Name(), said, did, time.Since(h.began).Seconds())
}

// processes finds living processes of this test by what is in their command line.
func (h *hpc) processes(part string) []int {
	h.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(h.t, err)
	var pids []int
	for _, d := range dirs {
		cmd, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || !bytes.Contains(bytes.ReplaceAll(cmd, []byte{0}, []byte(" ")), []byte(part)) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(d, "environ"))
		root := filepath.Dir(h.RunDir("RUN"))
		if !bytes.Contains(env, []byte("="+root)) && !bytes.Contains(cmd, []byte(h.Dir)) && !bytes.Contains(cmd, []byte(root)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killAll sends SIGKILL to every process whose command line has the part, and fails when there is none.
func (h *hpc) killAll(part string) {
	h.t.Helper()
	pids := h.processes(part)
	if len(pids) == 0 {
		h.t.Fatalf("no process has %q in its command line", part)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
