package store_test

import (
	"fmt"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func sampleOf(uuid string, util float64) forge.GPUSample {
	return forge.GPUSample{UUID: uuid, UtilPercent: &util, MemoryMiB: new(1000.0), TemperatureC: new(40 + util/10)}
}

func TestTheHistoryOfAGPUDecaysFromMinutesToQuartersOfAnHourToNothing(t *testing.T) {
	db := storetest.Open(t)
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	add := func(at time.Time, util float64) {
		t.Helper()
		if err := db.AddGPUSamples(t.Context(), at, []forge.GPUSample{sampleOf("GPU-a", util)}); err != nil {
			t.Fatal(err)
		}
	}
	history := func(since, now time.Time) []forge.GPUSample {
		t.Helper()
		h, err := db.GPUHistory(t.Context(), "GPU-a", since, now)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for m := range 30 { // two quarters: 0..14 and 15..29
		add(day.Add(time.Duration(m)*time.Minute), float64(m))
	}
	now := day.Add(30 * time.Minute)
	if h := history(day, now); len(h) != 30 || h[7].Seconds != 60 || *h[7].UtilPercent != 7 || h[7].PowerWatts != nil || !h[7].At.Equal(day.Add(7*time.Minute)) {
		t.Errorf("within a day: %d steps, the eighth %+v", len(h), h[7])
	}
	if h := history(day.Add(20*time.Minute), now); len(h) != 10 || *h[0].UtilPercent != 20 {
		t.Errorf("since a moment: %d steps", len(h))
	}
	t.Run("a minute that comes again replaces what was, in its quarter too", func(t *testing.T) {
		add(day.Add(29*time.Minute), 59)
		if h := history(day, now); len(h) != 30 || *h[29].UtilPercent != 59 {
			t.Errorf("%d steps, the last %v", len(h), *h[len(h)-1].UtilPercent)
		}
	})
	later := day.Add(25 * time.Hour)
	add(later, 1)
	t.Run("after a day quarters of an hour are left, with means and the highest temperature", func(t *testing.T) {
		h := history(day, later)
		if len(h) != 3 || h[0].Seconds != 900 || *h[0].UtilPercent != 7 || *h[1].UtilPercent != 24 || *h[0].TemperatureC != 41.4 || h[2].Seconds != 60 {
			t.Fatalf("%+v", h)
		}
	})
	t.Run("no time is there twice", func(t *testing.T) {
		for now := day.Add(23 * time.Hour); now.Before(day.Add(26 * time.Hour)); now = now.Add(7 * time.Minute) {
			end := time.Time{}
			for _, s := range history(day.Add(-time.Hour), now) {
				if s.At.Before(end) {
					t.Fatalf("at %s: %s is within the step before", now, s.At)
				}
				end = s.At.Add(time.Duration(s.Seconds) * time.Second)
			}
		}
	})
	month := day.Add(31 * 24 * time.Hour)
	t.Run("after a month nothing, of a GPU that is gone as well", func(t *testing.T) {
		if next, err := db.PruneGPUSamples(t.Context(), "", month); err != nil || next != "" {
			t.Fatalf("%q, %v", next, err)
		}
		if h := history(day, later); len(h) != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestAMinuteOfTheHistoryIsOneBoundedWrite(t *testing.T) {
	db := storetest.Open(t)
	all := make([]forge.GPUSample, store.GPUSamplesAtOnce)
	for i := range all {
		all[i] = sampleOf(fmt.Sprintf("GPU-%04d", i), 50)
	}
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	before := db.Stats().Commits
	began := time.Now()
	if err := db.AddGPUSamples(t.Context(), at, all); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d GPUs in %s", len(all), time.Since(began))
	if n := db.Stats().Commits - before; n != 1 {
		t.Errorf("%d transactions", n)
	}
	if err := db.AddGPUSamples(t.Context(), at, append(all, sampleOf("GPU-more", 1))); err == nil {
		t.Error("more than the bound is taken")
	}
	if next, err := db.PruneGPUSamples(t.Context(), "", at); err != nil || next != "GPU-1023" {
		t.Errorf("pruning goes on behind %q, %v", next, err)
	}
	if next, err := db.PruneGPUSamples(t.Context(), "GPU-1023", at); err != nil || next != "" {
		t.Errorf("and ends: %q, %v", next, err)
	}
}
