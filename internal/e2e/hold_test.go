//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// hopeless is a probe run that saves once, in its first attempt, and fails at the step after it in every one.
var hopeless = []string{"--set", "steps=1000", "--set", "save_every=2", "--set", "fail_at=3", "--set", "fail_code=88"}

func TestAfterItsHoldIsReleasedARunGoesOnAndCountsFruitlessAttemptsAnew(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, hopeless...)
	r := until(t, ctx, s, run, "held", func(r api.RunDetail) bool { return r.Hold != nil })
	// The first attempt saved step 2; the three after it found nothing newer.
	if len(r.Attempts) != 4 || r.Fruitless != 3 || r.Hold.By != "forged" || r.SavedStep != 2 {
		t.Fatalf("%d attempts, %d fruitless, saved %d, held %+v", len(r.Attempts), r.Fruitless, r.SavedStep, r.Hold)
	}
	why, err := s.Ctl(ctx, "run", "why", run, "-o", "table")
	must(t, err)
	release, retry := strings.Index(why, "forgectl run release "+run), strings.Index(why, "forgectl run retry "+run)
	if release < 0 || retry < release {
		t.Errorf("why does not name the release before the retry:\n%s", why)
	}
	var freed forge.Run
	must(t, s.CtlJSON(ctx, &freed, "run", "release", run))
	if freed.Hold != nil || freed.Fruitless != 0 || len(freed.Avoid) != 0 {
		t.Errorf("released: %+v", freed)
	}
	// It fails again as before, and is held only after three more fruitless attempts.
	r = until(t, ctx, s, run, "held again", func(r api.RunDetail) bool { return r.Hold != nil && len(r.Attempts) > 4 })
	if len(r.Attempts) != 7 || r.Fruitless != 3 {
		t.Errorf("%d attempts, %d fruitless", len(r.Attempts), r.Fruitless)
	}
	for _, a := range r.Attempts[4:] {
		if a.ResumeStep != 2 || a.Reason != forge.EndNodeEnv {
			t.Errorf("attempt %d resumed at step %d and ended %s", a.Number, a.ResumeStep, a.Reason)
		}
	}
	events, err := s.Ctl(ctx, "run", "events", run)
	must(t, err)
	var seen []string
	for line := range strings.Lines(events) {
		if f := strings.Split(line, "\t"); len(f) > 2 && (f[2] == "run.held" || f[2] == "run.released") {
			seen = append(seen, f[2])
		}
	}
	if !slices.Equal(seen, []string{"run.held", "run.released", "run.held"}) {
		t.Errorf("events are %v:\n%s", seen, events)
	}
	sound(t, ctx, s, r.ID)
}

func TestARunThatAUserHoldsWaitsUntilItIsReleased(t *testing.T) {
	ctx, s := open(t)
	busy := submit(t, ctx, s, long()...)
	waits := submit(t, ctx, s, "--set", "steps=3")
	_, err := s.Ctl(ctx, "run", "hold", waits, "--reason", "the data is late")
	must(t, err)
	until(t, ctx, s, busy, "running", atStep(10))
	_, err = s.Ctl(ctx, "run", "hold", busy)
	refused(t, err, exitPrecondition, "running", "forgectl run cancel "+busy)
	_, err = s.Ctl(ctx, "run", "cancel", busy, "--now")
	must(t, err)
	until(t, ctx, s, busy, "ended", ended)
	next := submit(t, ctx, s, "--set", "steps=3") // it overtakes the held one
	until(t, ctx, s, next, "ended", ended)
	if r := show(t, ctx, s, waits); r.State != forge.RunPending || len(r.Attempts) != 0 || r.Hold == nil || r.Hold.Reason != "the data is late" {
		t.Errorf("held and yet %s, %+v", r.State, r.Hold)
	}
	_, err = s.Ctl(ctx, "run", "release", waits)
	must(t, err)
	if r := until(t, ctx, s, waits, "ended", ended); r.State != forge.RunCompleted {
		t.Errorf("%s %s", r.State, r.Reason)
	}
	sound(t, ctx, s)
}

func TestFiveHoldsPauseTheClusterUntilAnOperatorResumesIt(t *testing.T) {
	ctx, s := open(t)
	var runs []string
	for range 5 {
		runs = append(runs, submit(t, ctx, s, "--set", "steps=10", "--set", "step_ms=1", "--set", "save_every=0", "--set", "fail_at=1", "--set", "fail_code=88"))
	}
	for _, run := range runs {
		until(t, ctx, s, run, "held", func(r api.RunDetail) bool { return r.Hold != nil })
	}
	waits := submit(t, ctx, s, "--set", "steps=3")
	way := "forgectl cluster resume local"
	until(t, ctx, s, waits, "waiting for the paused cluster", func(api.RunDetail) bool {
		var w api.Why
		must(t, s.CtlJSON(ctx, &w, "run", "why", waits))
		return w.Code == forge.HoldPaused && slices.Contains(w.Next, way)
	})
	var list []api.ClusterView
	must(t, s.CtlJSON(ctx, &list, "cluster", "list"))
	if len(list) != 1 || list[0].Kind != "direct" || list[0].Nodes != 1 || list[0].GPUs != 2 || list[0].FreeGPUs != 2 || list[0].Paused == nil {
		t.Errorf("got %+v", list)
	}
	_, err := s.Ctl(ctx, "cluster", "resume", "mars")
	refused(t, err, exitNotFound, "mars")
	_, err = s.Ctl(ctx, "cluster", "resume", "local")
	must(t, err)
	if r := until(t, ctx, s, waits, "ended", ended); r.State != forge.RunCompleted {
		t.Errorf("%s %s", r.State, r.Reason)
	}
	_, err = s.Ctl(ctx, "cluster", "resume", "local")
	refused(t, err, exitPrecondition, "not paused")
	_, err = s.Ctl(ctx, "run", "release", runs[0])
	must(t, err)
	sound(t, ctx, s)
}
