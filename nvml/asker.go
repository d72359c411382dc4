//go:build linux && cgo

package nvml

import (
	"sync"
	"time"
)

// asker stands before every call about one GPU: it keeps away from functions that the library lacks, whose call would end the process, and
// notes which call is under way, so that one that does not come back can be named.
type asker struct {
	has func(function string) bool

	mu    sync.Mutex
	call  string // "" between calls
	since time.Time
}

// to says whether the function may be called; the caller then does so at once.
func (a *asker) to(function string) bool {
	if !a.has(function) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.call, a.since = function, time.Now()
	return true
}

// done says that no call is under way any more.
func (a *asker) done() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.call = ""
}

// underWay is the call that has not returned, "" when there is none, and since when.
func (a *asker) underWay() (call string, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.call, a.since
}
