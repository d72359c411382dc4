package daemon

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

func TestAPlanKnowsWhatTenantsAreEntitledToAndHad(t *testing.T) {
	at := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	made := func() *world {
		w := newWorld(store.World{
			Tenants: []forge.TenantAccount{
				{Tenant: "a", Weight: 2, Quota: forge.Quota{GPUs: 8}, Used: forge.Usage{MS: 1000, At: at.Add(-24 * time.Hour)}},
				{Tenant: "b", Weight: 1},
			},
			Users: []forge.UserAccount{
				{Tenant: "b", UserQuota: forge.UserQuota{User: "zoe", Quota: forge.Quota{MaxGPUs: 1}}},
				{Tenant: "b", UserQuota: forge.UserQuota{User: "ann", Quota: forge.Quota{MaxRunning: 2}}},
			},
			Runs:     []forge.Run{{ID: "r1", Tenant: "b", User: "ann", State: forge.RunRunning, Spec: script(2)}},
			Attempts: []forge.Attempt{{Run: "r1", Number: 1, State: forge.AttemptRunning, PlacedAt: at.Add(-time.Hour), Placement: []forge.Share{{Node: "n1", Slots: []int{0, 1}}}}},
		}, nil)
		w.setHalfLife(24 * time.Hour)
		return w
	}
	t.Run("with its use faded, that of what runs now included, by id, and users by name", func(t *testing.T) {
		got := made().snapshot(at).Tenants
		running := forge.GPUUse{GPUs: 2, From: at.Add(-time.Hour), To: at}.Faded(at, 24*time.Hour)
		want := []forge.TenantShare{
			{Tenant: "a", Weight: 2, Used: 500, Quota: forge.Quota{GPUs: 8}},
			{Tenant: "b", Weight: 1, Used: forge.GPUTime(running), Users: []forge.UserQuota{{User: "ann", Quota: forge.Quota{MaxRunning: 2}}, {User: "zoe", Quota: forge.Quota{MaxGPUs: 1}}}},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
	t.Run("use is added up once a minute, a changed quota counts at once", func(t *testing.T) {
		w := made()
		first := w.snapshot(at).Tenants
		w.apply([]forge.Delta{{Tenant: &forge.TenantAccount{Tenant: "b", Weight: 1, Used: forge.Usage{MS: 1e6, At: at}}}})
		if soon := w.snapshot(at.Add(usedEvery - 1)).Tenants; &soon[0] != &first[0] {
			t.Error("it is made again although nothing was decided otherwise")
		}
		if later := w.snapshot(at.Add(usedEvery)).Tenants; later[1].Used <= first[1].Used {
			t.Errorf("a minute later it is %d, was %d", later[1].Used, first[1].Used)
		}
		for what, d := range map[string]forge.Delta{
			"a weight":       {Tenant: &forge.TenantAccount{Tenant: "b", Weight: 4}},
			"a new tenant":   {Tenant: &forge.TenantAccount{Tenant: "c", Weight: 1}},
			"a user's quota": {User: &forge.UserAccount{Tenant: "b", UserQuota: forge.UserQuota{User: "ann"}}},
		} {
			before := w.snapshot(at.Add(usedEvery)).Tenants
			if at1 := w.at(); !w.apply([]forge.Delta{d}) || w.at() == at1 {
				t.Errorf("%s does not make a plan", what)
			}
			if after := w.snapshot(at.Add(usedEvery)).Tenants; reflect.DeepEqual(before, after) {
				t.Errorf("%s changes nothing: %+v", what, after)
			}
		}
		if got := w.snapshot(at.Add(usedEvery)).Tenants; len(got) != 3 || got[1].Weight != 4 || len(got[1].Users) != 1 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("an attempt that has exited is in the account, and not counted twice", func(t *testing.T) {
		w := made()
		x := w.attempts["r1"]
		x.State, x.ExitedAt = forge.AttemptExited, at
		use, _ := x.GPUUse()
		w.apply([]forge.Delta{{Attempt: &x}, {Tenant: &forge.TenantAccount{Tenant: "b", Weight: 1, Used: forge.Usage{}.Add(use, 24*time.Hour)}}})
		if got, want := w.snapshot(at).Tenants[1].Used, forge.GPUTime(use.Faded(at, 24*time.Hour)); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	})
}

func TestTenantsSeeTheirOwnNumbers(t *testing.T) {
	r := start(t, 4)
	eve, theirs := r.other(t, script(1, priority(10)))
	r.running(t, theirs)
	mine := r.submit(t, script(2))
	key := r.running(t, mine)
	r.fake.Finish(key, 0)
	r.await(t, mine.ID, "completed", inState(forge.RunCompleted))
	r.running(t, r.submit(t, script(2)))
	waits := r.submit(t, script(4))
	r.await(t, waits.ID, "waiting", inState(forge.RunPending))
	s := tenants{r.Daemon}
	weight, most := 3.0, 9
	if _, err := s.UpdateTenant(t.Context(), eve, "other", api.UpdateTenantRequest{Weight: &weight}); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a member gives its tenant a weight: %v", err)
	}
	got, err := s.UpdateTenant(t.Context(), r.op, "other", api.UpdateTenantRequest{Weight: &weight, MaxGPUs: &most})
	if err != nil || got.Weight != 3 || got.Quota.MaxGPUs != 9 || got.Use == nil || got.Use.GPUs != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	mineNow, err := s.Tenant(t.Context(), r.op, forge.DefaultTenant)
	if err != nil || mineNow.Use == nil || mineNow.Use.GPUs != 2 || mineNow.Use.Running != 1 || mineNow.Use.Queued != 1 || mineNow.Use.Share <= 0 {
		t.Errorf("got %+v, %v", mineNow.Use, err)
	}
	l, err := s.Tenants(t.Context(), eve, api.Listing{})
	if err != nil || len(l.Items) != 1 || l.Items[0].Name != "other" || l.Items[0].Use.GPUs != 1 || l.Items[0].Use.Running != 1 {
		t.Errorf("eve sees %+v, %v", l, err)
	}
	if _, err := s.Tenant(t.Context(), eve, forge.DefaultTenant); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("eve is told %v", err)
	}
	r.sameWorld(t)
}

func TestARestartKnowsWhatWasUsed(t *testing.T) {
	r := start(t, 2)
	run := r.submit(t, script(2))
	key := r.running(t, run)
	r.fake.Finish(key, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	now := time.Now().Add(time.Hour)
	before := r.world.snapshot(now).Tenants[0].Used
	dir := r.live().cfg.StateDir
	r.stop()
	again := serveOn(t, dir, r.fake)
	if after := again.world.snapshot(now).Tenants[0].Used; before <= 0 || math.Abs(float64(after-before)) > 1 {
		t.Errorf("%d before, %d after", before, after)
	}
}

func TestTheHalfLifeIsThePolicysAlsoAfterAReload(t *testing.T) {
	r := startReloader(t)
	if v, _ := r.reload(r.base[:strings.Index(r.base, "policy")] + "policy: {preset: fair, half_life: 1h}\n"); v.Refused != "" || !slices.Contains(v.Changed, "policy.half_life: 7-00:00:00 → 1:00:00") && len(v.Changed) != 1 {
		t.Fatalf("%+v", v)
	}
	r.world.mu.RLock()
	defer r.world.mu.RUnlock()
	if r.world.ents.halfLife != time.Hour {
		t.Errorf("it is %s", r.world.ents.halfLife)
	}
}

func TestARunOfARecipeForEvalsCountsAsOne(t *testing.T) {
	r := startReloader(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte("name: check\ndoc: Checks\nkind: eval\nentry: {command: [/bin/true]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, _ := r.reload(r.base + "recipes_dir: " + dir + "\n"); v.Refused != "" {
		t.Fatal(v.Refused)
	}
	got, err := (runs{r.Daemon}).SubmitRun(t.Context(), r.op, api.SubmitRunRequest{Recipe: "check"})
	if err != nil || !got.Run.Spec.Eval {
		t.Fatalf("%+v, %v", got.Run.Spec, err)
	}
	key := r.running(t, got.Run)
	waits, err := (runs{r.Daemon}).SubmitRun(t.Context(), r.op, api.SubmitRunRequest{Recipe: "check"})
	if err != nil {
		t.Fatal(err)
	}
	s := r.world.snapshot(time.Now())
	i := slices.IndexFunc(s.Pending, func(p forge.PendingRun) bool { return p.ID == waits.Run.ID })
	if len(s.Active) != 1 || !s.Active[0].Eval || i < 0 || !s.Pending[i].Eval || s.Pending[1-i].Eval { // the other one that waits is the rig's
		t.Errorf("active %+v, pending %+v", s.Active, s.Pending)
	}
	r.fake.Finish(key, 0)
	r.await(t, got.Run.ID, "completed", inState(forge.RunCompleted))
	r.running(t, waits.Run)
	r.sameWorld(t)
}

func TestThePresetsOfASite(t *testing.T) {
	parse := func(t *testing.T, text string) (Config, error) {
		t.Helper()
		c, err := ParseConfig([]byte("policy: {" + text + "}\n"))
		if err != nil {
			t.Fatal(err)
		}
		c.StateDir = t.TempDir()
		return c.resolve()
	}
	for _, preset := range sitePresets {
		t.Run(preset+" is what the scheduler calls that", func(t *testing.T) {
			c, err := parse(t, "preset: "+preset)
			if err != nil {
				t.Fatal(err)
			}
			want, err := scheduler.Preset(preset)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Policy.policy(); err != nil || got != want {
				t.Errorf("got %+v (%v), want %+v", got, err, want)
			}
		})
	}
	for _, preset := range []string{"srsf", "las", "best"} {
		t.Run("a site cannot run by "+preset, func(t *testing.T) {
			if _, err := parse(t, "preset: "+preset); err == nil || !strings.Contains(err.Error(), `"`+preset+`"`) || !strings.Contains(err.Error(), "want default, fair, fifo") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("every knob of a policy has a key of the same name, and the key's value wins", func(t *testing.T) {
		of, keys := reflect.TypeFor[scheduler.Policy](), reflect.TypeFor[PolicyConfig]()
		for i := range of.NumField() {
			f, ok := keys.FieldByName(of.Field(i).Name)
			if !ok || f.Tag.Get("yaml") != of.Field(i).Tag.Get("yaml") {
				t.Errorf("%s: %q", of.Field(i).Name, f.Tag.Get("yaml"))
			}
		}
		c, err := parse(t, "preset: default, order: arrival, fair_share: false, half_life: 48h, spare: 90s, guard: 0.25, preempt_in_order: false, age_share: 0, spread: rack")
		if err != nil {
			t.Fatal(err)
		}
		want, _ := scheduler.Preset("default")
		want.Order, want.FairShare, want.HalfLife, want.Spare, want.Guard, want.PreemptInOrder, want.AgeShare, want.Spread =
			scheduler.OrderArrival, false, 48*time.Hour, 90*time.Second, 0.25, false, 0, "rack"
		if got, _ := c.Policy.policy(); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
	t.Run("a gap alone, as before there were presets, means class differences only", func(t *testing.T) {
		for text, want := range map[string]struct {
			gap     int
			inOrder bool
		}{
			"preset: default, preempt_gap: 30":                         {30, false},
			"preset: default, preempt_gap: 0":                          {0, false},
			"preset: default, preempt_gap: 30, preempt_in_order: true": {30, true},
			"preset: default":                                          {0, true},
		} {
			c, err := parse(t, text)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := c.Policy.policy(); got.PreemptGap != want.gap || got.PreemptInOrder != want.inOrder {
				t.Errorf("%s: gap %d, in order %v", text, got.PreemptGap, got.PreemptInOrder)
			}
		}
	})
	for text, field := range map[string]string{"order: size": "order", "guard: 11": "guard", "half_life: 999999h": "half_life", "age_share: 1.5": "age_share", "known_factor: .nan": "known_factor"} {
		t.Run("a value without a meaning is refused with its key: "+text, func(t *testing.T) {
			c, err := ParseConfig([]byte("policy: {" + text + "}\n"))
			if err == nil {
				c.StateDir = t.TempDir()
				_, err = c.resolve()
			}
			if err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("got %v", err)
			}
		})
	}
}
