package shim

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// gpusOverNetwork is how often at most a look goes to a filesystem that a whole cluster writes to.
	gpusOverNetwork = 10 * time.Second
	// gpuEventsPause gathers what a storm of events would write one by one.
	gpuEventsPause = time.Second
	// maxGPULook bounds a look; processes are what can be many.
	maxGPULook = 64 << 10
	// maxGPUEvents bounds the lines that one shim leaves.
	maxGPUEvents = 1000
)

// gpuRecord leaves what was seen of GPUs where forged finds it. It works beside everything else: a filesystem that hangs costs the newest looks.
type gpuRecord struct {
	at    rundir.Attempt
	node  int
	every time.Duration
	log   zerolog.Logger
	wake  chan struct{}

	mu     sync.Mutex
	newest *forge.GPULook
	events []forge.GPUEvent // not written yet
	taken  int              // events, ever

	failed bool // the last write, which is said once
}

func newGPURecord(at rundir.Attempt, node int, every time.Duration, network bool, log zerolog.Logger) *gpuRecord {
	if network {
		every = max(every, gpusOverNetwork)
	}
	return &gpuRecord{at: at, node: node, every: every, log: log, wake: make(chan struct{}, 1)}
}

func (r *gpuRecord) look(l forge.GPULook) {
	r.mu.Lock()
	r.newest = &l
	r.mu.Unlock()
	r.nudge()
}

func (r *gpuRecord) event(e forge.GPUEvent) {
	r.mu.Lock()
	if r.taken++; r.taken <= maxGPUEvents {
		r.events = append(r.events, e)
	}
	r.mu.Unlock()
	r.nudge()
}

func (r *gpuRecord) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run writes until done: looks at their pace, events as soon as they come and what comes within a second of them together.
func (r *gpuRecord) run(done <-chan struct{}) {
	var lookAt, eventsAt time.Time // when the next of each may be written
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		last := false
		select {
		case <-done:
			last = true
		case <-r.wake:
		case <-timer.C:
		}
		now := time.Now()
		r.mu.Lock()
		look, events := r.newest, r.events
		lookDue, eventsDue := look != nil && !now.Before(lookAt), len(events) > 0 && (last || !now.Before(eventsAt))
		if lookDue {
			r.newest = nil
		}
		if eventsDue {
			r.events = nil
		}
		r.mu.Unlock()
		if eventsDue {
			r.say(r.append(events))
			eventsAt = now.Add(gpuEventsPause)
		}
		if lookDue && !last {
			r.say(r.replace(*look))
			lookAt = now.Add(r.every)
		}
		if last {
			return
		}
		next := time.Hour
		if look != nil && !lookDue {
			next = min(next, lookAt.Sub(now))
		}
		if len(events) > 0 && !eventsDue {
			next = min(next, eventsAt.Sub(now))
		}
		timer.Reset(next)
	}
}

func (r *gpuRecord) say(err error) {
	if err != nil && !r.failed {
		r.log.Warn().Err(err).Msg("what is seen of GPUs is not recorded; nothing else depends on it")
	}
	r.failed = err != nil
}

func (r *gpuRecord) replace(l forge.GPULook) error {
	if err := rundir.MakeDir(r.at.GPUDir(r.node)); err != nil {
		return err
	}
	c, err := rundir.JSON(r.at.GPUsPath(r.node), l)
	if err == nil && len(c.Data) > maxGPULook {
		l.GPUs = slices.Clone(l.GPUs) // it is looked at elsewhere, too
		for i := range l.GPUs {
			l.GPUs[i].Processes, l.GPUs[i].Told = nil, false
		}
		c, err = rundir.JSON(r.at.GPUsPath(r.node), l)
	}
	if err != nil {
		return err
	}
	return rundir.WriteFast(c)
}

func (r *gpuRecord) append(events []forge.GPUEvent) error {
	if err := rundir.MakeDir(r.at.GPUDir(r.node)); err != nil {
		return err
	}
	var lines []byte
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	return rundir.Append(r.at.GPUEventsPath(r.node), lines)
}
