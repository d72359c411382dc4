package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

const (
	// forecastWait is how long somebody who asks waits for a forecast; after it the answer has no times.
	forecastWait = 200 * time.Millisecond
	// forecastAge is how long a forecast answers while the world moves on, forecastOld while a newer one is made.
	forecastAge = 5 * time.Second
	forecastOld = time.Minute
	// What one forecast may cost, and how far it looks.
	forecastBudget  = 2 * time.Second
	forecastHorizon = 14 * 24 * time.Hour
	forecastSamples = 20
	// Of a queue longer than longQueue only so many from its beginning are looked for, and those that were asked for.
	forecastHead = 200
)

// forecast is when the runs of an outlook are expected to start.
type forecast struct {
	of     *outlook
	made   time.Time
	starts map[forge.RunID]sim.Expected
	until  time.Time
}

// forecasts makes forecasts for those who ask, one at a time, beside planning and never in its way: the next is made no sooner than
// planShare times the cost of the last.
type forecasts struct {
	mu     sync.Mutex
	last   *forecast
	making chan struct{} // closed when the one that is being made is done; nil: none is
	again  time.Time
	asked  map[forge.RunID]time.Time // by somebody, lately
	failed func(error)
}

// of answers with what is known within forecastWait; nil when that is nothing.
func (f *forecasts) of(ctx context.Context, o *outlook, runs ...forge.RunID) *forecast {
	now := time.Now()
	f.mu.Lock()
	f.remember(now, runs)
	if f.good(o, runs, now) {
		defer f.mu.Unlock()
		return f.last
	}
	if f.making == nil && !now.Before(f.again) {
		f.making = make(chan struct{})
		go f.make(context.WithoutCancel(ctx), o, f.wanted(o))
	}
	making := f.making
	f.mu.Unlock()
	if making != nil {
		wait := time.NewTimer(forecastWait)
		defer wait.Stop()
		select {
		case <-making:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || f.last.of.by != o.by || now.Sub(f.last.made) > forecastOld {
		return nil
	}
	return f.last
}

// good says that the last forecast answers, without a new one.
func (f *forecasts) good(o *outlook, runs []forge.RunID, now time.Time) bool {
	l := f.last
	return l != nil && l.of.by == o.by && now.Sub(l.made) < forecastAge && (l.of.at == o.at || !now.After(f.again)) &&
		!slices.ContainsFunc(runs, func(r forge.RunID) bool { _, ok := l.starts[r]; return !ok })
}

func (f *forecasts) remember(now time.Time, runs []forge.RunID) {
	if f.asked == nil {
		f.asked = map[forge.RunID]time.Time{}
	}
	for _, r := range runs {
		f.asked[r] = now
	}
	for r, at := range f.asked {
		if now.Sub(at) > forecastOld || len(f.asked) > longQueue {
			delete(f.asked, r)
		}
	}
}

// wanted are the runs whose start matters; nil: all.
func (f *forecasts) wanted(o *outlook) []forge.RunID {
	if len(o.snap.Pending) <= longQueue {
		return nil
	}
	var out []forge.RunID
	for i, r := range o.queue() {
		if _, asked := f.asked[r.ID]; asked || i < forecastHead {
			out = append(out, r.ID)
		}
	}
	return out
}

// make makes one. What goes wrong in a look ahead must not take the daemon with it.
func (f *forecasts) make(ctx context.Context, o *outlook, runs []forge.RunID) {
	began := time.Now()
	next, err := lookAhead(ctx, o.snap, o.by, sim.ForecastOptions{Runs: runs, Samples: forecastSamples, Budget: forecastBudget})
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		next.of = o
		f.last = next
	} else if f.failed != nil {
		f.failed(err)
	}
	f.again = time.Now().Add(planShare * time.Since(began))
	close(f.making)
	f.making = nil
}

// lookAhead plays a snapshot on.
func lookAhead(ctx context.Context, s forge.Snapshot, p scheduler.Policy, o sim.ForecastOptions) (_ *forecast, err error) {
	defer func() {
		if x := recover(); x != nil {
			err = forge.Errorf(forge.KindInternal, "queue.forecast", "the look ahead broke: %v", x)
		}
	}()
	o.Horizon, o.Seed = forecastHorizon, 1
	ctx, cancel := context.WithTimeout(ctx, 2*o.Budget+time.Second)
	defer cancel()
	out, err := sim.Forecast(ctx, s, p, o)
	if err != nil {
		return nil, err
	}
	f := &forecast{made: time.Now(), starts: make(map[forge.RunID]sim.Expected, len(out.Runs)), until: out.Until}
	wanted := map[forge.RunID]bool{}
	for _, r := range o.Runs {
		wanted[r] = true
	}
	for _, x := range out.Runs {
		if o.Runs == nil || wanted[x.Run] || !x.Start.IsZero() {
			f.starts[x.Run] = x
		}
	}
	return f, nil
}

// start is what people are told of a run; never nil.
func (f *forecast) start(run forge.RunID) *api.Start {
	if f == nil {
		return &api.Start{Note: "not known yet"}
	}
	x, ok := f.starts[run]
	switch {
	case !ok:
		return &api.Start{Note: "not known yet"}
	case x.Start.IsZero():
		return &api.Start{Note: "not within the time that was looked ahead"}
	}
	return &api.Start{At: x.Start.Round(time.Second), Low: x.Low.Round(time.Second), High: x.High.Round(time.Second)}
}

// about writes a time that is only expected as precisely as it is known: the day only where it is another, no seconds.
func about(at, now time.Time) string {
	at, now = at.UTC(), now.UTC()
	switch {
	case at.Sub(now) < time.Minute:
		return "within a minute"
	case at.YearDay() == now.YearDay() && at.Year() == now.Year():
		return "about " + at.Format("15:04 UTC")
	}
	return "about " + at.Format("2006-01-02 15:04 UTC")
}

// startText ends the sentence of a run that waits.
func startText(s *api.Start, h forge.Holders, now time.Time) string {
	if s.At.IsZero() {
		return ""
	}
	t := "; starts " + about(s.At, now)
	switch {
	case s.At.Sub(now) < time.Minute:
	case h.Others > 0 && h.Own == 0:
		t += " when work of others ends"
	case h.Others == 0 && h.Own > 0:
		t += " when work of your tenant ends"
	case h.Others > 0:
		t += " when what runs there ends"
	}
	return t
}

// holdersText says who has the GPUs that a run could use: others as amounts (invariant 8).
func holdersText(h forge.Holders, now time.Time) string {
	count := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	have := func(n int) string {
		if n == 1 {
			return "has"
		}
		return "have"
	}
	var t string
	switch {
	case h.Own > 0 && h.Others > 0:
		t = fmt.Sprintf("%s of your tenant (%s) and %s of others (%s) have the GPUs that it could use", count(h.Own, "run"), count(h.OwnGPUs, "GPU"), count(h.Others, "run"), count(h.OthersGPUs, "GPU"))
	case h.Own > 0:
		t = fmt.Sprintf("%s of your tenant (%s) %s GPUs that it could use", count(h.Own, "run"), count(h.OwnGPUs, "GPU"), have(h.Own))
	case h.Others > 0:
		t = fmt.Sprintf("%s of others (%s) %s GPUs that it could use", count(h.Others, "run"), count(h.OthersGPUs, "GPU"), have(h.Others))
	default:
		return ""
	}
	if !h.FirstEnd.IsZero() {
		t += "; the first is expected to end " + about(h.FirstEnd, now)
	}
	return t
}
