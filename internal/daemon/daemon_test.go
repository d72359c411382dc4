package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// rig is a real daemon on a real store, with a fake executor that moves when the test says so.
type rig struct {
	*Daemon
	fake   *executortest.Fake
	op     forge.Principal
	secret string // op's key
	cancel context.CancelCauseFunc
	stop   func()
}

func fakeNode(slots int) forge.Node {
	n := forge.Node{Name: "n1", Cluster: "local", CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady}
	for i := range slots {
		n.GPUs = append(n.GPUs, forge.GPU{Slot: i, Kind: forge.GPUCPUSlot, Type: "cpu"})
	}
	return n
}

// shortDir is a directory whose sockets fit into sun_path; t.TempDir names tests at length.
func shortDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}

func start(t *testing.T, slots int, change ...func(o *Options)) *rig {
	t.Helper()
	dir := shortDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	storetest.Fresh(t, filepath.Join(dir, dbFile))
	made, err := Init(t.Context(), dir, "admin", NoUID)
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, dir, executortest.NewFake(fakeNode(slots)), change...)
	r.secret = made.Secret
	if r.op, err = r.Authenticate(t.Context(), made.Secret); err != nil {
		t.Fatal(err)
	}
	return r
}

// lendCode spares a state directory the training package of its own, each of whose files New would write to the disk; it still
// reads them all and finds the package whole.
func lendCode(t *testing.T, dir string) {
	t.Helper()
	code, err := sharedCode()
	if err == nil {
		err = os.Symlink(code, filepath.Join(dir, pythonDir))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
}

// codeDir is for all tests; TestMain removes it.
var (
	codeDir    string
	sharedCode = sync.OnceValues(func() (string, error) {
		var err error
		if codeDir, err = os.MkdirTemp("", "forge-code"); err == nil {
			_, err = recipes.ExtractPython(codeDir)
		}
		return codeDir, err
	})
)

func serveOn(t *testing.T, dir string, fake *executortest.Fake, change ...func(o *Options)) *rig {
	t.Helper()
	lendCode(t, dir)
	cfg, err := Config{StateDir: dir, Listen: ListenConfig{Socket: filepath.Join("/tmp", fmt.Sprintf("f%d.sock", time.Now().UnixNano())), TCP: TCPOff},
		Policy: PolicyConfig{Preset: "fair"}, Retry: RetryConfig{BackoffMin: forge.Duration(time.Millisecond), BackoffMax: forge.Duration(time.Second)}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Config: cfg, Log: zerolog.Nop(), Version: "test",
		Clusters: []Cluster{{Name: "local", Kind: KindDirect, Executor: fake, Files: fake, RunRoot: dir + "/runs", PollEvery: 50 * time.Millisecond, Modules: true}}}
	for _, c := range change {
		c(&o)
	}
	d, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	r := &rig{Daemon: d, fake: fake, cancel: cancel}
	r.stop = sync.OnceFunc(func() {
		cancel(errors.New("the test is over"))
		if err := <-done; err != nil {
			t.Errorf("the daemon stopped with %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// configure puts a changed configuration in force, without a reload's checks.
func (r *rig) configure(change func(c *Config)) {
	s := *r.live()
	change(&s.cfg)
	s.policy, _ = s.cfg.Policy.policy()
	r.settings.Store(&s)
}

// script is a spec that needs nothing registered.
func script(gpus int, change ...func(*forge.RunSpec)) forge.RunSpec {
	s := forge.RunSpec{Recipe: "probe", Launch: forge.LaunchRank, Entry: forge.Entry{Command: []string{"true"}}, Priority: forge.DefaultPriority,
		Params: map[string]any{}, Gang: forge.Gang{Nodes: 1, GPUsPerNode: gpus, CPUsPerGPU: 1, MemoryMiBPerGPU: 1}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func (r *rig) submit(t *testing.T, s forge.RunSpec) forge.Run {
	t.Helper()
	run, err := r.db.For(r.op).SubmitRun(t.Context(), store.NewRun{Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// await waits for something to be so of a run, woken by each committed event.
func (r *rig) await(t *testing.T, id forge.RunID, what string, ok func(forge.Run) bool) forge.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		run, err := r.db.RunByID(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(run) {
			return run
		}
		select {
		case <-ctx.Done():
			t.Fatalf("run %d never was %s: %+v", run.Number, what, run)
		case <-tick.C:
		}
	}
}

func inState(s forge.RunState) func(forge.Run) bool {
	return func(r forge.Run) bool { return r.State == s }
}

func (r *rig) launched(t *testing.T, id forge.RunID, n int) string {
	t.Helper()
	key := forge.AttemptKey(id, n)
	r.await(t, id, "launched", func(forge.Run) bool {
		for _, l := range r.fake.Launches() {
			if l.Key == key {
				return true
			}
		}
		return false
	})
	return key
}

func TestSixtyFourSubmittersAtFullSpeedDoNotStarveDecisions(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of load")
	}
	r := start(t, 4)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed sync.Map
	for i := range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.db.For(r.op).SubmitRun(ctx, store.NewRun{Spec: script(1)}); err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
					failed.Store(i, err)
					return
				}
			}
		})
	}
	// 20 runs are placed, started and ended while the flood goes on.
	for n := range 20 {
		var key string
		for key == "" {
			for _, k := range r.fake.Live() {
				key = k
			}
			if key == "" {
				select {
				case <-time.After(time.Millisecond):
				case <-t.Context().Done():
					t.Fatalf("only %d decisions were committed", n)
				}
			}
		}
		r.fake.Start(key)
		r.fake.Finish(key, 0)
		id, _, err := forge.ParseAttemptKey(key)
		if err != nil {
			t.Fatal(err)
		}
		r.await(t, id, "completed", inState(forge.RunCompleted))
	}
	cancel()
	wg.Wait()
	failed.Range(func(k, v any) bool { t.Errorf("submitter %v: %v", k, v); return true })
	r.sameWorld(t)
}

// sameWorld compares the world that was folded from deltas with a fresh read of the tables, and with what the planner was told of it.
func (r *rig) sameWorld(t *testing.T) {
	t.Helper()
	r.stop()
	db, err := store.Open(t.Context(), filepath.Join(r.live().cfg.StateDir, dbFile), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	w, err := db.World(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r.world.estimate(now)
	if r.warm == nil {
		r.warm = scheduler.NewPlanner(r.policy())
	}
	r.world.tell(r.warm, now)
	wantKnown(t, r.warm, r.world, r.policy(), now)
	now = time.Unix(1_000_000_000, 0)
	fresh := newWorld(w, r.runByID)
	fresh.setQueues(queuesOf(r.live()))
	r.world.mu.Lock()
	r.world.ents.last.Store(nil) // made at another moment
	r.world.mu.Unlock()
	r.world.estimates = nil // they rest on what was seen, and the tables hold less
	for i := range r.world.pending {
		r.world.pending[i].Work = forge.Work{}
	}
	got, want := r.world.snapshot(now), fresh.snapshot(now)
	got.Revision, want.Revision = 0, 0
	for i := range got.Nodes { // being seen again is not a change
		got.Nodes[i].SeenAt = time.Time{}
	}
	for i := range want.Nodes {
		want.Nodes[i].SeenAt = time.Time{}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the folded world differs from a fresh read:\n%d pending, %d active, %d claims, nodes %+v\n%d pending, %d active, %d claims, nodes %+v",
			len(got.Pending), len(got.Active), len(got.Claims), got.Nodes, len(want.Pending), len(want.Active), len(want.Claims), want.Nodes)
	}
}

func TestASubmitThatFailedAfterItStartedIsFoundAndNotRepeated(t *testing.T) {
	r := start(t, 1)
	r.fake.FailSubmit(errors.New("connection reset"), true)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.fake.Finish(key, 0)
	if got := r.await(t, run.ID, "completed", inState(forge.RunCompleted)); got.Attempt != 1 {
		t.Errorf("it took %d attempts", got.Attempt)
	}
	if n := len(r.fake.Launches()); n != 1 {
		t.Errorf("%d launches", n)
	}
}

func TestASubmitThatFailedBeforeItStartedIsMadeAbsentAndGoesOnAsTheNextAttempt(t *testing.T) {
	r := start(t, 1)
	r.fake.FailSubmit(errors.New("no route"), false)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 2)
	r.fake.Start(key)
	r.fake.Finish(key, 0)
	got := r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	if got.Attempt != 2 || got.Fruitless != 0 {
		t.Errorf("attempt %d, fruitless %d", got.Attempt, got.Fruitless)
	}
}

func TestAnExecutorThatDoesNotAnswerFreesNothing(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	waits := r.submit(t, script(1))
	r.fake.Silence(true)
	r.await(t, run.ID, "unknown", func(forge.Run) bool { a, ok := r.world.attempt(run.ID); return ok && !a.Unknown.IsZero() })
	if got, _ := r.world.run(waits.ID); got.State != forge.RunPending {
		t.Errorf("another run became %s on a GPU whose holder is unknown", got.State)
	}
	r.fake.Silence(false)
	r.fake.Finish(key, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	r.launched(t, waits.ID, 1)
}

func TestGPUsStayAllocatedUntilTheirProcessesAreProvenGone(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	waits := r.submit(t, script(1))
	r.fake.Hold(key)
	r.fake.Finish(key, 0)
	r.watchStep(t.Context(), r.live().clusters["local"], time.Now())
	r.planStep(t.Context(), time.Now())
	if got, _ := r.world.run(waits.ID); got.State != forge.RunPending {
		t.Errorf("the GPU was given to another run (%s) without proof", got.State)
	}
	r.fake.Release(key)
	r.launched(t, waits.ID, 1)
}

func TestALostAttemptGoesOnElsewhereFromItsCheckpoint(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.fake.Emit(key, 10, forge.MetricRow{Step: 1, Values: map[string]float64{"loss": 2}}, forge.MetricRow{Step: 2, Values: map[string]float64{"loss": 1}})
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 2})
	r.await(t, run.ID, "at step 2", func(x forge.Run) bool { return x.Step == 2 && x.SavedStep == 2 })
	r.fake.Lose(key)
	second := r.launched(t, run.ID, 2)
	r.fake.Start(second)
	r.fake.Finish(second, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	as, err := r.db.AttemptsOf(t.Context(), run.ID)
	if err != nil || len(as) != 2 || as[0].Reason != forge.EndExecutorLost || as[1].ResumeStep != 2 {
		t.Errorf("%+v, %v", as, err)
	}
}

// The ranks of a node that was lost go on until the fence stops them, and what they saved then is resumed from.
func TestStepsThatALostAttemptStillWroteAreReadWhenItsSuccessorResumesFromThem(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	loss := func(step int64) forge.MetricRow {
		return forge.MetricRow{Step: step, Values: map[string]float64{"loss": float64(step)}}
	}
	r.fake.Emit(key, 10, loss(1), loss(2))
	r.await(t, run.ID, "at step 2", func(x forge.Run) bool { return x.Step == 2 })
	r.fake.Lose(key)
	r.launched(t, run.ID, 2)
	r.fake.Emit(key, 10, loss(3), loss(4), loss(5))
	second, _ := r.world.attempt(run.ID)
	for range 2 { // an observation may come twice
		if err := r.catchUp(t.Context(), r.live().clusters["local"], second, forge.Resume{Attempt: 1, Step: 4}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	m, err := r.db.For(r.op).Metrics(t.Context(), run.ID, nil, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var steps []int64
	for _, p := range m.Curves["loss"] {
		steps = append(steps, p.Step)
	}
	if !slices.Equal(steps, []int64{1, 2, 3, 4}) {
		t.Errorf("the store has steps %v; 1 to 4 are behind the checkpoint, 5 is done again", steps)
	}
}

func TestAnotherTenantsIdsAnswerLikeIdsThatDoNotExist(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	other, err := r.db.CreateTenant(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := r.db.CreateKey(t.Context(), other.ID, "eve", forge.RoleOperator, "test")
	if err != nil {
		t.Fatal(err)
	}
	eve, err := r.Authenticate(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := keys{r.Daemon}.CreateKey(t.Context(), r.op, api.CreateKeyRequest{User: "kim"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, theirs, absent := t.Context(), string(run.ID), strings.Repeat("0", 26)
	for name, ask := range map[string]func(id string) error{
		"show":   func(id string) error { _, err := runs{r.Daemon}.Run(ctx, eve, id); return err },
		"cancel": func(id string) error { _, err := runs{r.Daemon}.CancelRun(ctx, eve, id, forge.CancelNow); return err },
		"retry":  func(id string) error { _, err := runs{r.Daemon}.RetryRun(ctx, eve, id); return err },
		"interrupt": func(id string) error {
			_, err := runs{r.Daemon}.InterruptRun(ctx, eve, id, forge.InterruptPreempt)
			return err
		},
		"shell":   func(id string) error { _, err := runs{r.Daemon}.RunSeat(ctx, eve, id, 0); return err },
		"hold":    func(id string) error { _, err := holds{r.Daemon}.HoldRun(ctx, eve, id, "mine"); return err },
		"release": func(id string) error { _, err := holds{r.Daemon}.ReleaseRun(ctx, eve, id); return err },
		"why":     func(id string) error { _, err := rundata{r.Daemon}.Why(ctx, eve, id); return err },
		"log": func(id string) error {
			_, err := rundata{r.Daemon}.Log(ctx, eve, id, api.LogQuery{Stream: "stdout"})
			return err
		},
		"metrics": func(id string) error {
			_, err := rundata{r.Daemon}.Metrics(ctx, eve, id, api.MetricsQuery{})
			return err
		},
		"add metrics": func(id string) error {
			_, err := measures{r.Daemon}.AddMetrics(ctx, eve, id, api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{{Step: 1, Values: map[string]*float64{"loss": new(1.0)}}}})
			return err
		},
		"checkpoints": func(id string) error { _, err := rundata{r.Daemon}.Checkpoints(ctx, eve, id); return err },
		"events": func(id string) error {
			_, err := events{r.Daemon}.EventsAfter(ctx, eve, api.EventFilter{Run: id}, 10)
			return err
		},
		"register": func(id string) error {
			_, err := models{r.Daemon}.RegisterModel(ctx, eve, api.RegisterModelRequest{Name: "m", Run: id})
			return err
		},
	} {
		a, b := ask(theirs), ask(absent)
		if a == nil || b == nil || forge.KindOf(a) != forge.KindOf(b) || strings.ReplaceAll(a.Error(), theirs, absent) != b.Error() {
			t.Errorf("%s tells them apart: %v / %v", name, a, b)
		}
	}
	if _, err := (keys{r.Daemon}).RevokeKey(ctx, eve, string(ours.ID), forge.WhyRequested); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("revoking another tenant's key: %v", err)
	}
	if list, err := (runs{r.Daemon}).Runs(ctx, eve, api.RunFilter{Limit: 10}); err != nil || len(list.Items) != 0 {
		t.Errorf("another tenant's listing shows %+v, %v", list, err)
	}
	q, err := rundata{r.Daemon}.Queue(ctx, eve, 1000)
	if err != nil || len(q.Entries) != 0 || q.Others.Waiting+q.Others.Running != 1 {
		t.Errorf("the queue of others is %+v, %v", q, err)
	}
	evs, err := events{r.Daemon}.EventsAfter(ctx, eve, api.EventFilter{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range evs {
		if e.Run != "" || strings.Contains(e.Message, "kim") {
			t.Errorf("another tenant sees %+v", e)
		}
	}
}

func TestARestartedDaemonGoesOnWithWhatItFinds(t *testing.T) {
	r := start(t, 2)
	run, waits := r.submit(t, script(2)), r.submit(t, script(2))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	r.stop()
	again := serveOn(t, r.live().cfg.StateDir, r.fake)
	again.op = r.op
	r.fake.Finish(key, 0)
	if got := again.await(t, run.ID, "completed", inState(forge.RunCompleted)); got.Attempt != 1 {
		t.Errorf("it took %d attempts", got.Attempt)
	}
	again.launched(t, waits.ID, 1)
	again.sameWorld(t)
}
