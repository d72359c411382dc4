package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) scheduleCommand() *cli.Command {
	acts := func(name, usage, done string, do func(*client.Client, context.Context, string) (api.Schedule, error)) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "SCHEDULE", Action: func(c *cli.Context) error {
			args, err := positionals(c, "SCHEDULE")
			if err != nil {
				return err
			}
			return a.scheduleChanged(done, func(cl *client.Client) (api.Schedule, error) { return do(cl, c.Context, args[0]) })
		}}
	}
	return &cli.Command{Name: "schedule", Usage: "submit evals and other runs by the clock", Subcommands: []*cli.Command{
		a.scheduleAddCommand(),
		{Name: "list", Usage: "list schedules: when they are due next, and what came of the last time", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.scheduleList(c.Context)
		}},
		{Name: "show", Usage: "show a schedule with its last firings", ArgsUsage: "SCHEDULE",
			Flags: []cli.Flag{&cli.IntFlag{Name: "last", Usage: "firings at most", Value: 20}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "SCHEDULE")
				if err != nil {
					return err
				}
				if n := c.Int("last"); n < 1 || n > 1000 {
					return forge.Invalidf("last", "%d: want 1 to 1000", n)
				}
				return a.scheduleShow(c.Context, args[0], c.Int("last"))
			}},
		acts("rm", "remove a schedule; what it did stays", "removed", (*client.Client).RemoveSchedule),
		acts("pause", "keep a schedule from firing", "paused", (*client.Client).PauseSchedule),
		acts("resume", "let a schedule fire again, from now on", "goes on", (*client.Client).ResumeSchedule),
		{Name: "run-now", Usage: "fire a schedule now; the times that it is due stay", ArgsUsage: "SCHEDULE", Action: func(c *cli.Context) error {
			args, err := positionals(c, "SCHEDULE")
			if err != nil {
				return err
			}
			return a.scheduleRunNow(c.Context, args[0])
		}},
		{Name: "clear", Usage: "let versions be promoted again that a schedule blocks; for admins", ArgsUsage: "SCHEDULE",
			Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why, in a sentence; it is kept"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "SCHEDULE")
				if err != nil {
					return err
				}
				if c.String("reason") == "" {
					return forge.Invalidf("reason", "is missing: whoever asks later why the version went on reads it").WithHint("--reason TEXT")
				}
				return a.scheduleChanged("cleared", func(cl *client.Client) (api.Schedule, error) {
					return cl.ClearSchedule(c.Context, args[0], c.String("reason"))
				})
			}},
	}}
}

func (a *app) scheduleAddCommand() *cli.Command {
	return &cli.Command{Name: "add", Usage: "make a schedule", ArgsUsage: "CRON",
		Description: "forgectl schedule add \"0 3 * * *\" --eval --suite safety --model chat@production --baseline chat@previous --tz Europe/Berlin\n\n" +
			"CRON: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly, @yearly.\n" +
			"What it names is looked up each time: chat@production is what is in production then.\n" +
			"A time that clocks jump over is due at the first minute after it, one that they show twice the first time.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "eval", Usage: "submit an eval of --model with --suite"},
			&cli.StringFlag{Name: "run", Usage: "submit the run of this file, as run submit -f does; - reads standard input"},
			&cli.StringFlag{Name: "suite", Usage: "what the eval runs"},
			&cli.StringFlag{Name: "model", Usage: "what the eval is of: NAME@production, NAME@7"},
			&cli.StringFlag{Name: "baseline", Usage: "what each eval is compared with: NAME@previous"},
			&cli.StringFlag{Name: "tz", Usage: "time zone of CRON by its IANA name: Europe/Berlin", DefaultText: "UTC"},
			&cli.StringFlag{Name: "overlap", Usage: "while the run before goes on: " + joinAny(forge.OverlapPolicies), DefaultText: "skip"},
			&cli.StringFlag{Name: "catch-up", Usage: "of what was missed while forged was down: " + joinAny(forge.CatchUpPolicies), DefaultText: "once"},
			&cli.StringFlag{Name: "on-regression", Usage: "beside telling of it: " + joinAny(forge.RegressionPolicies), DefaultText: "event"},
			&cli.StringFlag{Name: "name", Usage: "what it is called", DefaultText: "SUITE-MODEL"},
			&cli.StringFlag{Name: "cluster", Usage: "only this cluster"},
			&cli.StringSliceFlag{Name: "set", Usage: "KEY=VALUE, a parameter of the recipe; may be given more than once"},
			&cli.IntFlag{Name: "priority", Usage: "0 to 100, higher first", DefaultText: "50"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "CRON")
			if err != nil {
				return err
			}
			r := api.AddScheduleRequest{Cron: args[0], Name: c.String("name"), TZ: c.String("tz"), Baseline: c.String("baseline"), Overlap: forge.OverlapPolicy(c.String("overlap")),
				CatchUp: forge.CatchUpPolicy(c.String("catch-up")), OnRegression: forge.RegressionPolicy(c.String("on-regression"))}
			if r.Run, err = a.scheduledRun(c); err != nil {
				return err
			}
			return a.scheduleAdd(c.Context, r)
		}}
}

