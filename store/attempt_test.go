package store_test

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestAttemptMoves(t *testing.T) {
	t.Run("the whole way: placed, launching, running, exited, ended", func(t *testing.T) {
		s := running(t, storetest.Register("bot"))
		run, a := s.reload(t)
		if run.State != forge.RunRunning || a.State != forge.AttemptRunning || run.StartedAt.IsZero() || a.ExternalID == "" || a.RunDir == "" {
			t.Fatalf("got run %+v, attempt %+v", run, a)
		}
		wantInt(t, s.db, `SELECT count(*) FROM outbox`, 0) // the launch is done
		wantInt(t, s.db, `SELECT count(*) FROM allocations`, 2)
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1, Exits: []forge.RankExit{{Rank: 0}, {Rank: 1}}}))
		wantInt(t, s.db, `SELECT count(*) FROM allocations`, 0)
		finish := storetest.Row(t, s.db, s.a, store.OutboxFinish)
		if finish == 0 {
			t.Fatal("nobody is asked to finish the attempt")
		}
		run, model, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndCompleted, Next: forge.RunCompleted, OutboxID: finish,
			Model: &forge.ModelVersion{Manifest: files("adapter")}, Checkpoints: []forge.Checkpoint{{Attempt: 1, Step: 20, Verdict: forge.VerdictVerified}}})
		must(t, err)
		if run.State != forge.RunCompleted || run.Model != "bot@1" || run.SavedStep != 20 || run.EndedAt.IsZero() {
			t.Fatalf("got %+v", run)
		}
		if model == nil || model.Lineage.Run != run.ID || model.Lineage.RunNumber != 1 || model.Lineage.Attempt != 1 || model.Stage != forge.StageStaging {
			t.Fatalf("got model %+v", model)
		}
		wantInt(t, s.db, `SELECT count(*) FROM outbox`, 0)
		_, a = s.reload(t)
		if a.State != forge.AttemptEnded || len(a.Exits) != 2 || a.SavedStep != 20 {
			t.Fatalf("got %+v", a)
		}
	})
	t.Run("ending twice answers the same and registers one model", func(t *testing.T) {
		s := running(t, storetest.Register("bot"))
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		end := store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndCompleted, Next: forge.RunCompleted, Model: &forge.ModelVersion{}}
		_, first, err := s.db.AttemptEnded(ctx, end)
		must(t, err)
		run, second, err := s.db.AttemptEnded(ctx, end)
		must(t, err)
		if run.State != forge.RunCompleted || second == nil || first.ID != second.ID {
			t.Fatalf("got %+v then %+v", first, second)
		}
		wantInt(t, s.db, `SELECT count(*) FROM model_versions`, 1)
		if n := eventTypes(t, s)[forge.EventRunEnded]; n != 1 {
			t.Fatalf("got %d run.ended events, want 1", n)
		}
	})
	t.Run("an attempt that has not exited cannot end: its GPUs may be in use", func(t *testing.T) {
		s := running(t)
		_, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending})
		wantKind(t, err, forge.KindPrecondition)
		wantInt(t, s.db, `SELECT count(*) FROM allocations`, 2)
	})
	t.Run("what is told twice changes nothing, what is told late is refused", func(t *testing.T) {
		s := running(t)
		must(t, s.db.AttemptRunning(ctx, s.run.ID, 1, time.Now(), nil))
		must(t, s.db.AttemptStopping(ctx, s.run.ID, 1))
		must(t, s.db.AttemptStopping(ctx, s.run.ID, 1))
		wantKind(t, s.db.AttemptRunning(ctx, s.run.ID, 1, time.Now(), nil), forge.KindConflict)
		wantKind(t, s.db.AttemptLaunching(ctx, s.run.ID, 1), forge.KindConflict)
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		wantKind(t, s.db.AttemptStopping(ctx, s.run.ID, 1), forge.KindConflict)
		wantKind(t, s.db.AttemptUnknown(ctx, s.run.ID, 1, time.Now()), forge.KindConflict)
		if n := eventTypes(t, s)[forge.EventRunRunning]; n != 1 {
			t.Fatalf("got %d run.running events, want 1", n)
		}
	})
	t.Run("the resume and what it passed over are on record", func(t *testing.T) {
		s := running(t)
		storetest.Finish(t, s.db, s.a, forge.EndKilledExternally, forge.RunPending)
		b := storetest.Place(t, s.db, s.run, "gpu-1", 2, 3)
		must(t, s.db.AttemptRunning(ctx, s.run.ID, 2, time.Now(), &forge.Resume{Step: 20, Attempt: 1, Path: "/runs/x/checkpoint-20",
			Skipped: []forge.SkippedSave{{Path: "/runs/x/checkpoint-30", Step: 30, Why: "short file"}}}))
		run, a := s.reload(t)
		if b.Number != 2 || a.ResumeStep != 20 || a.ResumeFrom != "/runs/x/checkpoint-20" || run.State != forge.RunRunning {
			t.Fatalf("got run %+v, attempt %+v", run, a)
		}
		n := eventTypes(t, s)
		if n[forge.EventRunResumed] != 1 || n[forge.EventCheckpointSkipped] != 1 || n[forge.EventRunRequeued] != 1 {
			t.Fatalf("got events %v", n)
		}
	})
	t.Run("an attempt that ran and ended between two looks still names its checkpoint", func(t *testing.T) {
		s := running(t)
		storetest.Finish(t, s.db, s.a, forge.EndKilledExternally, forge.RunPending)
		storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
		at := time.Now().Add(-time.Minute).UTC()
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 2, Exits: []forge.RankExit{{StartedAt: at}}, Resume: &forge.Resume{Step: 5, Path: "/c/5"}}))
		_, a := s.reload(t)
		if a.ResumeStep != 5 || !a.StartedAt.Equal(at) || eventTypes(t, s)[forge.EventRunResumed] != 1 {
			t.Fatalf("got %+v", a)
		}
	})
	t.Run("one whose start is all that is known of it has started once, and its run goes on from there", func(t *testing.T) {
		s := running(t)
		storetest.Finish(t, s.db, s.a, forge.EndKilledExternally, forge.RunPending)
		b := storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
		at := time.Now().Add(-time.Minute).UTC()
		before := eventTypes(t, s)[forge.EventRunRunning]
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 2, StartedAt: at}))
		if _, a := s.reload(t); !a.StartedAt.Equal(at) || eventTypes(t, s)[forge.EventRunRunning] != before+1 {
			t.Fatalf("got %+v", a)
		}
		if run := storetest.Finish(t, s.db, b, forge.EndCompleted, forge.RunCompleted); run.State != forge.RunCompleted {
			t.Fatalf("got %+v", run)
		}
	})
	t.Run("unknown is a field: nothing is freed, and it can end", func(t *testing.T) {
		s := running(t)
		since := time.Now().UTC()
		must(t, s.db.AttemptUnknown(ctx, s.run.ID, 1, since))
		must(t, s.db.AttemptUnknown(ctx, s.run.ID, 1, since.Add(time.Second)))
		_, a := s.reload(t)
		if a.State != forge.AttemptRunning || a.Unknown.IsZero() || eventTypes(t, s)[forge.EventExecutorUnknown] != 1 {
			t.Fatalf("got %+v", a)
		}
		wantInt(t, s.db, `SELECT count(*) FROM allocations`, 2)
		must(t, s.db.AttemptUnknown(ctx, s.run.ID, 1, time.Time{}))
		if _, a = s.reload(t); !a.Unknown.IsZero() {
			t.Fatalf("still unknown since %s", a.Unknown)
		}
	})
}

