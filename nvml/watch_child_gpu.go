//go:build linux && cgo

package nvml

import (
	"context"
	"fmt"
	"sync"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// gpuWatch is one GPU of a watch. While a call about it is under way no other is begun.
type gpuWatch struct {
	sampler *sampler
	work    chan bool // full; one reading at a time
	stop    context.CancelFunc

	mu   sync.Mutex
	busy chan struct{}      // closed when the reading under way is there; nil: none is
	last []forge.GPUReading // one, or one for each MIG instance
}

func (w *watch) newGPU(ctx context.Context, index int) *gpuWatch {
	ctx, stop := context.WithCancel(ctx)
	g := &gpuWatch{sampler: &sampler{lib: w.lib, ask: &asker{has: w.has}, index: index, only: w.only}, work: make(chan bool, 1), stop: stop}
	g.last = []forge.GPUReading{{Index: index, Minor: index, Type: productName("")}}
	go g.run(ctx, w.joiner)
	return g
}

// begin asks for a reading, when none is under way, and returns what is closed when it is there.
func (g *gpuWatch) begin(full bool) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy == nil {
		g.busy = make(chan struct{})
		g.work <- full
	}
	return g.busy
}

func (g *gpuWatch) run(ctx context.Context, j *joiner) {
	listened := false
	for {
		select {
		case <-ctx.Done():
			return
		case full := <-g.work:
			readings := g.sampler.read(full)
			g.mu.Lock()
			g.last = readings
			g.mu.Unlock()
			if !listened && readings[0].Problem == "" && g.sampler.wants {
				registered := make(chan struct{})
				go g.listen(ctx, j, registered)
				<-registered // what happens after a first look is told
				listened = true
			}
			g.mu.Lock()
			close(g.busy)
			g.busy = nil
			g.mu.Unlock()
		}
	}
}

// readings are the last ones; those of a GPU that is being read say only what does not change, and after a while that it hangs.
func (g *gpuWatch) readings(hungAfter time.Duration) []forge.GPUReading {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy == nil {
		return g.last
	}
	call, since := g.sampler.ask.underWay()
	waited := time.Since(since)
	var out []forge.GPUReading
	for _, r := range g.last {
		r = unchanging(r)
		if call != "" && waited >= hungAfter {
			r.Problem = fmt.Sprintf("hung: %s has not returned for %d s", call, int(waited.Seconds()))
			r.HungCall, r.HungSince = call, max(1, int64(waited.Seconds()))
		}
		out = append(out, r)
	}
	return out
}

// uuid is the GPU's own, of whatever instances it has.
func (g *gpuWatch) uuid() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.last[0]; r.Parent != "" {
		return r.Parent
	}
	return g.last[0].UUID
}

// unchanging is what of a reading is still true when nothing new is known.
func unchanging(r forge.GPUReading) forge.GPUReading {
	return forge.GPUReading{UUID: r.UUID, Index: r.Index, Minor: r.Minor, PCI: r.PCI, Type: r.Type, MIG: r.MIG, Parent: r.Parent, MIGID: r.MIGID,
		MemoryMiB: r.MemoryMiB, SlowdownC: r.SlowdownC, ShutdownC: r.ShutdownC, MaxC: r.MaxC, MemoryMaxC: r.MemoryMaxC}
}

const (
	eventTypes  = nv.EventTypeXidCriticalError | nv.EventTypeGpuRecoveryAction
	eventWait   = 5000        // milliseconds; the call is begun again after it
	eventRetry  = time.Second // after an error that ended a wait; doubled up to
	eventRetire = time.Minute
)

// listen waits for the GPU's events in a set of its own: a lost GPU ends every wait for its set with an error, and would silence the others.
func (g *gpuWatch) listen(ctx context.Context, j *joiner, registered chan<- struct{}) {
	h, lib, has := g.sampler.card.handle, g.sampler.lib, g.sampler.ask.has
	types := uint64(nv.EventTypeXidCriticalError)
	able := true
	for _, name := range []string{"nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlEventSetWait_v2", "nvmlEventSetFree"} {
		able = able && has(name)
	}
	if able && has("nvmlDeviceGetSupportedEventTypes") {
		if supported, ret := h.GetSupportedEventTypes(); ret == nv.SUCCESS {
			types = supported & eventTypes
		}
	}
	if !able || types == 0 {
		close(registered)
		return
	}
	for retry := eventRetry; ; retry = min(2*retry, eventRetire) {
		set, ret := lib.EventSetCreate()
		if ret == nv.SUCCESS {
			ret = h.RegisterEvents(types, set)
		}
		if registered != nil {
			close(registered)
			registered = nil
		}
		if ret == nv.ERROR_NOT_SUPPORTED {
			return
		}
		for ret == nv.SUCCESS || ret == nv.ERROR_TIMEOUT {
			var e nv.EventData
			e, ret = set.Wait(eventWait)
			if ctx.Err() != nil {
				return
			}
			if ret == nv.SUCCESS {
				j.add(g.event(e))
				retry = eventRetry
			}
		}
		set.Free()
		select { // on an error that stays the call comes back at once
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

func (g *gpuWatch) event(e nv.EventData) forge.GPUEvent {
	event := forge.GPUEvent{At: time.Now(), UUID: g.uuid(), Kind: forge.GPUEventXID, XID: int(e.EventData), Count: 1}
	if e.EventType == nv.EventTypeGpuRecoveryAction {
		event.Kind, event.XID = forge.GPUEventRecovery, 0
	}
	if e.GpuInstanceId != 0xffffffff {
		event.MIGID = ptr(int(e.GpuInstanceId))
	}
	return event
}
