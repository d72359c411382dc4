package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) runPriorityCommand() *cli.Command {
	return &cli.Command{Name: "priority", Usage: "change the priority of a run that waits, after showing what that does", ArgsUsage: "RUN PRIORITY",
		Description: "forgectl run priority 7 60 --dry-run\n\nPRIORITY is 0 to 100, higher first. Shown are its place and expected start, now and then, and how many others would start later.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it without asking"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what it would do, and do nothing"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN", "PRIORITY")
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[1])
			if err != nil || n < forge.MinPriority || n > forge.MaxPriority {
				return forge.Invalidf("priority", "%q is no priority; want %d to %d, higher first", args[1], forge.MinPriority, forge.MaxPriority)
			}
			return a.runPriority(c.Context, args[0], n, c.Bool("yes"), c.Bool("dry-run"))
		}}
}

// mustAsk says that somebody is there to ask; the hint is what does without.
func (a *app) mustAsk(hint string) error {
	if a.InTTY {
		return nil
	}
	return forge.Invalidf("yes", "is needed where nobody can be asked").WithHint("%s", hint)
}

// said asks, and says so when the answer is no.
func (a *app) said(question, otherwise string) bool {
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(a.In).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return true
	}
	fmt.Fprintln(a.Err, otherwise)
	return false
}

func (a *app) runPriority(ctx context.Context, run string, priority int, yes, dry bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	if dry {
		return a.priorityEffect(ctx, cl, run, priority)
	}
	if !yes {
		if err := a.mustAsk("--yes does it; --dry-run only shows what it would do"); err != nil {
			return err
		}
		e, err := cl.PriorityEffect(ctx, run, priority)
		if err != nil {
			return err
		}
		if !a.said(strings.Join(a.effectText(e), "\n")+"\nchange it?", "nothing was changed") {
			return nil
		}
	}
	r, err := cl.SetPriority(ctx, run, priority)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(r))
	case modeTSV:
		p.table().row(strconv.FormatInt(r.Number, 10), string(r.State), strconv.Itoa(r.Spec.Priority))
	default:
		p.line("run %d has priority %d", r.Number, r.Spec.Priority)
		p.line("next: forgectl run why %d", r.Number)
	}
	return p.done(nil)
}

func (a *app) priorityEffect(ctx context.Context, cl *client.Client, run string, priority int) error {
	e, err := cl.PriorityEffect(ctx, run, priority)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(e))
	case modeTSV:
		p.table().row(strconv.FormatInt(e.Run, 10), strconv.Itoa(e.Was), strconv.Itoa(e.Priority), strconv.Itoa(e.Position), strconv.Itoa(e.WouldBe), strconv.Itoa(e.Waiting), e.Queue)
	default:
		for _, line := range a.effectText(e) {
			p.line("%s", line)
		}
	}
	return p.done(nil)
}

// effectText says what another priority would do.
func (a *app) effectText(e api.PriorityEffect) []string {
	if e.Queue != "" {
		return []string{fmt.Sprintf("run %d waits with priority %d in the queue of %s, which decides when it starts", e.Run, e.Was, clean(e.Queue)),
			fmt.Sprintf("with priority %d it would be told of another nice", e.Priority)}
	}
	now := fmt.Sprintf("run %d waits with priority %d: place %d of %d", e.Run, e.Was, e.Position, e.Waiting)
	then := fmt.Sprintf("with priority %d it would be place %d", e.Priority, e.WouldBe)
	if e.WouldBe == e.Position {
		then = fmt.Sprintf("with priority %d its place stays", e.Priority)
	}
	lines := []string{now, then}
	if e.Start != nil && e.Then != nil && !(e.Start.At.IsZero() && e.Then.At.IsZero()) {
		p := a.printer()
		p.mode = modeTable
		lines = append(lines, fmt.Sprintf("expected start: %s now, %s then", p.start(e.Start), p.start(e.Then)))
	}
	if e.Effect != nil {
		lines = append(lines, effectOn("others that wait", *e.Effect))
	}
	return lines
}
