package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// still is a daemon whose loops do not run: a test turns them by hand, at the time that it says.
func still(t *testing.T) *rig {
	t.Helper()
	dir, recipes := shortDir(t), t.TempDir()
	for name, text := range chainRecipes {
		if err := os.WriteFile(filepath.Join(recipes, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made, err := Init(t.Context(), dir, "admin", NoUID)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Config{StateDir: dir, RecipesDir: recipes, Listen: ListenConfig{Socket: filepath.Join("/tmp", fmt.Sprintf("f%d.sock", time.Now().UnixNano())), TCP: TCPOff}, Policy: PolicyConfig{Preset: "fair"}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	fake := executortest.NewFake(fakeNode(2))
	d, err := New(t.Context(), Options{Config: cfg, Log: zerolog.Nop(), Version: "test",
		Clusters: []Cluster{{Name: "local", Kind: KindDirect, Executor: fake, Files: fake, RunRoot: dir + "/runs", PollEvery: time.Second, Modules: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop.run(d.log); err != nil {
			t.Error(err)
		}
	})
	r := &rig{Daemon: d, fake: fake}
	if r.op, err = r.Authenticate(t.Context(), made.Secret); err != nil {
		t.Fatal(err)
	}
	d.refreshNodes(t.Context())
	return r
}

func (r *rig) schedules(t *testing.T, p forge.Principal, change func(*api.AddScheduleRequest)) api.ScheduleAdded {
	t.Helper()
	q := api.AddScheduleRequest{Name: "nightly", Cron: "0 3 * * *", Run: api.SubmitRunRequest{Recipe: "judge2", Suite: "reasoning-offline", Model: "tiny@1"}}
	change(&q)
	s, err := schedules{r.Daemon}.AddSchedule(t.Context(), p, q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// looks looks at all schedules once, as at a time.
func (r *rig) looks(t *testing.T, at time.Time) time.Time {
	t.Helper()
	next, err := r.scheduleStep(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func (r *rig) firings(t *testing.T, name string) []forge.Firing {
	t.Helper()
	d, err := schedules{r.Daemon}.Schedule(t.Context(), r.op, name, 50)
	if err != nil {
		t.Fatal(err)
	}
	return d.Firings
}

// one is the newest firing, of so many.
func (r *rig) one(t *testing.T, name string, of int) forge.Firing {
	t.Helper()
	all := r.firings(t, name)
	if len(all) != of {
		t.Fatalf("%d firings, want %d: %+v", len(all), of, all)
	}
	return all[0]
}

// refused holds that an error is a refusal that names the field and says why.
func refused(t *testing.T, err error, field, says string) {
	t.Helper()
	var e *forge.Error
	if !errors.As(err, &e) || e.Kind == forge.KindInternal || e.Field != field || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want a refusal of %q that says %q", err, field, says)
	}
}

func nextThree(after time.Time) time.Time {
	day := after.UTC().Truncate(24 * time.Hour).Add(3 * time.Hour)
	if !day.After(after) {
		day = day.AddDate(0, 0, 1)
	}
	return day
}

func TestADueTimeFiresOnceWhateverTheClockDoes(t *testing.T) {
	r := still(t)
	r.imports(t, "tiny", nil)
	s := r.schedules(t, r.op, func(q *api.AddScheduleRequest) {})
	first := nextThree(s.CreatedAt)
	if !s.Next.Equal(first) || s.User != "admin" {
		t.Fatalf("%+v", s)
	}
	if next := r.looks(t, first.Add(-time.Second)); !next.Equal(first) || len(r.firings(t, "nightly")) != 0 {
		t.Fatalf("before its time: next %s, %+v", next, r.firings(t, "nightly"))
	}
	next := r.looks(t, first.Add(time.Second))
	f := r.one(t, "nightly", 1)
	run, err := r.db.For(r.op).Run(t.Context(), fmt.Sprint(f.Run))
	if err != nil || f.State != forge.FiringFired || !f.Due.Equal(first) || f.Model != "tiny@1" || f.Words != "" || run.User != "admin" || run.Spec.Name != "nightly" || !run.Spec.Eval || !next.Equal(first.AddDate(0, 0, 1)) {
		t.Fatalf("%+v, %+v, next %s, %v", f, run, next, err)
	}
	r.looks(t, first.Add(time.Hour)) // nothing new is due
	t.Run("the clock is set back", func(t *testing.T) {
		r.looks(t, first.Add(-2*time.Hour))
		r.looks(t, first.Add(time.Second))
		if f := r.one(t, "nightly", 1); f.Run != run.Number {
			t.Errorf("%+v", f)
		}
	})
	t.Run("and forward by twenty years, and right again", func(t *testing.T) {
		r.cancels(t, run)
		far := first.AddDate(20, 0, 0).Add(time.Hour)
		began := time.Now()
		r.looks(t, far)
		f := r.one(t, "nightly", 2)
		if f.State != forge.FiringFired || f.Missed != mostMissed-1 || !strings.Contains(f.Words, "1000 due times or more") || !f.Due.Equal(first.AddDate(20, 0, 0)) || time.Since(began) > time.Minute {
			t.Errorf("%+v after %s", f, time.Since(began))
		}
		r.cancels(t, forge.Run{Number: f.Run})
		if next := r.looks(t, first.Add(2*time.Hour)); !next.Equal(first.AddDate(0, 0, 1)) {
			t.Errorf("next is %s", next)
		}
		r.looks(t, first.AddDate(0, 0, 1).Add(time.Second))
		if f := r.one(t, "nightly", 3); f.State != forge.FiringFired || !f.Due.Equal(first.AddDate(0, 0, 1)) {
			t.Errorf("%+v", f)
		}
	})
}

func (r *rig) cancels(t *testing.T, run forge.Run) {
	t.Helper()
	if _, err := r.db.For(r.op).RequestCancel(t.Context(), fmt.Sprint(run.Number), forge.CancelNow); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasMissedIsMadeUpForOnceOrNotAtAll(t *testing.T) {
	r := still(t)
	r.imports(t, "tiny", nil)
	at := nextThree(r.schedules(t, r.op, func(q *api.AddScheduleRequest) {}).CreatedAt)
	r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Name, q.CatchUp = "none", forge.CatchUpNone })
	r.looks(t, at.AddDate(0, 0, 2).Add(5*time.Hour))
	f := r.one(t, "nightly", 1)
	if f.State != forge.FiringFired || f.Missed != 2 || f.Run == 0 || !f.Due.Equal(at.AddDate(0, 0, 2)) || f.Words != "makes up for 3 due times that passed while forged was not there to see" {
		t.Errorf("%+v", f)
	}
	f = r.one(t, "none", 1)
	if f.State != forge.FiringMissed || f.Missed != 2 || f.Run != 0 || !strings.HasPrefix(f.Words, "3 due times passed") {
		t.Errorf("%+v", f)
	}
	r.looks(t, at.AddDate(0, 0, 4).Add(30*time.Second)) // one was missed, and the next is on time
	f = r.one(t, "none", 2)
	if f.State != forge.FiringFired || f.Missed != 1 || f.Run == 0 {
		t.Errorf("%+v", f)
	}
	t.Run("what passes while it is paused is not missed", func(t *testing.T) {
		if _, err := (schedules{r.Daemon}).PauseSchedule(t.Context(), r.op, "none"); err != nil {
			t.Fatal(err)
		}
		r.looks(t, at.AddDate(0, 0, 9))
		r.one(t, "none", 2)
		if s, err := (schedules{r.Daemon}).ResumeSchedule(t.Context(), r.op, "none"); err != nil || s.Next.IsZero() {
			t.Fatalf("%+v, %v", s, err)
		}
		_, err := schedules{r.Daemon}.ResumeSchedule(t.Context(), r.op, "none")
		if forge.KindOf(err) != forge.KindPrecondition {
			t.Errorf("twice: %v", err)
		}
	})
}

func TestWhileTheRunBeforeGoesOn(t *testing.T) {
	r := still(t)
	r.imports(t, "tiny", nil)
	var at time.Time
	for _, o := range forge.OverlapPolicies {
		at = nextThree(r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Name, q.Overlap = string(o), o }).CreatedAt)
	}
	r.looks(t, at.Add(time.Second))
	was := map[forge.OverlapPolicy]int64{}
	for _, o := range forge.OverlapPolicies {
		was[o] = r.one(t, string(o), 1).Run
	}
	r.looks(t, at.AddDate(0, 0, 1).Add(time.Second))
	state := func(n int64) forge.RunState {
		run, err := r.db.For(r.op).Run(t.Context(), fmt.Sprint(n))
		if err != nil {
			t.Fatal(err)
		}
		return run.State
	}
	if f := r.one(t, "skip", 2); f.State != forge.FiringSkipped || f.Run != 0 || f.Words != fmt.Sprintf("run %d of the firing before is pending", was["skip"]) {
		t.Errorf("%+v", f)
	}
	if f := r.one(t, "queue", 2); f.State != forge.FiringFired || state(was["queue"]) != forge.RunPending || state(f.Run) != forge.RunPending {
		t.Errorf("%+v", f)
	}
	if f := r.one(t, "cancel", 2); f.State != forge.FiringFired || state(was["cancel"]) != forge.RunCancelled || state(f.Run) != forge.RunPending {
		t.Errorf("%+v, the one before is %s", f, state(was["cancel"]))
	}
	_, err := schedules{r.Daemon}.RunSchedule(t.Context(), r.op, "skip")
	refused(t, err, "", "is pending")
	r.cancels(t, forge.Run{Number: was["skip"]})
	r.looks(t, at.AddDate(0, 0, 2).Add(time.Second))
	if f := r.one(t, "skip", 3); f.State != forge.FiringFired {
		t.Errorf("%+v", f)
	}
	t.Run("and a request to fire now is carried out once", func(t *testing.T) {
		r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Overlap = forge.OverlapQueue })
		p := r.op
		p.Once = forge.Once{Op: "run-schedule", Key: "k", Digest: "d"}
		for range 2 {
			if _, err := (schedules{r.Daemon}).RunSchedule(t.Context(), p, "nightly"); err != nil {
				t.Fatal(err)
			}
		}
		if f := r.one(t, "nightly", 1); f.By != "admin" || f.State != forge.FiringFired {
			t.Errorf("%+v", f)
		}
		if l, err := (runs{r.Daemon}).Runs(t.Context(), r.op, api.RunFilter{Name: "nightly", Limit: 10}); err != nil || len(l.Items) != 1 {
			t.Errorf("%d runs, %v", len(l.Items), err)
		}
	})
}

func TestAFiringThatIsRefusedSaysWhyAndKeepsNoOtherFromItsTime(t *testing.T) {
	r := still(t)
	r.imports(t, "tiny", nil)
	maker := map[string]forge.Principal{}
	for _, name := range []string{"gone", "viewer", "full", "boss"} {
		role := forge.RoleMember
		if name == "boss" {
			role = forge.RoleAdmin
		}
		u, err := users{r.Daemon}.CreateUser(t.Context(), r.op, api.CreateUserRequest{Name: name, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		maker[name] = forge.Principal{Tenant: r.op.Tenant, Home: r.op.Tenant, User: name, UserID: u.ID, Role: role}
		r.schedules(t, maker[name], func(q *api.AddScheduleRequest) {
			q.Name = name
			if name == "boss" {
				q.Baseline, q.OnRegression = "tiny@1", forge.RegressionRollback
			}
		})
	}
	label := r.schedules(t, r.op, func(q *api.AddScheduleRequest) {
		q.Name, q.Run.Model, q.Baseline = "label", "tiny@production", "tiny@previous"
	})
	if len(label.Warnings) != 2 || !strings.Contains(strings.Join(label.Warnings, "\n"), "there is no tiny@production yet; until there is, firings are refused") {
		t.Errorf("%q", label.Warnings)
	}
	at := nextThree(r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Name = "well" }).CreatedAt)
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change(onlyErr(users{r.Daemon}.DisableUser(t.Context(), r.op, "gone", forge.WhyLeft)))
	change(onlyErr(users{r.Daemon}.UpdateUser(t.Context(), r.op, "viewer", api.UpdateUserRequest{Role: ptrTo(forge.RoleViewer)})))
	change(onlyErr(users{r.Daemon}.UpdateUser(t.Context(), r.op, "boss", api.UpdateUserRequest{Role: ptrTo(forge.RoleMember)})))
	change(onlyErr(users{r.Daemon}.UpdateUser(t.Context(), r.op, "full", api.UpdateUserRequest{MaxQueued: ptrTo(1)})))
	change(onlyErr(runs{r.Daemon}.SubmitRun(t.Context(), maker["full"], api.SubmitRunRequest{Recipe: "judge2", Suite: "reasoning-offline", Model: "tiny"})))
	r.looks(t, at.Add(time.Second))
	for name, says := range map[string]string{"gone": "gone, who made it, is disabled", "viewer": "viewer, who made it, is viewer now", "full": "", "boss": "rolls nothing back", "label": "model: there is no model"} {
		if f := r.one(t, name, 1); f.State != forge.FiringRefused || f.Run != 0 || f.Words == "" || !strings.Contains(f.Words, says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := r.one(t, "well", 1); f.State != forge.FiringFired {
		t.Errorf("%+v", f)
	}
	events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Types: []forge.EventType{forge.EventScheduleSkipped}}, 0)
	if err != nil || len(events) != 5 || events[0].Reason != string(forge.FiringRefused) || events[0].Actor != actorForged {
		t.Errorf("%d events, %+v, %v", len(events), events, err)
	}
	if events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Types: []forge.EventType{forge.EventScheduleFired}}, 0); err != nil || len(events) != 1 || events[0].Number == 0 {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestWhatCannotBeAScheduleIsRefusedWhenItIsMade(t *testing.T) {
	r := still(t)
	r.imports(t, "tiny", nil)
	max := memberOf(r.op, "max")
	max.UserID = "another"
	for name, c := range map[string]struct {
		change func(*api.AddScheduleRequest)
		field  string
		says   string
	}{
		"never due":              {func(q *api.AddScheduleRequest) { q.Cron = "0 0 30 2 *" }, "cron", "is never due"},
		"no zone":                {func(q *api.AddScheduleRequest) { q.TZ = "Berlin" }, "tz", "there is no time zone"},
		"no suite":               {func(q *api.AddScheduleRequest) { q.Run.Suite = "nonsense" }, "suite", "there is no suite"},
		"no suite, no model yet": {func(q *api.AddScheduleRequest) { q.Run.Suite, q.Run.Model = "nonsense", "tiny@production" }, "suite", "there is no suite"},
		"no recipe":              {func(q *api.AddScheduleRequest) { q.Run.Recipe = "nonsense" }, "recipe", "nonsense"},
		"no model, by number":    {func(q *api.AddScheduleRequest) { q.Run.Model = "tiny@9" }, "model", "there is no model"},
		"a block of nothing":     {func(q *api.AddScheduleRequest) { q.OnRegression = forge.RegressionBlock }, "on_regression", "needs a baseline"},
		"a rollback by a member": {func(q *api.AddScheduleRequest) { q.OnRegression, q.Baseline = forge.RegressionRollback, "tiny@1" }, "on_regression", "needs the role admin"},
		"a baseline of what trains": {func(q *api.AddScheduleRequest) {
			q.Run, q.Baseline = api.SubmitRunRequest{Recipe: "tune", Base: "tiny"}, "tiny@1"
		}, "baseline", "evaluates nothing"},
		"a baseline that is no name":   {func(q *api.AddScheduleRequest) { q.Baseline = "a@@b" }, "baseline", ""},
		"an overlap that is none":      {func(q *api.AddScheduleRequest) { q.Overlap = "maybe" }, "overlap", "want one of"},
		"a name that is none":          {func(q *api.AddScheduleRequest) { q.Name = "Ünrein" }, "name", "is not allowed"},
		"a priority above the maker's": {func(q *api.AddScheduleRequest) { q.Run.Priority = ptrTo(100) }, "priority", "is above"},
	} {
		t.Run(name, func(t *testing.T) {
			q := api.AddScheduleRequest{Name: "x", Cron: "@daily", Run: api.SubmitRunRequest{Recipe: "judge2", Suite: "reasoning-offline", Model: "tiny@1"}}
			c.change(&q)
			_, err := schedules{r.Daemon}.AddSchedule(t.Context(), max, q)
			refused(t, err, c.field, c.says)
		})
	}
	r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Name = "" })
	if _, err := (schedules{r.Daemon}).Schedule(t.Context(), r.op, "reasoning-offline-tiny", 1); err != nil {
		t.Errorf("its own name: %v", err)
	}
	_, err := schedules{r.Daemon}.AddSchedule(t.Context(), r.op, api.AddScheduleRequest{Name: "reasoning-offline-tiny", Cron: "@daily", Run: api.SubmitRunRequest{Recipe: "judge2", Suite: "reasoning-offline", Model: "tiny@1"}})
	if forge.KindOf(err) != forge.KindConflict {
		t.Errorf("twice: %v", err)
	}
	for what, err := range map[string]error{
		"rm":    onlyErr(schedules{r.Daemon}.RemoveSchedule(t.Context(), max, "reasoning-offline-tiny")),
		"clear": onlyErr(schedules{r.Daemon}.ClearSchedule(t.Context(), max, "reasoning-offline-tiny", "mine")),
		"run":   onlyErr(schedules{r.Daemon}.RunSchedule(t.Context(), max, "reasoning-offline-tiny")),
	} {
		if forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("%s by another member: %v", what, err)
		}
	}
	t.Run("and what is made waits for a database that does not answer", func(t *testing.T) {
		at := nextThree(r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Baseline = "tiny@1" }).CreatedAt)
		newest := r.judging.newest
		r.judging.newest = func(context.Context, forge.Principal, forge.ModelVersion, forge.SuiteRef) (string, error) {
			return "", forge.Errorf(forge.KindUnavailable, "eval.show", "the disk is away")
		}
		if _, err := r.scheduleStep(t.Context(), at.Add(time.Second)); err == nil || !strings.Contains(err.Error(), "the disk is away") {
			t.Fatal(err)
		}
		if all := r.firings(t, "nightly"); len(all) != 0 {
			t.Fatalf("%+v", all)
		}
		r.judging.newest = newest
		r.looks(t, at.Add(20*time.Second))
		if f := r.one(t, "nightly", 1); f.State != forge.FiringFired || f.Words != "nothing is compared: this is the first eval of tiny@1 with this suite" {
			t.Errorf("%+v", f)
		}
	})
}

func TestTheLoopWaitsForTheNextTimeAndNeverLongerThanAClockMayBeWrong(t *testing.T) {
	now := time.Now()
	for what, c := range map[string]struct {
		next time.Time
		want time.Duration
	}{
		"nothing is due":               {time.Time{}, schedulesEvery},
		"far away":                     {now.Add(time.Hour), schedulesEvery},
		"near":                         {now.Add(3 * time.Second), 3 * time.Second},
		"past: never without a breath": {now.Add(-time.Hour), 10 * time.Millisecond},
	} {
		if got := untilNext(now, c.next); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}
