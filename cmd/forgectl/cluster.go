package main

import (
	"context"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
)

func (a *app) clusterCommand() *cli.Command {
	return &cli.Command{Name: "cluster", Usage: "list clusters, look at one, let paused ones go on", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list clusters with what is free, and why one takes no new work", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.clusterList(c.Context)
		}},
		{Name: "resume", Usage: "let a paused cluster take work again; for operators", ArgsUsage: "NAME", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.clusterResume(c.Context, args[0])
		}},
		{Name: "check", Usage: "look at a cluster with jobs of its own, and say what each finding means for runs; for operators", ArgsUsage: "NAME",
			Description: "On a Slurm cluster a short job on two nodes shows whether the shared directory is shared, forged runs there, the training environment imports, clocks agree; " +
				"the settings are held against what runs need, and GPU-hours against the accounting. Jobs and files are removed at the end.\n\nExit code 1 when a check failed; a warning is none.",
			Flags: []cli.Flag{&cli.IntFlag{Name: "days", Value: 7, Usage: "how far back GPU-hours are compared with the accounting"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME")
				if err != nil {
					return err
				}
				return a.clusterCheck(c.Context, args[0], c.Int("days"))
			}},
	}}
}

func (a *app) clusterCheck(ctx context.Context, name string, days int) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	checks, err := cl.CheckCluster(ctx, name, days)
	if err != nil {
		return err
	}
	return a.printChecks(checks)
}

func (a *app) clusterList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	clusters, err := cl.Clusters(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(clusters)))
	}
	t := p.table("CLUSTER", "KIND", ">NODES", ">FREE", ">GPUS", "PAUSED", "REASON")
	for _, c := range clusters {
		var since time.Time
		reason := ""
		if c.Paused != nil {
			since, reason = c.Paused.Since, c.Paused.Reason
		}
		t.row(string(c.Name), p.orDash(c.Kind), strconv.Itoa(c.Nodes), strconv.Itoa(c.FreeGPUs), strconv.Itoa(c.GPUs), p.time(since), reason)
	}
	t.flush()
	a.nothing(p, len(clusters), "no clusters", "forged's configuration names them")
	return p.done(nil)
}

func (a *app) clusterResume(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	c, err := cl.ResumeCluster(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(c))
	case modeTSV:
		p.table().row(string(c.Name), "resumed")
	default:
		p.line("cluster %s takes new work again; runs on hold stay there until each is released", clean(string(c.Name)))
		p.line("next: forgectl run list --state pending")
	}
	return p.done(nil)
}
