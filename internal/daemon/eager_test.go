package daemon

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// startQueue is a daemon with one cluster that has a queue of its own, played by a Fake of two nodes with 4 GPUs each.
func startQueue(t *testing.T, change ...func(o *Options)) *rig {
	t.Helper()
	fake := executortest.NewFake(gpuNode("n1", 4), gpuNode("n2", 4))
	r := start(t, 0, append([]func(o *Options){hpc(fake)}, change...)...)
	r.fake = fake
	return r
}

func hpc(fake *executortest.Fake) func(o *Options) {
	return func(o *Options) {
		o.Clusters = []Cluster{{Name: "hpc", Kind: KindSlurm, Executor: fake, Files: fake, RunRoot: o.Config.StateDir + "/runs", PollEvery: 20 * time.Millisecond,
			Modules: true, Binding: forge.BindEager, MaxPending: 2, NiceStep: 10}}
	}
}

func gpuNode(name forge.NodeName, gpus int) forge.Node {
	n := forge.Node{Name: name, Cluster: "hpc", CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady}
	for i := range gpus {
		n.GPUs = append(n.GPUs, forge.GPU{Slot: i, Kind: forge.GPUDevice, Type: "A100"})
	}
	return n
}

func gang(nodes, gpus int) forge.RunSpec {
	return script(gpus, func(s *forge.RunSpec) { s.Gang.Nodes = nodes })
}

func on(nodes ...forge.NodeName) (shares []forge.Share) {
	for _, n := range nodes {
		shares = append(shares, forge.Share{Node: n, Slots: []int{0, 1}, CPUs: 2, MemoryMiB: 2})
	}
	return shares
}

func (r *rig) attemptOfRun(t *testing.T, id forge.RunID, n int) forge.Attempt {
	t.Helper()
	all, err := r.db.AttemptsOf(t.Context(), id)
	if err != nil || len(all) < n {
		t.Fatalf("%d attempts: %v", len(all), err)
	}
	return all[n-1]
}

// queued waits until the queue's own word of an attempt is recorded.
func (r *rig) queued(t *testing.T, id forge.RunID, n int) string {
	t.Helper()
	key := r.launched(t, id, n)
	r.await(t, id, "known to the queue", func(forge.Run) bool { return r.attemptOfRun(t, id, n).Batch != nil })
	return key
}

func TestARunOnAClusterWithAQueueOfItsOwnWaitsThereAndRunsWhereThatPutsIt(t *testing.T) {
	r := startQueue(t)
	run := r.submit(t, gang(2, 2))
	key := r.queued(t, run.ID, 1)

	got := r.await(t, run.ID, "waiting", inState(forge.RunPending))
	if got.Attempt != 1 {
		t.Errorf("attempt %d", got.Attempt)
	}
	l := r.fake.Launches()[0]
	if len(l.Placement) != 0 || l.User != run.User || l.Nice != 500 || l.SaveLead.D() != time.Minute {
		t.Errorf("handed over as %+v", l)
	}
	at := time.Date(2026, 11, 25, 14, 20, 0, 0, time.UTC)
	r.fake.Tell(key, func(j *forge.BatchJob) { j.Reason, j.EstimatedStart = "Resources", at })
	r.await(t, run.ID, "told when", func(forge.Run) bool { return r.attemptOfRun(t, run.ID, 1).Batch.Reason == "Resources" })
	why, err := rundata{r.Daemon}.Why(t.Context(), r.op, "1")
	if want := "queued in Slurm as job 1001 on partition gpu: Resources; Slurm decides the order here and expects a start about 2026-11-25 14:20:00 UTC"; err != nil || why.Sentence != want || why.Code != forge.HoldQueued {
		t.Errorf("why: %q %q, %v", why.Code, why.Sentence, err)
	}
	q, err := rundata{r.Daemon}.Queue(t.Context(), r.op, 10)
	if err != nil || len(q.Entries) != 1 || q.Entries[0].State != forge.RunPending || !strings.Contains(q.Entries[0].Why, "job 1001") {
		t.Errorf("queue: %+v, %v", q, err)
	}

	r.fake.Allocate(key, on("n1", "n2")...)
	r.await(t, run.ID, "provisioning", inState(forge.RunProvisioning))
	if a := r.attemptOfRun(t, run.ID, 1); len(a.Placement) != 2 || a.Placement[1].Node != "n2" || a.Queued() || a.Batch.State != "RUNNING" {
		t.Errorf("allocated %+v", a)
	}
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	r.fake.Finish(key, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))

	list, _, err := r.db.For(r.op).Runs(t.Context(), store.RunFilter{Batch: "1001"})
	if err != nil || len(list) != 1 || list[0].ID != run.ID {
		t.Errorf("found by its job: %v, %v", list, err)
	}
	for _, typ := range []forge.EventType{forge.EventRunHandedOver, forge.EventRunQueued, forge.EventRunAllocated, forge.EventRunRunning, forge.EventRunEnded} {
		if n := r.events(t, run.ID, typ); n != 1 {
			t.Errorf("%d events %s", n, typ)
		}
	}
	r.sameWorld(t)
}

