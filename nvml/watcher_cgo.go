//go:build linux && cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	firstPause = 100 * time.Millisecond // before a child that died is replaced; twice as long each time
	lastPause  = time.Minute
	steadyLife = time.Minute // a child that lived so long was a good one
	blindAfter = 5           // children that were not
	// firstPatience is for a driver that loads; later a look that takes so much longer than usual does not come any more.
	firstPatience = DefaultTimeout
	lookPatience  = 15 * time.Second
	absentPause   = time.Minute // between looks for a library that was not there
)

// Watcher keeps a child that looks at the GPUs and waits for what the driver says. It is safe for concurrent use.
type Watcher struct {
	o     WatchOptions
	times watchTimes

	mu      sync.Mutex
	child   *watching // nil: none, for the reason why
	why     string
	asking  []ask
	asked   bool // the child was asked for a look that has not come
	absent  bool // there was no library a moment ago, and whoever asks has it looked for again
	wake    chan struct{}
	changed chan struct{} // closed when there is another child, or none any more
}

// watchTimes are what tests make shorter.
type watchTimes struct{ first, later, pause, last, steady, absent, kill time.Duration }

// ask is somebody who waits for a look that was begun after he asked.
type ask struct {
	since time.Time
	to    chan forge.GPULook
}

// NewWatcher prepares one; nothing is started before Run.
func NewWatcher(o WatchOptions) *Watcher {
	if o.Self == "" {
		o.Self = "/proc/self/exe"
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	return &Watcher{o: o, wake: make(chan struct{}, 1), changed: make(chan struct{}), why: "nothing was started yet", times: watchTimes{first: firstPatience, later: o.Every + lookPatience, pause: firstPause, last: lastPause,
		steady: steadyLife, absent: absentPause, kill: killWait}}
}

// Run keeps a child until ctx ends, and tells what comes of it, from one goroutine. A child that dies or hangs is replaced, ever more slowly;
// each change of state is told as a look.
func (w *Watcher) Run(ctx context.Context, tell func(News)) {
	bad := 0
	for ctx.Err() == nil {
		end := w.life(ctx, tell)
		if ctx.Err() != nil {
			w.set(nil, "the watching has ended", false)
			return
		}
		pause := w.times.absent
		if !end.absent {
			if end.lived >= w.times.steady {
				bad = 0
			}
			bad++
			pause = w.times.last
			if bad < 20 {
				pause = min(w.times.pause<<(bad-1), w.times.last)
			}
			if bad >= blindAfter {
				end.state, end.words = StateBlind, fmt.Sprintf("%s; %d times in a row", end.words, bad)
			}
			w.o.Log.Warn().Str("state", string(end.state)).Str("why", end.words).Dur("again_in", pause).Msg("GPUs are not seen")
		}
		w.set(nil, end.words, end.absent)
		if !end.absent {
			tell(News{Look: &forge.GPULook{At: time.Now().UTC(), State: end.state, Detail: end.words, GPUs: []forge.GPUReading{}}})
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C:
		case <-w.wakes(end.absent):
		}
		wait.Stop()
	}
}

// wakes is nil, which never comes, for who must wait: a child that died is not replaced sooner because somebody asks.
func (w *Watcher) wakes(absent bool) <-chan struct{} {
	if !absent {
		return nil
	}
	return w.wake
}

// ending is how a child came to its end.
type ending struct {
	state  State
	words  string
	lived  time.Duration
	absent bool // there is no library, and the child had nothing to stay for
}

// life is one child from its start to its end.
func (w *Watcher) life(ctx context.Context, tell func(News)) ending {
	c, err := startWatching(w.o)
	if err != nil {
		return ending{state: StateError, words: fmt.Sprintf("start %s %s: %v", w.o.Self, strings.Join(watchArgs, " "), err)}
	}
	defer close(c.enough)
	began := time.Now()
	w.set(c, "", false)
	quiet := time.NewTimer(w.times.first)
	defer quiet.Stop()
	patience := w.times.first
	last := forge.GPULook{}
	for {
		select {
		case <-ctx.Done():
			c.hangUp()
			if !c.gone(w.times.kill) {
				c.kill()
				c.gone(w.times.kill)
			}
			return ending{}
		case n, ok := <-c.news:
			if !ok {
				if !c.gone(w.times.kill) { // it has closed its output and stays
					c.kill()
					<-c.done
				}
				if last.State == StateNoDriver && c.err == nil && c.broken == nil {
					return ending{absent: true, words: last.Detail}
				}
				return ending{state: StateError, words: c.words(), lived: time.Since(began)}
			}
			if n.Look != nil {
				last, patience = *n.Look, w.times.later
				w.answer(last)
			}
			quiet.Reset(patience)
			tell(n)
		case <-quiet.C:
			c.kill()
			words := fmt.Sprintf("the driver did not answer within %s", patience)
			if !c.gone(w.times.kill) {
				// Nothing else is tried while it lives: it hangs in the kernel, and so would the next one.
				words = fmt.Sprintf("%s, and the asking process %d cannot be killed: it hangs in the kernel", words, c.pid)
				w.set(nil, words, false)
				tell(News{Look: &forge.GPULook{At: time.Now().UTC(), State: StateHung, Detail: words, GPUs: []forge.GPUReading{}}})
				select {
				case <-ctx.Done():
				case <-c.done:
				}
			}
			return ending{state: StateHung, words: words, lived: time.Since(began) - patience}
		}
	}
}

func (w *Watcher) set(c *watching, why string, absent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.child, w.asked, w.absent = c, false, absent
	if c == nil {
		w.why = why
	}
	if c != nil && len(w.asking) > 0 {
		w.asked = c.ask() == nil
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// answer gives a look to those who asked before it was begun.
func (w *Watcher) answer(l forge.GPULook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = false
	var still []ask
	for _, a := range w.asking {
		if l.At.Before(a.since) {
			still = append(still, a)
			continue
		}
		a.to <- l
	}
	if w.asking = still; len(still) > 0 && w.child != nil {
		w.asked = w.child.ask() == nil
	}
}

// Now is a look that was begun after the call. KindUnavailable: there is none to be had, and nothing is known. A look whose state is not ok is an
// answer: it says why nothing is known.
func (w *Watcher) Now(ctx context.Context) (forge.GPULook, error) {
	const op = "nvml.look"
	a := ask{since: time.Now(), to: make(chan forge.GPULook, 1)}
	w.mu.Lock()
	w.asking = append(w.asking, a)
	w.mu.Unlock()
	defer w.forget(a.to)
	for {
		w.mu.Lock()
		child, absent, why, changed := w.child, w.absent, w.why, w.changed
		switch {
		case child != nil && !w.asked: // one at a time: a child that hangs reads nothing, and the pipe must not fill
			w.asked = child.ask() == nil
		case child == nil && absent:
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
		w.mu.Unlock()
		if child == nil && !absent {
			select { // it may have been answered with a child's last words
			case l := <-a.to:
				return l, nil
			default:
				return forge.GPULook{}, forge.Errorf(forge.KindUnavailable, op, "GPUs are not seen: %s", why)
			}
		}
		select {
		case l := <-a.to:
			return l, nil
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return forge.GPULook{}, forge.Errorf(forge.KindUnavailable, op, "the driver did not answer in time: %w", ctx.Err())
			}
			return forge.GPULook{}, ctx.Err()
		}
	}
}

func (w *Watcher) forget(to chan forge.GPULook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.asking {
		if w.asking[i].to == to {
			w.asking = append(w.asking[:i], w.asking[i+1:]...)
			return
		}
	}
}
