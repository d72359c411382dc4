package store_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func row(step int64, loss float64) forge.MetricRow {
	return forge.MetricRow{Step: step, Time: time.Unix(step, 0), Values: map[string]float64{"loss": loss}}
}

func TestProgress(t *testing.T) {
	t.Run("the cursor moves with the rows and a piece told twice stores nothing", func(t *testing.T) {
		s := running(t)
		p := store.Progress{Run: s.run.ID, Attempt: 1, Stream: "metrics", From: 0, Next: 100, Rows: []forge.MetricRow{row(1, 3), row(2, 2)}, TotalSteps: 60}
		must(t, s.db.RecordProgress(ctx, p))
		if at, err := s.db.StreamCursor(ctx, s.run.ID, 1, "metrics"); err != nil || at != 100 {
			t.Fatalf("cursor at %d, %v; want 100", at, err)
		}
		run, a := s.reload(t)
		if run.Step != 2 || run.TotalSteps != 60 || run.Loss == nil || *run.Loss != 2 || a.LastStep != 2 {
			t.Fatalf("got run %+v, attempt %+v", run, a)
		}
		p.Rows = []forge.MetricRow{row(3, 1)}
		p.Saves = []forge.Checkpoint{{Attempt: 1, Step: 3}}
		wantKind(t, s.db.RecordProgress(ctx, p), forge.KindConflict)
		wantInt(t, s.db, `SELECT count(*) FROM run_metrics`, 2)
		wantInt(t, s.db, `SELECT count(*) FROM checkpoints`, 0)
		if again, _ := s.reload(t); again.Version != run.Version {
			t.Fatal("a refused piece changed the run")
		}
	})
	t.Run("a newer attempt writes a step again and it is stored once", func(t *testing.T) {
		s := running(t)
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Stream: "metrics", Next: 10, Rows: []forge.MetricRow{row(1, 9), row(2, 9)}}))
		storetest.Finish(t, s.db, s.a, forge.EndNodeLost, forge.RunPending)
		storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 2, Stream: "metrics", Next: 10, Rows: []forge.MetricRow{row(2, 5)}}))
		v, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 0, 0)
		must(t, err)
		if got := fmt.Sprint(v.Curves["loss"]); got != "[{1 1 9 9 9} {2 1 5 5 5}]" || v.Last["loss"] != 5 {
			t.Fatalf("got %s, last %v", got, v.Last)
		}
		wantInt(t, s.db, `SELECT max(attempt) FROM run_metrics WHERE step = 2`, 2)
	})
	t.Run("an older attempt never overwrites, whatever the code before it let through", func(t *testing.T) {
		s := running(t)
		storetest.Finish(t, s.db, s.a, forge.EndNodeLost, forge.RunPending)
		storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 2, Rows: []forge.MetricRow{row(2, 5)}}))
		must(t, s.db.StoreMetrics(ctx, s.run.ID, 1, 2, `{"loss":9}`))
		if got, err := s.db.Text(ctx, `SELECT "values" FROM run_metrics`); err != nil || got != `{"loss":5}` {
			t.Fatalf("got %s, %v", got, err)
		}
	})
	t.Run("what a past attempt wrote before its successor resumed is its own, and overwrites nothing", func(t *testing.T) {
		s := running(t)
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Stream: "metrics", Next: 10, Rows: []forge.MetricRow{row(1, 9)}}))
		storetest.Finish(t, s.db, s.a, forge.EndNodeLost, forge.RunPending)
		storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 2, Stream: "metrics", Next: 10, Rows: []forge.MetricRow{row(3, 5)}}))
		before, _ := s.reload(t)
		earlier := store.Progress{Run: s.run.ID, Attempt: 1, Stream: "metrics", From: 10, Next: 30, Rows: []forge.MetricRow{row(2, 8), row(3, 7)}}
		must(t, s.db.RecordEarlier(ctx, earlier))
		v, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 0, 0)
		must(t, err)
		if got := fmt.Sprint(v.Curves["loss"]); got != "[{1 1 9 9 9} {2 1 8 8 8} {3 1 5 5 5}]" {
			t.Errorf("got %s", got)
		}
		if after, _ := s.reload(t); after.Version != before.Version || after.Step != 3 {
			t.Errorf("the run changed: %+v", after)
		}
		wantKind(t, s.db.RecordEarlier(ctx, earlier), forge.KindConflict)
	})
	t.Run("of one attempt the keys of a step are joined, and of a key the later value stands", func(t *testing.T) {
		s := running(t)
		tell := func(values map[string]float64) {
			t.Helper()
			_, err := s.acme.AddMetrics(ctx, s.run.ID, store.MetricBatch{Attempt: 1, Rows: []forge.MetricRow{{Step: 7, Values: values}}})
			must(t, err)
		}
		tell(map[string]float64{"eval": 1, "loss": 5})
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Stream: "metrics", Next: 9, Rows: []forge.MetricRow{row(7, 4)}}))
		tell(map[string]float64{"late": 3})
		if got, err := s.db.Text(ctx, `SELECT "values" FROM run_metrics`); err != nil || got != `{"eval":1,"late":3,"loss":4}` {
			t.Fatalf("got %s, %v", got, err)
		}
	})
	t.Run("values that are no numbers are dropped, steps below zero refused", func(t *testing.T) {
		s := running(t)
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Rows: []forge.MetricRow{
			{Step: 1, Values: map[string]float64{"loss": math.NaN(), "lr": 0.1, "norm": math.Inf(1)}}}}))
		v, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 0, 0)
		must(t, err)
		if !slices.Equal(v.Keys, []string{"lr"}) {
			t.Fatalf("got keys %v", v.Keys)
		}
		wantKind(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Rows: []forge.MetricRow{row(-1, 1)}}), forge.KindInvalid)
	})
	t.Run("a save is an event once, verified stays verified, torn does not count", func(t *testing.T) {
		s := running(t)
		see := func(c forge.Checkpoint) forge.Run {
			t.Helper()
			c.Path, c.SHA256 = fmt.Sprint("/c/", c.Step), "abc"
			must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Saves: []forge.Checkpoint{c}}))
			run, _ := s.reload(t)
			return run
		}
		see(forge.Checkpoint{Attempt: 1, Step: 10, Verdict: forge.VerdictVerified})
		if run := see(forge.Checkpoint{Attempt: 1, Step: 10, Verdict: forge.VerdictWritten}); run.SavedStep != 10 {
			t.Fatalf("saved step %d, want 10", run.SavedStep)
		}
		if run := see(forge.Checkpoint{Attempt: 1, Step: 20, Verdict: forge.VerdictWritten}); run.SavedStep != 20 {
			t.Fatalf("saved step %d, want 20", run.SavedStep)
		}
		run := see(forge.Checkpoint{Attempt: 1, Step: 20, Verdict: forge.VerdictTorn, Why: "short"})
		if _, a := s.reload(t); run.SavedStep != 10 || a.SavedStep != 10 {
			t.Fatalf("saved step %d, attempt's %d, want 10 without the torn one", run.SavedStep, a.SavedStep)
		}
		all, err := s.acme.Checkpoints(ctx, s.run.ID)
		must(t, err)
		if len(all) != 2 || all[0].Step != 20 || all[0].Verdict != forge.VerdictTorn || all[1].Verdict != forge.VerdictVerified {
			t.Fatalf("got %+v", all)
		}
		if n := eventTypes(t, s)[forge.EventRunCheckpoint]; n != 2 {
			t.Fatalf("got %d run.checkpoint events, want 2", n)
		}
		if run := see(forge.Checkpoint{Attempt: 1, Step: 30, Verdict: forge.VerdictForeign, Why: "of another recipe"}); run.SavedStep != 10 {
			t.Fatalf("saved step %d, want 10 without the foreign one", run.SavedStep)
		}
		gone := time.Now()
		see(forge.Checkpoint{Attempt: 1, Step: 10, Verdict: forge.VerdictWritten, Took: forge.Duration(time.Second), Removed: gone})
		all, err = s.acme.Checkpoints(ctx, s.run.ID)
		must(t, err)
		if last := all[len(all)-1]; last.Step != 10 || last.Verdict != forge.VerdictVerified || !last.Removed.Equal(gone) {
			t.Fatalf("the removed one is %+v", last)
		}
		before, err := s.db.World(ctx)
		must(t, err)
		see(forge.Checkpoint{Attempt: 1, Step: 20, Verdict: forge.VerdictTorn, Why: "short"})
		if after, err := s.db.World(ctx); err != nil || after.Revision != before.Revision {
			t.Fatalf("looking again at the same checkpoints changed the world: %v", err)
		}
	})
}

