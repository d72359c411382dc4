package daemon

import (
	"sync"

	forge "github.com/forge-ml/forge-ml"
)

// tailLength is how many events are kept in memory, of all tenants together: at 100 submissions
// a second more than ten seconds, long enough for every follower that reads at all. One that
// does not goes back to the tables, so that its slowness costs nobody memory.
const tailLength = 2048

// tail is the end of the trail in memory, fed by the deltas of each commit. Hundreds of followers read it
// instead of asking SQLite the same question at every event. It holds seqs without a gap up
// to the newest, so that whoever is inside it misses nothing; whoever is not reads the tables
// until they are.
type tail struct {
	mu      sync.RWMutex
	ring    []forge.Event // the event of a seq lies at seq % len
	first   int64         // oldest seq that is held; last + 1 when none is
	last    int64         // newest seq that was committed
	changed chan struct{} // closed at the next commit with an event
}

func newTail(last int64, length int) *tail {
	return &tail{ring: make([]forge.Event, length), first: last + 1, last: last, changed: make(chan struct{})}
}

// add takes a commit's events, in commit order, and wakes the followers once.
func (t *tail) add(deltas []forge.Delta) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.last
	for _, d := range deltas {
		if d.Event == nil {
			continue
		}
		if d.Event.Seq != t.last+1 { // one was not told to us: what is held would have a hole
			t.first = d.Event.Seq
		}
		t.last = d.Event.Seq
		length := int64(len(t.ring))
		t.ring[t.last%length] = *d.Event
		t.first = max(t.first, t.last-length+1)
	}
	if t.last != before {
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// next is the newest seq and a channel that is closed when there is a newer one.
func (t *tail) next() (int64, <-chan struct{}) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.last, t.changed
}

// after returns the first events after a seq that are wanted, at most limit of them. Not ok means that
// they lie further back than the tail reaches.
func (t *tail) after(seq int64, limit int, wanted func(*forge.Event) bool) (out []forge.Event, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if seq+1 < t.first {
		return nil, false
	}
	for s := seq + 1; s <= t.last && len(out) < limit; s++ {
		if e := &t.ring[s%int64(len(t.ring))]; wanted(e) {
			out = append(out, *e)
		}
	}
	return out, true
}
