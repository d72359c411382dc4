package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// lose starts the next attempt of a run and loses it without a checkpoint.
func (r *rig) lose(t *testing.T, id forge.RunID, attempt int) {
	t.Helper()
	key := r.launched(t, id, attempt)
	r.fake.Start(key)
	r.fake.Lose(key)
}

func held(x forge.Run) bool { return x.Hold != nil }

func TestAHeldRunThatIsReleasedGoesOnFromItsCheckpointAndCountsAnew(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	first := r.launched(t, run.ID, 1)
	r.fake.Start(first)
	r.fake.Emit(first, 10, forge.MetricRow{Step: 2, Values: map[string]float64{"loss": 1}})
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 2})
	r.await(t, run.ID, "at step 2", func(x forge.Run) bool { return x.Step == 2 && x.SavedStep == 2 })
	r.fake.Lose(first)
	for attempt := 2; attempt <= 4; attempt++ {
		r.lose(t, run.ID, attempt)
	}
	got := r.await(t, run.ID, "held", held)
	if got.Fruitless != 3 || got.State != forge.RunPending || len(got.Avoid) == 0 {
		t.Fatalf("got %+v", got)
	}
	w, err := rundata{r.Daemon}.Why(t.Context(), r.op, "1")
	if want := []string{"forgectl run release 1", "forgectl run retry 1"}; err != nil || w.Code != forge.HoldUser || !slices.Equal(w.Next, want) {
		t.Errorf("why says %+v, %v; want %v next", w, err, want)
	}
	if got, err = (holds{r.Daemon}).ReleaseRun(t.Context(), r.op, "1"); err != nil || got.Hold != nil || got.Fruitless != 0 || len(got.Avoid) != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	r.lose(t, run.ID, 5)
	if got = r.await(t, run.ID, "in its sixth attempt", func(x forge.Run) bool { return x.Attempt == 6 || x.Hold != nil }); got.Hold != nil || got.Fruitless != 1 {
		t.Errorf("one more fruitless attempt: %+v", got)
	}
	key := r.launched(t, run.ID, 6)
	r.fake.Start(key)
	r.fake.Finish(key, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	as, err := r.db.AttemptsOf(t.Context(), run.ID)
	if err != nil || len(as) != 6 || as[4].ResumeStep != 2 || as[5].ResumeStep != 2 {
		t.Errorf("%+v, %v", as, err)
	}
	r.sameWorld(t)
}

func TestARunThatAUserHoldsIsNotPlacedUntilItIsReleased(t *testing.T) {
	r := start(t, 1)
	busy := r.submit(t, script(1))
	key := r.launched(t, busy.ID, 1)
	r.fake.Start(key)
	r.await(t, busy.ID, "running", inState(forge.RunRunning))
	if _, err := (holds{r.Daemon}).HoldRun(t.Context(), r.op, "1", ""); forge.KindOf(err) != forge.KindPrecondition || forge.HintOf(err) == "" {
		t.Errorf("holding a run that runs: %v", err)
	}
	waits, behind := r.submit(t, script(1)), r.submit(t, script(1))
	if _, err := (holds{r.Daemon}).HoldRun(t.Context(), r.op, string(waits.ID), "the data is late"); err != nil {
		t.Fatal(err)
	}
	r.fake.Finish(key, 0)
	next := r.launched(t, behind.ID, 1) // it overtakes the held one
	r.fake.Start(next)
	r.fake.Finish(next, 0)
	r.await(t, behind.ID, "completed", inState(forge.RunCompleted))
	r.planStep(t.Context(), time.Now())
	if got, _ := r.world.run(waits.ID); got.State != forge.RunPending || got.Attempt != 0 {
		t.Errorf("a held run was placed: %+v", got)
	}
	if _, err := (holds{r.Daemon}).ReleaseRun(t.Context(), r.op, string(waits.ID)); err != nil {
		t.Fatal(err)
	}
	r.launched(t, waits.ID, 1)
	r.sameWorld(t)
}

func TestFiveHeldRunsPauseTheClusterUntilAnOperatorResumesIt(t *testing.T) {
	r := start(t, 5)
	r.configure(func(c *Config) { c.Retry.FruitlessLimit = 1 })
	var ids []forge.RunID
	for range 5 {
		run := r.submit(t, script(1))
		r.lose(t, run.ID, 1)
		ids = append(ids, run.ID)
	}
	for _, id := range ids {
		r.await(t, id, "held", held)
	}
	paused := func(forge.Run) bool { return len(r.world.snapshot(time.Now()).Paused) == 1 }
	next := r.submit(t, script(1))
	r.await(t, next.ID, "paused", paused)
	member := r.op
	member.Role = forge.RoleMember
	for _, p := range []forge.Principal{r.op, member} {
		w, err := rundata{r.Daemon}.Why(t.Context(), p, string(next.ID))
		if err != nil || w.Code != forge.HoldPaused || !strings.Contains(w.Sentence, "5 runs were put on hold") || fmt.Sprint(w.Next) != "[forgectl cluster resume local]" {
			t.Errorf("why says %+v, %v", w, err)
		}
		if told := strings.Contains(fmt.Sprint(w.Evidence), "only an operator"); told != (p.Role == forge.RoleMember) {
			t.Errorf("to a %s, why says %q", p.Role, w.Evidence)
		}
	}
	list, err := clusters{r.Daemon}.Clusters(t.Context(), member)
	if err != nil || len(list) != 1 || list[0].Name != "local" || list[0].Kind != KindDirect || list[0].Nodes != 1 || list[0].GPUs != 5 || list[0].FreeGPUs != 5 ||
		list[0].Paused == nil || list[0].Paused.Since.IsZero() {
		t.Errorf("got %+v, %v", list, err)
	}
	for _, name := range []string{"local", "mars"} {
		if _, err := (clusters{r.Daemon}).ResumeCluster(t.Context(), member, name); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("a member resumed %s: %v", name, err)
		}
	}
	if _, err := (clusters{r.Daemon}).ResumeCluster(t.Context(), r.op, "mars"); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("a cluster that there is not: %v", err)
	}
	c, err := clusters{r.Daemon}.ResumeCluster(t.Context(), r.op, "local")
	if err != nil || c.Paused != nil || c.GPUs != 5 {
		t.Fatalf("got %+v, %v", c, err)
	}
	if _, err := (clusters{r.Daemon}).ResumeCluster(t.Context(), r.op, "local"); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("resumed twice: %v", err)
	}
	// It places again, and one more held run does not pause it at once: the five are dealt with.
	r.lose(t, next.ID, 1)
	r.await(t, next.ID, "held", held)
	last := r.submit(t, script(1))
	key := r.launched(t, last.ID, 1)
	r.fake.Start(key)
	r.fake.Finish(key, 0)
	r.await(t, last.ID, "completed", inState(forge.RunCompleted))
	if paused(forge.Run{}) {
		t.Error("the cluster is paused again")
	}
	r.sameWorld(t)
}
