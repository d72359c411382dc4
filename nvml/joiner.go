package nvml

import (
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	joinFor = time.Second
	// atOnce is how many different events of a second are told at once; more are told at its end.
	atOnce = 32
)

// joiner makes a storm of equal events a few lines: the first is told at once, those of the second after it as one.
type joiner struct {
	tell func([]forge.GPUEvent)

	mu   sync.Mutex
	open map[joinKey]*forge.GPUEvent // what came since it was told last, Count 0 when nothing did
	told int                         // at once, in this second
}

type joinKey struct {
	uuid     string
	kind     forge.GPUEventKind
	xid, mig int
}

func newJoiner(tell func([]forge.GPUEvent)) *joiner {
	return &joiner{tell: tell, open: map[joinKey]*forge.GPUEvent{}}
}

func (j *joiner) add(e forge.GPUEvent) {
	key := joinKey{e.UUID, e.Kind, e.XID, -1}
	if e.MIGID != nil {
		key.mig = *e.MIGID
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.open) == 0 {
		time.AfterFunc(joinFor, j.flush)
	}
	if have := j.open[key]; have != nil {
		if have.Count == 0 {
			have.At = e.At
		}
		have.Count += e.Count
		return
	}
	j.open[key] = &e
	if j.told < atOnce {
		j.told++
		j.tell([]forge.GPUEvent{e})
		j.open[key] = &forge.GPUEvent{UUID: e.UUID, Kind: e.Kind, XID: e.XID, MIGID: e.MIGID}
	}
}

func (j *joiner) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = 0
	var events []forge.GPUEvent
	for key, e := range j.open {
		if e.Count == 0 {
			delete(j.open, key)
			continue
		}
		events = append(events, *e)
		e.Count = 0
	}
	if len(events) > 0 {
		j.tell(events)
	}
	if len(j.open) > 0 {
		time.AfterFunc(joinFor, j.flush)
	}
}
