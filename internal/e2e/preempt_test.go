//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

func slots(n int) func(*forgedtest.Options) { return func(o *forgedtest.Options) { o.CPUSlots = n } }

func why(t *testing.T, ctx context.Context, s *forgedtest.Site, run string) api.Why {
	t.Helper()
	var w api.Why
	must(t, s.CtlJSON(ctx, &w, "run", "why", run))
	return w
}

func eventsOf(t *testing.T, ctx context.Context, s *forgedtest.Site, run string, typ forge.EventType) (out []forge.Event) {
	t.Helper()
	var all []forge.Event
	must(t, s.CtlJSON(ctx, &all, "run", "events", run))
	for _, e := range all {
		if e.Type == typ {
			out = append(out, e)
		}
	}
	return out
}

// madeRoom checks what every preempted run must show: one attempt that was preempted and one that went on, and
// nothing counted against it.
func madeRoom(t *testing.T, r api.RunDetail, resumed bool) {
	t.Helper()
	if r.State != forge.RunCompleted || r.Retries != 0 || r.Fruitless != 0 || len(r.Attempts) != 2 {
		t.Fatalf("run %d is %s, %d retries, %d fruitless, attempts %+v", r.Number, r.State, r.Retries, r.Fruitless, r.Attempts)
	}
	first, second := r.Attempts[0], r.Attempts[1]
	if first.Reason != forge.EndCheckpointedPreempt || second.Reason != forge.EndCompleted {
		t.Errorf("run %d ended %s (%s), then %s", r.Number, first.Reason, first.Detail, second.Reason)
	}
	saved := slices.IndexFunc(first.Exits, func(x forge.RankExit) bool { return x.Code != forge.ExitCheckpointed }) < 0
	if saved != resumed {
		t.Errorf("run %d: exits %+v", r.Number, first.Exits)
	}
	if second.ResumeStep != first.SavedStep || second.ResumeStep == 0 {
		t.Errorf("run %d saved step %d and resumed at %d", r.Number, first.SavedStep, second.ResumeStep)
	}
}

func TestARunOfAHigherClassPreemptsAndTheOtherEndsAsIfNothingHadHappened(t *testing.T) {
	ctx, s := open(t)
	calm := submit(t, ctx, s, long()...)
	until(t, ctx, s, calm, "ended", ended)
	// Its only checkpoint is that of the preemption.
	low := submit(t, ctx, s, "--gpus-per-node", "2", "--priority", "20", "--set", "steps=100", "--set", "step_ms=60", "--set", "save_every=0")
	until(t, ctx, s, low, "half-way", func(r api.RunDetail) bool { return r.State == forge.RunRunning && r.Step >= 30 })
	near := submit(t, ctx, s, "--priority", "39") // too near to it to preempt
	urgent := submit(t, ctx, s, "--gpus-per-node", "2", "--priority", "40", "--set", "steps=5")
	first := until(t, ctx, s, urgent, "ended", ended)
	if first.State != forge.RunCompleted {
		t.Fatalf("%s %s", first.State, first.Reason)
	}
	if r := show(t, ctx, s, low); r.State.Terminal() {
		t.Error("it waited for the other to end")
	}
	r := until(t, ctx, s, low, "ended", ended)
	madeRoom(t, r, true)
	if a, b := lastLoss(t, ctx, s, calm), lastLoss(t, ctx, s, low); a != b {
		t.Errorf("preempted %v, undisturbed %v", b, a)
	}
	es := eventsOf(t, ctx, s, low, forge.EventRunPreempted)
	if len(es) != 1 || es[0].Reason != string(forge.WhyPreempted) || !strings.Contains(es[0].Message, "preempted by a run ahead of it; saved at step ") {
		t.Errorf("events %+v", es)
	}
	if es := eventsOf(t, ctx, s, urgent, forge.EventRunClaimed); len(es) != 1 || !strings.Contains(es[0].Message, "asked to save and make room") {
		t.Errorf("events %+v", es)
	}
	n := until(t, ctx, s, near, "ended", ended)
	if n.State != forge.RunCompleted || n.StartedAt.Before(first.StartedAt) {
		t.Errorf("the run of nearly the same priority is %s, started %s, the urgent one %s", n.State, n.StartedAt, first.StartedAt)
	}
	sound(t, ctx, s, r.ID, n.ID, first.ID)
}

func TestAWaitingRunThatIsCancelledGivesBackWhatWasClaimedForIt(t *testing.T) {
	ctx, s := open(t)
	low := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=250", "--set", "step_ms=20", "--priority", "10", "--set", "deaf=1")
	until(t, ctx, s, low, "half-way", atStep(12))
	urgent := submit(t, ctx, s, "--gpus-per-node", "2", "--priority", "90")
	until(t, ctx, s, urgent, "preempting", func(api.RunDetail) bool { return why(t, ctx, s, urgent).Code == forge.HoldPreempting })
	_, err := s.Ctl(ctx, "run", "cancel", urgent)
	must(t, err)
	r := until(t, ctx, s, low, "ended", ended) // it starts again at once: nothing is claimed any more
	madeRoom(t, r, false)
	sound(t, ctx, s, r.ID)
}

// TestAKillAtEachCrashPointOfAPreemptionBreaksNoInvariant kills forged between the claims and the signal, and around
// the signal itself. The restarted one goes on: the gang starts, the other goes on later.
func TestAKillAtEachCrashPointOfAPreemptionBreaksNoInvariant(t *testing.T) {
	for _, point := range crash.PreemptPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "fired")
			ctx, s := open(t, func(o *forgedtest.Options) {
				o.Forged = filepath.Join(o.Bin, "forged-crash")
				o.ServeEnv = []string{"FORGE_CRASH_AT=" + point, "FORGE_CRASH_MARK=" + mark}
			})
			low := submit(t, ctx, s, "--gpus-per-node", "2", "--priority", "10", "--set", "steps=30", "--set", "step_ms=400")
			until(t, ctx, s, low, "running", atStep(5))
			var out api.Submitted
			// Beside us: where forged dies before it answers, forgectl asks again until it is back.
			answered := make(chan error, 1)
			go func() {
				answered <- s.CtlJSON(ctx, &out, "run", "submit", "probe", "--gpus-per-node", "2", "--priority", "90", "--set", "steps=5")
			}()
			select {
			case <-s.Exited():
			case <-ctx.Done():
				t.Fatal("forged outlived its crash point")
			}
			if _, err := os.Stat(mark); err != nil {
				t.Fatal("it ended without having met the point")
			}
			must(t, s.Start(ctx))
			err := <-answered
			urgent := "2"
			if err != nil { // its answer may have been lost with forged
				var list []forge.Run
				must(t, s.CtlJSON(ctx, &list, "run", "list"))
				if len(list) == 1 {
					urgent = submit(t, ctx, s, "--gpus-per-node", "2", "--priority", "90", "--set", "steps=5")
				}
			}
			if r := until(t, ctx, s, urgent, "ended", ended); r.State != forge.RunCompleted || len(r.Attempts) != 1 {
				t.Errorf("%s, attempts %+v", r.State, r.Attempts)
			}
			r := until(t, ctx, s, low, "ended", ended)
			madeRoom(t, r, true)
			if r.Loss == nil || *r.Loss != undisturbedLoss30 {
				t.Errorf("last loss %v, undisturbed %v", r.Loss, undisturbedLoss30)
			}
			if err := s.Stop(ctx); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			sound(t, ctx, s, r.ID)
		})
	}
}