func TestSupersededAttemptChangesNothing(t *testing.T) {
	s := running(t)
	storetest.Finish(t, s.db, s.a, forge.EndNodeLost, forge.RunPending)
	storetest.Place(t, s.db, s.run, "gpu-1", 2, 3)
	before, err := s.db.World(ctx)
	must(t, err)
	writes := map[string]error{
		"launching": s.db.AttemptLaunching(ctx, s.run.ID, 1),
		"submitted": s.db.AttemptSubmitted(ctx, s.run.ID, 1, "late", storetest.Row(t, s.db, forge.Attempt{Run: s.run.ID, Number: 2}, store.OutboxLaunch)),
		"running":   s.db.AttemptRunning(ctx, s.run.ID, 1, time.Now(), nil),
		"stopping":  s.db.AttemptStopping(ctx, s.run.ID, 1),
		"batch":     s.db.AttemptBatch(ctx, s.run.ID, 1, forge.BatchJob{ID: "1"}, nil),
		"unknown":   s.db.AttemptUnknown(ctx, s.run.ID, 1, time.Now()),
		"exited":    s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}),
		"progress": s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Stream: "metrics", Next: 9,
			Rows:  []forge.MetricRow{{Step: 1, Values: map[string]float64{"loss": 1}}},
			Saves: []forge.Checkpoint{{Attempt: 1, Step: 1}}}),
	}
	_, _, writes["ended"] = s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndCompleted, Next: forge.RunCompleted})
	for name, err := range writes {
		t.Run(name, func(t *testing.T) { wantKind(t, err, forge.KindConflict) })
	}
	after, err := s.db.World(ctx)
	must(t, err)
	if before.Revision != after.Revision || before.LastSeq != after.LastSeq {
		t.Fatalf("revision %d, last event %d; want %d, %d", after.Revision, after.LastSeq, before.Revision, before.LastSeq)
	}
	wantInt(t, s.db, `SELECT count(*) FROM run_metrics`, 0)
	wantInt(t, s.db, `SELECT count(*) FROM streams`, 0)
	wantInt(t, s.db, `SELECT count(*) FROM checkpoints`, 0)
	t.Run("an attempt that does not exist is not found", func(t *testing.T) {
		wantKind(t, s.db.AttemptStopping(ctx, s.run.ID, 7), forge.KindNotFound)
		wantKind(t, s.db.AttemptStopping(ctx, "01ABSENT", 1), forge.KindNotFound)
	})
}