func (r *rig) events(t *testing.T, run forge.RunID, typ forge.EventType) int {
	t.Helper()
	es, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Run: run, Types: []forge.EventType{typ}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}

func TestARunThatWaitsInAClustersOwnQueueIsTakenBackFromThereWhenItIs(t *testing.T) {
	t.Run("cancelled", func(t *testing.T) {
		r := startQueue(t)
		run := r.submit(t, gang(1, 2))
		key := r.queued(t, run.ID, 1)
		if _, err := (runs{r.Daemon}).CancelRun(t.Context(), r.op, string(run.ID), forge.CancelTerm); err != nil {
			t.Fatal(err)
		}
		r.await(t, run.ID, "cancelled", inState(forge.RunCancelled))
		if got := r.fake.Signals(key); len(got) == 0 || r.fake.Live() != nil {
			t.Errorf("asked %v, alive %v", got, r.fake.Live())
		}
		r.sameWorld(t)
	})
	t.Run("held, and goes there again when it is released", func(t *testing.T) {
		r := startQueue(t)
		run := r.submit(t, gang(1, 2))
		r.queued(t, run.ID, 1)
		if _, err := (holds{r.Daemon}).HoldRun(t.Context(), r.op, string(run.ID), "not today"); err != nil {
			t.Fatal(err)
		}
		got := r.await(t, run.ID, "taken back", func(run forge.Run) bool { return run.Reason != "" })
		if got.State != forge.RunPending || got.Hold == nil || got.Reason != forge.EndWithdrawn || got.Fruitless != 0 || len(got.Avoid) != 0 {
			t.Errorf("%+v", got)
		}
		if _, err := (holds{r.Daemon}).ReleaseRun(t.Context(), r.op, string(run.ID)); err != nil {
			t.Fatal(err)
		}
		r.launched(t, run.ID, 2)
		r.sameWorld(t)
	})
}

func TestWhatAClustersOwnQueueNeverStartsIsHeldWithItsWordsAndDoesNotPauseTheCluster(t *testing.T) {
	r := startQueue(t)
	words := "sbatch: error: Invalid partition name specified"
	for range DefaultPauseAfter + 1 {
		run := r.submit(t, gang(1, 1))
		r.fake.Refuse(r.launched(t, run.ID, 1), words)
		got := r.await(t, run.ID, "held", func(run forge.Run) bool { return run.Hold != nil })
		if got.State != forge.RunPending || got.Hold.By != actorForged || got.Hold.Reason != words || got.Reason != forge.EndRefused {
			t.Fatalf("%+v", got)
		}
	}
	why, err := rundata{r.Daemon}.Why(t.Context(), r.op, "1")
	if err != nil || !strings.Contains(why.Sentence, words) {
		t.Errorf("why: %q, %v", why.Sentence, err)
	}
	run := r.submit(t, gang(1, 1))
	r.launched(t, run.ID, 1)
}

func TestWhatIsTakenBackBeforeItStartedGoesThereAgainAfterABackOff(t *testing.T) {
	r := startQueue(t)
	run := r.submit(t, gang(1, 1))
	r.fake.Withdraw(r.launched(t, run.ID, 1), "rate limit")
	key := r.queued(t, run.ID, 2)
	if got := r.await(t, run.ID, "waiting", inState(forge.RunPending)); got.Fruitless != 0 || got.Hold != nil {
		t.Errorf("%+v", got)
	}
	if a := r.attemptOfRun(t, run.ID, 1); a.Reason != forge.EndWithdrawn || a.Detail != "rate limit" {
		t.Errorf("%s: %s", a.Reason, a.Detail)
	}
	r.fake.Allocate(key, on("n1")...)
	r.fake.Finish(key, 0) // it ends before anybody sees it start
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
}

