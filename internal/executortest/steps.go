package executortest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// The steps by which a test moves the Fake. Keys are forge.AttemptKey; a key that was never submitted
// panics, because then the test itself is wrong.

// Start lets every rank of an attempt run.
func (f *Fake) Start(key string) {
	f.change(key, func(a *fakeAttempt) {
		a.state, a.started = forge.ObservRunning, time.Now().UTC()
	})
}

// Emit appends metrics as rank 0 would; total is the number of steps of the whole run.
func (f *Fake) Emit(key string, total int64, rows ...forge.MetricRow) {
	f.change(key, func(a *fakeAttempt) {
		for _, r := range rows {
			a.streams[forge.StreamMetrics] = append(a.streams[forge.StreamMetrics], metricsLine(total, r)...)
		}
	})
}

// Print appends to a rank's stdout.
func (f *Fake) Print(key string, rank int, text string) {
	f.change(key, func(a *fakeAttempt) {
		s := fmt.Sprintf("stdout.%d", rank)
		a.streams[s] = append(a.streams[s], text...)
	})
}

// Leave appends to a file that rank 0 leaves, by the name of its stream.
func (f *Fake) Leave(key, stream, text string) {
	f.change(key, func(a *fakeAttempt) { a.streams[stream] = append(a.streams[stream], text...) })
}

// Save makes a checkpoint of a run appear. A zero verdict is VerdictWritten, which a look with
// verify finds good; VerdictTorn stays torn.
func (f *Fake) Save(c forge.Checkpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.save(c)
	f.nudge()
}

func (f *Fake) save(c forge.Checkpoint) {
	c.Verdict = cmp.Or(c.Verdict, forge.VerdictWritten)
	c.Path = cmp.Or(c.Path, fmt.Sprintf("/fake/%s/%d/checkpoint-%d", c.Run, c.Attempt, c.Step))
	c.SHA256 = cmp.Or(c.SHA256, fmt.Sprintf("%064x", c.Step))
	c.Bytes, c.World = cmp.Or(c.Bytes, 1), cmp.Or(c.World, 1)
	if c.SavedAt.IsZero() {
		c.SavedAt = time.Now().UTC()
	}
	list := append(f.saves[c.Run], c)
	slices.SortStableFunc(list, func(a, b forge.Checkpoint) int {
		return cmp.Or(cmp.Compare(b.Step, a.Step), cmp.Compare(b.Attempt, a.Attempt))
	})
	f.saves[c.Run] = list
}

// Finish ends an attempt: every rank exits with its code, the last code standing for all further
// ranks. Codes above 128 are deaths by signal, as shims record them.
func (f *Fake) Finish(key string, codes ...int) { f.Exit(key, Ending{}, codes...) }

// Exit is Finish with what else the attempt leaves.
func (f *Fake) Exit(key string, end Ending, codes ...int) {
	f.change(key, func(a *fakeAttempt) {
		now := time.Now().UTC()
		if len(codes) == 0 {
			codes = []int{0}
		}
		started := cmp.Or(a.started, now)
		for rank := range a.ranks {
			if _, ended := a.exits[rank]; ended || end.Exits != nil {
				continue
			}
			code := codes[min(rank, len(codes)-1)]
			x := forge.RankExit{Rank: rank, Node: a.node(), Code: code, StartedAt: started, EndedAt: now}
			if code > 128 && code < 192 {
				x.Signal = code - 128
			}
			a.exits[rank] = x
		}
		for _, x := range end.Exits {
			a.exits[x.Rank] = x
		}
		end.Cause = cmp.Or(end.Cause, forge.StopRankExit)
		a.state, a.end = forge.ObservExited, end
	})
}

// ExitRank ends one rank while the others go on.
func (f *Fake) ExitRank(key string, x forge.RankExit) {
	f.change(key, func(a *fakeAttempt) { a.exits[x.Rank] = x })
}

// Lose makes an attempt proven dead without an exit record.
func (f *Fake) Lose(key string) {
	f.change(key, func(a *fakeAttempt) { a.state = forge.ObservLost })
}

// Hold keeps an ended attempt from being released: something of it is still alive.
func (f *Fake) Hold(key string) { f.change(key, func(a *fakeAttempt) { a.keep = true }) }

// Release undoes Hold.
func (f *Fake) Release(key string) { f.change(key, func(a *fakeAttempt) { a.keep = false }) }

// Silence makes the executor answer nothing: unknown everywhere, errors where there is no unknown.
func (f *Fake) Silence(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = on
	f.nudge()
}

// FailSubmit makes the next Submit of something new return an error, whether it started or not:
// "not known to have started" is all that the caller may read from it.
func (f *Fake) FailSubmit(err error, started bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals = append(f.refusals, refusal{err, started})
}

// SetNodes replaces the nodes.
func (f *Fake) SetNodes(nodes ...forge.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = nodes
	f.nudge()
}

// Launches lists what was started, in order: one entry an attempt, however often it was submitted.
func (f *Fake) Launches() []forge.Launch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.launches)
}

// Signals lists what an attempt was asked, in order, repetitions included.
func (f *Fake) Signals(key string) []forge.SignalKind {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.must(key).signals)
}

// Live lists the keys of attempts that were started and are not released: invariants 2 and 3 are
// about these.
func (f *Fake) Live() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []string
	now := time.Now()
	for key, a := range f.attempts {
		if a.act(now); !a.over() || a.keep {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (f *Fake) change(key string, do func(a *fakeAttempt)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f.must(key))
	f.nudge()
}
