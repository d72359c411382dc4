package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// TestAPlannerThatIsToldOfChangesDecidesAsPlanDoes: Planner, kept warm over any changes, plans what Plan plans for the world as it then is, byte for
// byte; Decide is that without the reasons, and no plan changes the world that the next one sees.
func TestAPlannerThatIsToldOfChangesDecidesAsPlanDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		pl := scheduler.NewPlanner(p)
		s := anyWorld(t)
		if rapid.Bool().Draw(t, "loaded") {
			pl.Load(s)
		} else {
			for _, c := range changesTo(s) {
				pl.Change(c)
			}
		}
		now := s.Now
		other := anyWorld(t)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "changes"), 3))
		more := changesTo(other)
		shuffle(rng, more)
		for i := range 1 + rng.IntN(8) {
			same(t, pl, p, now)
			now = now.Add(time.Duration(rng.IntN(5)) * time.Minute)
			for range rng.IntN(4) {
				if len(more) == 0 {
					break
				}
				c := more[0]
				more = more[1:]
				if c.Claim != nil && slices.ContainsFunc(pl.Snapshot(now).Claims, func(x forge.Claim) bool {
					return x.Cluster == c.Claim.Claim.Cluster && x.Node == c.Claim.Claim.Node && x.Slot == c.Claim.Claim.Slot
				}) {
					continue // the store keeps a slot for one run at most
				}
				pl.Change(c)
			}
			switch w := pl.Snapshot(now); {
			case i%3 == 0 && len(w.Pending) > 0:
				pl.Change(scheduler.Change{Gone: w.Pending[rng.IntN(len(w.Pending))].ID})
			case i%3 == 1 && len(w.Active) > 0:
				pl.Change(scheduler.Change{Gone: w.Active[rng.IntN(len(w.Active))].Run})
			case i%3 == 2 && len(w.Claims) > 0:
				pl.Change(scheduler.Change{Claim: &forge.ClaimChange{Claim: w.Claims[rng.IntN(len(w.Claims))], Gone: true}})
			}
		}
		same(t, pl, p, now)
	})
}

func same(t *rapid.T, pl *scheduler.Planner, p scheduler.Policy, now time.Time) {
	before := pl.Snapshot(now)
	want := scheduler.Plan(before, p)
	got := pl.Plan(now)
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Fatalf("the planner decides\n%s\nand Plan\n%s\n%s", tell(got), tell(want), describe(before))
	}
	quiet := pl.Decide(now)
	want.Hold = nil
	if a, b := fmt.Sprintf("%+v", quiet), fmt.Sprintf("%+v", want); a != b {
		t.Fatalf("Decide\n%s\nand Plan\n%s\n%s", tell(quiet), tell(want), describe(before))
	}
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", pl.Plan(now)); a != b {
		t.Fatalf("the same again\n%s\nand\n%s", a, b)
	}
	if a, b := describe(before), describe(pl.Snapshot(now)); a != b {
		t.Fatalf("planning changed the world from\n%s\nto\n%s", a, b)
	}
}

// changesTo tells of a world one fact at a time.
func changesTo(s forge.Snapshot) (out []scheduler.Change) {
	for i := range s.Nodes {
		out = append(out, scheduler.Change{Node: &s.Nodes[i]})
	}
	for i := range s.Paused {
		out = append(out, scheduler.Change{Paused: &forge.PausedChange{PausedCluster: s.Paused[i]}})
	}
	if len(s.Queues) > 0 {
		out = append(out, scheduler.Change{Queues: s.Queues})
	}
	if len(s.Tenants) > 0 {
		out = append(out, scheduler.Change{Tenants: s.Tenants})
	}
	for i := range s.Active {
		out = append(out, scheduler.Change{Active: &s.Active[i]})
	}
	for i := range s.Pending {
		out = append(out, scheduler.Change{Pending: &s.Pending[i]})
	}
	for i := range s.Arrived {
		out = append(out, scheduler.Change{Arrived: &s.Arrived[i]})
	}
	taken := map[string]bool{}
	for _, c := range s.Claims {
		if k := fmt.Sprint(c.Cluster, c.Node, c.Slot); !taken[k] {
			taken[k] = true
			out = append(out, scheduler.Change{Claim: &forge.ClaimChange{Claim: c}})
		}
	}
	return slices.Clip(out)
}
