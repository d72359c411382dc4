package store_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// meteredSite is a store with a clock of its own and GPUs that cost something.
type meteredSite struct {
	*store.DB
	t     *testing.T
	clock atomic.Int64
	told  *forge.TenantAccount
	acme  *store.Tenant
}

func metered(t *testing.T) *meteredSite {
	s := &meteredSite{t: t}
	s.clock.Store(time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC).UnixNano())
	path := filepath.Join(t.TempDir(), "forge.db")
	storetest.Fresh(t, path)
	s.DB = storetest.OpenAt(t, path, store.Options{Now: s.now, OnCommit: func(all []forge.Delta) {
		for _, d := range all {
			if d.Tenant != nil {
				s.told = d.Tenant
			}
		}
	}})
	s.price(3)
	s.acme = storetest.Tenant(t, s.DB, "acme")
	n := storetest.Node("gpu-1", 8)
	for i := range n.GPUs {
		n.GPUs[i].Kind, n.GPUs[i].Type = forge.GPUDevice, "NVIDIA H100 80GB HBM3"
	}
	storetest.Nodes(t, s.DB, n)
	return s
}

func (s *meteredSite) now() time.Time { return time.Unix(0, s.clock.Load()).UTC() }

func (s *meteredSite) pass(hours float64) { s.clock.Add(int64(hours * float64(time.Hour))) }

func (s *meteredSite) price(each float64) {
	s.SetPrices(&forge.Prices{Clusters: map[forge.ClusterName]forge.ClusterPrices{storetest.Cluster: {Types: map[string]float64{"h100": each}}}})
}

func (s *meteredSite) start(run forge.Run) forge.Attempt {
	a := storetest.Place(s.t, s.DB, run, "gpu-1", 0, 1)
	storetest.Running(s.t, s.DB, a)
	return a
}

// step reports one, and with save a checkpoint of it.
func (s *meteredSite) step(a forge.Attempt, n int64, save bool) {
	s.t.Helper()
	p := store.Progress{Run: a.Run, Attempt: a.Number, Rows: []forge.MetricRow{{Step: n, Time: s.now(), Values: map[string]float64{"loss": 1}}}}
	if save {
		p.Saves = []forge.Checkpoint{{Step: n, Attempt: a.Number, Path: fmt.Sprintf("/c/%d-%d", a.Number, n), SavedAt: s.now()}}
	}
	must(s.t, s.RecordProgress(ctx, p))
}

func (s *meteredSite) end(a forge.Attempt, reason forge.EndReason, next forge.RunState) {
	s.t.Helper()
	must(s.t, s.AttemptExited(ctx, store.Exit{Run: a.Run, Attempt: a.Number, At: s.now()}))
	_, _, err := s.AttemptEnded(ctx, store.End{Run: a.Run, Attempt: a.Number, Reason: reason, Next: next})
	must(s.t, err)
}

func (s *meteredSite) costs(by forge.CostBy, since, until time.Time) forge.Costs {
	s.t.Helper()
	c, err := s.acme.Costs(ctx, by, since, until, s.now())
	must(s.t, err)
	return c
}

func wantCost(t *testing.T, c forge.Cost, money, useful, lost, redone, stalled, idle float64) {
	t.Helper()
	if c.Money == nil {
		t.Fatalf("got %+v, and no cost", c)
	}
	got := [6]float64{*c.Money, c.Useful, c.Lost, c.Redone, c.Stalled, c.Idle}
	for i, want := range [6]float64{money, useful, lost, redone, stalled, idle} {
		if math.Abs(got[i]-want) > 1e-6 {
			t.Fatalf("cost, useful, lost, redone, stalled, idle: got %v, want %v", got, [6]float64{money, useful, lost, redone, stalled, idle})
		}
	}
}