func TestEnds(t *testing.T) {
	exited := func(t *testing.T) scene {
		s := running(t)
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		return s
	}
	t.Run("a requeue keeps what the next placement must know", func(t *testing.T) {
		s := exited(t)
		until := time.Now().Add(time.Minute).UTC()
		run, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending, NotBefore: until,
			Avoid: []forge.NodeName{"gpu-1"}, Fruitless: 2, Retries: 1})
		must(t, err)
		if run.State != forge.RunPending || run.Reason != forge.EndNodeLost || !run.NotBefore.Equal(until) || len(run.Avoid) != 1 || run.Fruitless != 2 || run.Retries != 1 {
			t.Fatalf("got %+v", run)
		}
	})
	t.Run("a hold is counted for its cluster, also after it was released", func(t *testing.T) {
		s := exited(t)
		before := time.Now().Add(-time.Second)
		run, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending,
			Fruitless: 3, Hold: &forge.Hold{Reason: "three attempts without a step"}})
		must(t, err)
		if run.Hold == nil || run.Hold.By != "forged" || run.Hold.At.IsZero() {
			t.Fatalf("got %+v", run.Hold)
		}
		must(t, s.db.ReleaseRun(ctx, s.run.ID, "ana"))
		wantKind(t, s.db.ReleaseRun(ctx, s.run.ID, "ana"), forge.KindPrecondition)
		if run, _ = s.reload(t); run.Hold != nil || run.Fruitless != 0 {
			t.Fatalf("got %+v", run)
		}
		for cluster, want := range map[forge.ClusterName]int{storetest.Cluster: 1, "other": 0} {
			if n, err := s.db.HeldSince(ctx, cluster, before); err != nil || n != want {
				t.Fatalf("cluster %s: got %d held, %v; want %d", cluster, n, err, want)
			}
		}
		if n, err := s.db.HeldSince(ctx, storetest.Cluster, time.Now().Add(time.Hour)); err != nil || n != 0 {
			t.Fatalf("got %d held in the future, %v", n, err)
		}
		if n := eventTypes(t, s); n[forge.EventRunHeld] != 1 || n[forge.EventRunReleased] != 1 {
			t.Fatalf("got events %v", n)
		}
	})
	t.Run("a run that was asked to stop meanwhile is cancelled, not requeued", func(t *testing.T) {
		s := exited(t)
		_, err := s.acme.RequestCancel(ctx, "1", forge.CancelTerm)
		must(t, err)
		run, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending})
		must(t, err)
		if run.State != forge.RunCancelled || run.Reason != forge.EndCancelled {
			t.Fatalf("got %+v", run)
		}
	})
	t.Run("a name that a base model has does not keep the run from completing", func(t *testing.T) {
		s := running(t, storetest.Register("tiny"))
		base := modelVersion("tiny", "weights")
		base.Kind = forge.ModelBase
		_, err := s.acme.AddModelVersion(ctx, base)
		must(t, err)
		must(t, s.db.AttemptExited(ctx, store.Exit{Run: s.run.ID, Attempt: 1}))
		run, model, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndCompleted, Next: forge.RunCompleted, Model: &forge.ModelVersion{}})
		must(t, err)
		if run.State != forge.RunCompleted || run.Model != "" || model != nil {
			t.Fatalf("got %+v, %+v", run, model)
		}
		wantInt(t, s.db, `SELECT count(*) FROM events WHERE type = 'run.ended' AND message LIKE '%was not registered%'`, 1)
		wantInt(t, s.db, `SELECT count(*) FROM model_versions`, 1)
	})
	t.Run("last words with NUL bytes and broken UTF-8 do not keep an attempt from ending", func(t *testing.T) {
		s := exited(t)
		run, _, err := s.db.AttemptEnded(ctx, store.End{Run: s.run.ID, Attempt: 1, Reason: forge.EndUserExit, Detail: "it's\x00 \xff\xfe over", Next: forge.RunFailed})
		must(t, err)
		if run.State != forge.RunFailed {
			t.Fatalf("got %+v", run)
		}
	})
}
