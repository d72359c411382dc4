package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) costCommand() *cli.Command {
	return &cli.Command{Name: "cost", Usage: "show what runs cost, and what of their GPU time was of use",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "by", Usage: "add up by " + joinAny(forge.CostBys) + "; by tenant operators see all", Value: string(forge.CostByUser)},
			&cli.StringFlag{Name: "since", Usage: "from then on: a time, or how long ago (12h, 30d)", DefaultText: "30d"},
			&cli.StringFlag{Name: "until", Usage: "up to then", DefaultText: "now"},
		},
		Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			q := api.CostQuery{By: forge.CostBy(c.String("by"))}
			if !slices.Contains(forge.CostBys, q.By) {
				return forge.Invalidf("by", "%q is nothing to add up by; there are %s%s", string(q.By), joinAny(forge.CostBys), didYouMean(string(q.By), texts(forge.CostBys)))
			}
			var err error
			if q.Since, err = a.moment(c, "since"); err != nil {
				return err
			}
			if q.Until, err = a.moment(c, "until"); err != nil {
				return err
			}
			return a.cost(c.Context, q)
		}}
}

func (a *app) cost(ctx context.Context, q api.CostQuery) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	costs, err := cl.Costs(ctx, q)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(costs))
	}
	p.costs(costs)
	a.nothing(p, len(costs.Rows), "no GPUs were had in that time", "forgectl cost --since 365d")
	return p.done(nil)
}

// costBar is how many cells the bar of whatever had most GPU time has.
const costBar = 24

func (p *printer) costs(c forge.Costs) {
	if p.people() {
		if len(c.Rows) == 0 {
			return
		}
		p.line("from %s to %s, in GPU-hours%s", p.time(c.Since), p.time(c.Until), currencyText(", cost in ", c.Currency))
		p.line("")
	}
	most := 0.0
	for _, r := range c.Rows {
		most = max(most, r.GPUHours)
	}
	heads := []string{strings.ToUpper(string(c.By)), "NAME:2", ">RUNS:7", ">ATTEMPTS:1", ">GPU_HOURS", ">COST", ">USEFUL:8", ">LOST:6", ">REDONE:5", ">STALLED:4", ">IDLE:3", ">WASTED", ">GOODPUT", ""}
	named := !p.people() || c.By == forge.CostByRun
	if !named {
		heads = slices.Delete(heads, 1, 2)
	}
	t := p.table(heads...)
	row := func(tag, key, name string, x forge.Cost, bar string) {
		cells := []string{key, name, strconv.Itoa(x.Runs), strconv.Itoa(x.Attempts), p.hours(x.GPUHours), p.money(&x), p.hours(x.Useful), p.hours(x.Lost), p.hours(x.Redone), p.hours(x.Stalled), p.hours(x.Idle),
			p.wasted(&x), p.share(x.Goodput), bar}
		if !named {
			cells = slices.Delete(cells, 1, 2)
		}
		if !p.people() {
			cells = append([]string{tag}, append(cells[:len(cells)-1:len(cells)-1], p.hours(x.Unpriced))...)
		}
		t.row(cells...)
	}
	for _, r := range c.Rows {
		key := r.Key
		if key == "" && p.people() {
			key = "(none)"
		}
		row("row", key, r.Name, r.Cost, goodBar(r.Cost, most))
	}
	row("total", "total", "", c.Total, "")
	t.flush()
	if !p.people() {
		return
	}
	if c.More > 0 {
		p.line("and %d more, which cost less; the total has them", c.More)
	}
	if c.Total.Unpriced > 0 {
		p.line("of %s GPU-hours nobody has said what they cost: the costs are without them (docs/cost.md)", p.hours(c.Total.Unpriced))
	}
}

// goodBar draws GPU time: what was of use, and what was not.
func goodBar(c forge.Cost, most float64) string {
	if most <= 0 {
		return ""
	}
	all := int(c.GPUHours/most*costBar + 0.5)
	good := min(all, int(c.Useful/most*costBar+0.5))
	return strings.Repeat("█", good) + strings.Repeat("░", all-good)
}

func (p *printer) hours(v float64) string {
	if p.people() {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// money is a cost; a + says that it is not all, since the price of some GPU time is not known. Of none of it: unknown, which is not 0.
func (p *printer) money(c *forge.Cost) string {
	switch {
	case c.Money == nil && p.people():
		return "unknown"
	case c.Money == nil:
		return ""
	case p.people() && c.Unpriced > 0:
		return strconv.FormatFloat(*c.Money, 'f', 2, 64) + "+"
	case p.people():
		return strconv.FormatFloat(*c.Money, 'f', 2, 64)
	}
	return strconv.FormatFloat(*c.Money, 'f', -1, 64)
}

// wasted is the cost of what was of no use; where that is not known, people are told its GPU-hours.
func (p *printer) wasted(c *forge.Cost) string {
	switch {
	case c.Wasted == nil && p.people():
		return p.hours(c.GPUHours-c.Useful) + "h"
	case c.Wasted == nil:
		return ""
	case p.people():
		return strconv.FormatFloat(*c.Wasted, 'f', 2, 64)
	}
	return strconv.FormatFloat(*c.Wasted, 'f', -1, 64)
}

func (p *printer) share(v *float64) string {
	switch {
	case v == nil:
		return ""
	case p.people():
		return strconv.FormatFloat(100**v, 'f', 0, 64) + " %"
	}
	return strconv.FormatFloat(*v, 'f', 4, 64)
}

func currencyText(before, currency string) string {
	if currency == "" {
		return ""
	}
	return before + clean(currency)
}

// costFields are those of run show.
func (p *printer) costFields(d api.RunDetail) []string {
	if d.Cost == nil {
		return []string{"gpu hours", "", "cost", "", "goodput", ""}
	}
	cost := p.money(d.Cost)
	if d.Cost.Money != nil && p.people() {
		cost += currencyText(" ", d.Currency)
	}
	return []string{"gpu hours", p.hours(d.Cost.GPUHours), "cost", cost, "goodput", p.share(d.Cost.Goodput)}
}

// guess is what a run may cost, before it has begun: for people cost and GPU-hours in one sentence, for programs a figure each, empty where it is not known.
func (p *printer) guess(g *api.CostGuess) (gpuHours, cost string) {
	if g == nil {
		return "", ""
	}
	if !p.people() {
		if g.Cost != nil {
			cost = p.hours(*g.Cost)
		}
		return p.hours(g.GPUHours), cost
	}
	cost = "unknown"
	if g.Cost != nil {
		cost = strconv.FormatFloat(*g.Cost, 'f', 2, 64) + currencyText(" ", g.Currency)
	}
	cost += " for " + strconv.FormatFloat(g.GPUHours, 'f', 1, 64) + " GPU-hours" + map[string]string{"history": ", as runs like it took", "operations": ", a guess by its arithmetic"}[g.From]
	if g.Cost == nil {
		cost += "; nobody has said what its GPUs cost"
	}
	return "", cost
}
