package store_test

import (
	"context"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

var ctx = context.Background()

func wantKind(t *testing.T, err error, want forge.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want kind %s", want)
	}
	if got := forge.KindOf(err); got != want {
		t.Fatalf("got kind %s (%v), want %s", got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantInt reads one number, which must be want.
func wantInt(t *testing.T, db *store.DB, query string, want int64) {
	t.Helper()
	got, err := db.Int(ctx, query)
	must(t, err)
	if got != want {
		t.Fatalf("%s: got %d, want %d", query, got, want)
	}
}

// waitFor polls until ok, and fails after a deadline that only a broken program reaches.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-tick.C
	}
}

// stall keeps the writer busy until the returned function is called, so that what is queued
// meanwhile falls into one group.
func stall(t *testing.T, db *store.DB) (release func()) {
	t.Helper()
	begun, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- db.Closure(ctx, func(func(string) error) error {
			close(begun)
			<-free
			return nil
		})
	}()
	<-begun
	return func() {
		close(free)
		must(t, <-done)
	}
}

// scene is one tenant, one node of four slots and a run that is running on two of them.
type scene struct {
	db   *store.DB
	acme *store.Tenant
	run  forge.Run
	a    forge.Attempt
}

func running(t *testing.T, opts ...func(*forge.RunSpec)) scene {
	t.Helper()
	s := scene{db: storetest.Open(t)}
	s.acme = storetest.Tenant(t, s.db, "acme")
	storetest.Nodes(t, s.db, storetest.Node("gpu-1", 4))
	s.run = storetest.Submit(t, s.acme, storetest.Spec(append([]func(*forge.RunSpec){storetest.Gang(1, 2)}, opts...)...))
	s.a = storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
	storetest.Running(t, s.db, s.a)
	return s
}

func (s scene) reload(t *testing.T) (forge.Run, forge.Attempt) {
	t.Helper()
	run, err := s.db.RunByID(ctx, s.run.ID)
	must(t, err)
	attempts, err := s.db.AttemptsOf(ctx, s.run.ID)
	must(t, err)
	return run, attempts[len(attempts)-1]
}

func eventTypes(t *testing.T, s scene) map[forge.EventType]int {
	t.Helper()
	events, err := s.acme.Events(ctx, store.EventFilter{Run: s.run.ID}, 0)
	must(t, err)
	n := map[forge.EventType]int{}
	for _, e := range events {
		n[e.Type]++
	}
	return n
}