func TestALostNodeCostsTheNextAttemptNoWaitAndSpeaksAgainstItOnceTwoRunsHaveLostTheirs(t *testing.T) {
	r := startQueue(t, func(o *Options) {
		o.Config.Retry.BackoffMin, o.Config.Retry.BackoffMax = forge.Duration(time.Hour), forge.Duration(time.Hour)
	})
	lose := func() forge.Run {
		run := r.submit(t, gang(1, 2))
		key := r.queued(t, run.ID, 1)
		r.fake.Allocate(key, on("n2")...)
		r.fake.Start(key)
		r.await(t, run.ID, "running", inState(forge.RunRunning))
		r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 5, Took: forge.Duration(90 * time.Second)})
		r.fake.NodeFail(key, "node n2 does not respond")
		r.launched(t, run.ID, 2)
		return run
	}
	first, second := lose(), lose()
	byKey := map[string]forge.Launch{}
	for _, l := range r.fake.Launches() {
		byKey[l.Key] = l
	}
	if l := byKey[forge.AttemptKey(first.ID, 2)]; len(l.Exclude) != 1 || l.Exclude[0] != "n2" || l.SaveLead.D() != 4*time.Minute {
		t.Errorf("the run itself does not go back to where it failed: left out are %v; its last save is to begin %s before the limit", l.Exclude, l.SaveLead)
	}
	if l := byKey[forge.AttemptKey(second.ID, 1)]; len(l.Exclude) != 0 {
		t.Errorf("one run speaks against %v for others", l.Exclude)
	}
	node := func(name string) string {
		n, err := nodes{r.Daemon}.Node(t.Context(), r.op, "hpc", name)
		if err != nil {
			t.Fatal(err)
		}
		return n.KeptOut
	}
	if n1, n2 := node("n1"), node("n2"); n1 != "" || !strings.Contains(n2, "2 different runs failed there") {
		t.Errorf("n1 is kept out for %q, n2 for %q", n1, n2)
	}
	if _, err := (nodes{r.Daemon}).UndrainNode(t.Context(), r.op, "hpc", "n2"); err != nil || node("n2") != "" {
		t.Errorf("after it was let take work again: %q, %v", node("n2"), err)
	}
	if l := byKey[forge.AttemptKey(second.ID, 2)]; len(l.Exclude) != 1 || l.Exclude[0] != "n2" {
		t.Errorf("after two runs %v is left out", l.Exclude)
	}
	if a := r.attemptOfRun(t, first.ID, 1); a.Reason != forge.EndNodeLost || a.Detail != "node n2 does not respond" {
		t.Errorf("%s: %s", a.Reason, a.Detail)
	}
	history, err := r.db.NodeFailures(t.Context(), "hpc", time.Time{})
	if err != nil || len(history) != 2 || history[0].Node != "n2" || history[0].Certain {
		t.Errorf("history %+v, %v", history, err)
	}
}

func TestAFloodOfOneUserIsHandedOverAsFarAsMayWaitThereAndTheRestIsToldWhy(t *testing.T) {
	r := startQueue(t)
	var all []forge.Run
	for range 5 {
		all = append(all, r.submit(t, gang(1, 1)))
	}
	first, second := r.queued(t, all[0].ID, 1), r.queued(t, all[1].ID, 1)
	why, err := rundata{r.Daemon}.Why(t.Context(), r.op, "3")
	if err != nil || why.Code != forge.HoldQueueFull || !strings.Contains(why.Sentence, "as many runs of the same user as may (2) wait in the queue of cluster hpc already") {
		t.Errorf("%s %q, %v", why.Code, why.Sentence, err)
	}
	if n := len(r.fake.Launches()); n != 2 {
		t.Fatalf("%d handed over", n)
	}
	r.fake.Allocate(second, on("n1")...)
	r.queued(t, all[2].ID, 1)
	r.fake.Withdraw(first, "back")
	r.await(t, all[3].ID, "handed over", func(forge.Run) bool { return len(r.fake.Launches()) >= 4 })
	r.sameWorld(t)
}