// told is what the oracle knows of a step.
type told struct {
	attempt int
	values  map[string]float64
}

// Whatever comes by the stream or in batches, out of order, twice, and from attempts that came back to earlier steps and then left keys out: the table is what a
// slow oracle says, and the roll-ups are what one would compute from it.
func TestMetricsEqualASlowOracle(t *testing.T) {
	s := running(t)
	rapid.Check(t, func(rt *rapid.T) {
		// Everything is drawn before anything is stored: rapid breaks a case off in the middle of drawing.
		truth := map[int64]told{}
		attempts := make([][]metricPiece, rapid.IntRange(1, 3).Draw(rt, "attempts"))
		for n := range attempts {
			attempts[n] = drawPieces(rt, n+1, truth)
		}
		run := storetest.Submit(t, s.acme, storetest.Spec())
		for n, pieces := range attempts {
			a := storetest.Place(t, s.db, run, "gpu-1", 3)
			at := int64(0)
			for _, p := range pieces {
				if p.batch {
					_, err := s.acme.AddMetrics(ctx, run.ID, store.MetricBatch{Attempt: n + 1, Rows: p.rows})
					must(t, err)
					continue
				}
				must(t, s.db.RecordProgress(ctx, store.Progress{Run: run.ID, Attempt: n + 1, Stream: "metrics", From: at, Next: at + 1, Rows: p.rows}))
				at++
			}
			storetest.Finish(t, s.db, a, forge.EndNodeLost, forge.RunPending)
		}
		rows, err := s.db.MetricRows(ctx, run.ID)
		must(t, err)
		values := map[int64]map[string]float64{}
		want := map[int64]string{}
		for step, x := range truth {
			values[step], want[step] = x.values, fmt.Sprint(x.attempt, x.values)
		}
		if fmt.Sprint(rows) != fmt.Sprint(want) { // maps print sorted
			rt.Fatalf("the table has\n%v\nwant\n%v", rows, want)
		}
		got, err := s.db.Rollups(ctx, run.ID)
		must(t, err)
		if want := recompute(values); fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("got\n%v\nwant\n%v", got, want)
		}
	})
}