func TestWhatARunCostAndWhatOfItWasKept(t *testing.T) {
	s := metered(t)
	began := s.now()
	run := storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 2)))
	a := s.start(run)
	s.pass(1) // until its first step
	s.step(a, 1, false)
	s.pass(2)
	s.step(a, 10, true)
	s.pass(3)
	s.step(a, 20, true)
	s.pass(1)
	s.step(a, 25, false)
	s.end(a, forge.EndNodeLost, forge.RunPending)
	all := func() forge.Cost {
		c := s.costs(forge.CostByUser, began, s.now()).Total
		if c.Runs != 1 || s.costs(forge.CostByCluster, began, s.now()).Rows[0].Runs != 1 {
			t.Fatalf("one run is counted as %d", c.Runs)
		}
		return c
	}
	wantCost(t, all(), 7*2*3, 2*5, 2*1, 0, 0, 2*1)

	s.price(5) // from now on
	b := storetest.Place(t, s.DB, run, "gpu-1", 0, 1)
	s.pass(1)
	// Step 20 does not verify: it goes on from step 10, and what was done since then is done again.
	must(t, s.AttemptRunning(ctx, run.ID, b.Number, s.now(), &forge.Resume{Path: "/c/1-10", Step: 10, Attempt: 1}))
	wantCost(t, all(), 7*2*3+1*2*5, 2*2, 2*4, 0, 0, 2*1+2*1)
	s.step(b, 11, false)
	s.pass(2)
	s.step(b, 30, true)
	s.pass(1)
	s.step(b, 35, false)
	s.end(b, forge.EndCheckpointedPreempt, forge.RunPending)
	wantCost(t, all(), 42+4*2*5, 2*2+2*2, 2*4, 2*1, 0, 2+2)

	// Prices that come later change nothing of it, and a period is cut.
	s.price(100)
	wantCost(t, all(), 42+40, 8, 8, 2, 0, 4)
	wantCost(t, s.costs(forge.CostByRun, began.Add(time.Hour), began.Add(2*time.Hour)).Total, 2*3, 2, 0, 0, 0, 0)
	list, err := s.acme.RunCosts(ctx, []forge.RunID{run.ID, "other"}, s.now())
	must(t, err)
	if len(list) != 1 || *list[run.ID].Money != 82 {
		t.Fatalf("got %+v", list)
	}
	other := storetest.Tenant(t, s.DB, "other")
	if got, err := other.RunCosts(ctx, []forge.RunID{run.ID}, s.now()); err != nil || len(got) != 0 {
		t.Fatalf("another tenant is told %+v, %v", got, err)
	}
	if got, err := other.Costs(ctx, forge.CostByTenant, began, s.now(), s.now()); err != nil || len(got.Rows) != 0 {
		t.Fatalf("another tenant is told %+v, %v", got, err)
	}
	if got, err := operator(s.DB).Costs(ctx, forge.CostByTenant, began, s.now(), s.now()); err != nil || len(got.Rows) != 1 || got.Rows[0].Key != "acme" {
		t.Fatalf("an operator is told %+v, %v", got, err)
	}
	w, err := s.World(ctx)
	must(t, err)
	if len(w.Attempts) != 0 {
		t.Fatalf("got %+v", w.Attempts)
	}
}

func TestCostsAddUpByWhateverTheyAreAddedUp(t *testing.T) {
	s := metered(t)
	began := s.now()
	var want float64
	for i, c := range []struct {
		recipe, register string
		reason           forge.EndReason
		next             forge.RunState
	}{{"lora_sft", "chat", forge.EndCompleted, forge.RunCompleted}, {"dpo", "chat", forge.EndNaN, forge.RunFailed}, {"dpo", "", forge.EndStalled, forge.RunFailed}} {
		spec := storetest.Spec(storetest.Gang(1, 2))
		spec.Recipe, spec.Register, spec.Name = c.recipe, c.register, fmt.Sprint("n", i)
		a := s.start(storetest.Submit(t, s.acme, spec))
		s.pass(float64(i + 1))
		want += float64(i+1) * 2 * 3
		s.step(a, 1, false)
		s.pass(1)
		want += 2 * 3
		s.end(a, c.reason, c.next)
	}
	keys := map[forge.CostBy][]string{forge.CostByTenant: {"acme"}, forge.CostByUser: {"ana"}, forge.CostByRecipe: {"dpo", "lora_sft"}, forge.CostByModel: {"chat", ""},
		forge.CostByRun: {"3", "2", "1"}, forge.CostByCluster: {string(storetest.Cluster)}}
	for by, want2 := range keys {
		c := s.costs(by, began, s.now())
		var sum, hours float64
		var got []string
		for _, r := range c.Rows {
			sum, hours, got = sum+*r.Money, hours+r.GPUHours, append(got, r.Key)
			if by == forge.CostByRun && r.Name == "" {
				t.Errorf("run %s has no name", r.Key)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want2) || math.Abs(sum-want) > 1e-6 || math.Abs(*c.Total.Money-want) > 1e-6 || math.Abs(hours-c.Total.GPUHours) > 1e-6 || c.Total.Runs != 3 {
			t.Errorf("by %s: %v (want %v) cost %v, in all %v; want %v", by, got, want2, sum, *c.Total.Money, want)
		}
		if x := c.Total; math.Abs(x.Useful+x.Lost+x.Redone+x.Stalled+x.Idle-x.GPUHours) > 1e-6 {
			t.Errorf("by %s the classes do not add up: %+v", by, x)
		}
	}
	if _, err := s.acme.Costs(ctx, "colour", began, s.now(), s.now()); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("got %v", err)
	}
}

