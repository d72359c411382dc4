package daemon

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/store"
)

// hookTimes are how long things of hooks may take; tests have shorter ones.
type hookTimes struct {
	connect, whole         time.Duration // of a webhook
	backoffMin, backoffMax time.Duration
	holdBack               time.Duration // how long a delivery that fails keeps those behind it
	giveUp                 time.Duration
	forget                 time.Duration // how long what has ended is kept
	refusals               int           // tries where the receiver says no
	gather, sweep          time.Duration // least time between two looks at the trail; most between two at the tables
}

var defaultHookTimes = hookTimes{connect: 5 * time.Second, whole: 15 * time.Second, backoffMin: 10 * time.Second, backoffMax: time.Hour, holdBack: 10 * time.Minute,
	giveUp: 24 * time.Hour, forget: 7 * 24 * time.Hour, refusals: 3, gather: 100 * time.Millisecond, sweep: time.Minute}

const (
	hookSenders   = 64 // deliveries on their way at once; hooks that fail have half of them at most, so that nobody waits for receivers that hang
	hookBatch     = 1000
	hookInARow    = 20 // deliveries of one hook before others have their turn
	hookRecording = 10 * time.Second
	cursorLag     = 1000 // events that are looked at again after a restart, at most
)

// herald brings events to hooks: it reads the trail from each hook's cursor, makes deliveries of what the hook asks for, and has them sent, each
// hook's one at a time and in order. Everything that it must not lose stands in the tables.
type herald struct {
	db      *store.DB
	log     zerolog.Logger
	version string
	config  func() HooksConfig
	trail   *tail
	runByID func(forge.RunID) (forge.Run, bool)
	signer  signer
	times   hookTimes
	chance  func() float64
	count   *prometheus.CounterVec

	kick    chan struct{}
	senders sync.WaitGroup

	mu      sync.Mutex
	stale   bool // hooks were added, removed, paused or resumed
	at      map[forge.HookID]*heraldHook
	sending int                   // and of them
	ailing  int                   // those of hooks that fail
	busy    map[forge.HookID]bool // a delivery is on its way, maybe of one that was paused meanwhile
}

// heraldHook is a hook as the loop knows it.
type heraldHook struct {
	store.HookAtWork
	stored  int64     // the cursor in the tables; the other one is ahead of it while nothing was for the hook
	wake    time.Time // when to look for the next; zero: nothing waits
	failing bool
}

func newHerald(d *Daemon, stateDir string, times *hookTimes) (*herald, error) {
	s, err := newSigner(stateDir)
	if err != nil {
		return nil, err
	}
	if times == nil {
		times = &defaultHookTimes
	}
	return &herald{db: d.db, log: d.log, version: d.version, config: func() HooksConfig { return d.live().cfg.Hooks }, trail: d.tail, runByID: d.runByID,
		signer: s, times: *times, chance: rand.Float64, count: d.meter.hooks, kick: make(chan struct{}, 1), stale: true, at: map[forge.HookID]*heraldHook{}, busy: map[forge.HookID]bool{}}, nil
}

// changed has the hooks read again.
func (h *herald) changed() {
	h.mu.Lock()
	h.stale = true
	h.mu.Unlock()
	kick(h.kick)
}

