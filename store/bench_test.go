package store_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// BenchmarkSubmit is durable submissions by 64 writers, and how many share a commit.
func BenchmarkSubmit(b *testing.B) {
	db := storetest.Open(b)
	acme := storetest.Tenant(b, db, "acme")
	before := db.Stats()
	b.ResetTimer()
	var wg sync.WaitGroup
	work := make(chan struct{})
	for range 64 {
		wg.Go(func() {
			for range work {
				if _, err := acme.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec()}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	after := db.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "submits/s")
	b.ReportMetric(float64(after.Closures-before.Closures)/float64(after.Commits-before.Commits), "submits/commit")
}

func tenThousand(b *testing.B) (*store.DB, *store.Tenant) {
	db := storetest.Open(b)
	acme := storetest.Tenant(b, db, "acme")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 200 {
				if _, err := acme.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec()}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return db, acme
}

// BenchmarkList is the store's part of printing 10,000 runs.
func BenchmarkList(b *testing.B) {
	_, acme := tenThousand(b)
	for b.Loop() {
		runs, _, err := acme.Runs(ctx, store.RunFilter{Limit: 10_000})
		if err != nil || len(runs) != 10_000 {
			b.Fatal(len(runs), err)
		}
	}
}

// BenchmarkWorld is what a start with 10,000 pending runs reads, and the memory that it then holds.
func BenchmarkWorld(b *testing.B) {
	db, _ := tenThousand(b)
	var w store.World
	for b.Loop() {
		var err error
		if w, err = db.World(ctx); err != nil || len(w.Runs) != 10_000 {
			b.Fatal(len(w.Runs), err)
		}
	}
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	runtime.KeepAlive(w)
	w = store.World{}
	runtime.GC()
	runtime.ReadMemStats(&without)
	b.ReportMetric(float64(with.HeapAlloc-without.HeapAlloc)/10_000, "B/run-held")
}

// BenchmarkProgress is one metrics line of one run.
func BenchmarkProgress(b *testing.B) {
	db := storetest.Open(b)
	acme := storetest.Tenant(b, db, "acme")
	storetest.Nodes(b, db, storetest.Node("gpu-1", 1))
	run := storetest.Submit(b, acme, storetest.Spec())
	storetest.Place(b, db, run, "gpu-1", 0)
	step := int64(0)
	for b.Loop() {
		step++
		if err := db.RecordProgress(ctx, store.Progress{Run: run.ID, Attempt: 1, Rows: []forge.MetricRow{{Step: step,
			Values: map[string]float64{"loss": 1 / float64(step), "lr": 1e-4, "norm": 0.5, "epoch": 0.1}}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddMetrics is a batch of 1,000 steps with 20 keys: as training sends them, and the worst that fits into one, each step in buckets of its own.
func BenchmarkAddMetrics(b *testing.B) {
	for name, stride := range map[string]int64{"dense": 1, "sparse": 5000} {
		b.Run(name, func(b *testing.B) {
			db := storetest.Open(b)
			acme := storetest.Tenant(b, db, "acme")
			storetest.Nodes(b, db, storetest.Node("gpu-1", 1))
			run := storetest.Submit(b, acme, storetest.Spec())
			storetest.Place(b, db, run, "gpu-1", 0)
			step := int64(0)
			for b.Loop() {
				rows := make([]forge.MetricRow, 1000)
				for i := range rows {
					values := map[string]float64{}
					for k := range 20 {
						values[fmt.Sprint("key_", k)] = float64(step) / float64(k+3)
					}
					rows[i] = forge.MetricRow{Step: step, Values: values}
					step += stride
				}
				if _, err := acme.AddMetrics(ctx, run.ID, store.MetricBatch{Attempt: 1, Rows: rows}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(20_000*float64(b.N)/b.Elapsed().Seconds(), "values/s")
		})
	}
}
