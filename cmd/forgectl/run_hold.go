package main

import (
	"context"
	"strconv"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

func (a *app) runHoldCommand() *cli.Command {
	return &cli.Command{Name: "hold", Usage: "keep a waiting run from starting until it is released", ArgsUsage: "RUN",
		Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why; whoever asks why the run waits is told"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			return a.runHold(c.Context, args[0], c.String("reason"))
		}}
}

func (a *app) runHold(ctx context.Context, run, reason string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	r, err := cl.HoldRun(ctx, run, reason)
	if err != nil {
		return err
	}
	p := a.printer()
	if !p.people() {
		return p.done(p.heldRun(r, "held"))
	}
	p.line("run %d is on hold", r.Number)
	p.line("next: forgectl run release %d", r.Number)
	return p.done(nil)
}

func (a *app) runReleaseCommand() *cli.Command {
	return &cli.Command{Name: "release", Usage: "let a held run go on from its last verified checkpoint", ArgsUsage: "RUN", Action: func(c *cli.Context) error {
		args, err := positionals(c, "RUN")
		if err != nil {
			return err
		}
		return a.runRelease(c.Context, args[0])
	}}
}

func (a *app) runRelease(ctx context.Context, run string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	r, err := cl.ReleaseRun(ctx, run)
	if err != nil {
		return err
	}
	p := a.printer()
	if !p.people() {
		return p.done(p.heldRun(r, "released"))
	}
	then := "starts"
	if r.SavedStep > 0 {
		then = "goes on from step " + strconv.FormatInt(r.SavedStep, 10)
	}
	p.line("run %d is released and %s when its turn comes", r.Number, then)
	p.line("next: forgectl run show %d --watch", r.Number)
	return p.done(nil)
}

// heldRun is the answer of both for programs.
func (p *printer) heldRun(r forge.Run, what string) error {
	if p.mode == modeJSON {
		return p.json(r)
	}
	p.table().row(strconv.FormatInt(r.Number, 10), string(r.State), what)
	return nil
}
