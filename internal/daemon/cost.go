package daemon

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	defaultPrice = "default" // the key of clusters[].prices for types that are not named
	maxPrice     = 1e6
	costsSince   = 30 * 24 * time.Hour // what is shown where nobody says since when
)

var currencyWord = regexp.MustCompile(`^\pL{1,12}$`)

func checkPrices(field string, prices map[string]float64, bad refusal) {
	for _, k := range slices.Sorted(maps.Keys(prices)) {
		if v := prices[k]; !(v >= 0 && v <= maxPrice) { // a NaN, too
			bad(field+"."+k, "%g: want 0 to %g, for an hour of one GPU", v, float64(maxPrice))
		}
		if !forge.NamesGPUType(k, k+" GPU") { // of no words: it would name every type, or none
			bad(field, "%q names no type of GPU; want words of its name, as forgectl node list shows it, or %s", k, defaultPrice)
		}
	}
}

// pricesOf is what GPUs cost by the configuration.
func pricesOf(c Config) *forge.Prices {
	p := &forge.Prices{Currency: c.Currency, Clusters: map[forge.ClusterName]forge.ClusterPrices{}}
	for _, cl := range c.Clusters {
		at := forge.ClusterPrices{Types: maps.Clone(cl.Prices), Partitions: map[string]float64{}}
		if v, ok := at.Types[defaultPrice]; ok {
			at.Default = &v
			delete(at.Types, defaultPrice)
		}
		if cl.Slurm != nil {
			for i, part := range cl.Slurm.Partitions {
				if part.PricePerGPUHour <= 0 {
					continue
				}
				at.Partitions[part.Name] = part.PricePerGPUHour
				if i == 0 {
					at.Partitions[""] = part.PricePerGPUHour
				}
			}
		}
		p.Clusters[forge.ClusterName(cl.Name)] = at
	}
	return p
}

// setPrices has what is allocated from now on cost what the settings say.
func (d *Daemon) setPrices(s *settings) {
	p := pricesOf(s.cfg)
	d.db.SetPrices(p)
	d.prices.Store(p)
	d.world.setCurrency(p.Currency)
}

// priceOn is what an hour of one GPU of a kind costs a run; false: nobody has said.
func (d *Daemon) priceOn(spec forge.RunSpec, k kind) (float64, bool) {
	partition, of := "", forge.GPUDevice
	if spec.Batch != nil {
		partition = spec.Batch.Partition
	}
	if k.cpu {
		of = forge.GPUCPUSlot
	}
	return d.prices.Load().Of(k.cluster, partition, of, k.typ)
}

// guessCost is what a run may cost; nil where its GPUs are free, how long it takes is not known, or the site has no prices at all. A submission never
// fails for it.
func (d *Daemon) guessCost(ctx context.Context, p forge.Principal, spec forge.RunSpec) *api.CostGuess {
	kinds := d.terrain().kindsOf(spec)
	if !d.prices.Load().Any() || !slices.ContainsFunc(kinds, func(k kind) bool { v, known := d.priceOn(spec, k); return !known || v > 0 }) {
		return nil
	}
	var base *forge.ModelVersion
	if spec.Base != nil && spec.Base.ID != "" {
		if v, err := d.db.For(p).ModelVersionByID(ctx, forge.ModelVersionID(spec.Base.ID)); err == nil {
			base = &v
		}
	}
	j := d.jobOf(spec, base)
	out := api.Estimate{}
	for _, k := range kinds {
		f := api.EstimateFit{Type: k.typ, Cluster: string(k.cluster), Fits: "unknown"}
		if j.Model != nil {
			if fit, err := k.fit(j, spec.Gang); err == nil {
				f = fit
			}
		}
		out.GPUs = append(out.GPUs, f)
	}
	if err := d.howLong(ctx, p, spec, j, kinds, &out); err != nil || out.Duration <= 0 {
		return nil
	}
	return &api.CostGuess{GPUHours: out.GPUHours, Cost: out.Cost, Currency: out.Currency, From: out.From}
}

// costOf adds up the attempts of a run; nil where none has had GPUs.
func (d *Daemon) costOf(attempts []forge.Attempt, now time.Time) (*forge.Cost, string) {
	var sum forge.CostSum
	for i := range attempts {
		sum.Add(&attempts[i], attempts[i].GPUs(), attempts[i].Price, time.Time{}, time.Time{}, now)
	}
	if sum.Attempts == 0 {
		return nil, ""
	}
	c := sum.Cost(1)
	return &c, d.prices.Load().Currency
}

// costs implements api.Costs.
type costs struct{ d *Daemon }

func (s costs) Costs(ctx context.Context, p forge.Principal, q api.CostQuery) (forge.Costs, error) {
	now := time.Now()
	if q.Until.IsZero() {
		q.Until = now
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-costsSince)
	}
	if !q.Since.Before(q.Until) {
		return forge.Costs{}, forge.Invalidf("until", "%s is not after since, %s", q.Until.Format(time.RFC3339), q.Since.Format(time.RFC3339)).WithOp("cost.list")
	}
	if q.By == "" {
		q.By = forge.CostByUser
	}
	out, err := s.d.db.For(p).Costs(ctx, q.By, q.Since, q.Until, now)
	out.Currency = s.d.prices.Load().Currency
	return out, err
}

// RunCosts implements api.Costs.
func (s costs) RunCosts(ctx context.Context, p forge.Principal, runs []forge.RunID) (map[forge.RunID]forge.Cost, error) {
	return s.d.db.For(p).RunCosts(ctx, runs, time.Now())
}

// unpriced lists what GPUs nobody has said the price of, as CLUSTER: TYPE. A GPU behind partitions must have one in each of those that the
// configuration names.
func (d *Daemon) unpriced() (out []string) {
	prices, named := d.prices.Load(), map[forge.ClusterName][]string{}
	for _, c := range d.live().cfg.Clusters {
		if c.Slurm != nil {
			for _, p := range c.Slurm.Partitions {
				named[forge.ClusterName(c.Name)] = append(named[forge.ClusterName(c.Name)], p.Name)
			}
		}
	}
	for _, n := range d.world.nodeList() {
		var in []string
		if n.Batch != nil {
			for _, p := range named[n.Cluster] {
				if slices.Contains(n.Batch.Partitions, p) {
					in = append(in, p)
				}
			}
		}
		if len(in) == 0 {
			in = []string{""}
		}
		for _, g := range n.GPUs {
			for _, p := range in {
				if _, known := prices.Of(n.Cluster, p, g.Kind, g.Type); !known {
					out = append(out, string(n.Cluster)+": "+g.Type)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pricesSaid looks for GPUs without a price where costs are counted: they cost nobody anything, and spend no budget.
func (d *Daemon) pricesSaid() finding {
	budgets := d.world.moneyBudgets()
	if !d.prices.Load().Any() && budgets == 0 {
		return fine("there are no prices, and no tenant has a budget in money")
	}
	if without := d.unpriced(); len(without) > 0 {
		f := fine("nobody has said what an hour of these GPUs costs: %s", strings.Join(without, ", "))
		if budgets > 0 {
			f.found += fmt.Sprintf("; work on them spends nothing of the budgets in money of %d tenants", budgets)
		}
		return f.but(api.CheckWarn, "name their types in clusters[].prices of the configuration, or set its default; 0 is free (docs/cost.md). What was allocated before stays without a price")
	}
	return fine("every type of GPU has a price; %d tenants have a budget in money", budgets)
}
