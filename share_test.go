package forge

import (
	"math"
	"testing"
	"time"
)

const day = 24 * time.Hour

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

func TestUseFades(t *testing.T) {
	at := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	hour := GPUUse{GPUs: 8, From: at.Add(-time.Hour), To: at}
	t.Run("what was just used counts nearly whole, and half after each half-life", func(t *testing.T) {
		fresh := hour.Faded(at, 7*day)
		if whole := float64(GPUTimeOf(time.Hour, 8)); fresh > whole || fresh < 0.997*whole {
			t.Errorf("%v of %v", fresh, whole)
		}
		if got := hour.Faded(at.Add(7*day), 7*day); !near(got, fresh/2) {
			t.Errorf("after a half-life %v, want %v", got, fresh/2)
		}
		if got := (Usage{}).Add(hour, 7*day).AsOf(at.Add(14*day), 7*day); !near(got, fresh/4) {
			t.Errorf("kept count of and left alone it is %v, want %v", got, fresh/4)
		}
	})
	t.Run("the account does not depend on how use was cut into pieces, nor on which was heard of first", func(t *testing.T) {
		var parts []GPUUse
		for i := range 60 {
			parts = append(parts, GPUUse{GPUs: 8, From: hour.From.Add(time.Duration(i) * time.Minute), To: hour.From.Add(time.Duration(i+1) * time.Minute)})
		}
		var forward, backward Usage
		for i := range parts {
			forward, backward = forward.Add(parts[i], day), backward.Add(parts[len(parts)-1-i], day)
		}
		if want := hour.Faded(at, day); !near(forward.AsOf(at, day), want) || !near(backward.AsOf(at, day), want) {
			t.Errorf("in order %v, backwards %v, in one %v", forward.AsOf(at, day), backward.AsOf(at, day), want)
		}
	})
	t.Run("a clock that goes back makes no use negative", func(t *testing.T) {
		if got := (GPUUse{GPUs: 1, From: at, To: at.Add(-time.Hour)}).Faded(at, day); got != 0 {
			t.Errorf("got %v", got)
		}
		if got := (Usage{MS: 5, At: at}).AsOf(at.Add(-time.Hour), day); got != 5 {
			t.Errorf("got %v", got)
		}
	})
}

func TestSharesAreUseOverWhatTheWeightEntitlesTo(t *testing.T) {
	nobody := func(TenantID) bool { return false }
	got := Shares([]TenantShare{{Weight: 1, Used: 300}, {Weight: 3, Used: 300}, {Weight: 5}, {Weight: 2, Used: 600}}, nobody)
	for i, want := range []float64{1.5, 0.5, 0, 1.5} { // of 1200: 200, 600 and 400 are theirs; who used nothing takes nothing from them
		if !near(got[i], want) {
			t.Errorf("tenant %d has %v of its share, want %v", i, got[i], want)
		}
	}
	came := func(t TenantID) bool { return t == "new" }
	if got := Shares([]TenantShare{{Tenant: "old", Weight: 1, Used: 300}, {Tenant: "new", Weight: 3}}, came); got[0] != 4 || got[1] != 0 {
		t.Errorf("one that waits and used nothing yet: %v", got)
	}
	if got := Shares([]TenantShare{{Weight: 1}, {Weight: 2}}, nobody); got[0] != 0 || got[1] != 0 {
		t.Errorf("nobody used anything, and they have %v", got)
	}
}
