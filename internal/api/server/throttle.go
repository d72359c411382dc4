package server

import (
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxTracked bounds every table that clients can make grow.
const maxTracked = 8192

// The failed authentications that one address may make: so many at once, then one in a while.
const (
	failureBurst = 30
	failureEvery = 2 * time.Second
)

// reportRate is how many reports of shims a second are heard, of all together. A site that ends more runs than that sees
// the rest of them a little later.
const reportRate = 200

// heardAtMost passes on what is within the rate, and answers the rest with the same: nothing.
func heardAtMost(m *meters, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := m.allow(""); !ok {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// meters is a bounded table of rates by name. Nil counts nothing and allows everything.
type meters struct {
	limit rate.Limit
	burst int
	mu    sync.Mutex
	m     map[string]*rate.Limiter
}

func newMeters(limit rate.Limit, burst int) *meters {
	if limit <= 0 {
		return nil
	}
	return &meters{limit: limit, burst: max(burst, 1), m: map[string]*rate.Limiter{}}
}

func (t *meters) of(name string) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.m[name]
	if l == nil {
		if len(t.m) >= maxTracked {
			t.sweep()
		}
		l = rate.NewLimiter(t.limit, t.burst)
		t.m[name] = l
	}
	return l
}

// sweep forgets those that have rested: a full bucket is what a new one starts with. When all are busy
// some go all the same, and start anew: the table never grows past its bound.
func (t *meters) sweep() {
	for name, l := range t.m {
		if l.Tokens() >= float64(t.burst) {
			delete(t.m, name)
		}
	}
	for name := range t.m {
		if len(t.m) < maxTracked*3/4 {
			return
		}
		delete(t.m, name)
	}
}

// allow takes one, or says how many seconds to wait for it.
func (t *meters) allow(name string) (wait int, ok bool) {
	if t == nil {
		return 0, true
	}
	l := t.of(name)
	if l.Allow() {
		return 0, true
	}
	return max(1, int(math.Ceil((1-l.Tokens())/float64(t.limit)))), false
}

// exhausted says whether nothing is left, and takes nothing.
func (t *meters) exhausted(name string) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	l := t.m[name]
	t.mu.Unlock()
	return l != nil && l.Tokens() < 1
}

// slots bounds what goes on at one time, by name. Zero most: nothing is bounded.
type slots struct {
	most int
	mu   sync.Mutex
	m    map[string]int
}

func newSlots(most int) *slots { return &slots{most: most, m: map[string]int{}} }

func (t *slots) enter(name string) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.most > 0 && t.m[name] >= t.most {
		return nil, false
	}
	t.m[name]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.m[name]--; t.m[name] == 0 {
			delete(t.m, name)
		}
	}, true
}

// digests remembers a bounded number of secrets that were good, by their SHA-256.
type digests struct {
	mu sync.RWMutex
	m  map[[32]byte]struct{}
}

func newDigests() *digests { return &digests{m: map[[32]byte]struct{}{}} }

func (t *digests) has(d [32]byte) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.m[d]
	return ok
}

func (t *digests) add(d [32]byte) {
	if t.has(d) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for old := range t.m {
		if len(t.m) < maxTracked {
			break
		}
		delete(t.m, old)
	}
	t.m[d] = struct{}{}
}

func (t *digests) forget(d [32]byte) {
	if !t.has(d) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, d)
}
