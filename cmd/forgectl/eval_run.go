package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// evalRecipe is what eval run submits.
const evalRecipe = "eval"

// evalRunFlags are those of run submit that an eval has a use for.
var evalRunFlags = []string{"name", "set", "cpus-per-gpu", "mem-per-gpu", "time", "total-time", "start-timeout", "stall-timeout", "grace", "priority", "max-retries", "after", "cluster",
	"gpu-type", "gpu-memory", "label", "exclude", "preemptible", "partition", "account", "qos", "constraint", "reservation", "nodelist", "mail-type", "secrets-file", "no-check", "dry-run", "wait",
	"suite", "baseline"}

func (a *app) evalRunCommand() *cli.Command {
	var flags []cli.Flag
	for _, f := range slices.Concat(submitFlags(), inputFlags()) {
		if name := f.Names()[0]; slices.Contains(evalRunFlags, name) {
			if w, is := f.(*cli.BoolFlag); is && name == "wait" {
				w.Usage = "follow it until it ends, and show what it found; exit 10 if it failed, 11 if it was cancelled, 12 if it is worse than the baseline, 13 if the two cannot be compared"
			}
			flags = append(flags, f)
		}
	}
	return &cli.Command{Name: "run", Usage: "evaluate a model version", ArgsUsage: "MODEL@VERSION", Flags: flags,
		Description: "forgectl eval run chat@4 --suite safety --baseline chat@3 --wait\n\n" +
			"The same as run submit eval: a run like any other, that counts in the quota class of evals. MODEL@VERSION may be run:NUMBER, for what that run registers.\n" +
			"With --baseline it is compared when it ends, sample by sample: eval show has the comparison, and one that is worse leaves an event (eval.regressed).",
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "MODEL@VERSION")
			if err != nil {
				return err
			}
			if !c.IsSet("suite") {
				return forge.Invalidf("suite", "is missing").WithHint("forgectl suite list says which there are")
			}
			o := submitOptions{wait: c.Bool("wait")}
			inputsOf(c, &o.request)
			o.request.Recipe, o.request.Model = evalRecipe, args[0]
			if err := a.submitTerms(c, &o, nil); err != nil {
				return err
			}
			return a.evalRun(c.Context, o)
		}}
}

func (a *app) evalRun(ctx context.Context, o submitOptions) error {
	if !o.wait {
		return a.runSubmit(ctx, o)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.SubmitRun(ctx, o.request)
	if err != nil {
		return err
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(a.Err, "warning: %s\n", clean(w))
	}
	if err := a.await(ctx, cl, s); err != nil {
		return err
	}
	name := strconv.FormatInt(s.Run.Number, 10)
	if err := a.evalShow(ctx, name); err != nil {
		return err
	}
	e, err := cl.Eval(ctx, name)
	if err != nil || e.Comparison == nil {
		return err
	}
	return comparedEnd(*e.Comparison)
}

// await follows a run that was just submitted; as JSON only what it found is the answer.
func (a *app) await(ctx context.Context, cl *client.Client, s api.Submitted) error {
	if a.printer().mode != modeJSON {
		return a.submitted(ctx, cl, s, true)
	}
	d, err := a.follow(ctx, cl, api.RunDetail{Run: s.Run}, followPoll)
	if err == nil && d.State != forge.RunCompleted {
		err = forgeEnd(d)
	}
	return err
}
