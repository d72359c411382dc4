package main

import (
	"context"
	"strconv"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

func (a *app) runInterruptCommand() *cli.Command {
	return &cli.Command{Name: "interrupt", Usage: "rehearse how a run resumes: it saves, ends its attempt and goes on by itself", ArgsUsage: "RUN",
		Flags: []cli.Flag{&cli.StringFlag{Name: "as", Value: string(forge.InterruptPreempt), Usage: "what it looks like to the run: preempt or timeout"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			return a.runInterrupt(c.Context, args[0], forge.InterruptAs(c.String("as")))
		}}
}

func (a *app) runInterrupt(ctx context.Context, run string, as forge.InterruptAs) error {
	what, ok := map[forge.InterruptAs]string{forge.InterruptPreempt: "preemption", forge.InterruptTimeout: "time limit"}[as]
	if !ok {
		return forge.Invalidf("as", "%q: want preempt or timeout", as)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	r, err := cl.InterruptRun(ctx, run, as)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(r))
	case modeTSV:
		p.table().row(strconv.FormatInt(r.Number, 10), string(r.State), string(as))
	default:
		p.line("run %d is asked to save as by a %s; it goes on by itself", r.Number, what)
		p.line("next: forgectl run show %d --watch", r.Number)
	}
	return p.done(nil)
}
