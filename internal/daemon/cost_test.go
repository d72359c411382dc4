package daemon

import (
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

func TestABudgetThatIsSpentIsInTheSnapshotUntilItIsRenewed(t *testing.T) {
	at := time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)
	price := 4.0
	w := newWorld(store.World{
		Tenants: []forge.TenantAccount{{Tenant: "a", Weight: 1, Budget: forge.Budget{Money: 12, Period: forge.BudgetMonth, Warn: 0.5}, Spent: forge.Spending{Since: forge.BudgetMonth.Start(at), Money: 4}}, {Tenant: "b", Weight: 1}},
		Runs:    []forge.Run{{ID: "r1", Tenant: "a", User: "ann", State: forge.RunRunning, Spec: script(2)}},
		Attempts: []forge.Attempt{{Run: "r1", Number: 1, State: forge.AttemptRunning, PlacedAt: at.Add(-time.Hour), Price: &price,
			Placement: []forge.Share{{Node: "n1", Slots: []int{0, 1}}}}},
	}, nil)
	w.setCurrency("EUR")
	spent := func(now time.Time) string { return w.snapshot(now).Tenants[0].Spent }
	if got := spent(at); got != "" {
		t.Fatalf("with 8 of 12 spent: %q", got)
	}
	if _, turned := w.budgets(at); turned {
		t.Error("nothing is spent, and plans are told that something is")
	}
	later, before := at.Add(time.Hour), w.at()
	all, turned := w.budgets(later)
	if len(all) != 1 || all[0].spent.Money != 12 || !turned || w.at() == before {
		t.Fatalf("an hour later, with what runs: %+v, turned %v", all, turned)
	}
	want := "the budget of 12 EUR for November is spent: 12.00; it is renewed on 1 December, or an operator raises it"
	if got := spent(later); got != want {
		t.Fatalf("got %q", got)
	}
	if _, turned := w.budgets(later); turned {
		t.Error("that is told twice")
	}
	if u := w.uses(later)["a"].Budget; u == nil || u.Held != want || u.Share != 1 {
		t.Errorf("got %+v", u)
	}
	if w.uses(later)["b"].Budget != nil {
		t.Error("who has no budget is told of one")
	}
	december := time.Date(2026, 12, 1, 0, 1, 0, 0, time.UTC)
	if _, turned := w.budgets(december); !turned || spent(december) != "" {
		t.Errorf("in December: turned %v, %q", turned, spent(december))
	}
	// What an attempt spent counts as soon as it has ended, not with the next minute.
	a := forge.TenantAccount{Tenant: "a", Weight: 1, Budget: forge.Budget{Money: 12, Period: forge.BudgetMonth, Warn: 0.5}, Spent: forge.Spending{Since: forge.BudgetMonth.Start(december), Money: 20}}
	if !w.apply([]forge.Delta{{Tenant: &a}}) || spent(december) == "" {
		t.Error("what was spent at the end of an attempt makes no plan")
	}
}

