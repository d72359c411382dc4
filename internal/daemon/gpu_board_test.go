package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// boardAt is a board whose clock the test moves.
func boardAt(now *time.Time) *gpuBoard {
	b := newGPUBoard()
	b.now = func() time.Time { return *now }
	return b
}

var onN1 = nodeKey{"local", "n1"}

func lookAt(at time.Time, gpus ...forge.GPUReading) forge.GPULook {
	return forge.GPULook{At: at, State: forge.NVMLOK, Driver: "570.1", GPUs: gpus}
}

func gpuWith(uuid string, util int, usedMiB int64) forge.GPUReading {
	return forge.GPUReading{UUID: uuid, Type: "H100", MemoryMiB: 81559, UtilPercent: &util, MemoryUsedMiB: &usedMiB, TemperatureC: new(40 + util/10), PowerWatts: new(100.5)}
}

func (b *gpuBoard) one(t *testing.T, uuid string) gpuShown {
	t.Helper()
	if n := b.shown(nil)[onN1]; n != nil {
		for _, g := range n.gpus {
			if g.UUID == uuid {
				return g
			}
		}
	}
	t.Fatalf("%s is not on the board", uuid)
	return gpuShown{}
}

func TestAReadingIsCurrentForThreeLooksWhateverTheClockOfItsNodeSays(t *testing.T) {
	for _, skew := range []time.Duration{0, 3 * time.Hour, -3 * time.Hour} {
		t.Run("skew "+skew.String(), func(t *testing.T) {
			now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
			b := boardAt(&now)
			look := func() { b.look(onN1, lookAt(now.Add(skew), gpuWith("GPU-a", 50, 1000))) }
			fresh := func() bool { return b.one(t, "GPU-a").fresh && b.shown(nil)[onN1].fresh }
			look()
			if got := fresh(); got != (skew >= 0) {
				t.Errorf("after the first look fresh is %v: one that may be hours old is not taken for new", got)
			}
			now = now.Add(5 * time.Second)
			look()
			if !fresh() {
				t.Error("the second look is news, and old")
			}
			now = now.Add(14 * time.Second)
			if !fresh() {
				t.Error("old before three intervals")
			}
			b.look(onN1, lookAt(now.Add(skew-14*time.Second), gpuWith("GPU-a", 50, 1000))) // the very same again: a file that nobody writes any more
			now = now.Add(2 * time.Second)
			if fresh() {
				t.Error("current after three intervals")
			}
			b.event(onN1, forge.GPUEvent{At: now.Add(skew - time.Minute), UUID: "GPU-a", Kind: forge.GPUEventXID, XID: 79})
			if g := b.one(t, "GPU-a"); g.XID != 79 || g.xidAge.Round(time.Second) != time.Minute {
				t.Errorf("its XID %d is %s old, want a minute by our clock", g.XID, g.xidAge)
			}
		})
	}
	t.Run("looks that come slowly are current for as long as they take", func(t *testing.T) {
		now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
		b := boardAt(&now)
		for range 3 {
			b.look(onN1, lookAt(now, gpuWith("GPU-a", 50, 1000)))
			now = now.Add(20 * time.Second)
		}
		if !b.one(t, "GPU-a").fresh {
			t.Error("it comes every 20 s, and is old after 20 s")
		}
	})
	t.Run("what is older does not replace what is newer, until that is old", func(t *testing.T) {
		now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
		b := boardAt(&now)
		b.look(onN1, lookAt(now, gpuWith("GPU-a", 90, 1000)))
		b.look(onN1, lookAt(now.Add(-time.Second), gpuWith("GPU-a", 10, 1000)))
		if u := *b.one(t, "GPU-a").UtilPercent; u != 90 {
			t.Errorf("%d %%", u)
		}
		now = now.Add(time.Minute)
		b.look(onN1, lookAt(now.Add(-time.Hour), gpuWith("GPU-a", 10, 1000))) // its clock was set back
		if g := b.one(t, "GPU-a"); *g.UtilPercent != 10 || !g.fresh {
			t.Errorf("%d %%, fresh %v", *g.UtilPercent, g.fresh)
		}
	})
}

func TestALookOfARunSaysNothingOfOtherGPUs(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	b := boardAt(&now)
	b.lookOf(onN1, "R1", lookAt(now, gpuWith("GPU-a", 50, 1000)))
	b.lookOf(onN1, "R2", lookAt(now.Add(-time.Second), gpuWith("GPU-b", 60, 1000)))
	if a, c := b.one(t, "GPU-a"), b.one(t, "GPU-b"); a.Run != "R1" || c.Run != "R2" || !a.fresh || !c.fresh {
		t.Errorf("%+v, %+v", a, c)
	}
}

