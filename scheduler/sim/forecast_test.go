package sim

import (
	"fmt"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// live is a site of nodes with four GPUs each.
func live(nodes int) *forge.Snapshot {
	s := &forge.Snapshot{Revision: 7, Now: noon}
	for _, n := range (Cluster{nodes, 4}).make() {
		s.Nodes = append(s.Nodes, n.Node)
	}
	return s
}

func runs(s *forge.Snapshot, id forge.RunID, node string, slots []int, w forge.Work) *forge.ActiveAttempt {
	s.Active = append(s.Active, forge.ActiveAttempt{Run: id, Number: 1, Tenant: "t", State: forge.AttemptRunning, Cluster: simCluster, PlacedAt: noon.Add(-time.Hour),
		StartedAt: noon.Add(-time.Hour), Placement: []forge.Share{{Node: forge.NodeName(node), Slots: slots}}, Gang: forge.Gang{Nodes: 1, GPUsPerNode: len(slots)}, Work: w})
	return &s.Active[len(s.Active)-1]
}

func waits(s *forge.Snapshot, id forge.RunID, gpus int, w forge.Work) *forge.PendingRun {
	s.Pending = append(s.Pending, forge.PendingRun{ID: id, Tenant: "t", Number: int64(len(s.Pending) + 1), SubmittedAt: noon.Add(time.Duration(len(s.Pending)-100) * time.Second),
		Gang: forge.Gang{Nodes: 1, GPUsPerNode: gpus}, Work: w})
	return &s.Pending[len(s.Pending)-1]
}

func left(d time.Duration) forge.Work {
	return forge.Work{Left: d, Known: true, Source: forge.WorkProgress}
}

func leftAsOf(d time.Duration, at time.Time) forge.Work {
	w := left(d)
	w.AsOf = at
	return w
}

func forecast(t testing.TB, s *forge.Snapshot, policy string, o ForecastOptions) map[forge.RunID]Expected {
	t.Helper()
	before := text(t, s)
	f, err := Forecast(t.Context(), *s, preset(t, policy), o)
	if err != nil {
		t.Fatal(err)
	}
	if text(t, s) != before {
		t.Error("the snapshot is another after the forecast")
	}
	if len(f.Runs) != len(s.Pending) {
		t.Fatalf("%d of %d runs", len(f.Runs), len(s.Pending))
	}
	out := map[forge.RunID]Expected{}
	for i, x := range f.Runs {
		if x.Run != s.Pending[i].ID {
			t.Errorf("place %d has run %s, want %s", i, x.Run, s.Pending[i].ID)
		}
		out[x.Run] = x
	}
	return out
}

// after says when a run starts, from noon on.
func wantStart(t testing.TB, f map[forge.RunID]Expected, run forge.RunID, after time.Duration) {
	t.Helper()
	if got := f[run].Start; !got.Equal(noon.Add(after)) {
		t.Errorf("%s starts at %s, want %s", run, got, noon.Add(after))
	}
}

func wantNever(t testing.TB, f map[forge.RunID]Expected, run forge.RunID) {
	t.Helper()
	if x := f[run]; !x.Start.IsZero() || !x.End.IsZero() || !x.High.IsZero() {
		t.Errorf("%s is expected at %s, and nobody can know", run, x.Start)
	}
}

func TestRunsStartWhenThoseBeforeThemEnd(t *testing.T) {
	s := live(1)
	runs(s, "a", "n1", []int{0, 1, 2, 3}, leftAsOf(50*time.Minute, noon.Add(-20*time.Minute)))
	waits(s, "b", 2, left(time.Hour))
	waits(s, "c", 4, left(time.Hour))
	waits(s, "d", 2, left(time.Hour))
	f := forecast(t, s, "fifo", ForecastOptions{})
	wantStart(t, f, "b", 30*time.Minute)
	wantStart(t, f, "c", 90*time.Minute)
	wantStart(t, f, "d", 150*time.Minute)
	if got := f["c"].End; !got.Equal(noon.Add(150 * time.Minute)) {
		t.Errorf("c ends at %s", got)
	}
}

func TestMoreNodesAnotherPolicyOrADrainAreAnotherForecast(t *testing.T) {
	s := live(1)
	runs(s, "a", "n1", []int{0, 1, 2, 3}, leftAsOf(time.Hour, noon))
	waits(s, "b", 4, left(time.Hour))
	s.Nodes = append(s.Nodes, live(2).Nodes[1])
	wantStart(t, forecast(t, s, "fifo", ForecastOptions{}), "b", 0)
	s.Nodes[1].State = forge.NodeDrained
	wantStart(t, forecast(t, s, "fifo", ForecastOptions{}), "b", time.Hour)
}

func TestWhoIsAskedToLeaveLeavesAndComesBack(t *testing.T) {
	s := live(1)
	runs(s, "a", "n1", []int{0, 1, 2, 3}, leftAsOf(time.Hour, noon)).Intent = forge.IntentCheckpointPreempt
	waits(s, "b", 4, left(time.Hour)).Priority = 50
	for slot := range 4 {
		s.Claims = append(s.Claims, forge.Claim{Cluster: simCluster, Node: "n1", Slot: slot, For: "b", From: "a"})
	}
	waits(s, "c", 4, left(time.Hour))
	f := forecast(t, s, "fair", ForecastOptions{Leaving: 2 * time.Minute})
	wantStart(t, f, "b", 2*time.Minute)
	// a came first (it has no time of submit), and does its hour less two minutes after the cost of a restart.
	wantStart(t, f, "c", 2*time.Minute+time.Hour+preset(t, "fair").RestartCost+58*time.Minute)
}

func TestARunThatWaitsForAnotherStartsAfterIt(t *testing.T) {
	s := live(2)
	waits(s, "a", 4, left(time.Hour))
	waits(s, "b", 4, left(time.Hour)).After = []forge.Dependency{{Run: "a", Number: 1, State: forge.RunPending}}
	waits(s, "c", 1, left(time.Hour)).NotBefore = noon.Add(10 * time.Minute)
	f := forecast(t, s, "fifo", ForecastOptions{})
	wantStart(t, f, "a", 0)
	wantStart(t, f, "b", time.Hour)
	wantStart(t, f, "c", 10*time.Minute)
	if s.Pending[1].After[0].State != forge.RunPending {
		t.Error("the caller's snapshot was changed")
	}
}

func TestNothingIsSaidWhereNobodyCanKnow(t *testing.T) {
	s := live(2)
	waits(s, "held", 1, left(time.Hour)).Hold = &forge.Hold{By: "ada"}
	waits(s, "orphan", 1, left(time.Hour)).After = []forge.Dependency{{Run: "x", Number: 9, State: forge.RunFailed}}
	waits(s, "going", 1, left(time.Hour)).Cancel = forge.CancelTerm
	waits(s, "wide", 9, left(time.Hour))
	waits(s, "ok", 1, left(time.Hour))
	s.Nodes[1].State = forge.NodeUnknown
	runs(s, "lost", "n2", []int{0, 1, 2, 3}, leftAsOf(time.Minute, noon))
	f := forecast(t, s, "fair", ForecastOptions{Samples: 4})
	for _, id := range []forge.RunID{"held", "orphan", "going", "wide"} {
		wantNever(t, f, id)
	}
	wantStart(t, f, "ok", 0)
	s.Pending = s.Pending[4:]
	s.Pending[0].Gang = forge.Gang{Nodes: 2, GPUsPerNode: 4}
	wantNever(t, forecast(t, s, "fair", ForecastOptions{}), "ok") // the lost run holds its GPUs for nobody knows how long
}

func TestARunEndsByItsTimeLimitAtTheLatest(t *testing.T) {
	s := live(1)
	runs(s, "a", "n1", []int{0, 1, 2, 3}, forge.Work{Left: 100 * time.Hour, AsOf: noon}).EndsBy = noon.Add(40 * time.Minute)
	waits(s, "b", 4, forge.Work{}).TimeLimit = 2 * time.Hour
	waits(s, "c", 4, left(100*time.Hour)).TimeLimit = 3 * time.Hour
	waits(s, "d", 4, forge.Work{})
	f := forecast(t, s, "fifo", ForecastOptions{})
	wantStart(t, f, "b", 40*time.Minute)
	wantStart(t, f, "c", 40*time.Minute+time.Hour)
	wantStart(t, f, "d", 40*time.Minute+4*time.Hour)
}

func TestTheIntervalIsWideWhereLittleIsKnown(t *testing.T) {
	width := func(w forge.Work) time.Duration {
		s := live(1)
		w.AsOf = noon
		runs(s, "a", "n1", []int{0, 1, 2, 3}, w)
		waits(s, "b", 4, left(time.Hour))
		x := forecast(t, s, "fifo", ForecastOptions{Samples: 40, Seed: 3})["b"]
		if x.Low.After(x.Start) || x.High.Before(x.Start) || x.Low.Before(noon) {
			t.Errorf("%s is not from %s to %s", x.Start, x.Low, x.High)
		}
		return x.High.Sub(x.Low)
	}
	known, history, index := width(left(10*time.Hour)), width(forge.Work{Left: 10 * time.Hour, Source: forge.WorkHistory}), width(forge.Work{Left: 10 * time.Hour, Source: forge.WorkIndex})
	if known <= 0 || history < 4*known || index <= history {
		t.Errorf("progress %s, history %s, index %s", known, history, index)
	}
}

func TestAForecastEndsAtItsHorizonAndItsBound(t *testing.T) {
	s := live(1)
	for i := range 20 {
		waits(s, forge.RunID(fmt.Sprintf("%02d", i)), 4, left(time.Hour))
	}
	f := forecast(t, s, "fifo", ForecastOptions{Horizon: 5 * time.Hour})
	wantStart(t, f, "05", 5*time.Hour)
	wantNever(t, f, "06")
	f = forecast(t, s, "fifo", ForecastOptions{MaxPlans: 3})
	wantStart(t, f, "02", 2*time.Hour)
	wantNever(t, f, "03")
	f = forecast(t, s, "fifo", ForecastOptions{Runs: []forge.RunID{"04"}})
	wantStart(t, f, "04", 4*time.Hour)
	wantNever(t, f, "05")
}

func TestAForecastOfATraceIsItsReplay(t *testing.T) {
	c := Cluster{3, 4}
	s := live(3)
	jobs := drawn(21, 40, c)
	for i := range jobs {
		jobs[i].Submit = 0
		g, _ := c.gang(jobs[i].GPUs)
		q := waits(s, forge.RunID(fmt.Sprintf("%02d", i+1)), 1, left(duration(jobs[i].Duration)))
		q.Gang, q.Priority, q.SubmittedAt, q.Tenant, q.Number = g, jobs[i].Priority, noon, "trace", int64(i+1)
	}
	for _, policy := range policies() {
		o := options(t, policy, c)
		o.RestartCost = o.Policy.RestartCost
		when := ends(t, o, jobs)
		f, err := Forecast(t.Context(), *s, o.Policy, ForecastOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range f.Runs {
			if want := noon.Add(duration(when[i])); !x.End.IsZero() && !x.End.Equal(want) {
				t.Errorf("%s: run %s ends at %s in the forecast and at %s in the replay", policy, x.Run, x.End, want)
			}
			if x.Start.IsZero() {
				t.Errorf("%s: no start for run %s", policy, x.Run)
			}
		}
	}
}
