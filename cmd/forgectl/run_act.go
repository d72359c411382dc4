package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

func (a *app) runCancelCommand() *cli.Command {
	return &cli.Command{Name: "cancel", Usage: "stop a run: TERM, then KILL after its grace; checkpoints stay", ArgsUsage: "RUN",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "save", Usage: "write a checkpoint first"},
			&cli.BoolFlag{Name: "now", Usage: "KILL at once"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			mode := forge.CancelTerm
			switch {
			case c.Bool("save") && c.Bool("now"):
				return forge.Invalidf("now", "cannot be used with --save: a run that is killed at once saves nothing")
			case c.Bool("save"):
				mode = forge.CancelSave
			case c.Bool("now"):
				mode = forge.CancelNow
			}
			return a.runCancel(c.Context, args[0], mode)
		}}
}

func (a *app) runCancel(ctx context.Context, run string, mode forge.CancelMode) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	r, err := cl.CancelRun(ctx, run, mode)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(r))
	case modeTSV:
		p.table().row(strconv.FormatInt(r.Number, 10), string(r.State), string(r.Cancel))
	default:
		if r.State.Terminal() {
			p.line("run %d is %s", r.Number, clean(string(r.State)))
			break
		}
		p.line("run %d is asked to stop (%s)", r.Number, map[forge.CancelMode]string{
			forge.CancelTerm: "TERM, then KILL after " + r.Spec.Grace.String(),
			forge.CancelSave: "it saves a checkpoint first",
			forge.CancelNow:  "KILL",
		}[mode])
		p.line("next: forgectl run show %d --watch", r.Number)
	}
	return p.done(nil)
}

func (a *app) runRetryCommand() *cli.Command {
	return &cli.Command{Name: "retry", Usage: "submit the same run again, as a new one", ArgsUsage: "RUN", Action: func(c *cli.Context) error {
		args, err := positionals(c, "RUN")
		if err != nil {
			return err
		}
		cl, err := a.connect()
		if err != nil {
			return err
		}
		s, err := cl.RetryRun(c.Context, args[0])
		if err != nil {
			return err
		}
		for _, w := range s.Warnings {
			fmt.Fprintf(a.Err, "warning: %s\n", clean(w))
		}
		return a.submitted(c.Context, cl, s, false)
	}}
}

func (a *app) runWhyCommand() *cli.Command {
	return &cli.Command{Name: "why", Usage: "say why a run is where it is", ArgsUsage: "RUN",
		Description: "forgectl run why 7\n\n" +
			"Of a run that waits: what it waits for, its place in the queue, when it is expected to start, what it is ranked by, and what would make it start sooner.",
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			return a.runWhy(c.Context, args[0])
		}}
}

func (a *app) runWhy(ctx context.Context, run string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	w, err := cl.Why(ctx, run)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(w))
	case modeTSV:
		p.table().row(strconv.FormatInt(w.Run, 10), string(w.State), string(w.Code), strconv.Itoa(w.Position), strconv.Itoa(w.Waiting), w.Sentence)
		return p.done(nil)
	}
	sentence := strings.TrimPrefix(strings.TrimPrefix(w.Sentence, string(w.State)+": "), "waits: ") // the state says that already
	p.line("run %d is %s: %s", w.Run, clean(string(w.State)), clean(sentence))
	if w.Position > 0 {
		p.line("place %d of %d in the queue", w.Position, w.Waiting)
	}
	for _, e := range w.Evidence {
		p.line("  - %s", clean(e))
	}
	p.terms(w)
	for i, n := range w.Next {
		p.line("%s %s", [2]string{"next:", "     "}[min(i, 1)], clean(n))
	}
	return p.done(nil)
}

func (a *app) runCheckpointsCommand() *cli.Command {
	return &cli.Command{Name: "checkpoints", Usage: "list a run's checkpoints, highest step first", ArgsUsage: "RUN",
		Description: "Verdicts: verified (every byte was read), written (its manifest is there, its bytes are read before use), torn, foreign; WHY says what is wrong.\n\n" +
			"forgectl run submit RECIPE --resume-from RUN@STEP begins another run from one of them.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "those that the run has removed, too"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			return a.runCheckpoints(c.Context, args[0], c.Bool("all"))
		}}
}

func (a *app) runCheckpoints(ctx context.Context, run string, all bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	saves, err := cl.Checkpoints(ctx, run)
	if err != nil {
		return err
	}
	p := a.printer()
	removed := len(saves)
	if !all {
		saves = slices.DeleteFunc(saves, func(s forge.Checkpoint) bool { return !s.Removed.IsZero() })
	}
	removed -= len(saves)
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(saves)))
	}
	t := p.table(">STEP", ">ATTEMPT", "VERDICT", ">RANKS:1", ">SIZE:2", "SAVED:3", "WHY", "PATH", ">TOOK:4", "KEPT:5", ">LOSS:6", "BEST:7")
	for _, s := range saves {
		kept, took := "", ""
		switch {
		case !s.Removed.IsZero():
			kept = "removed"
		case s.Kept:
			kept = "for ever"
		}
		loss, best := "", ""
		if s.Loss != nil {
			loss = strconv.FormatFloat(*s.Loss, 'g', 6, 64)
		}
		if s.Best {
			best = "best"
		}
		if s.SaveTime() > 0 {
			took = forge.Duration(s.SaveTime().Round(10 * time.Millisecond)).String()
		}
		t.row(strconv.FormatInt(s.Step, 10), strconv.Itoa(s.Attempt), string(s.Verdict), strconv.Itoa(s.World), p.bytes(s.Bytes), p.time(s.SavedAt), p.orDash(s.Why), s.Path,
			p.orDash(took), p.orDash(kept), p.orDash(loss), p.orDash(best))
	}
	t.flush()
	if removed > 0 && p.people() {
		fmt.Fprintf(a.Err, "removed by the run itself: %d; --all lists them\n", removed)
	}
	a.nothing(p, len(saves), "no checkpoints yet", "forgectl run show "+run)
	return p.done(nil)
}