// scheduledRun is what the flags say is to be submitted.
func (a *app) scheduledRun(c *cli.Context) (r api.SubmitRunRequest, err error) {
	switch {
	case c.IsSet("run") == c.Bool("eval"):
		return r, forge.Invalidf("", "it is not clear what to submit").WithHint("one of --eval (with --suite and --model) and --run FILE")
	case c.IsSet("run"):
		file, err := a.readRunFile(c.String("run"))
		if err != nil {
			return r, err
		}
		if isPipeline(file) {
			return r, forge.Invalidf("run", "%s is a pipeline; a schedule submits one run", c.String("run"))
		}
		if r, err = parseRunFile(c.String("run"), file); err != nil {
			return r, err
		}
	default:
		r.Recipe = "eval"
		for _, name := range []string{"suite", "model"} {
			if c.String(name) == "" {
				return r, forge.Invalidf(name, "is missing: an eval is of a model, with a suite").WithHint("forgectl suite list; forgectl model list")
			}
		}
	}
	text(c, "suite", &r.Suite)
	text(c, "model", &r.Model)
	text(c, "cluster", &r.Cluster)
	for _, kv := range c.StringSlice("set") {
		if err := checkSet(kv); err != nil {
			return r, err
		}
		r.Set = append(r.Set, kv)
	}
	if c.IsSet("priority") {
		r.Priority = new(c.Int("priority"))
	}
	return r, nil
}

func (a *app) scheduleAdd(ctx context.Context, r api.AddScheduleRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	if r.Run.Workdir != "" {
		if r.Run.Source, err = a.takeSource(ctx, cl, submitOptions{request: r.Run}); err != nil {
			return err
		}
	}
	s, err := cl.AddSchedule(ctx, r)
	if err != nil {
		return err
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(a.Err, "warning: %s\n", clean(w))
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(s))
	case modeTSV:
		p.table().row(s.Name, s.Cron, s.TZ, p.wallTime(s.Next))
	default:
		p.line("schedule %s made: %s in %s, next %s", clean(s.Name), clean(s.Cron), clean(s.TZ), p.wallTime(s.Next))
		p.line("next: forgectl schedule show %s", clean(s.Name))
	}
	return p.done(nil)
}

func (a *app) scheduleChanged(done string, do func(*client.Client) (api.Schedule, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := do(cl)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(s))
	case modeTSV:
		p.table().row(s.Name, s.Cron, s.TZ, p.wallTime(s.Next))
	default:
		if done == "goes on" {
			done += ", next " + p.wallTime(s.Next)
		}
		p.line("schedule %s %s", clean(s.Name), done)
	}
	return p.done(nil)
}

func (a *app) scheduleRunNow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.RunSchedule(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(s))
	}
	if len(s.Firings) == 0 {
		return p.done(nil)
	}
	f := s.Firings[0]
	if p.mode == modeTSV {
		p.table().row(s.Name, string(f.State), p.number(f.Run), f.Model)
		return p.done(nil)
	}
	p.line("schedule %s fired: run %d of %s", clean(s.Name), f.Run, clean(f.Model))
	if f.Words != "" {
		p.line("%s", clean(f.Words))
	}
	p.line("next: forgectl run show %d --watch", f.Run)
	p.line("      forgectl schedule show %s", clean(s.Name))
	return p.done(nil)
}
