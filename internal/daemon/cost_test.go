package daemon

import (
	"slices"
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