func TestADaemonThatDiesAroundAHandOverStartsItOnce(t *testing.T) {
	// before leaves a site behind whose daemon planned, and died at some point before it went on.
	before := func(t *testing.T, fake *executortest.Fake, die func(d *Daemon, run forge.Run)) (dir string, run forge.Run) {
		dir = shortDir(t)
		made, err := Init(t.Context(), dir, "admin", NoUID)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := Config{StateDir: dir, Policy: PolicyConfig{Preset: "fair"}, Listen: ListenConfig{Socket: filepath.Join(t.TempDir(), "f.sock"), TCP: TCPOff}}.resolve()
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Config: cfg, Log: zerolog.Nop(), Version: "test"}
		hpc(fake)(&o)
		d, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		d.refreshNodes(t.Context())
		op, err := d.Authenticate(t.Context(), made.Secret)
		if err != nil {
			t.Fatal(err)
		}
		if run, err = d.db.For(op).SubmitRun(t.Context(), store.NewRun{Spec: gang(2, 2)}); err != nil {
			t.Fatal(err)
		}
		d.planStep(t.Context(), time.Now())
		die(d, run)
		if err := d.stop.run(d.log); err != nil {
			t.Fatal(err)
		}
		return dir, run
	}
	for name, tc := range map[string]struct {
		die     func(t *testing.T, fake *executortest.Fake) func(d *Daemon, run forge.Run)
		attempt int
	}{
		"after the plan was applied": {func(*testing.T, *executortest.Fake) func(*Daemon, forge.Run) { return func(*Daemon, forge.Run) {} }, 1},
		"before it was submitted": {func(t *testing.T, _ *executortest.Fake) func(*Daemon, forge.Run) {
			return func(d *Daemon, run forge.Run) { // the executor is asked, makes its absence certain, and the next attempt starts
				if err := d.db.AttemptLaunching(t.Context(), run.ID, 1); err != nil {
					t.Error(err)
				}
			}
		}, 2},
		"after it was submitted, before that was recorded": {func(t *testing.T, fake *executortest.Fake) func(*Daemon, forge.Run) {
			return func(d *Daemon, run forge.Run) {
				if err := d.db.AttemptLaunching(t.Context(), run.ID, 1); err != nil {
					t.Error(err)
				}
				if _, err := fake.Submit(t.Context(), forge.Launch{Key: forge.AttemptKey(run.ID, 1), Run: run.ID, Attempt: 1, Spec: gang(2, 2)}); err != nil {
					t.Error(err)
				}
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			fake := executortest.NewFake(gpuNode("n1", 4), gpuNode("n2", 4))
			dir, run := before(t, fake, tc.die(t, fake))
			r := serveOn(t, dir, fake, hpc(fake))
			key := r.queued(t, run.ID, tc.attempt)
			fake.Allocate(key, on("n1", "n2")...)
			fake.Finish(key, 0)
			if got := r.await(t, run.ID, "completed", inState(forge.RunCompleted)); got.Attempt != tc.attempt || len(fake.Launches()) != 1 {
				t.Errorf("%d attempts, %d launches", got.Attempt, len(fake.Launches()))
			}
			r.sameWorld(t)
		})
	}
}

func TestAFloodOfAUserWhosePlacesAreTakenHasNobodyPlan(t *testing.T) {
	w := newWorld(store.World{}, nil)
	w.setQueues([]forge.ClusterQueue{{Cluster: "hpc", Binding: forge.BindEager, MaxPending: 1}})
	put := func(id forge.RunID, user string, change ...func(*forge.Run)) {
		r := forge.Run{ID: id, Tenant: "t", User: user, State: forge.RunPending, Spec: gang(1, 1)}
		for _, c := range change {
			c(&r)
		}
		w.apply([]forge.Delta{{Run: &r}})
	}
	is := func(want bool, what string) (touched int64) {
		t.Helper()
		touched, ok := w.handable()
		if ok != want {
			t.Errorf("%s: somebody can be handed over is %v", what, ok)
		}
		return touched
	}
	is(false, "nobody waits")
	put("r1", "ada")
	is(true, "one waits")
	w.apply([]forge.Delta{{Attempt: &forge.Attempt{Run: "r1", Number: 1, Cluster: "hpc", State: forge.AttemptPlaced}}})
	put("r2", "ada")
	is(false, "the place is taken")
	put("r3", "bob", func(r *forge.Run) { r.Hold = &forge.Hold{} })
	put("r4", "bob", func(r *forge.Run) { r.Spec.Cluster = "elsewhere" })
	is(false, "another's runs are held, or go elsewhere")
	put("r5", "bob")
	before := is(true, "another has a place")
	for _, id := range []forge.RunID{"r6", "r7", "r8"} {
		put(id, "ada")
	}
	if after := is(true, "the flood goes on"); after != before {
		t.Errorf("a flood that goes nowhere changes what is planned: %d, %d", before, after)
	}
	put("r9", "bob")
	if after := is(true, "another comes"); after == before {
		t.Error("a run that could be handed over changes nothing")
	}
	w.apply([]forge.Delta{{Paused: &forge.PausedChange{PausedCluster: forge.PausedCluster{Cluster: "hpc"}}}})
	is(false, "the cluster is paused")
}
