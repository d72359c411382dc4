package daemon

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

func TestAnotherPriority(t *testing.T) {
	t.Run("moves a run that waits, to where it was said that it would be", func(t *testing.T) {
		r := full(t)
		first := r.submit(t, script(1))
		r.submit(t, script(1))
		third := r.submit(t, script(1))
		s := priorities{r.Daemon} // 65: nobody is stopped for it
		e, err := s.PriorityEffect(t.Context(), r.op, string(third.ID), 65)
		want := api.PriorityEffect{Run: third.Number, State: forge.RunPending, Was: 50, Priority: 65, Position: 3, WouldBe: 1, Waiting: 3}
		if e.Start == nil || e.Then == nil || e.Effect == nil || e.Then.At.After(e.Start.At) {
			t.Errorf("it goes ahead of two and starts at %+v instead of %+v; others: %+v", e.Then, e.Start, e.Effect)
		}
		e.Start, e.Then, e.Effect = nil, nil, nil
		if err != nil || e != want {
			t.Fatalf("got %+v, %v; want %+v", e, err, want)
		}
		if why, _ := (rundata{r.Daemon}).Why(t.Context(), r.op, string(third.ID)); why.Position != 3 {
			t.Errorf("asking moved it to %d", why.Position)
		}
		got, err := s.SetPriority(t.Context(), r.op, string(third.ID), 65)
		if err != nil || got.Spec.Priority != 65 {
			t.Fatalf("got %+v, %v", got, err)
		}
		r.await(t, third.ID, "first", func(forge.Run) bool {
			why, err := (rundata{r.Daemon}).Why(t.Context(), r.op, string(third.ID))
			return err == nil && why.Position == 1
		})
		if pos, waiting := r.world.lastPosition(60); pos != 1 || waiting != 3 {
			t.Errorf("one of 60 would be told place %d of %d", pos, waiting)
		}
		if _, err := s.SetPriority(t.Context(), r.op, string(third.ID), 0); err != nil {
			t.Fatal(err)
		}
		r.await(t, third.ID, "last", func(forge.Run) bool { pos, _ := r.world.lastPosition(50); return pos == 2 })
		runs, err := r.db.RunByID(t.Context(), r.world.snapshot(first.SubmittedAt).Active[0].Run)
		if err != nil {
			t.Fatal(err)
		}
		r.fake.Finish(r.running(t, runs), 0)
		r.launched(t, first.ID, 1)
		if got := r.await(t, third.ID, "waiting", inState(forge.RunPending)); got.Attempt != 0 {
			t.Error("the one that was lowered went first")
		}
		r.sameWorld(t)
	})
	t.Run("is told by the places that why and queue have, lanes and all", func(t *testing.T) {
		r := start(t, 2, func(o *Options) { // whoever waits ages at once: the larger run came first and goes first, though less is left of the other
			o.Config.Policy = PolicyConfig{Preset: "default", PreemptInOrder: new(false), AgeAfter: new(forge.Duration(time.Millisecond)), AgeShare: new(1.0)}
		})
		for range 3 { // of one GPU, and soon over: little is expected of the next
			run := r.submit(t, script(1))
			r.fake.Finish(r.running(t, run), 0)
			r.await(t, run.ID, "over", inState(forge.RunCompleted))
		}
		r.launched(t, r.submit(t, script(2)).ID, 1)
		large, small := r.submit(t, script(2)), r.submit(t, script(1))
		places := func() (all [2]int) {
			for i, run := range []forge.Run{large, small} {
				why, err := (rundata{r.Daemon}).Why(t.Context(), r.op, string(run.ID))
				if err != nil {
					t.Fatal(err)
				}
				all[i] = why.Position
			}
			return all
		}
		r.await(t, small.ID, "aged", func(forge.Run) bool { return places() == [2]int{1, 2} })
		s := priorities{r.Daemon}
		if l, s := r.rank(t, large), r.rank(t, small); l <= s {
			t.Fatalf("the larger has rank %v, the smaller %v: by rank alone the order is the same", l, s)
		}
		for i, run := range []forge.Run{large, small} {
			if e, err := s.PriorityEffect(t.Context(), r.op, string(run.ID), 50); err != nil || e.Position != i+1 || e.WouldBe != i+1 {
				t.Errorf("run %d is place %d, and would be %d with the priority that it has; why says %d (%v)", run.Number, e.Position, e.WouldBe, i+1, err)
			}
		}
		e, err := s.PriorityEffect(t.Context(), r.op, string(small.ID), 51)
		if err != nil || e.WouldBe != 1 {
			t.Fatalf("%+v, %v", e, err)
		}
		if _, err := s.SetPriority(t.Context(), r.op, string(small.ID), 51); err != nil {
			t.Fatal(err)
		}
		r.await(t, small.ID, "first", func(forge.Run) bool { return places() == [2]int{2, 1} })
	})
	t.Run("that is lower gives up the GPUs that were being freed for the run", func(t *testing.T) {
		r := start(t, 1)
		victim := r.submit(t, script(1, priority(10)))
		key := r.running(t, victim)
		first, urgent := r.submit(t, script(1, priority(20))), r.submit(t, script(1, priority(90)))
		r.await(t, urgent.ID, "preempting", func(forge.Run) bool { return len(r.fake.Signals(key)) == 1 })
		if _, err := (priorities{r.Daemon}).SetPriority(t.Context(), r.op, string(urgent.ID), 0); err != nil {
			t.Fatal(err)
		}
		r.fake.Finish(key, forge.ExitCheckpointed)
		r.launched(t, first.ID, 1)
		if got := r.await(t, urgent.ID, "waiting", inState(forge.RunPending)); got.Attempt != 0 {
			t.Error("the one that was lowered went first")
		}
		r.sameWorld(t)
	})
	t.Run("is bounded by what one may ask for, and members change their own runs only", func(t *testing.T) {
		r := full(t)
		run := r.submit(t, script(1))
		moe := r.as(t, r.op.Tenant, "moe", forge.RoleMember)
		own, err := (runs{r.Daemon}).RetryRun(t.Context(), moe, string(run.ID))
		if forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("%+v, %v", own, err)
		}
		s := priorities{r.Daemon}
		for name, do := range map[string]func(p forge.Principal, run string, n int) error{
			"asking": func(p forge.Principal, run string, n int) error {
				_, err := s.PriorityEffect(t.Context(), p, run, n)
				return err
			},
			"doing": func(p forge.Principal, run string, n int) error {
				_, err := s.SetPriority(t.Context(), p, run, n)
				return err
			},
		} {
			if err := do(moe, string(run.ID), 40); forge.KindOf(err) != forge.KindForbidden {
				t.Errorf("%s, a colleague's: %v", name, err)
			}
			mine, err := r.db.For(moe).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
			if err != nil {
				t.Fatal(err)
			}
			if err := do(moe, string(mine.ID), 61); forge.KindOf(err) != forge.KindForbidden || !strings.Contains(err.Error(), "61 is above the highest that you may ask for, 60") {
				t.Errorf("%s, above the cap: %v", name, err)
			}
			if err := do(moe, string(mine.ID), 60); err != nil {
				t.Errorf("%s, at the cap: %v", name, err)
			}
			if err := do(r.op, string(r.world.snapshot(run.SubmittedAt).Active[0].Run), 60); forge.KindOf(err) != forge.KindPrecondition {
				t.Errorf("%s, of what runs: %v", name, err)
			}
		}
	})
	t.Run("of a run that the cluster's own queue has is told there, also when it does not answer at first", func(t *testing.T) {
		r := startQueue(t)
		run := r.submit(t, gang(1, 2))
		key := r.queued(t, run.ID, 1)
		e, err := (priorities{r.Daemon}).PriorityEffect(t.Context(), r.op, "1", 80)
		if err != nil || e.Queue != "Slurm" || e.Position != 0 {
			t.Fatalf("%+v, %v", e, err)
		}
		r.fake.Silence(true)
		if _, err := (priorities{r.Daemon}).SetPriority(t.Context(), r.op, "1", 80); err != nil {
			t.Fatal(err)
		}
		if _, err := (priorities{r.Daemon}).SetPriority(t.Context(), r.op, "1", 90); err != nil {
			t.Fatal(err)
		}
		r.fake.Silence(false)
		r.await(t, run.ID, "told", func(forge.Run) bool { // (100 - 90) × 10; before that it may have been told of 80
			said := r.fake.Nices(key)
			return len(said) > 0 && said[len(said)-1] == 100
		})
		r.await(t, run.ID, "done", func(forge.Run) bool { rows, err := r.db.Outbox(t.Context()); return err == nil && len(rows) == 0 })
		r.fake.Allocate(key, on("n1")...)
		r.fake.Start(key)
		r.await(t, run.ID, "running", inState(forge.RunRunning))
		r.sameWorld(t)
	})
}

// rank is what a waiting run is ordered by within its class.
func (r *rig) rank(t *testing.T, run forge.Run) float64 {
	t.Helper()
	why, err := (rundata{r.Daemon}).Why(t.Context(), r.op, string(run.ID))
	if err != nil || why.Terms == nil {
		t.Fatalf("%+v, %v", why, err)
	}
	return why.Terms.Rank
}
