package estimate

import (
	"math"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// The numbers of the index. Each is in the middle of a plateau: half or twice as much changes little.
const (
	firstEdge  = 600 * 1000 // of attained service, in GPU-milliseconds; every further edge is twice the one before
	levels     = 30         // the last is a century of one GPU and more
	neighbours = 8          // before and after
	fading     = 0.7        // weight of a neighbour over that of the one before it

	globalPrior    = 4.0 // runs that the belief in one half is worth
	sizePrior      = 4.0 // runs that all runs are worth, to those of one size
	neighbourPrior = 1.0 // neighbours that those of the same size are worth
	blindHazard    = 0.5
)

var fadings = func() (w [neighbours]float64) {
	w[0] = 1
	for i := 1; i < neighbours; i++ {
		w[i] = w[i-1] * fading
	}
	return w
}()

// lengthOf a level, in GPU-milliseconds.
var lengthOf = func() (l [levels]float64) {
	l[0] = firstEdge
	for j := 1; j < levels; j++ {
		l[j] = firstEdge * math.Pow(2, float64(j-1))
	}
	return l
}()

// edgesFor a size: how long a run of it works until it leaves each level.
func edgesFor(gpus int) (edges [levels]time.Duration) {
	const longest = int64(math.MaxInt64 / int64(time.Millisecond))
	for j := range edges {
		service := int64(firstEdge) << j
		edges[j] = time.Duration(min((service+int64(gpus)-1)/int64(gpus), longest)) * time.Millisecond
	}
	edges[levels-1] = math.MaxInt64
	return edges
}

// census counts, for each level, the runs that entered it (passed it alive, or ended in it) and those that ended in it.
type census struct {
	entries, exits [levels]float64
}

func (c *census) passed(level int) { c.entries[level]++ }

func (c *census) ended(level int) {
	c.entries[level]++
	c.exits[level]++
}

// hazard is the probability that a run that enters a level ends there: of all runs, then of those of one size.
func hazard(all, size *census, level int) float64 {
	p := (all.exits[level] + globalPrior*blindHazard) / (all.entries[level] + globalPrior)
	return (size.exits[level] + sizePrior*p) / (size.entries[level] + sizePrior)
}

// vicinity is the weighted census of a run's neighbours.
type vicinity struct {
	census
	any bool // at least one has told something
}

// add counts a neighbour that has passed all levels below level, and ended in it or goes on.
func (v *vicinity) add(weight float64, level int, ended bool) {
	if ended {
		v.exits[level] += weight
		v.entries[level] += weight
	}
	for j := range level {
		v.entries[j] += weight
	}
	v.any = v.any || ended || level > 0
}

// index is the least service per completion to be expected, over all horizons, by a run that enters a level and owes some
// service before it: for each horizon, what is spent until the run has ended or reached it, over the probability that it
// has ended. A run that ends in a level ends in its middle.
func index(all, size *census, v *vicinity, level int, owes float64) forge.GPUTime {
	spent, alive, best := owes, 1.0, math.Inf(1)
	for j := level; j < levels; j++ {
		p := hazard(all, size, j)
		if v.any {
			p = (v.exits[j] + neighbourPrior*p) / (v.entries[j] + neighbourPrior)
		}
		// The conversions keep compilers from fusing: ranks are the same on every machine.
		spent += float64(alive * (1 - p/2) * lengthOf[j])
		alive *= 1 - p
		best = min(best, spent/(1-alive))
	}
	return forge.GPUTime(math.Round(min(best, math.MaxInt64/4)))
}
