package forge

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// history is an attempt as it happened, second by second: what the fields of an attempt keep of it is less.
type history struct {
	from, started, to    int // -1: never
	steps, saves         []int
	silent               int // from when on nobody reached it; -1: never
	open                 bool
	reason               EndReason
	gpus                 int
	clockOfNodes, seenAt int // how far the nodes' clocks are off; when somebody looks
}

var zeroHour = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

func at(s int) time.Time {
	if s < 0 {
		return time.Time{}
	}
	return zeroHour.Add(time.Duration(s) * time.Second)
}

func drawHistory(rng *rand.Rand) history {
	h := history{from: rng.IntN(50), started: -1, silent: -1, gpus: 1 + rng.IntN(16), reason: EndReasons[rng.IntN(len(EndReasons))]}
	h.to = h.from + rng.IntN(300)
	if rng.IntN(6) > 0 {
		h.started = h.from + rng.IntN(40)
	}
	if h.started >= 0 && rng.IntN(4) > 0 {
		h.clockOfNodes = rng.IntN(21) - 10
		for s := h.started + rng.IntN(30); s < h.to; s += 1 + rng.IntN(40) {
			h.steps = append(h.steps, max(0, s+h.clockOfNodes))
			if rng.IntN(4) == 0 {
				h.saves = append(h.saves, max(0, s+h.clockOfNodes+rng.IntN(5)))
			}
		}
	}
	slices.Sort(h.saves)
	if rng.IntN(5) == 0 {
		h.silent = h.from + rng.IntN(320)
	}
	h.open = rng.IntN(4) == 0
	h.seenAt = h.to
	return h
}

// attempt is what is kept of a history.
func (h history) attempt() Attempt {
	a := Attempt{State: AttemptEnded, Reason: h.reason, PlacedAt: at(h.from), StartedAt: at(h.started), ExitedAt: at(h.to), UnheardAt: at(h.silent)}
	if n := len(h.steps); n > 0 {
		a.FirstStepAt, a.LastStepAt = at(h.steps[0]), at(h.steps[n-1])
	}
	if n := len(h.saves); n > 0 {
		a.KeptAt = at(h.saves[n-1])
	}
	if h.open {
		a.State, a.Reason, a.ExitedAt, a.EndedAt = AttemptRunning, "", time.Time{}, time.Time{}
		a.Unknown, a.UnheardAt = at(h.silent), time.Time{}
	}
	return a
}

// class is what docs/cost.md says of one second, asked of the history itself.
func (h history) class(second int) CostClass {
	happened := func(all []int) bool { return slices.ContainsFunc(all, func(s int) bool { return s <= second }) }
	comes := func(all []int) bool { return slices.ContainsFunc(all, func(s int) bool { return s > second }) }
	switch {
	case len(h.steps) > 0 && !happened(h.steps):
		return CostIdle // it has not begun to work
	case len(h.steps) == 0 && (h.started < 0 || second < h.started):
		return CostIdle
	case comes(h.saves) && !(h.open || h.reason == EndCompleted):
		return CostUseful // a later save keeps it
	}
	working := comes(h.steps) || comes(h.saves) // something of it is still heard
	unreachable := h.silent >= 0 && second >= h.silent && !working
	switch {
	case h.open && unreachable:
		return CostIdle
	case h.open, h.reason == EndCompleted:
		return CostUseful
	case h.reason == EndStalled && comes(h.steps):
		return CostLost
	case h.reason == EndStalled:
		return CostStalled
	case strings.HasPrefix(string(h.reason), "checkpointed_"), h.reason == EndTimeLimit:
		nothingKnown := len(h.steps) == 0 && len(h.saves) == 0
		if comes(h.steps) || nothingKnown && !unreachable {
			return CostRedone
		}
		return CostIdle
	case unreachable:
		return CostIdle
	}
	return CostLost
}

func TestEachMomentOfAnAttemptIsOfOneClassAndTogetherTheyAreAllOfIt(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 6))
	seen := map[CostClass]bool{}
	for range 20_000 {
		h := drawHistory(rng)
		a := h.attempt()
		want := map[CostClass]int{}
		for s := h.from; s < h.to; s++ {
			want[h.class(s)]++
		}
		got, all, next := map[CostClass]int{}, 0, at(h.from)
		for _, x := range a.Stretches(at(h.seenAt)) {
			if !x.From.Equal(next) {
				t.Fatalf("%+v: a stretch begins at %s, the one before it ended at %s", h, x.From, next)
			}
			next = x.To
			got[x.Class] += int(x.To.Sub(x.From) / time.Second)
			all += int(x.To.Sub(x.From) / time.Second)
			seen[x.Class] = true
		}
		for _, c := range CostClasses {
			if got[c] != want[c] {
				t.Fatalf("%+v\n%s: %d s, by the history %d s (all: %v, by the history %v)", h, c, got[c], want[c], got, want)
			}
		}
		if all != h.to-h.from {
			t.Fatalf("%+v: %d s of %d have a class", h, all, h.to-h.from)
		}
		if use, ok := a.GPUUse(); ok && !h.open && use.To.Sub(use.From) != time.Duration(all)*time.Second {
			t.Fatalf("%+v: quotas count %s, costs %d s", h, use.To.Sub(use.From), all)
		}
	}
	if len(seen) != len(CostClasses) {
		t.Errorf("only %v were drawn", seen)
	}
}