func TestAGPUIsStalledWhenMemoryIsHeldAndNothingComputedForTenMinutes(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	b := boardAt(&now)
	pass := func(d time.Duration, util int, used int64) time.Duration {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(5 * time.Second)
			b.look(onN1, lookAt(now, gpuWith("GPU-a", util, used)))
		}
		return b.one(t, "GPU-a").stalled
	}
	if d := pass(10*time.Minute, 0, 70_000); d != 0 {
		t.Errorf("stalled after %s", d)
	}
	if d := pass(time.Minute, 0, 70_000); d < 10*time.Minute {
		t.Errorf("not stalled: %s", d)
	}
	if d := pass(5*time.Second, 3, 70_000); d != 0 {
		t.Errorf("it computes, and is stalled for %s", d)
	}
	if d := pass(20*time.Minute, 0, 10); d != 0 {
		t.Errorf("it holds nothing, and is stalled for %s", d)
	}
	pass(8*time.Minute, 0, 70_000)
	now = now.Add(30 * time.Minute) // nobody looked
	if d := b.one(t, "GPU-a").stalled; d != 0 {
		t.Errorf("what is not known is stalled for %s", d)
	}
	if d := pass(5*time.Second, 0, 70_000); d != 0 {
		t.Errorf("what it did meanwhile nobody saw, and it is stalled for %s", d)
	}
}

func TestTheBoardIsBoundedWhateverAJobSays(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	b := boardAt(&now)
	many := make([]forge.GPUReading, 10_000)
	for i := range many {
		many[i] = gpuWith(fmt.Sprintf("GPU-%d", i), 1, 1)
		many[i].Type, many[i].Processes, many[i].Told = strings.Repeat("x\x1b", 5000), make([]forge.GPUProcess, 5000), true
	}
	b.look(onN1, lookAt(now, many...))
	b.look(onN1, lookAt(now.Add(time.Second), gpuWith(`GPU"} 1`, 1, 1), gpuWith("", 1, 1), gpuWith(strings.Repeat("G", 500), 1, 1)))
	for i := range 1000 {
		b.event(onN1, forge.GPUEvent{At: now, UUID: "GPU-0", Kind: forge.GPUEventXID, XID: i + 1, Count: 10})
		b.event(onN1, forge.GPUEvent{At: now, UUID: fmt.Sprintf("GPU-x%d", i), Kind: forge.GPUEventXID, XID: 79})
	}
	n := b.shown(nil)[onN1]
	if len(n.gpus) != boardGPUs {
		t.Errorf("%d GPUs", len(n.gpus))
	}
	g := b.one(t, "GPU-0")
	if len(g.Processes) != boardProcesses || g.Told || len(g.Type) > boardText || strings.Contains(g.Type, "\x1b") {
		t.Errorf("%d processes, told %v, type of %d bytes", len(g.Processes), g.Told, len(g.Type))
	}
	if len(g.xids) != boardXIDs+1 || g.xids[otherXID] != 10*(1000-boardXIDs) {
		t.Errorf("%d numbers, %d others", len(g.xids), g.xids[otherXID])
	}
	now = now.Add(25 * time.Hour)
	b.prune()
	if len(b.gpus) != 0 || len(b.nodes) != 0 {
		t.Errorf("a day later there are %d GPUs, %d nodes", len(b.gpus), len(b.nodes))
	}
}

func TestAMinuteIsMeansAndTheHighestTemperatureOfTheLooksInIt(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	b := boardAt(&now)
	for i, util := range []int{0, 100, 51} {
		b.look(onN1, lookAt(now.Add(time.Duration(i)*time.Second), gpuWith("GPU-a", util, 1000), forge.GPUReading{UUID: "GPU-hung", Problem: "hung"}))
	}
	out, more := b.minute()
	if len(out) != 1 || more != 0 || *out[0].UtilPercent != 50 || *out[0].MemoryMiB != 1000 || *out[0].TemperatureC != 50 || *out[0].PowerWatts != 101 {
		t.Fatalf("%+v, %d more", out, more)
	}
	if out, _ := b.minute(); len(out) != 0 {
		t.Errorf("nobody looked, and it was like %+v", out)
	}
	for n := range 20 {
		var gpus []forge.GPUReading
		for i := range 64 {
			gpus = append(gpus, gpuWith(fmt.Sprintf("GPU-%d-%d", n, i), 1, 1))
		}
		b.look(nodeKey{"big", forge.NodeName(fmt.Sprint(n))}, lookAt(now, gpus...))
	}
	if out, more := b.minute(); len(out) != store.GPUSamplesAtOnce || more != 20*64-store.GPUSamplesAtOnce {
		t.Errorf("%d samples, %d more", len(out), more)
	}
}

func TestTheFirstLookOfAJobsShimIsCurrentUntilItsNextCouldHaveCome(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	b := boardAt(&now)
	b.every = time.Second
	b.lookOf(onN1, "run-1", lookAt(now, gpuWith("GPU-a", 50, 1000)))
	now = now.Add(25 * time.Second)
	if !b.one(t, "GPU-a").fresh || !b.shown(nil)[onN1].fresh {
		t.Error("a look is old before the next one could have come: shims of jobs look every ten seconds")
	}
	now = now.Add(6 * time.Second)
	if b.one(t, "GPU-a").fresh {
		t.Error("a look of half a minute ago is current")
	}
}
