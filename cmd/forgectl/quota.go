package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// noBound is how a bound is taken away.
const noBound = "none"

// boundFlags are the bounds that tenants and users have alike.
func boundFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "max-gpus", Usage: "never more GPUs at once; none takes the bound away"},
		&cli.StringFlag{Name: "max-running", Usage: "never more runs at once; none takes the bound away"},
		&cli.StringFlag{Name: "max-queued", Usage: "never more runs that wait: more are refused at submit; none takes the bound away"},
	}
}

// boundOf reads one bound; nil when it was not given.
func boundOf(c *cli.Context, flag string) (*int, error) {
	if !c.IsSet(flag) {
		return nil, nil
	}
	if c.String(flag) == noBound {
		return new(0), nil
	}
	n, err := strconv.Atoi(c.String(flag))
	if err != nil || n < 1 || n > forge.MaxQuota {
		return nil, forge.Invalidf(flag, "%q: want a number from 1 to %d, or %s", c.String(flag), forge.MaxQuota, noBound)
	}
	return &n, nil
}

func (a *app) tenantEditCommand() *cli.Command {
	return &cli.Command{Name: "edit", Usage: "change a tenant's share of the site and its quotas; what is not given stays", ArgsUsage: "TENANT",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "weight", Usage: fmt.Sprintf("of its share of GPU time; 1 is usual, %v to %d", forge.MinWeight, forge.MaxWeight)},
			&cli.StringFlag{Name: "quota-gpus", Usage: "guaranteed: others have them while they are idle, and give them back; none guarantees nothing"},
			&cli.StringFlag{Name: "eval-gpus", Usage: "for evals at once, which count in no other bound; none takes the bound away"},
			&cli.StringFlag{Name: "budget", Usage: "what may be spent in a period, in the site's currency: when it is, nothing new is placed; none takes it away"},
			&cli.StringFlag{Name: "budget-gpu-hours", Usage: "the same in GPU-hours; none takes it away"},
			&cli.StringFlag{Name: "budget-period", Usage: "how often budgets are renewed: " + joinAny(forge.BudgetPeriods) + "; midnight UTC, weeks on Monday"},
			&cli.StringFlag{Name: "budget-warn", Usage: "part of a budget at which an event warns, 0.01 to 1"},
			&cli.StringFlag{Name: "license-allow", Usage: "licences that inputs of runs may have, like Apache-2.0,CC-BY-*; none takes the list away, site has the site's hold"},
			&cli.StringFlag{Name: "license-deny", Usage: "licences that they must not have, like CC-BY-NC-*; wins over what is allowed; none and site likewise"},
		}, boundFlags()...),
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "TENANT")
			if err != nil {
				return err
			}
			r, err := parseTenant(c)
			if err != nil {
				return err
			}
			return a.tenantEdit(c.Context, args[0], r)
		}}
}

func parseTenant(c *cli.Context) (r api.UpdateTenantRequest, err error) {
	if c.IsSet("weight") {
		w, err := strconv.ParseFloat(c.String("weight"), 64)
		if err != nil || !(w >= forge.MinWeight && w <= forge.MaxWeight) {
			return r, forge.Invalidf("weight", "%q: want a number from %v to %d; 1 is usual", c.String("weight"), forge.MinWeight, forge.MaxWeight)
		}
		r.Weight = &w
	}
	for flag, v := range map[string]**int{"quota-gpus": &r.GPUs, "max-gpus": &r.MaxGPUs, "max-running": &r.MaxRunning, "max-queued": &r.MaxQueued, "eval-gpus": &r.EvalGPUs} {
		if *v, err = boundOf(c, flag); err != nil {
			return r, err
		}
	}
	if err := parseBudget(c, &r); err != nil {
		return r, err
	}
	r.LicenseAllow, r.LicenseDeny = licenseList(c, "license-allow"), licenseList(c, "license-deny")
	if r == (api.UpdateTenantRequest{}) {
		return r, forge.Invalidf("", "nothing to change was given").WithHint("give --weight, --quota-gpus, --max-gpus, --max-running, --max-queued, --eval-gpus, --budget, --budget-gpu-hours, --budget-period, --budget-warn, --license-allow or --license-deny")
	}
	return r, nil
}

// licenseList reads a list; nil when it was not given.
func licenseList(c *cli.Context, flag string) *[]string {
	if !c.IsSet(flag) {
		return nil
	}
	list := []string{}
	if text := c.String(flag); text != noBound {
		list = strings.Split(text, ",")
	}
	return &list
}

func (a *app) tenantEdit(ctx context.Context, tenant string, r api.UpdateTenantRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	t, err := cl.UpdateTenant(ctx, tenant, r)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(t))
	case modeTSV:
		p.table().row(string(t.ID), t.Name, "changed")
	default:
		p.line("tenant %s has weight %s, %s", clean(t.Name), weightText(t.Weight), quotaText(t.Quota))
		if t.Budget != nil {
			p.line("it may spend %s: %s", budgetText(t.Budget), spentText(t.Use))
		}
		if r.GPUs != nil && *r.GPUs > 0 {
			p.line("next: forgectl doctor, which says whether all that is guaranteed is there")
		}
	}
	return p.done(nil)
}

// quotaText says a quota in words.
func quotaText(q forge.Quota) string {
	var parts []string
	add := func(n int, format string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, n))
		}
	}
	add(q.GPUs, "%d GPUs guaranteed")
	add(q.MaxGPUs, "at most %d GPUs")
	add(q.MaxRunning, "at most %d running")
	add(q.MaxQueued, "at most %d waiting")
	add(q.EvalGPUs, "at most %d GPUs for evals")
	if len(parts) == 0 {
		return "no quota"
	}
	return strings.Join(parts, ", ")
}

// bounded is a bound for a table; empty where there is none.
func bounded(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func weightText(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// shareText says how much of its share a tenant had: 1.00 is exactly that.
func shareText(u forge.TenantUse) string { return strconv.FormatFloat(u.Share, 'f', 2, 64) }

func hoursText(u forge.TenantUse) string { return strconv.FormatFloat(u.GPUHours, 'f', 1, 64) }
