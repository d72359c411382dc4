package store_test

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// refusedHold expects a precondition that says what to do next.
func refusedHold(t *testing.T, err error, hint string) {
	t.Helper()
	wantKind(t, err, forge.KindPrecondition)
	if !strings.Contains(forge.HintOf(err), hint) {
		t.Fatalf("%v: the hint is %q, want %q in it", err, forge.HintOf(err), hint)
	}
}

func TestHoldAndRelease(t *testing.T) {
	t.Run("a waiting run is held with who and why, and is not placed until it is released", func(t *testing.T) {
		db := storetest.Open(t)
		p := storetest.Principal(t, db, "acme")
		acme := db.For(p)
		storetest.Nodes(t, db, storetest.Node("gpu-1", 2))
		run := storetest.Submit(t, acme, storetest.Spec())
		held, err := acme.HoldRun(ctx, "1", "the data is\x00 late")
		must(t, err)
		if held.State != forge.RunPending || held.Hold == nil || held.Hold.By != p.User || held.Hold.Reason != "the data is late" || held.Hold.At.IsZero() {
			t.Fatalf("got %+v", held.Hold)
		}
		if placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{storetest.Placement(held, "gpu-1", 0)}}); len(placed) != 0 || !strings.Contains(refused[0].Why, "on hold") {
			t.Fatalf("placed %v, refused %v", placed, refused)
		}
		free, err := acme.ReleaseRun(ctx, string(run.ID))
		must(t, err)
		if free.Hold != nil || free.Version <= held.Version {
			t.Fatalf("got %+v", free)
		}
		storetest.Place(t, db, free, "gpu-1", 0)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type IN ('run.held', 'run.released') AND actor = '`+p.User+`'`, 2)
	})
	t.Run("a release takes off all that led to the hold: the count, the back-off and the nodes to avoid", func(t *testing.T) {
		s := running(t)
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		_, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending, Fruitless: 3, Retries: 1,
			NotBefore: time.Now().Add(time.Hour), Avoid: []forge.NodeName{"gpu-1"}, Hold: &forge.Hold{Reason: "three attempts without a step"},
			Checkpoints: []forge.Checkpoint{{Attempt: 1, Step: 20, Verdict: forge.VerdictVerified}}})
		must(t, err)
		run, err := s.acme.ReleaseRun(ctx, "1")
		must(t, err)
		if run.Hold != nil || run.Fruitless != 0 || !run.NotBefore.IsZero() || len(run.Avoid) != 0 || run.Retries != 1 || run.SavedStep != 20 {
			t.Fatalf("got %+v", run)
		}
		wantInt(t, s.db, `SELECT count(*) FROM events WHERE type = 'run.released' AND message LIKE '%from step 20'`, 1)
	})
	t.Run("what is not waiting is not held, and the refusal says what to do", func(t *testing.T) {
		s := running(t)
		_, err := s.acme.HoldRun(ctx, "1", "")
		refusedHold(t, err, "forgectl run cancel 1")
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		_, err = s.acme.HoldRun(ctx, "1", "")
		wantKind(t, err, forge.KindPrecondition)
		_, _, err = s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndUserExit, Next: forge.RunFailed})
		must(t, err)
		_, err = s.acme.HoldRun(ctx, "1", "")
		refusedHold(t, err, "forgectl run retry 1")
		_, err = s.acme.ReleaseRun(ctx, "1")
		refusedHold(t, err, "forgectl run retry 1")
		if n := eventTypes(t, s); n[forge.EventRunHeld]+n[forge.EventRunReleased] != 0 {
			t.Fatalf("refusals left events: %v", n)
		}
	})
	t.Run("holding a held run and releasing a free one are refused and change nothing", func(t *testing.T) {
		db := storetest.Open(t)
		acme := storetest.Tenant(t, db, "acme")
		storetest.Submit(t, acme, storetest.Spec())
		_, err := acme.ReleaseRun(ctx, "1")
		refusedHold(t, err, "forgectl run why 1")
		_, err = acme.HoldRun(ctx, "1", "first")
		must(t, err)
		_, err = acme.HoldRun(ctx, "1", "second")
		refusedHold(t, err, "forgectl run release 1")
		run, err := acme.Run(ctx, "1")
		must(t, err)
		if run.Hold.Reason != "first" {
			t.Fatalf("got %+v", run.Hold)
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.held'`, 1)
	})
}

func TestPausedCluster(t *testing.T) {
	t.Run("it is listed with since when and why, and its event names the way out", func(t *testing.T) {
		db := storetest.Open(t)
		storetest.Nodes(t, db, storetest.Node("gpu-1", 1))
		before := time.Now().Add(-time.Second)
		must(t, db.PauseCluster(ctx, storetest.Cluster, "five runs held"))
		list, err := db.Clusters(ctx)
		must(t, err)
		if len(list) != 1 || list[0].Name != storetest.Cluster || list[0].Paused == nil || list[0].Paused.Reason != "five runs held" || list[0].Paused.Since.Before(before) {
			t.Fatalf("got %+v", list)
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'cluster.paused' AND message LIKE '%five runs held; next: forgectl cluster resume local'`, 1)
		must(t, db.ResumeCluster(ctx, storetest.Cluster, "root"))
		if list, err = db.Clusters(ctx); err != nil || list[0].Paused != nil {
			t.Fatalf("got %+v, %v", list, err)
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'cluster.resumed' AND actor = 'root' AND tenant IS NULL`, 1)
	})
	t.Run("one that is not paused, and one that there is not, are not resumed", func(t *testing.T) {
		db := storetest.Open(t)
		storetest.Nodes(t, db, storetest.Node("gpu-1", 1))
		wantKind(t, db.ResumeCluster(ctx, storetest.Cluster, "root"), forge.KindPrecondition)
		wantKind(t, db.ResumeCluster(ctx, "mars", "root"), forge.KindNotFound)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'cluster.resumed'`, 0)
	})
	t.Run("holds from before it was resumed do not count towards the next pause", func(t *testing.T) {
		s := running(t)
		since := time.Now().Add(-time.Minute)
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		_, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending, Hold: &forge.Hold{Reason: "fruitless"}})
		must(t, err)
		must(t, s.db.PauseCluster(ctx, storetest.Cluster, "one run held"))
		if n, err := s.db.HeldSince(ctx, storetest.Cluster, since); err != nil || n != 1 {
			t.Fatalf("got %d, %v; want 1", n, err)
		}
		must(t, s.db.ResumeCluster(ctx, storetest.Cluster, "root"))
		if n, err := s.db.HeldSince(ctx, storetest.Cluster, since); err != nil || n != 0 {
			t.Fatalf("got %d, %v; want 0", n, err)
		}
	})
	t.Run("a user's hold says nothing about the cluster", func(t *testing.T) {
		s := running(t)
		storetest.Finish(t, s.db, s.a, forge.EndNodeLost, forge.RunPending)
		_, err := s.acme.HoldRun(ctx, "1", "later")
		must(t, err)
		if n, err := s.db.HeldSince(ctx, storetest.Cluster, time.Now().Add(-time.Minute)); err != nil || n != 0 {
			t.Fatalf("got %d, %v; want 0", n, err)
		}
	})
}