func TestASpentBudgetHoldsWhatIsNewAndSaysSo(t *testing.T) {
	r := start(t, 4)
	r.configure(func(c *Config) {
		c.Currency = "EUR"
		c.Clusters = slices.Clone(c.Clusters)
		c.Clusters[0].Prices = map[string]float64{"cpu": 3600}
	})
	r.setPrices(r.live())
	s := tenants{r.Daemon}
	edit := func(budget float64) {
		t.Helper()
		if _, err := s.UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{Budget: &budget}); err != nil {
			t.Fatal(err)
		}
	}
	edit(1e-6)
	first := r.submit(t, script(1))
	key := r.running(t, first)
	r.fake.Finish(key, 0)
	r.await(t, first.ID, "completed", inState(forge.RunCompleted))
	second := r.submit(t, script(1))
	r.await(t, second.ID, "held for the budget", func(forge.Run) bool {
		why, err := rundata{r.Daemon}.Why(t.Context(), r.op, "2")
		return err == nil && why.Code == forge.HoldBudget && strings.Contains(why.Sentence, "the budget of 0.000001 EUR for ") && strings.Contains(why.Sentence, "it is renewed on 1 ")
	})
	if notes := r.budgetNotes(r.op.Tenant); len(notes) != 1 || !strings.HasPrefix(notes[0], "it waits: the budget of ") {
		t.Errorf("who submits is told %q", notes)
	}
	r.lookAtBudgets(t.Context(), time.Now(), map[saidKey]bool{})
	said, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Types: []forge.EventType{forge.EventBudgetSpent}}, 10)
	if err != nil || len(said) != 2 /* an operator reads both trails */ || !strings.HasPrefix(said[0].Message, "tenant default: the budget of ") {
		t.Errorf("events: %+v, %v", said, err)
	}
	d, err := runs{r.Daemon}.Run(t.Context(), r.op, "1")
	if err != nil || d.Cost == nil || d.Cost.Money == nil || *d.Cost.Money <= 0 || d.Currency != "EUR" {
		t.Errorf("run 1 cost %+v, %v", d.Cost, err)
	}
	if c, err := (costs{r.Daemon}).Costs(t.Context(), r.op, api.CostQuery{By: forge.CostByRecipe}); err != nil || len(c.Rows) != 1 || c.Rows[0].Key != "probe" || c.Currency != "EUR" || *c.Rows[0].Money != *d.Cost.Money {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := (costs{r.Daemon}).Costs(t.Context(), r.op, api.CostQuery{By: forge.CostByRecipe, Since: time.Now(), Until: time.Now().Add(-time.Hour)}); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a period that ends before it begins: %v", err)
	}
	edit(1e9)
	r.running(t, second)
	r.sameWorld(t)
}

func TestABudgetInMoneyNeedsPrices(t *testing.T) {
	n := fakeNode(2)
	for i := range n.GPUs {
		n.GPUs[i].Kind, n.GPUs[i].Type = forge.GPUDevice, "NVIDIA H100 80GB HBM3"
	}
	r := startRacked(t, n)
	money := 1000.0
	_, err := tenants{r.Daemon}.UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{Budget: &money})
	if forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "local: NVIDIA H100 80GB HBM3") || !strings.Contains(forge.HintOf(err), "--budget-gpu-hours") {
		t.Errorf("got %v (%s)", err, forge.HintOf(err))
	}
	if _, err := (tenants{r.Daemon}).UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{BudgetGPUHours: &money}); err != nil {
		t.Errorf("one in GPU-hours: %v", err)
	}
}

// priced sets the prices of the one cluster.
func (r *rig) priced(prices map[string]float64) {
	r.configure(func(c *Config) {
		c.Currency = "EUR"
		c.Clusters = slices.Clone(c.Clusters)
		c.Clusters[0].Prices = prices
	})
	r.setPrices(r.live())
}

func TestWhatARunMayCostIsSaidBeforeItRuns(t *testing.T) {
	r := startRacked(t, racked("local")...) // an H100 holds it, an A100 does not
	q := r.based(t, llama8B())
	q.Set = []string{"train.max_steps=100", "train.max_length=4096"}
	for _, c := range []struct {
		name   string
		prices map[string]float64
		want   float64 // for an hour of a GPU; below 0: not known
		told   bool    // with the submission
	}{
		{"its type has a price", map[string]float64{"H100": 3}, 3, true},
		{"the cluster has a default", map[string]float64{"A100": 9, "default": 2}, 2, true},
		{"another type has a price", map[string]float64{"A100": 9}, -1, true},
		{"it is free", map[string]float64{"default": 0}, 0, false},
		{"nothing has a price", nil, -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.priced(c.prices)
			e, err := r.estimated(t, q)
			if err != nil || e.GPUHours <= 0 {
				t.Fatalf("%+v, %v", e, err)
			}
			right := func(cost *float64, currency string) {
				t.Helper()
				if c.want < 0 && cost != nil || c.want >= 0 && (cost == nil || math.Abs(*cost-c.want*e.GPUHours) > 1e-9 || currency != "EUR") {
					t.Errorf("%g GPU-hours cost %v %s", e.GPUHours, cost, currency)
				}
			}
			right(e.Cost, e.Currency)
			if unknown := slices.ContainsFunc(e.Notes, func(n string) bool {
				return strings.Contains(n, "what an hour of a H100 80GB HBM3 costs nobody has said")
			}); unknown != (c.want < 0) {
				t.Errorf("notes: %q", e.Notes)
			}
			for _, dry := range []bool{true, false} {
				q := q
				q.DryRun = dry
				s, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, q)
				if err != nil || (s.Estimate != nil) != c.told {
					t.Fatalf("dry %v: told %+v, %v", dry, s.Estimate, err)
				}
				if s.Estimate != nil {
					right(s.Estimate.Cost, s.Estimate.Currency)
					if s.Estimate.GPUHours != e.GPUHours {
						t.Errorf("dry %v: %g GPU-hours, the estimate said %g", dry, s.Estimate.GPUHours, e.GPUHours)
					}
				}
			}
		})
	}
}

