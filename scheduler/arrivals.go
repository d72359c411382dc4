package scheduler

import (
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// arrivals is the service of the runs that came, by time: what came in the last while is taken for what will come in the next one as long.
// Sums are kept from the front and made again from where something changed, which is nearly always near the end.
type arrivals struct {
	list  []forge.Arrival // by time, then run
	sums  []forge.GPUTime // of list[:i]
	valid int             // sums[:valid+1] hold
	at    map[forge.RunID]time.Time
}

func compareArrivals(a, b forge.Arrival) int {
	if c := a.At.Compare(b.At); c != 0 {
		return c
	}
	return strings.Compare(string(a.Run), string(b.Run))
}

func (a *arrivals) load(list []forge.Arrival) {
	a.list, a.valid, a.sums = slices.Clone(list), 0, make([]forge.GPUTime, 1, len(list)+1)
	a.at = make(map[forge.RunID]time.Time, len(list))
	if !slices.IsSortedFunc(a.list, compareArrivals) {
		slices.SortFunc(a.list, compareArrivals)
	}
	for _, x := range a.list {
		a.at[x.Run] = x.At
	}
}

func (a *arrivals) put(x forge.Arrival) {
	if at, ok := a.at[x.Run]; ok {
		i, _ := slices.BinarySearchFunc(a.list, forge.Arrival{Run: x.Run, At: at}, compareArrivals)
		if at.Equal(x.At) {
			a.list[i] = x
			a.valid = min(a.valid, i)
			return
		}
		a.list = slices.Delete(a.list, i, i+1)
		a.valid = min(a.valid, i)
	}
	i, _ := slices.BinarySearchFunc(a.list, x, compareArrivals)
	a.list = slices.Insert(a.list, i, x)
	a.at[x.Run] = x.At
	a.valid = min(a.valid, i)
}

// since is the service of what came in the last ms milliseconds.
func (a *arrivals) since(now time.Time, ms float64) forge.GPUTime {
	for len(a.sums) < len(a.list)+1 {
		a.sums = append(a.sums, 0)
	}
	for ; a.valid < len(a.list); a.valid++ {
		a.sums[a.valid+1] = a.sums[a.valid] + a.list[a.valid].Service
	}
	from := now.Add(-time.Duration(min(ms, 1e12)) * time.Millisecond)
	i, _ := slices.BinarySearchFunc(a.list, from, func(x forge.Arrival, t time.Time) int { return x.At.Compare(t) })
	return a.sums[len(a.list)] - a.sums[i]
}
