package daemon

import (
	"fmt"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// crowd is a world of so many runs, the first of which are leaving, and a plan that stops all the others, for one run eight each.
func crowd(runs, leaving int) (*world, []forge.Preempt) {
	w := newWorld(store.World{}, func(forge.RunID) (forge.Run, bool) { return forge.Run{}, false })
	var plan []forge.Preempt
	for i := range runs {
		a := forge.Attempt{Run: forge.RunID(fmt.Sprintf("r%05d", i)), Number: 1, State: forge.AttemptRunning, Cluster: "local", Placement: []forge.Share{{Node: "n1", Slots: []int{i}}}}
		if i < leaving {
			a.Intent = forge.IntentCheckpointPreempt
		} else {
			plan = append(plan, forge.Preempt{Run: a.Run, Attempt: 1, For: forge.RunID(fmt.Sprint("for", (i-leaving)/8))})
		}
		w.apply([]forge.Delta{{Attempt: &a}})
	}
	return w, plan
}

func TestAPlanThatStopsThousandsStopsThemInTurns(t *testing.T) {
	for _, c := range []struct {
		name          string
		runs, leaving int
		want          int
	}{
		{"a few are stopped at once", stopsAtOnce, 0, stopsAtOnce},
		{"of thousands one part is", 8000, 0, 8000 / stopShare},
		{"who is leaving counts", 8000, 600, 8000/stopShare - 600},
		{"while that part is leaving nobody is stopped", 8000, 8000 / stopShare, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, plan := crowd(c.runs, c.leaving)
			got := w.inTurn(plan)
			if len(got) != c.want {
				t.Errorf("%d of %d are stopped, want %d", len(got), len(plan), c.want)
			}
			for i := range got {
				if got[i].Run != plan[i].Run {
					t.Fatalf("number %d is %s, and first in the plan is %s", i, got[i].Run, plan[i].Run)
				}
			}
		})
	}
	t.Run("of those for one run all are or none", func(t *testing.T) {
		w, plan := crowd(8000, 3)
		if got := w.inTurn(plan); len(got)%8 != 0 || len(got) < 8000/stopShare-3 || len(got) > 8000/stopShare+8 {
			t.Errorf("%d are stopped", len(got))
		}
	})
	t.Run("a run that needs more than that has its turn all the same", func(t *testing.T) {
		w, plan := crowd(8000, 8000/stopShare-1)
		for i := range plan {
			plan[i].For = "wide"
		}
		if got := w.inTurn(plan); len(got) != len(plan) {
			t.Errorf("%d of %d are stopped", len(got), len(plan))
		}
	})
	t.Run("to wait for who is leaving already costs nothing", func(t *testing.T) {
		w, plan := crowd(8000, 8000/stopShare)
		waits := []forge.Preempt{{Run: "r00000", Attempt: 1, For: "first", Leaves: true}, {Run: "r00001", Attempt: 1, For: "first", Leaves: true}}
		if got := w.inTurn(append(waits, plan...)); len(got) != 2 {
			t.Errorf("%d are carried out", len(got))
		}
	})
}