func TestGPUTimeIsCountedByWhatItWasForOncePerAttempt(t *testing.T) {
	r := start(t, 4)
	good, bad := r.submit(t, script(1)), r.submit(t, script(2))
	for run, exit := range map[forge.RunID]int{good.ID: 0, bad.ID: 2} {
		key := r.launched(t, run, 1)
		r.fake.Start(key)
		r.await(t, run, "running", inState(forge.RunRunning))
		r.fake.Finish(key, exit)
	}
	r.await(t, good.ID, "completed", inState(forge.RunCompleted))
	r.await(t, bad.ID, "failed", inState(forge.RunFailed))
	c, err := costs{r.Daemon}.Costs(t.Context(), r.op, api.CostQuery{By: forge.CostByRun})
	if err != nil || c.Total.Attempts != 2 || c.Total.Useful <= 0 || c.Total.Lost <= 0 {
		t.Fatalf("%+v, %v", c.Total, err)
	}
	counted := func() map[string]float64 {
		page := httptest.NewRecorder()
		r.meter.handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		out := map[string]float64{}
		for _, m := range regexp.MustCompile(`(?m)^forge_gpu_seconds_total\{class="(\w+)"\} (\S+)$`).FindAllStringSubmatch(page.Body.String(), -1) {
			out[m[1]], _ = strconv.ParseFloat(m[2], 64)
		}
		return out
	}
	want := map[string]float64{"useful": c.Total.Useful, "lost": c.Total.Lost, "redone": c.Total.Redone, "stalled": c.Total.Stalled, "idle": c.Total.Idle}
	// What is written of an attempt after its end is no second end.
	a, err := runs{r.Daemon}.Run(t.Context(), r.op, "1")
	if err != nil || len(a.Attempts) != 1 {
		t.Fatalf("%+v, %v", a.Attempts, err)
	}
	r.onCommit([]forge.Delta{{Attempt: &a.Attempts[0]}})
	got := counted()
	for class, hours := range want {
		if math.Abs(got[class]-3600*hours) > 1e-6 {
			t.Errorf("%s: counted %v s, forgectl cost has %v", class, got[class], 3600*hours)
		}
	}
	if len(got) != len(forge.CostClasses) {
		t.Errorf("classes: %v", got)
	}
}

func TestABudgetThatTurnsWithTheMonthHasTheQueuePlannedAgain(t *testing.T) {
	r := start(t, 1)
	r.priced(map[string]float64{"cpu": 3600})
	budget := 1e-6
	if _, err := (tenants{r.Daemon}).UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{Budget: &budget}); err != nil {
		t.Fatal(err)
	}
	first := r.submit(t, script(1))
	r.fake.Finish(r.running(t, first), 0)
	r.await(t, first.ID, "completed", inState(forge.RunCompleted))
	r.lookAtBudgets(t.Context(), time.Now(), map[saidKey]bool{})
	if _, turned := r.world.budgets(time.Now()); turned {
		t.Error("a budget that is spent as before makes plans come out anew")
	}
	before := r.world.at()
	next := forge.BudgetMonth.Start(time.Now()).AddDate(0, 1, 0).Add(time.Minute)
	r.lookAtBudgets(t.Context(), next, map[saidKey]bool{})
	if r.world.at() == before {
		t.Error("the month has turned, and no plan comes out anew")
	}
	if held := r.world.snapshot(next).Tenants; len(held) != 1 || held[0].Spent != "" {
		t.Errorf("in the next month: %+v", held)
	}
}

