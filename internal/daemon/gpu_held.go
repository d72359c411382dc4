package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// heldSaidAfter is how long an attempt whose ranks have ended may keep what it has before that is said: a driver needs some time to let go of memory.
const heldSaidAfter = 40 * time.Second

// heldUp remembers the attempts whose ranks have ended and whose GPUs are not known to be empty, and why.
type heldUp struct {
	mu sync.Mutex
	m  map[forge.RunID]*heldAttempt
}

type heldAttempt struct {
	attempt int
	since   time.Time
	why     string
	said    bool
}

// note takes in one look, and says whether it is time to tell.
func (h *heldUp) note(a forge.Attempt, why string, now time.Time) (tell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if why == "" {
		delete(h.m, a.Run)
		return false
	}
	x := h.m[a.Run]
	if x == nil || x.attempt != a.Number {
		if h.m == nil {
			h.m = map[forge.RunID]*heldAttempt{}
		}
		x = &heldAttempt{attempt: a.Number, since: now}
		h.m[a.Run] = x
	}
	x.why = why
	tell = !x.said && now.Sub(x.since) >= heldSaidAfter
	x.said = x.said || tell
	return tell
}

// about is why an attempt keeps what it has; "" when it does not, or only since just now.
func (h *heldUp) about(a forge.Attempt) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.m[a.Run]; x != nil && x.attempt == a.Number && a.State.Open() {
		return x.why
	}
	return ""
}

// notReleased records that an attempt has ended and keeps its GPUs, once, when that lasts.
func (d *Daemon) notReleased(ctx context.Context, a forge.Attempt, why string, now time.Time) {
	if !d.held.note(a, why, now) {
		return
	}
	r, _ := d.world.run(a.Run)
	d.attemptLog(a).Warn().Str("why", why).Msg("its ranks have ended, and its GPUs stay allocated")
	if err := d.db.AddEvent(ctx, forge.Event{Actor: actorForged, Tenant: r.Tenant, Type: forge.EventRunGPUsHeld, Run: a.Run, Number: r.Number, Attempt: a.Number,
		Message: fmt.Sprintf("the ranks of attempt %d have ended, and its GPUs stay allocated until it is known that they are empty: %s", a.Number, why)}); err != nil && ctx.Err() == nil {
		d.attemptLog(a).Warn().Err(err).Msg("event not recorded")
	}
}
