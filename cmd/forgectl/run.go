package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{Name: "run", Usage: "submit runs, follow them, act on them", Subcommands: []*cli.Command{
		a.runSubmitCommand(), a.runListCommand(), a.runShowCommand(), a.runLogsCommand(), a.runMetricsCommand(), a.runWhyCommand(),
		a.runCancelCommand(), a.runHoldCommand(), a.runReleaseCommand(), a.runRetryCommand(), a.runCheckpointsCommand(), a.runEventsCommand(),
	}}
}

const defaultRunLimit = 100

func (a *app) runListCommand() *cli.Command {
	return &cli.Command{Name: "list", Usage: "list runs, newest first",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "state", Usage: "only runs in this state; may be given more than once, or separated by commas"},
			&cli.StringFlag{Name: "user", Usage: "only this user's runs"},
			&cli.IntFlag{Name: "limit", Usage: "at most this many; 0 means all", Value: defaultRunLimit},
		},
		Action: func(c *cli.Context) error {
			f, err := parseRunList(c)
			if err != nil {
				return err
			}
			return a.runList(c.Context, f)
		}}
}

func parseRunList(c *cli.Context) (api.RunFilter, error) {
	if _, err := positionals(c); err != nil {
		return api.RunFilter{}, err
	}
	f := api.RunFilter{User: c.String("user"), Limit: c.Int("limit")}
	if f.Limit < 0 {
		return f, forge.Invalidf("limit", "%d is negative; 0 means all", f.Limit)
	}
	for _, word := range c.StringSlice("state") {
		for s := range strings.SplitSeq(word, ",") {
			if !slices.Contains(forge.RunStates, forge.RunState(s)) {
				return f, forge.Invalidf("state", "%q is no state of a run; there are %s", s, joinAny(forge.RunStates))
			}
			f.States = append(f.States, forge.RunState(s))
		}
	}
	return f, nil
}

func joinAny[T ~string](items []T) string {
	s := make([]string, len(items))
	for i := range items {
		s[i] = string(items[i])
	}
	return strings.Join(s, ", ")
}

func (a *app) runList(ctx context.Context, f api.RunFilter) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, cl.EveryRun(ctx, f)))
	}
	t := p.table(">RUN", "STATE", "NAME", "RECIPE", "USER", ">GPUS", ">PRIORITY", ">STEP", ">LOSS", "SUBMITTED", "ENDED", "REASON", "MODEL")
	n, last := 0, int64(0)
	for r, err := range cl.EveryRunRow(ctx, f) {
		if err != nil {
			return p.done(err)
		}
		n, last = n+1, r.Number
		state := string(r.State)
		if r.Held && p.people() {
			state += " (held)"
		}
		t.row(strconv.FormatInt(r.Number, 10), state, p.orDash(r.Name), r.Recipe, r.User, strconv.Itoa(r.GPUs), strconv.Itoa(r.Priority),
			steps(r.Step, r.TotalSteps), p.loss(r.Loss), p.time(r.SubmittedAt), p.time(r.EndedAt), p.orDash(string(r.Reason)), r.Model)
	}
	t.flush()
	err = p.done(nil)
	if n == f.Limit && last > 1 {
		fmt.Fprintf(a.Err, "the newest %d; all of them with --limit 0\n", n)
	}
	if len(f.States) == 0 && f.User == "" {
		a.nothing(p, n, "no runs yet", "forgectl run submit RECIPE --dataset NAME --base NAME")
	} else {
		a.nothing(p, n, "no such runs", "forgectl run list")
	}
	return err
}

func steps(at, total int64) string {
	return strconv.FormatInt(at, 10) + "/" + strconv.FormatInt(total, 10)
}