func TestWhatReachesBeyondAPeriodIsCutToIt(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 7))
	for range 2000 {
		h := drawHistory(rng)
		a, price := h.attempt(), float64(1+rng.IntN(5))
		cut := at(rng.IntN(400))
		var whole, before, after CostSum
		whole.Add(&a, h.gpus, &price, time.Time{}, time.Time{}, at(h.seenAt))
		before.Add(&a, h.gpus, &price, time.Time{}, cut, at(h.seenAt))
		after.Add(&a, h.gpus, &price, cut, time.Time{}, at(h.seenAt))
		for _, c := range CostClasses {
			if before.Of(c)+after.Of(c) != whole.Of(c) {
				t.Fatalf("%+v: %s: %s before %s and %s after, %s in all", h, c, before.Of(c), cut, after.Of(c), whole.Of(c))
			}
		}
		if math.Abs(before.Money+after.Money-whole.Money) > 1e-9 || whole.Wasted > whole.Money+1e-9 {
			t.Fatalf("%+v: %v + %v, in all %v, wasted %v", h, before.Money, after.Money, whole.Money, whole.Wasted)
		}
	}
}

func TestAPriceThatNobodySaidIsUnknownAndNotNought(t *testing.T) {
	a := Attempt{State: AttemptEnded, Reason: EndCompleted, PlacedAt: at(0), StartedAt: at(0), ExitedAt: at(3600)}
	var s CostSum
	s.Add(&a, 4, nil, time.Time{}, time.Time{}, at(3600))
	if c := s.Cost(1); c.Money != nil || c.GPUHours != 4 || c.Unpriced != 4 {
		t.Errorf("got %+v", c)
	}
	free := 0.0
	s.Add(&a, 2, &free, time.Time{}, time.Time{}, at(3600))
	if c := s.Cost(1); c.Money == nil || *c.Money != 0 || c.GPUHours != 6 || c.Unpriced != 4 {
		t.Errorf("with one that is free: %+v", c)
	}
}

func TestPrices(t *testing.T) {
	other := 1.5
	p := &Prices{Clusters: map[ClusterName]ClusterPrices{
		"hpc": {Types: map[string]float64{"H100": 3, "H100 80GB": 4, "cpu": 0.1}, Default: &other, Partitions: map[string]float64{"cheap": 1}},
		"lab": {Types: map[string]float64{"A100": 2}}}}
	for _, c := range []struct {
		cluster   ClusterName
		partition string
		kind      GPUKind
		typ       string
		want      float64 // -1: not known
	}{
		{"hpc", "", GPUDevice, "NVIDIA H100 80GB HBM3", 4}, // the name with most words
		{"hpc", "", GPUDevice, "NVIDIA H100 PCIe", 3},
		{"hpc", "", GPUDevice, "NVIDIA L4", 1.5},
		{"hpc", "cheap", GPUDevice, "NVIDIA H100 80GB HBM3", 1}, // the partition is the narrower place
		{"hpc", "cheap", GPUCPUSlot, "cpu", 0.1},
		{"lab", "", GPUDevice, "NVIDIA L4", -1},
		{"lab", "", GPUCPUSlot, "cpu", 0},
		{"gone", "", GPUDevice, "NVIDIA H100", -1},
	} {
		got, known := p.Of(c.cluster, c.partition, c.kind, c.typ)
		if !known {
			got = -1
		}
		if got != c.want {
			t.Errorf("%s %q %s: %v, want %v", c.cluster, c.partition, c.typ, got, c.want)
		}
	}
}

func TestBudgetsAreOfTheirPeriod(t *testing.T) {
	now := time.Date(2026, 11, 26, 15, 0, 0, 0, time.UTC) // a Thursday
	for p, want := range map[BudgetPeriod][2]string{
		BudgetMonth: {"2026-11-01", "2026-12-01"}, BudgetWeek: {"2026-11-23", "2026-11-30"}, BudgetTotal: {"0001-01-01", "0001-01-01"},
	} {
		if got := [2]string{p.Start(now).Format(time.DateOnly), p.End(now).Format(time.DateOnly)}; got != want {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
	sunday := time.Date(2026, 11, 29, 23, 59, 59, 0, time.UTC)
	if got := BudgetWeek.Start(sunday); !got.Equal(BudgetWeek.Start(now)) {
		t.Errorf("the week of Sunday began on %s", got)
	}
	b := Budget{Money: 1000, Period: BudgetMonth, Warn: 0.8}
	s := Spending{Since: BudgetMonth.Start(now), Money: 1003.2}
	if got, want := b.SpentText(s, now, "EUR"), "the budget of 1000 EUR for November is spent: 1003.20; it is renewed on 1 December, or an operator raises it"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := b.SpentText(s.At(BudgetMonth, now.AddDate(0, 1, 0)), now.AddDate(0, 1, 0), "EUR"); got != "" {
		t.Errorf("a month later: %s", got)
	}
	hours := Budget{GPUHours: 2, Period: BudgetTotal}
	if got, want := hours.SpentText(Spending{GPUTime: 3 * time.Hour}, now, ""), "the budget of 2 GPU-hours is spent: 3.00; an operator can raise it"; got != want {
		t.Errorf("got %s", got)
	}
	// What began before the period counts from its beginning on.
	price := 4.0
	a := Attempt{State: AttemptRunning, PlacedAt: time.Date(2026, 10, 31, 22, 0, 0, 0, time.UTC), Price: &price}
	if got := (Spending{Since: BudgetMonth.Start(now)}).Add(&a, 2, time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)); got.Money != 12 || got.GPUTime != 6*time.Hour {
		t.Errorf("got %+v, want 3 hours of 2 GPUs at 4 an hour together", got)
	}
}