type metricPiece struct {
	batch bool // through the API; else lines of the stream
	rows  []forge.MetricRow
}

func drawPieces(rt *rapid.T, attempt int, truth map[int64]told) []metricPiece {
	pieces := make([]metricPiece, rapid.IntRange(1, 4).Draw(rt, "pieces"))
	step := rapid.Int64Range(0, 40).Draw(rt, "first step")
	for i := range pieces {
		p := &pieces[i]
		p.batch = rapid.Bool().Draw(rt, "a batch")
		for range rapid.IntRange(1, 30).Draw(rt, "rows") {
			values := map[string]float64{}
			for _, key := range []string{"loss", "lr", "odd \"key\""} {
				if rapid.Bool().Draw(rt, "has "+key) {
					values[key] = rapid.Float64Range(-1e12, 1e12).Draw(rt, key) + 0 // SQLite has no -0
				}
			}
			p.rows = append(p.rows, forge.MetricRow{Step: step, Values: values})
			step += rapid.SampledFrom([]int64{0, 1, 1, 1, 7, 300, 5000}).Draw(rt, "stride")
		}
		if p.batch {
			p.rows = rapid.Permutation(p.rows).Draw(rt, "order")
			step = max(0, step-rapid.Int64Range(0, 50).Draw(rt, "back"))
		}
		for _, m := range p.rows {
			x := truth[m.Step]
			if x.attempt < attempt {
				x = told{attempt, map[string]float64{}}
			}
			maps.Copy(x.values, m.Values)
			truth[m.Step] = x
		}
	}
	return pieces
}

