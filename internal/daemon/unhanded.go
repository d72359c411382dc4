package daemon

import (
	"errors"
	"sync"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// unhanded is why launches have not come about so far, in words for the run's own people. Only for as long as they are tried: a restart
// forgets it, and the next try, two seconds later, knows it again.
type unhanded struct {
	mu  sync.Mutex
	why map[forge.RunID]unhandedWhy
}

type unhandedWhy struct {
	attempt int
	row     int64
	words   string
}

func (u *unhanded) failed(row store.OutboxRow, err error) {
	if row.Kind != store.OutboxLaunch {
		return
	}
	var words string
	switch kind := forge.KindOf(err); kind {
	case forge.KindConflict: // it moved on while we looked
		return
	case forge.KindInternal:
		words = "forged's log has the reason"
	default:
		words = err.Error()
		var e *forge.Error
		if errors.As(err, &e) && e.Err != nil {
			words = e.Err.Error()
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.why == nil {
		u.why = map[forge.RunID]unhandedWhy{}
	}
	u.why[row.Run] = unhandedWhy{row.Attempt, row.ID, words}
}

// keep forgets what is not to be launched any more: it was, or its run has gone on.
func (u *unhanded) keep(rows []store.OutboxRow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.why) == 0 {
		return
	}
	there := make(map[int64]bool, len(rows))
	for _, r := range rows {
		there[r.ID] = true
	}
	for run, w := range u.why {
		if !there[w.row] {
			delete(u.why, run)
		}
	}
}

// about is the reason for an attempt that its executor does not have; "" where none is known.
func (u *unhanded) about(a forge.Attempt) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w, ok := u.why[a.Run]; ok && w.attempt == a.Number && a.ExternalID == "" {
		return w.words
	}
	return ""
}
