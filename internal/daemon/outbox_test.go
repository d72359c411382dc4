package daemon

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// The outbox is read from the tables, and a commit shows there before its deltas reach the world.
func TestALaunchThatTheWorldDoesNotKnowYetIsNotLost(t *testing.T) {
	dir := shortDir(t)
	made, err := Init(t.Context(), dir, "admin", NoUID)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Config{StateDir: dir, Policy: PolicyConfig{Preset: "fair"}, Listen: ListenConfig{Socket: filepath.Join(t.TempDir(), "f.sock"), TCP: TCPOff}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	fake := executortest.NewFake(fakeNode(1))
	d, err := New(t.Context(), Options{Config: cfg, Log: zerolog.Nop(), Version: "test",
		Clusters: []Cluster{{Name: "local", Kind: KindDirect, Executor: fake, Files: fake, RunRoot: dir + "/runs", PollEvery: time.Hour, Modules: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.stop.run(d.log) })
	d.refreshNodes(t.Context())

	// A second door to the same tables, whose deltas come when the test says so.
	var mu sync.Mutex
	var late []forge.Delta
	db, err := store.Open(t.Context(), filepath.Join(dir, dbFile), store.Options{OnCommit: func(deltas []forge.Delta) {
		mu.Lock()
		defer mu.Unlock()
		late = append(late, deltas...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	op, err := db.Authenticate(t.Context(), made.Secret)
	if err != nil {
		t.Fatal(err)
	}
	run, err := db.For(op).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
	if err != nil {
		t.Fatal(err)
	}
	w, err := db.World(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	placed, refused, err := db.Apply(t.Context(), scheduler.Plan(SnapshotOf(w, time.Now()), d.policy()), store.ApplyOptions{RunDir: d.runDir})
	if err != nil || len(placed) != 1 {
		t.Fatalf("placed %v, refused %v: %v", placed, refused, err)
	}

	work := newOutboxWork(d)
	work.step(t.Context())
	time.AfterFunc(50*time.Millisecond, func() {
		mu.Lock()
		defer mu.Unlock()
		d.onCommit(late)
	})
	work.wg.Wait()
	if l := fake.Launches(); len(l) != 1 || l[0].Key != forge.AttemptKey(run.ID, 1) {
		rows, _ := d.db.Outbox(t.Context())
		t.Fatalf("launched %v, the outbox holds %v", l, rows)
	}
}

// One plan may ask thousands to stop of which many end by themselves meanwhile: their rows were read before and have left the tables since.
func TestARowThatHasLeftTheTablesKeepsNobodyWaiting(t *testing.T) {
	r := start(t, 1)
	for _, kind := range []store.OutboxKind{store.OutboxLaunch, store.OutboxSignal, store.OutboxFinish} {
		a, ok, err := r.attemptOf(t.Context(), store.OutboxRow{ID: 1 << 40, Kind: kind, Run: "gone", Attempt: 1})
		if ok || err != nil { // after worldPatience it would be an error
			t.Errorf("%s: got %+v, %v, %v", kind, a, ok, err)
		}
	}
}