func recompute(truth map[int64]map[string]float64) map[string]forge.MetricBucket {
	all := map[string]forge.MetricBucket{}
	for _, span := range []int64{16, 256, 4096} {
		newest := map[string]int64{}
		for step, values := range truth {
			for key, v := range values {
				start := step / span * span
				id := store.RollupID(span, start, key)
				b, ok := all[id]
				if !ok {
					b = forge.MetricBucket{Step: start, Span: span, Min: v, Max: v, Last: v}
					newest[id] = step
				}
				b.Min, b.Max = min(b.Min, v), max(b.Max, v)
				if step >= newest[id] {
					b.Last, newest[id] = v, step
				}
				all[id] = b
			}
		}
	}
	return all
}

func TestCurves(t *testing.T) {
	s := running(t)
	const steps = 6000
	var rows []forge.MetricRow
	for i := range int64(steps) {
		rows = append(rows, row(i, float64(i)))
	}
	rows[5999].Values["eval"] = 1
	must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Rows: rows}))
	cases := []struct {
		name     string
		from, to int64
		points   int
		span     int64
		buckets  int
	}{
		{"all rows where they fit", 0, 0, 6000, 1, 6000},
		{"a window of rows", 100, 199, 100, 1, 100},
		{"1:16 where that fits", 0, 0, 500, 16, 375},
		{"1:256", 0, 0, 100, 256, 24},
		{"1:4096", 0, 0, 2, 4096, 2},
		{"joined past the coarsest", 0, 0, 1, 8192, 1},
		{"a window that cuts buckets has both ends", 8, 300, 50, 16, 19},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v, err := s.acme.Metrics(ctx, s.run.ID, []string{"loss"}, c.from, c.to, c.points)
			must(t, err)
			curve := v.Curves["loss"]
			if len(curve) != c.buckets || curve[0].Span != c.span {
				t.Fatalf("got %d buckets of span %d, want %d of %d", len(curve), curve[0].Span, c.buckets, c.span)
			}
			last := curve[len(curve)-1]
			end := int64(steps - 1)
			if c.to > 0 {
				end = c.to
			}
			if last.Max < float64(end) || curve[0].Min > float64(c.from) || last.Last != last.Max {
				t.Fatalf("the curve from %v to %v does not cover %d to %d", curve[0], last, c.from, end)
			}
			if len(v.Curves) != 1 || !slices.Equal(v.Keys, []string{"eval", "loss"}) || v.Last["loss"] != steps-1 {
				t.Fatalf("got keys %v, last %v, %d curves", v.Keys, v.Last, len(v.Curves))
			}
		})
	}
	t.Run("a rare key is not lost in a roll-up", func(t *testing.T) {
		v, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 0, 100)
		must(t, err)
		if len(v.Curves["eval"]) != 1 || v.Curves["eval"][0].Last != 1 {
			t.Fatalf("got %v", v.Curves["eval"])
		}
	})
	t.Run("a run without metrics has none", func(t *testing.T) {
		run := storetest.Submit(t, s.acme, storetest.Spec())
		v, err := s.acme.Metrics(ctx, run.ID, nil, 0, 0, 0)
		must(t, err)
		if v.Keys == nil || len(v.Keys) != 0 || len(v.Curves) != 0 {
			t.Fatalf("got %+v", v)
		}
	})
}

// The loss of a run stands in its row and in its delta; both must be the same number.
func TestNumbersSurviveTheTable(t *testing.T) {
	s := running(t)
	step := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(rt, "loss")
		step++
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Rows: []forge.MetricRow{row(step, want)}}))
		run, _ := s.reload(t)
		if *run.Loss != want {
			rt.Fatalf("stored %v, read %v", want, *run.Loss)
		}
	})
}