// loop runs until ctx ends, and ends when nothing is on its way any more: a try that is cut off is made again after the start.
func (h *herald) loop(ctx context.Context) {
	defer h.senders.Wait()
	var swept time.Time
	for ctx.Err() == nil {
		began := time.Now()
		newest, fresh := h.trail.next()
		if began.Sub(swept) >= h.times.sweep {
			h.sweep(ctx, began)
			swept = began
		}
		h.look(ctx, newest)
		wait := time.NewTimer(min(h.start(ctx), h.times.sweep))
		select {
		case <-ctx.Done():
		case <-fresh:
		case <-h.kick:
		case <-wait.C:
		}
		wait.Stop()
		pause := time.NewTimer(h.times.gather - time.Since(began)) // many events at once are one look
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (h *herald) sweep(ctx context.Context, now time.Time) {
	n, err := h.db.GiveUpDeliveries(ctx, now.Add(-h.times.giveUp), now.Add(-h.times.forget))
	if err != nil && ctx.Err() == nil {
		h.log.Warn().Err(err).Msg("old deliveries of hooks not cleared")
	}
	h.count.WithLabelValues("given_up").Add(float64(n))
}

// refresh reads the hooks, where they may have changed.
func (h *herald) refresh(ctx context.Context) error {
	h.mu.Lock()
	stale := h.stale
	h.stale = false
	h.mu.Unlock()
	if !stale {
		return nil
	}
	all, err := h.db.HooksAtWork(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.stale = true
		return err
	}
	was := h.at
	h.at = map[forge.HookID]*heraldHook{}
	for _, w := range all {
		k := was[w.ID]
		if k == nil {
			k = &heraldHook{stored: w.Cursor, failing: w.FailingSince != nil}
			k.HookAtWork = w
			if w.Waiting > 0 {
				k.wake = time.Now()
			}
		}
		h.at[w.ID] = k
	}
	return nil
}

// look reads the trail up to newest and makes deliveries of what the hooks ask for.
func (h *herald) look(ctx context.Context, newest int64) {
	for ctx.Err() == nil {
		if err := h.refresh(ctx); err != nil {
			h.log.Warn().Err(err).Msg("hooks not read")
			return
		}
		from := h.behind(newest)
		if from >= newest {
			return
		}
		events, ok := h.trail.after(from, hookBatch, func(*forge.Event) bool { return true })
		if !ok {
			var err error
			if events, err = h.db.EventsAfter(ctx, from, hookBatch); err != nil {
				h.log.Warn().Err(err).Msg("the trail was not read for hooks")
				return
			}
		}
		if len(events) == 0 {
			return
		}
		if err := h.hear(ctx, events); err != nil {
			h.log.Warn().Err(err).Msg("deliveries of hooks not written")
			return
		}
	}
}

// behind is the cursor of the hook that has looked least far.
func (h *herald) behind(newest int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.at {
		newest = min(newest, k.Cursor)
	}
	return newest
}

// hear holds events against every hook and writes down what goes to whom.
func (h *herald) hear(ctx context.Context, events []forge.Event) error {
	last := events[len(events)-1].Seq
	names := map[int64][]string{}
	var heard []store.Heard
	h.mu.Lock()
	hooks := slices.Collect(maps.Values(h.at))
	h.mu.Unlock()
	anew := false
	for i := range events {
		anew = anew || strings.HasPrefix(string(events[i].Type), "hook.") && events[i].Type != forge.EventHookFailed
	}
	for _, k := range hooks {
		what := store.Heard{Hook: k.ID, Cursor: last}
		for i := range events {
			e := &events[i]
			if e.Seq <= k.Cursor || !k.Hears(e) {
				continue
			}
			if k.Match != "" && names[e.Seq] == nil {
				names[e.Seq] = h.namesOf(e)
			}
			if k.Matches(names[e.Seq]) {
				what.Of = append(what.Of, *e)
			}
		}
		if len(what.Of) > 0 || last-k.stored >= cursorLag {
			heard = append(heard, what)
		}
	}
	if len(heard) > 0 {
		if err := h.db.MakeDeliveries(ctx, heard); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = h.stale || anew
	for _, k := range hooks {
		k.Cursor = max(k.Cursor, last)
	}
	for _, w := range heard {
		if k := h.at[w.Hook]; k != nil {
			k.stored = max(k.stored, w.Cursor)
			if len(w.Of) > 0 && k.wake.IsZero() {
				k.wake = time.Now()
			}
		}
	}
	return nil
}

// namesOf is what a hook's pattern is held against: the model, with and without its version, and the run's name.
func (h *herald) namesOf(e *forge.Event) []string {
	out := []string{""}
	add := func(name string) {
		if name == "" {
			return
		}
		out = append(out, name)
		if model, _, versioned := strings.Cut(name, "@"); versioned {
			out = append(out, model)
		}
	}
	for _, key := range []string{"model", "name", "candidate"} {
		if s, ok := e.Data[key].(string); ok {
			add(s)
		}
	}
	if e.Run != "" {
		if r, ok := h.runByID(e.Run); ok {
			add(r.Spec.Name)
			add(r.Spec.Register)
			add(r.Model)
			if r.Spec.Model != nil {
				add(r.Spec.Model.Name)
			}
		}
	}
	return out[1:]
}

// start has senders begin with all hooks that something is due for, and says how long nothing else will be.
func (h *herald) start(ctx context.Context) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, idle := time.Now(), h.times.sweep
	for _, k := range h.at {
		switch {
		case h.busy[k.ID] || k.wake.IsZero():
		case k.wake.After(now):
			idle = min(idle, k.wake.Sub(now))
		case h.sending >= hookSenders, k.failing && h.ailing >= hookSenders/2: // whoever comes back kicks
		default:
			h.busy[k.ID] = true
			h.sending++
			ailing := k.failing
			if ailing {
				h.ailing++
			}
			h.senders.Go(func() { h.serve(ctx, k, ailing) })
		}
	}
	return idle
}

// serve makes deliveries of one hook until none is due, one fails, or others should have their turn.
func (h *herald) serve(ctx context.Context, k *heraldHook, ailing bool) {
	wake, failing := time.Now(), ailing
	for range hookInARow {
		d, e, next, err := h.db.NextDelivery(ctx, k.ID, time.Now(), h.times.holdBack)
		if err != nil {
			wake = time.Now().Add(h.times.backoffMin)
			if ctx.Err() == nil {
				h.log.Warn().Err(err).Str("hook", k.Name).Msg("what waits for a hook was not read")
			}
			break
		}
		if wake = next; d == nil {
			break
		}
		if failing = !h.deliver(ctx, k, *d, e); failing || ctx.Err() != nil || !h.works(k.ID) {
			wake = time.Now()
			break
		}
		wake = time.Now()
	}
	h.mu.Lock()
	k.wake, k.failing = wake, failing
	delete(h.busy, k.ID)
	h.sending--
	if ailing {
		h.ailing--
	}
	h.mu.Unlock()
	kick(h.kick)
}

// works says whether a hook was neither removed nor paused meanwhile.
func (h *herald) works(id forge.HookID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[id] != nil
}

// deliver makes one try and writes down how it went. Killed between the two, forged makes it again, under the same id.
func (h *herald) deliver(ctx context.Context, k *heraldHook, d forge.HookDelivery, e forge.Event) bool {
	began := time.Now()
	o := h.send(ctx, errand{hook: k.Hook, tenant: k.TenantName, id: d.ID, event: e})
	if o.fault != "" && ctx.Err() != nil {
		return false // cut off by a stop: no try of the receiver's
	}
	crash.At("hook.sent")
	t := h.tried(began, time.Now(), d, o)
	result := "delivered"
	switch {
	case o.fault == "":
	case t.NextAt.IsZero():
		result = "given_up"
	default:
		result = "retried"
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookRecording)
	defer cancel()
	if err := h.db.DeliveryTried(rctx, d.ID, t); err != nil {
		h.log.Warn().Err(err).Str("hook", k.Name).Msg("a delivery was not written down, and is made again")
		return false
	}
	h.count.WithLabelValues(result).Inc()
	return o.fault == ""
}