func TestGPUsWithoutAPriceAreNamedWhereCostsAreCounted(t *testing.T) {
	r := startRacked(t, racked("local")...)
	came(t, r.pricesSaid(), api.CheckOK, "there are no prices")
	r.priced(map[string]float64{"H100": 3})
	came(t, r.pricesSaid(), api.CheckWarn, "local: A100-SXM4-40GB")
	r.priced(map[string]float64{"H100": 3, "default": 0})
	came(t, r.pricesSaid(), api.CheckOK, "every type of GPU has a price")
	budget := 1000.0
	if _, err := (tenants{r.Daemon}).UpdateTenant(t.Context(), r.op, forge.DefaultTenant, api.UpdateTenantRequest{Budget: &budget}); err != nil {
		t.Fatal(err)
	}
	r.priced(nil)
	came(t, r.pricesSaid(), api.CheckWarn, "local: A100-SXM4-40GB, local: H100 80GB HBM3; work on them spends nothing of the budgets in money of 1 tenants")

	// Behind Slurm each partition that the configuration names must have one.
	nodes := racked("local")
	for i := range nodes {
		nodes[i].Batch = &forge.NodeBatch{Partitions: []string{"gpu", "spot", "elsewhere"}}
	}
	if err := r.db.RecordNodes(t.Context(), "local", nodes, time.Now()); err != nil {
		t.Fatal(err)
	}
	spot := 0.0
	set := func() {
		r.configure(func(c *Config) {
			c.Clusters = slices.Clone(c.Clusters)
			c.Clusters[0].Prices, c.Clusters[0].Slurm = nil, &SlurmConfig{Partitions: []PartitionConfig{{Name: "gpu", PricePerGPUHour: 2}, {Name: "spot", PricePerGPUHour: spot}}}
		})
		r.setPrices(r.live())
	}
	set()
	came(t, r.pricesSaid(), api.CheckWarn, "local: A100-SXM4-40GB, local: H100 80GB HBM3")
	spot = 1
	set()
	came(t, r.pricesSaid(), api.CheckOK, "every type of GPU has a price")
}

func TestPricesOfTheConfiguration(t *testing.T) {
	parse := func(text string) (Config, error) {
		c, err := ParseConfig([]byte(text))
		if err == nil {
			c.StateDir = "/s"
			c, err = c.resolve()
		}
		return c, err
	}
	c, err := parse("currency: EUR\nclusters:\n- name: hpc\n  kind: slurm\n  run_root: /r\n  prices: {H100: 3.5, default: 0}\n  slurm: {partitions: [{name: gpu, price_per_gpu_hour: 2}, {name: any}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	p := pricesOf(c)
	for _, x := range []struct {
		partition, typ string
		want           float64
	}{{"any", "NVIDIA H100 PCIe", 3.5}, {"any", "L4", 0}, {"gpu", "NVIDIA H100 PCIe", 2}, {"", "NVIDIA H100 PCIe", 2}} {
		if got, known := p.Of("hpc", x.partition, forge.GPUDevice, x.typ); !known || got != x.want {
			t.Errorf("%+v: got %v, %v", x, got, known)
		}
	}
	for text, field := range map[string]string{
		"currency: \"1 EUR\"\n":                         "currency",
		"clusters: [{name: a, prices: {H100: -1}}]\n":   "clusters[0].prices.H100",
		"clusters: [{name: a, prices: {H100: .nan}}]\n": "clusters[0].prices.H100",
		"clusters: [{name: a, prices: {\"//\": 1}}]\n":  "clusters[0].prices",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