func TestWhatABudgetCountsIsWrittenWithTheEndOfAnAttempt(t *testing.T) {
	s := metered(t)
	root := operator(s.DB)
	work := func(hours float64) {
		a := s.start(storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 2))))
		s.pass(hours)
		s.end(a, forge.EndCompleted, forge.RunCompleted)
	}
	work(2) // before there is a budget
	got, err := root.UpdateTenant(ctx, "acme", store.TenantChange{Budget: new(100.0), BudgetGPUHours: new(50.0)})
	must(t, err)
	if got.Budget == nil || *got.Budget != (forge.Budget{Money: 100, GPUHours: 50, Period: forge.BudgetMonth, Warn: 0.8}) {
		t.Fatalf("got %+v", got.Budget)
	}
	spent := func(money float64, gpuHours float64) {
		t.Helper()
		at := s.told.Spent.At(s.told.Budget.Period, s.now())
		if math.Abs(at.Money-money) > 1e-6 || math.Abs(at.GPUTime.Hours()-gpuHours) > 1e-6 {
			t.Fatalf("spent %+v, want %v for %v GPU-hours", at, money, gpuHours)
		}
		w, err := s.World(ctx)
		must(t, err)
		if fmt.Sprint(w.Tenants[0]) != fmt.Sprint(*s.told) {
			t.Fatalf("a restart reads %+v, the world was told %+v", w.Tenants, *s.told)
		}
	}
	spent(12, 4) // what was had before in this month counts
	work(1)
	spent(18, 6)
	_, err = root.UpdateTenant(ctx, "acme", store.TenantChange{BudgetPeriod: new(forge.BudgetTotal)})
	must(t, err)
	spent(18, 6)
	_, err = root.UpdateTenant(ctx, "acme", store.TenantChange{BudgetPeriod: new(forge.BudgetMonth)})
	must(t, err)

	// An attempt over the turn of the month counts in each month with its part.
	s.clock.Store(time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC).UnixNano())
	work(3)
	spent(2*2*3, 4)
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'budget.changed' AND tenant IS NOT NULL`, 3)

	for range 2 { // once in each period
		must(t, says(s.SayBudget(ctx, s.told.Tenant, forge.EventBudgetSpent, "it is spent")))
	}
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'budget.spent' AND message = 'tenant acme: it is spent'`, 2) // in both trails
	s.pass(31 * 24)
	must(t, says(s.SayBudget(ctx, s.told.Tenant, forge.EventBudgetSpent, "it is spent")))
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'budget.spent'`, 4)
	_, err = root.UpdateTenant(ctx, "acme", store.TenantChange{Budget: new(200.0)}) // and again after a change
	must(t, err)
	must(t, says(s.SayBudget(ctx, s.told.Tenant, forge.EventBudgetSpent, "it is spent")))
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'budget.spent'`, 6)

	for field, c := range map[string]store.TenantChange{"budget": {Budget: new(-1.0)}, "budget_gpu_hours": {BudgetGPUHours: new(math.NaN())},
		"budget_warn": {BudgetWarn: new(1.5)}, "budget_period": {BudgetPeriod: new(forge.BudgetPeriod("year"))}} {
		if _, err := root.UpdateTenant(ctx, "acme", c); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func says(_ bool, err error) error { return err }

// manyRuns makes a site with a tenant of which n runs ended now, half of them behind Slurm, and as many long ago.
func manyRuns(t testing.TB, n int) *store.Tenant {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 8))
	run := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
	a := storetest.Place(t, db, run, "gpu-1", 0, 1)
	storetest.Running(t, db, a)
	storetest.Finish(t, db, a, forge.EndCompleted, forge.RunCompleted)
	runs := `tenant, state, reason, hold_by, hold_reason, hold_at, cancel, retries, fruitless, not_before, avoid, step, total_steps, saved_step, loss, model, parent, submitted_at, started_at, ended_at, version, name, recipe, dataset, base, priority, cluster, register, nodes, gpus_per_node, cpus_per_gpu, memory_mib_per_gpu, time_limit`
	attempts := `number, state, reason, detail, cluster, external_id, run_dir, intent, resume_step, resume_from, last_step, saved_step, unknown_since, placed_at, started_at, ended_at, exits, placement, version, gpus`
	counted := fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d)`, 2*n+1)
	when := func(column, more string) string {
		return `' || strftime('%Y-%m-%dT%H:%M:%SZ', ` + column + ` / 1000000000` + more + `, 'unixepoch') || '`
	}
	job := `{"id":"1234567","name":"forge-01jd0000000000000000000000-1","state":"COMPLETED","partition":"gpu","submitted_at":"2026-11-26T10:00:00Z","started_at":"` + when("started_at", "") + `","ended_at":"` + when("exited_at", " + 3600") + `"}`
	if err := db.Raw(ctx, `INSERT INTO runs (id, number, attempt, user_name, `+runs+`) `+counted+` SELECT printf('R%025d', i), i, 1, 'user-' || (i / 2 % 100), `+runs+` FROM n, runs WHERE runs.number = 1`,
		`INSERT INTO attempts (run, exited_at, first_step_at, last_step_at, kept_at, price, batch, `+attempts+`) `+counted+` SELECT printf('R%025d', i), CASE WHEN i % 2 = 0 THEN exited_at ELSE 1 END, started_at, exited_at, exited_at, 7 + i,
			CASE WHEN i % 4 = 0 THEN '`+job+`' ELSE '' END, `+attempts+` FROM n, attempts AS a WHERE a.run = '`+string(run.ID)+`'`); err != nil {
		t.Fatal(err)
	}
	return acme
}

func TestOfManyRunsThoseThatCostMostAreToldAndTheTotalHasAll(t *testing.T) {
	acme, now := manyRuns(t, 1100), time.Now()
	c, err := acme.Costs(ctx, forge.CostByRun, now.Add(-time.Hour), now.Add(2*time.Hour), now.Add(2*time.Hour))
	must(t, err)
	if len(c.Rows) != 1000 || c.More != 101 || c.Total.Runs != 1101 || c.Total.Attempts != 1101 {
		t.Fatalf("%d rows, %d more, in all %+v", len(c.Rows), c.More, c.Total)
	}
	// Each of Slurm's had its nodes an hour longer, by Slurm's own count.
	for i, r := range c.Rows {
		if i > 0 && *r.Money > *c.Rows[i-1].Money {
			t.Fatalf("row %d cost %v, the one before it %v", i, *r.Money, *c.Rows[i-1].Money)
		}
	}
	if first := c.Rows[0]; first.Key != "2200" || first.GPUHours < 1.9 || first.Runs != 1 {
		t.Fatalf("first is %+v", first)
	}
	users, err := acme.Costs(ctx, forge.CostByUser, now.Add(-time.Hour), now.Add(2*time.Hour), now.Add(2*time.Hour))
	must(t, err)
	if users.Total.Runs != 1101 || *users.Total.Money != *c.Total.Money || users.Total.GPUHours != c.Total.GPUHours {
		t.Errorf("by user %+v in all, by run %+v", users.Total, c.Total)
	}
}

// BenchmarkCosts is a question about a month in which 100,000 runs ended, of a site that had as many before. cpu_ms is what the process worked for
// one answer, whatever else the machine does.
func BenchmarkCosts(b *testing.B) {
	acme := manyRuns(b, 100_000)
	now := time.Now()
	for _, by := range []forge.CostBy{forge.CostByUser, forge.CostByModel, forge.CostByRun} {
		b.Run(string(by), func(b *testing.B) {
			before := worked(b)
			for b.Loop() {
				c, err := acme.Costs(ctx, by, now.Add(-time.Hour), now.Add(2*time.Hour), now.Add(2*time.Hour))
				if err != nil || c.Total.Runs < 100_000 {
					b.Fatalf("%d runs, %v", c.Total.Runs, err)
				}
			}
			b.ReportMetric((worked(b)-before).Seconds()*1000/float64(b.N), "cpu_ms")
		})
	}
}

// worked is the CPU time that the process has had.
func worked(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
