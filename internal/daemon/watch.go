package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// watchLoop looks at every open attempt of every cluster: on its tick, and at once when a
// launch was recorded or an executor says "look now". A cluster that a reload adds is watched from then on.
func (d *Daemon) watchLoop(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wakeups := map[forge.ClusterName]chan struct{}{}
	for {
		for _, name := range d.live().order {
			if wakeups[name] == nil {
				own := make(chan struct{}, 1)
				wakeups[name] = own
				wg.Go(func() { d.watchCluster(ctx, name, own) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-d.kickWatch:
			for _, w := range wakeups {
				kick(w)
			}
		}
	}
}

func (d *Daemon) watchCluster(ctx context.Context, name forge.ClusterName, own <-chan struct{}) {
	c := d.live().clusters[name]
	wake := make(<-chan struct{})
	if w, ok := c.Executor.(Waker); ok {
		wake = w.Wake()
	}
	every := c.PollEvery
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if now := d.live().clusters[name]; now.PollEvery != c.PollEvery {
			c = now
		}
		n := d.watchStep(ctx, c, time.Now())
		if e := lookAgain(c.PollEvery, n); e != every {
			every = e
			tick.Reset(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		case <-own:
		}
	}
}

const (
	attemptsPerTick = 1000
	rarestTick      = 5 * time.Second
)

// lookAgain is the time between looks at n open attempts that nothing has pointed at: thousands that wait in a queue are not looked at
// every second. What an executor wakes for is seen at once all the same.
func lookAgain(every time.Duration, n int) time.Duration {
	return max(every, min(every*time.Duration(1+n/attemptsPerTick), rarestTick))
}

// watchStep polls the open attempts of one cluster in one batch and records what is new. It returns how many they are.
func (d *Daemon) watchStep(ctx context.Context, c *Cluster, now time.Time) int {
	open := slices.DeleteFunc(d.world.open(), func(a forge.Attempt) bool {
		return a.Cluster != c.Name || !a.State.Open() || a.ExternalID == ""
	})
	if len(open) == 0 {
		return 0
	}
	ids := make([]forge.ExternalID, len(open))
	for i, a := range open {
		ids[i] = a.ExternalID
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	all, err := c.Executor.Poll(cctx, ids)
	if err != nil || len(all) != len(ids) {
		if ctx.Err() == nil {
			d.log.Warn().Err(err).Str("cluster", string(c.Name)).Msg("no answer from the executor; everything stays as it is")
		}
		for _, a := range open {
			d.markUnknown(ctx, a, now)
		}
		return len(open)
	}
	// Attempts know nothing of each other, and each of their commits waits for the disk: side by side they share it.
	var wg sync.WaitGroup
	slots := make(chan struct{}, observers)
	for i, a := range open {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := d.observe(ctx, c, a, all[i], now); err != nil && ctx.Err() == nil && forge.KindOf(err) != forge.KindConflict {
				d.attemptLog(a).Warn().Err(err).Msg("observation not recorded; it is taken again")
			}
		})
	}
	wg.Wait()
	return len(open)
}

// observers is how many observations of a cluster are recorded at a time. They mostly wait for commits that they share: with 16, of thousands
// of attempts that began and ended within a second only tens were seen in one.
const observers = 64

func (d *Daemon) markUnknown(ctx context.Context, a forge.Attempt, now time.Time) {
	if a.Unknown.IsZero() {
		if err := d.db.AttemptUnknown(ctx, a.Run, a.Number, now); err != nil && ctx.Err() == nil {
			d.attemptLog(a).Warn().Err(err).Msg("unknown not recorded")
		}
	}
}

// observe records one observation. Only proof of release frees what the attempt holds.
func (d *Daemon) observe(ctx context.Context, c *Cluster, a forge.Attempt, o forge.Observation, now time.Time) error {
	if o.State == forge.ObservUnknown {
		d.markUnknown(ctx, a, now)
		return nil
	}
	if !a.Unknown.IsZero() {
		if err := d.db.AttemptUnknown(ctx, a.Run, a.Number, time.Time{}); err != nil {
			return err
		}
	}
	if err := d.observeBatch(ctx, a, o); err != nil {
		return err
	}
	over := o.State == forge.ObservExited || o.State == forge.ObservLost || o.State == forge.ObservAbsent
	started := a.State == forge.AttemptRunning || a.State == forge.AttemptStopping
	if !started && o.Resume != nil {
		if err := d.catchUp(ctx, c, a, *o.Resume, now); err != nil {
			return err
		}
	}
	if !started && !o.StartedAt.IsZero() && !(over && o.Released) { // what has ended meanwhile is recorded in one write, with its end
		if err := d.db.AttemptRunning(ctx, a.Run, a.Number, o.StartedAt, o.Resume); err != nil {
			return err
		}
		started = true
	}
	if started || over {
		if err := d.progress(ctx, c, a, over, now); err != nil {
			return err
		}
	}
	if o.State == forge.ObservStopping && a.State == forge.AttemptRunning {
		return d.db.AttemptStopping(ctx, a.Run, a.Number)
	}
	if !over || !o.Released {
		if over {
			d.notReleased(ctx, a, o.Held, now)
		}
		return nil
	}
	d.held.note(a, "", now)
	if err := d.db.AttemptExited(ctx, store.Exit{Run: a.Run, Attempt: a.Number, Exits: o.Exits, StartedAt: o.StartedAt, At: exitTime(o, now), Resume: o.Resume}); err != nil {
		return err
	}
	kick(d.kickOutbox)
	return nil
}

// exitTime is when the last rank ended, as its shim saw it; a daemon that was away for an hour
// must not bill that hour.
func exitTime(o forge.Observation, now time.Time) time.Time {
	var last time.Time
	for _, x := range o.Exits {
		if x.EndedAt.After(last) {
			last = x.EndedAt
		}
	}
	if last.IsZero() {
		return now
	}
	return last
}

// adopt says what a restarted daemon found running; the loops then simply go on with it.
func (d *Daemon) adopt(ctx context.Context) {
	for _, a := range d.world.open() {
		if !a.State.Open() {
			continue
		}
		r, _ := d.world.run(a.Run)
		if err := d.db.AddEvent(ctx, forge.Event{Actor: actorForged, Tenant: r.Tenant, Type: forge.EventRunAdopted, Run: a.Run, Number: r.Number, Attempt: a.Number,
			Message: "forged has restarted and goes on with this attempt, which was " + string(a.State)}); err != nil && !errors.Is(err, context.Canceled) {
			d.attemptLog(a).Warn().Err(err).Msg("adoption not recorded")
		}
	}
}
