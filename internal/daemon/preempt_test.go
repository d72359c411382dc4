package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

func priority(p int) func(*forge.RunSpec) {
	return func(s *forge.RunSpec) { s.Priority, s.Grace = p, forge.Duration(30*time.Second) }
}

// other makes a tenant and submits a run for it.
func (r *rig) other(t *testing.T, s forge.RunSpec) (forge.Principal, forge.Run) {
	t.Helper()
	tenant, err := r.db.CreateTenant(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := r.db.CreateKey(t.Context(), tenant.ID, "eve", forge.RoleMember, "test")
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Authenticate(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	s.Name = "eves-secret"
	run, err := r.db.For(p).SubmitRun(t.Context(), store.NewRun{Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	return p, run
}

func (r *rig) running(t *testing.T, run forge.Run) string {
	t.Helper()
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	return key
}

func TestWhyCountsWhoeverHasStillToSaveAndNamesOnlyRunsOfTheSameTenant(t *testing.T) {
	r := start(t, 2)
	mine := r.submit(t, script(1, priority(10)))
	eve, theirs := r.other(t, script(1, priority(10)))
	myKey, theirKey := r.running(t, mine), r.running(t, theirs)
	urgent := r.submit(t, script(2, priority(90)))
	r.await(t, urgent.ID, "preempting", func(forge.Run) bool {
		return slices.Equal(r.fake.Signals(myKey), []forge.SignalKind{forge.SignalCheckpoint}) && slices.Equal(r.fake.Signals(theirKey), []forge.SignalKind{forge.SignalCheckpoint})
	})
	why := func(p forge.Principal, run forge.Run) string {
		w, err := rundata{r.Daemon}.Why(t.Context(), p, string(run.ID))
		if err != nil {
			t.Fatal(err)
		}
		return w.Sentence + "\n" + strings.Join(w.Evidence, "\n")
	}
	text := why(r.op, urgent)
	for _, want := range []string{"waits for 2 of 2 runs to save", fmt.Sprintf("run %d (priority 10, attempt 1)", mine.Number), "1 of other tenants", "within 30s"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\ndoes not say %q", text, want)
		}
	}
	if strings.Contains(text, "eve") || strings.Contains(text, string(theirs.ID)) {
		t.Errorf("names another tenant's run: %s", text)
	}
	if text := why(eve, theirs); !strings.Contains(text, "make room for a run ahead of it") || strings.Contains(text, string(urgent.ID)) {
		t.Errorf("to whom saves: %s", text)
	}
	r.fake.Save(forge.Checkpoint{Run: mine.ID, Attempt: 1, Step: 7})
	r.fake.Finish(myKey, forge.ExitCheckpointed)
	r.await(t, mine.ID, "preempted", func(x forge.Run) bool { return x.Reason == forge.EndCheckpointedPreempt && x.State == forge.RunPending })
	if text := why(r.op, urgent); !strings.Contains(text, "waits for 1 of 2 runs to save") {
		t.Error(text)
	}
	r.fake.Finish(theirKey, forge.ExitCheckpointed)
	key := r.running(t, urgent)
	r.fake.Finish(key, 0, 0)
	// Both go on, the age of their submission unchanged; nothing is held against them.
	again := r.await(t, mine.ID, "placed again", func(x forge.Run) bool { return x.Attempt == 2 })
	if again.Retries != 0 || again.Fruitless != 0 || !again.SubmittedAt.Equal(mine.SubmittedAt) {
		t.Errorf("%+v", again)
	}
	r.launched(t, mine.ID, 2)
	r.launched(t, theirs.ID, 2)
	for _, p := range []forge.Principal{r.op, eve} {
		evs, err := r.db.For(p).Events(t.Context(), store.EventFilter{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			foreign := theirs.ID
			if p.Tenant == eve.Tenant {
				foreign = mine.ID
			}
			if e.Run == foreign || strings.Contains(e.Message, string(foreign)) || p.Tenant == eve.Tenant && (e.Run == urgent.ID || strings.Contains(e.Message, fmt.Sprint("run ", urgent.Number))) {
				t.Errorf("%s sees %+v", p.User, e)
			}
		}
	}
	if s := r.world.snapshot(time.Now()); len(s.Active) != 2 || s.Active[0].Preempted != 1 || s.Active[0].PreemptedAt.IsZero() {
		t.Errorf("active: %+v", s.Active)
	}
	r.sameWorld(t)
}

func TestAPreemptedRunThatIsNotLetGoOfKeepsItsGPUsUntilItIsProvenGone(t *testing.T) {
	r := start(t, 1)
	low := r.submit(t, script(1, priority(10)))
	key := r.running(t, low)
	urgent := r.submit(t, script(1, priority(90)))
	r.await(t, urgent.ID, "preempting", func(forge.Run) bool { return len(r.fake.Signals(key)) > 0 })
	r.fake.Hold(key)
	r.fake.Finish(key, forge.ExitCheckpointed)
	r.watchStep(t.Context(), r.live().clusters["local"], time.Now())
	r.planStep(t.Context(), time.Now())
	if got, _ := r.world.run(urgent.ID); got.State != forge.RunPending {
		t.Errorf("the GPU was given to the other run (%s) without proof", got.State)
	}
	r.fake.Release(key)
	r.launched(t, urgent.ID, 1)
}

func TestAFullWorldIsPlannedForOnlyWhenSomebodyWaitsWhoCouldPreempt(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	w := newWorld(store.World{Nodes: []forge.Node{fakeNode(1)}}, func(forge.RunID) (forge.Run, bool) { return forge.Run{}, false })
	run := func(id forge.RunID, p int, s forge.RunState) {
		w.apply([]forge.Delta{{Run: &forge.Run{ID: id, State: s, Spec: script(1, priority(p))}}})
	}
	run("low", 30, forge.RunRunning)
	attempt := forge.Attempt{Run: "low", Number: 1, State: forge.AttemptRunning, Cluster: "local", Placement: []forge.Share{{Node: "n1", Slots: []int{0}}}}
	w.apply([]forge.Delta{{Attempt: &attempt}})
	look := func() (stamp, bool) { return w.preemptible(scheduler.Policy{PreemptGap: 20}) }
	if _, ok := look(); ok || !w.full() {
		t.Fatal("nobody waits")
	}
	run("equal", 49, forge.RunPending)
	if _, ok := look(); ok {
		t.Error("the gap is not reached")
	}
	run("high", 50, forge.RunPending)
	first, ok := look()
	if !ok {
		t.Error("the gap is reached")
	}
	p := scheduler.Policy{PreemptGap: 20}
	seen := looked{true, first, p, now.Add(time.Minute)}
	run("flood", 49, forge.RunPending)
	if at, _ := look(); !seen.stands(at, p, now) {
		t.Error("a submission that could not preempt has the queue looked through again")
	}
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"another that could preempt", func() { run("higher", 60, forge.RunPending) }},
		{"a node", func() { n := fakeNode(1); w.apply([]forge.Delta{{Node: &n}}) }},
		{"a claim", func() { w.apply([]forge.Delta{{Claim: &forge.ClaimChange{Claim: forge.Claim{Node: "n1"}}}}) }},
		{"a run that leaves", func() { a := attempt; a.Intent = forge.IntentCancel; w.apply([]forge.Delta{{Attempt: &a}}) }},
	} {
		before, _ := look()
		c.change()
		if after, _ := look(); (looked{true, before, p, time.Time{}}).stands(after, p, now) {
			t.Errorf("%s changes nothing", c.name)
		}
	}
	if seen.stands(first, p, now.Add(time.Minute)) || seen.stands(first, scheduler.Policy{PreemptGap: 10}, now) {
		t.Error("a time that has come, or another policy, changes nothing")
	}
	if _, ok := w.preemptible(scheduler.Policy{PreemptGap: 0}); ok {
		t.Error("a site that preempts nothing")
	}
}

func TestThePolicyIsTheConfigurations(t *testing.T) {
	c, err := ParseConfig([]byte("policy: {preempt_gap: 0, restart_cost: 2m, max_backfill_tries: 0}\n"))
	if err != nil {
		t.Fatal(err)
	}
	c.StateDir = t.TempDir()
	if c, err = c.resolve(); err != nil {
		t.Fatal(err)
	}
	want := scheduler.DefaultPolicy()
	want.PreemptGap, want.PreemptInOrder, want.RestartCost, want.MaxBackfillTries = 0, false, 2*time.Minute, 0
	if got, err := c.Policy.policy(); err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	for _, text := range []string{"preempt_gap: 101", "restart_cost: 25h", "max_backfill_tries: -1", "backfill_margin: 25h"} {
		c, err := ParseConfig([]byte("policy: {" + text + "}\n"))
		if err != nil {
			t.Fatal(err)
		}
		c.StateDir = t.TempDir()
		field, _, _ := strings.Cut(text, ":")
		if _, err := c.resolve(); err == nil || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := ParseConfig([]byte("policy: {gap: 3}\n")); err == nil {
		t.Error("an unknown key is taken")
	}
}
