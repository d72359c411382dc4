package scheduler

import (
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// holdKey tells reasons apart without writing them out: the text is made once per key.
type holdKey struct {
	code forge.HoldCode
	a, b string
	n, m int64
}

// notReady says why a run may not start whatever is free; code "" when it may.
func notReady(r *forge.PendingRun, now time.Time) (holdKey, func() string) {
	switch {
	case r.Cancel != forge.CancelNone:
		return holdKey{code: forge.HoldCancel}, func() string { return "is being cancelled" }
	case r.Hold != nil:
		h := r.Hold
		return holdKey{code: forge.HoldUser, a: h.By, b: h.Reason}, func() string {
			if h.Reason == "" {
				return fmt.Sprintf("held by %s, who gave no reason", h.By)
			}
			return fmt.Sprintf("held by %s: %s", h.By, h.Reason)
		}
	}
	if key, text := after(r.After); key.code != "" {
		return key, text
	}
	if r.NotBefore.After(now) {
		t := r.NotBefore
		return holdKey{code: forge.HoldBackoff, n: t.Unix(), m: int64(t.Nanosecond())}, func() string {
			return "backs off after a failure: not before " + clock(t)
		}
	}
	return holdKey{}, nil
}

// after looks at the runs that must complete first. One that failed decides, since it will not
// change; among equals the one with the lowest number, so that the order of the list does not matter.
func after(deps []forge.Dependency) (holdKey, func() string) {
	var failed, open *forge.Dependency
	waiting := 0
	for i := range deps {
		d := &deps[i]
		switch {
		case d.State == forge.RunCompleted:
		case d.State.Terminal():
			if failed == nil || d.Number < failed.Number {
				failed = d
			}
		default:
			waiting++
			if open == nil || d.Number < open.Number {
				open = d
			}
		}
	}
	switch {
	case failed != nil:
		return holdKey{code: forge.HoldAfterFailed, a: string(failed.State), n: failed.Number}, func() string {
			did := "failed"
			if failed.State == forge.RunCancelled {
				did = "was cancelled"
			}
			return fmt.Sprintf("run %d %s: held until you cancel this run, or submit it again after another one", failed.Number, did)
		}
	case open != nil:
		return holdKey{code: forge.HoldAfter, a: string(open.State), n: open.Number, m: int64(waiting)}, func() string {
			if waiting > 1 {
				return fmt.Sprintf("waits for run %d (%s) and %d more to complete", open.Number, open.State, waiting-1)
			}
			return fmt.Sprintf("waits for run %d (%s) to complete", open.Number, open.State)
		}
	}
	return holdKey{}, nil
}

// idleness is a reason to wait whatever is free that time does not end, and that many runs may share.
type idleness struct {
	key  holdKey
	at   int32 // its number
	runs int
	why  func() string
	text string // once somebody has asked
	plan int    // what follows is of the plan with this number
	held *forge.Held
}

// idlesFor is why a run may not start whatever is free and however late it is; nil when it may.
func (w *world) idlesFor(r *forge.PendingRun) *idleness {
	key, why := notReady(r, never)
	if key.code == "" {
		return nil
	}
	x := w.idle[key]
	if x == nil {
		x = &idleness{key: key, why: why}
		if n := len(w.freeIdle); n > 0 {
			x.at, w.freeIdle = w.freeIdle[n-1], w.freeIdle[:n-1]
			w.idles[x.at] = x
		} else {
			x.at = int32(len(w.idles))
			w.idles = append(w.idles, x)
		}
		w.idle[key] = x
	}
	x.runs++
	return x
}

// forget is told when a run does not wait for this any more.
func (w *world) forget(x *idleness) {
	if x.runs--; x.runs == 0 {
		delete(w.idle, x.key)
		w.idles[x.at] = nil
		w.freeIdle = append(w.freeIdle, x.at)
	}
}

// heldFor is the reason of this plan.
func (x *idleness) heldFor(plan int) *forge.Held {
	if x.plan != plan {
		if x.text == "" {
			x.text = x.why()
		}
		x.plan, x.held = plan, &forge.Held{Code: x.key.code, Text: x.text, Runs: make([]forge.RunID, 0, x.runs)}
	}
	return x.held
}

// clock writes a time for people. UTC, since a plan knows no reader's zone.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
