package daemon

import (
	"math"
	"slices"
	"time"
)

// The pace of a run is the median of its last intervals. An interval is at least paceEvery long, so that the save that comes with every
// hundredth step is in it; a stall, or a node's clock that is set, is one interval among many.
const (
	paceEvery     = 5 * time.Second
	paceIntervals = 32
)

type pace struct {
	attempt   int // a later one may run on other GPUs: its steps are measured anew
	from      int64
	at        time.Time
	intervals []time.Duration // of one step
	next      int             // to be overwritten
	median    time.Duration   // the last that was known
}

// of says which attempt the following steps are of. Until it has a pace of its own it is taken to be as fast as the one before.
func (p *pace) of(attempt int) {
	if attempt != p.attempt {
		*p = pace{attempt: attempt, median: p.median}
	}
}

// step is a row of metrics: that step was done then.
func (p *pace) step(step int64, at time.Time) {
	took := at.Sub(p.at)
	if p.at.IsZero() || step <= p.from || took < 0 {
		p.from, p.at = step, at
		return
	}
	if took < paceEvery {
		return
	}
	one := took / time.Duration(step-p.from)
	p.from, p.at = step, at
	if len(p.intervals) < paceIntervals {
		p.intervals = append(p.intervals, one)
	} else {
		p.intervals[p.next] = one
		p.next = (p.next + 1) % paceIntervals
	}
	sorted := slices.Sorted(slices.Values(p.intervals))
	p.median = max(1, sorted[len(sorted)/2])
}

// typical is the time of a step; 0 when it is not known.
func (p *pace) typical() time.Duration { return p.median }

// times is the time that so many steps take.
func (p *pace) times(steps int64) time.Duration {
	if steps <= 0 {
		return 0
	}
	if steps > int64(math.MaxInt64/p.median) {
		return math.MaxInt64
	}
	return time.Duration(steps) * p.median
}
