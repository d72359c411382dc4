package store_test

import (
	"math"
	"slices"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func batch(attempt int, rows ...forge.MetricRow) store.MetricBatch {
	return store.MetricBatch{Attempt: attempt, Rows: rows}
}

func TestMetricsThroughTheAPI(t *testing.T) {
	t.Run("the run follows forward only, since batches come in any order", func(t *testing.T) {
		s := running(t)
		b := batch(1, row(12, 2), row(10, 3))
		b.TotalSteps = 60
		added, err := s.acme.AddMetrics(ctx, s.run.ID, b)
		must(t, err)
		if added.Number != s.run.Number || added.Points != 2 || added.Values != 2 {
			t.Fatalf("got %+v", added)
		}
		_, err = s.acme.AddMetrics(ctx, s.run.ID, batch(1, row(5, 9)))
		must(t, err)
		if run, a := s.reload(t); run.Step != 12 || *run.Loss != 2 || run.TotalSteps != 60 || a.LastStep != 12 {
			t.Fatalf("got step %d, loss %v, total %d, last step %d", run.Step, *run.Loss, run.TotalSteps, a.LastStep)
		}
		wantInt(t, s.db, `SELECT count(*) FROM run_metrics`, 3)
	})
	t.Run("the same batch again changes nothing", func(t *testing.T) {
		s := running(t)
		for range 2 {
			_, err := s.acme.AddMetrics(ctx, s.run.ID, batch(1, row(1, 9), row(2, 8), row(2, 7)))
			must(t, err)
		}
		v, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 0, 0)
		must(t, err)
		if got := v.Curves["loss"]; len(got) != 2 || got[1].Last != 7 {
			t.Fatalf("got %v", got)
		}
	})
	t.Run("only the newest attempt is written to", func(t *testing.T) {
		s := running(t)
		storetest.Finish(t, s.db, s.a, forge.EndNodeLost, forge.RunPending)
		storetest.Place(t, s.db, s.run, "gpu-1", 0, 1)
		_, err := s.acme.AddMetrics(ctx, s.run.ID, batch(1, row(1, 9)))
		wantKind(t, err, forge.KindConflict)
		_, err = s.acme.AddMetrics(ctx, s.run.ID, batch(3, row(1, 9)))
		wantKind(t, err, forge.KindNotFound)
		wantInt(t, s.db, `SELECT count(*) FROM run_metrics`, 0)
	})
	t.Run("what comes a little after the end is kept, and changes nothing of how the run was judged", func(t *testing.T) {
		s := running(t)
		_, err := s.acme.AddMetrics(ctx, s.run.ID, batch(1, row(1, 9)))
		must(t, err)
		storetest.Finish(t, s.db, s.a, forge.EndCompleted, forge.RunCompleted)
		before, _ := s.reload(t)
		_, err = s.acme.AddMetrics(ctx, s.run.ID, batch(1, row(2, 8)))
		must(t, err)
		if after, _ := s.reload(t); after.Version != before.Version || after.Step != 1 || after.State != forge.RunCompleted {
			t.Fatalf("got %+v", after)
		}
		wantInt(t, s.db, `SELECT count(*) FROM run_metrics`, 2)
		must(t, s.db.Raw(ctx, `UPDATE attempts SET exited_at = exited_at - 1000000000 * 60 * 16, ended_at = ended_at - 1000000000 * 60 * 16, version = version + 1`))
		_, err = s.acme.AddMetrics(ctx, s.run.ID, batch(1, row(3, 7)))
		wantKind(t, err, forge.KindPrecondition)
	})
	t.Run("a run of another tenant is one that there is not", func(t *testing.T) {
		s := running(t)
		_, err := storetest.Tenant(t, s.db, "eve").AddMetrics(ctx, s.run.ID, batch(1, row(1, 9)))
		wantKind(t, err, forge.KindNotFound)
		wantInt(t, s.db, `SELECT count(*) FROM run_metrics`, 0)
	})
}

// A plot must not take longer the longer the run is: rows that cannot be read prove that none was.
func TestAPlotOfALongRunReadsRollupsOnly(t *testing.T) {
	const steps, points = 9000, 100
	s := running(t)
	var rows []forge.MetricRow
	for i := range int64(steps) {
		values := map[string]float64{"loss": math.Sin(float64(i) / 700), "lr": float64(i)}
		if i%4096 == 77 {
			values["eval"] = float64(i)
		}
		rows = append(rows, forge.MetricRow{Step: i, Time: time.Unix(i, 0), Values: values})
	}
	for piece := range slices.Chunk(rows, 1000) {
		_, err := s.acme.AddMetrics(ctx, s.run.ID, batch(1, piece...))
		must(t, err)
	}
	must(t, s.db.Raw(ctx, `UPDATE run_metrics SET "values" = 'unreadable'`))
	v, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 0, points)
	must(t, err)
	for key, curve := range v.Curves {
		if len(curve) == 0 || len(curve) > points {
			t.Fatalf("%s has %d buckets", key, len(curve))
		}
		for _, b := range curve {
			want := forge.MetricBucket{Step: b.Step, Span: b.Span, Min: math.Inf(1), Max: math.Inf(-1)}
			for _, r := range rows[b.Step:min(b.Step+b.Span, steps)] {
				if x, ok := r.Values[key]; ok {
					want.Min, want.Max, want.Last = min(want.Min, x), max(want.Max, x), x
				}
			}
			if b != want {
				t.Fatalf("%s: got %+v, want %+v", key, b, want)
			}
		}
	}
	if e := v.Curves["eval"]; len(e) != 3 || e[0].Span != 16 || e[2].Last != 8269 || v.Last["eval"] != 8269 {
		t.Errorf("the rare key has %+v", e)
	}
	if _, err := s.acme.Metrics(ctx, s.run.ID, nil, 0, 50, points); err == nil {
		t.Error("rows that fit are read, and these could not have been")
	}
}
