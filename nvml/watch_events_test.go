//go:build linux && cgo

package nvml_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

func TestAnEventIsToldOnceAndAtOnce(t *testing.T) {
	before := append(eightGPUs(), "event.1 3,8,13") // that was before the watch
	w, first := watchChild(t, fakeLibrary(t), nil, before...)
	if first.State != forge.NVMLOK || len(first.GPUs) != 8 {
		t.Fatalf("the first look is %+v", first)
	}
	state := before
	for k, xid := range []int{13, 63, 94, 48, 74, 79, 999} { // one of each class
		state = append(state, fmt.Sprintf("event.%d %d,8,%d", k+2, k, xid))
		writeState(t, w.state, state...)
		got := w.events()
		if len(got) != 1 || got[0].XID != xid || got[0].UUID != fmt.Sprintf("GPU-%d", k) || got[0].Kind != forge.GPUEventXID || got[0].Count != 1 || got[0].MIGID != nil {
			t.Errorf("XID %d of GPU %d: got %+v", xid, k, got)
		}
		if age := time.Since(got[0].At); age < 0 || age > 10*time.Second {
			t.Errorf("it came at %s", got[0].At)
		}
	}
	state = append(state, "event.20 7,0x8000,0")
	writeState(t, w.state, state...)
	if got := w.events(); len(got) != 1 || got[0].Kind != forge.GPUEventRecovery || got[0].UUID != "GPU-7" || got[0].XID != 0 {
		t.Errorf("a changed recovery action: got %+v", got)
	}
	writeState(t, w.state, append(state, "event.21 6,8,31,5,0")...)
	if got := w.events(); len(got) != 1 || got[0].XID != 31 || got[0].MIGID == nil || *got[0].MIGID != 5 {
		t.Errorf("an XID of a MIG instance: got %+v", got)
	}
}

func TestAnEventIsFollowedByALookUnasked(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), nil, eightGPUs()...)
	writeState(t, w.state, append(eightGPUs(), "event.1 4,8,154", "gpu.4.recovery 2")...)
	w.events()
	w.until("look with the recovery action", func(l forge.GPULook) bool { return *l.GPUs[4].Recovery == 2 })
}

func TestALostGPUDoesNotSilenceTheEventsOfTheOthers(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), nil, eightGPUs()...)
	w.ask(append(eightGPUs(), "gpu.0.lost 1")...)
	writeState(t, w.state, append(eightGPUs(), "gpu.0.lost 1", "event.1 1,8,48")...)
	if got := w.events(); got[0].UUID != "GPU-1" || got[0].XID != 48 {
		t.Errorf("got %+v", got)
	}
	back := append(eightGPUs(), "event.1 1,8,48")
	w.ask(back...)
	for k := 2; ; k++ { // it is registered anew a moment after it was seen to be back
		back = append(back, fmt.Sprintf("event.%d 0,8,13", k))
		w.ask(back...)
		select {
		case l := <-w.lines:
			if l.Events != nil && l.Events[0].UUID == "GPU-0" {
				return
			}
		case <-time.After(50 * time.Millisecond):
		}
		if k > 200 {
			t.Fatal("no event of the GPU that is back")
		}
	}
}

func TestAStormOfXIDsIsAFewLines(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), nil, eightGPUs()...)
	began := time.Now()
	writeState(t, w.state, append(eightGPUs(), "storm 3,13,10000")...)
	total, lines := 0, 0
	for total < 5000 {
		for _, e := range w.events() {
			if e.UUID != "GPU-3" || e.XID != 13 {
				t.Fatalf("got %+v", e)
			}
			total += e.Count
		}
		lines++
	}
	if most := 2 + int(time.Since(began)/time.Second); lines > most {
		t.Errorf("%d events in %s are %d lines, want at most %d", total, time.Since(began), lines, most)
	}
}

func TestTheSuccessorOfAKilledChildTellsWhatComesAfter(t *testing.T) {
	p := prober(t, fakeLibrary(t), eightGPUs()...)
	w := nvml.NewWatcher(nvml.WatchOptions{Self: p.Self, Every: time.Hour, LibraryPath: p.LibraryPath, FakeState: p.FakeState})
	news := run(t, w)
	next(t, news, "first look", inState(forge.NVMLOK))
	for _, pid := range childrenWith(t, "FAKENVML_STATE="+p.FakeState) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	killed := time.Now()
	if n := next(t, news, "word of its end", inState(forge.NVMLError)); !strings.Contains(n.Look.Detail, "signal 9") {
		t.Errorf("got %q", n.Look.Detail)
	}
	n := next(t, news, "look of its successor", inState(forge.NVMLOK))
	if took := time.Since(killed); len(n.Look.GPUs) != 8 || took > 10*time.Second {
		t.Errorf("%d GPUs after %s", len(n.Look.GPUs), took)
	}
	writeState(t, p.FakeState, append(eightGPUs(), "event.1 2,8,79")...)
	n = next(t, news, "event", func(n nvml.News) bool { return len(n.Events) > 0 })
	if n.Events[0].XID != 79 || n.Events[0].UUID != "GPU-2" {
		t.Errorf("got %+v", n.Events)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if l, err := w.Now(ctx); err != nil || len(l.GPUs) != 8 {
		t.Errorf("a look that was asked for: %+v, %v", l, err)
	}
}
