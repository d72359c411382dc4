package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) tenantCommand() *cli.Command {
	return &cli.Command{Name: "tenant", Usage: "make tenants, say what each is entitled to; for operators", Subcommands: []*cli.Command{
		{Name: "create", Usage: "make a tenant, which sees nothing of the others", ArgsUsage: "TENANT", Action: func(c *cli.Context) error {
			args, err := positionals(c, "TENANT")
			if err != nil {
				return err
			}
			return a.tenantCreate(c.Context, args[0])
		}},
		{Name: "list", Usage: "list tenants", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.tenantList(c.Context)
		}},
		a.tenantEditCommand(),
		{Name: "show", Usage: "show a tenant: its share, its quotas and what it used", ArgsUsage: "TENANT", Action: func(c *cli.Context) error {
			args, err := positionals(c, "TENANT")
			if err != nil {
				return err
			}
			return a.tenantShow(c.Context, args[0])
		}},
	}}
}

func (a *app) tenantCreate(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	t, err := cl.CreateTenant(ctx, api.CreateTenantRequest{Name: name})
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(t))
	case modeTSV:
		p.table().row(string(t.ID), t.Name)
	default:
		p.line("tenant %s is made", clean(t.Name))
		p.line("next: forgectl user create NAME --role admin --tenant %s", clean(t.Name))
	}
	return p.done(nil)
}

func (a *app) tenantList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, cl.Tenants)
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("TENANT", "CREATED:3", "ID:2", ">WEIGHT", ">QUOTA", ">MAX_GPUS:1", ">GPUS", ">GPU_HOURS", ">SHARE")
	for it, err := range all {
		if err != nil {
			return p.done(err)
		}
		var u forge.TenantUse
		if it.Use != nil {
			u = *it.Use
		}
		t.row(it.Name, p.time(it.CreatedAt), string(it.ID), weightText(it.Weight), p.orDash(bounded(it.Quota.GPUs)), p.orDash(bounded(it.Quota.MaxGPUs)),
			strconv.Itoa(u.GPUs), hoursText(u), shareText(u))
	}
	t.flush()
	return p.done(nil)
}

func (a *app) tenantShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	t, err := cl.Tenant(ctx, name)
	if err != nil {
		return err
	}
	return a.showTenant(t)
}

func (a *app) showTenant(t forge.Tenant) error {
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(t))
	}
	var u forge.TenantUse
	if t.Use != nil {
		u = *t.Use
	}
	p.fields("tenant", t.Name, "id", string(t.ID), "created", p.time(t.CreatedAt), "weight", weightText(t.Weight), "quota gpus", bounded(t.Quota.GPUs),
		"max gpus", bounded(t.Quota.MaxGPUs), "max running", bounded(t.Quota.MaxRunning), "max queued", bounded(t.Quota.MaxQueued), "eval gpus", bounded(t.Quota.EvalGPUs),
		"gpus now", strconv.Itoa(u.GPUs), "running", strconv.Itoa(u.Running), "queued", strconv.Itoa(u.Queued), "gpu hours", hoursText(u), "share", shareText(u),
		"budget", budgetText(t.Budget), "spent", spentText(t.Use), "held", heldText(u.Budget), "renewed", renewedText(p, u.Budget),
		"license allow", licensesText(t.LicenseAllow), "license deny", licensesText(t.LicenseDeny))
	return p.done(nil)
}

// licensesText is a tenant's own list, or whose it is.
func licensesText(list []string) string {
	switch {
	case list == nil:
		return "the site's"
	case len(list) == 0:
		return noBound
	}
	return strings.Join(list, ", ")
}
