package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{Name: "run", Usage: "submit runs, follow them, act on them", Subcommands: []*cli.Command{
		a.runSubmitCommand(), a.runListCommand(), a.runShowCommand(), a.runLogsCommand(), a.runMetricsCommand(), a.runSamplesCommand(), a.runWhyCommand(),
		a.runCancelCommand(), a.runHoldCommand(), a.runReleaseCommand(), a.runPriorityCommand(), a.runRetryCommand(), a.runInterruptCommand(), a.runShellCommand(), a.runCheckpointsCommand(), a.runEventsCommand(), a.runEstimateCommand(), a.runExportCommand(),
	}}
}

const defaultRunLimit = 100

// runSorts are the fields that a listing can be ordered by.
var runSorts = []string{"number", "priority", "submitted_at", "ended_at", "loss"}

func (a *app) runListCommand() *cli.Command {
	return &cli.Command{Name: "list", Usage: "list runs, newest first",
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "state", Usage: "only runs in this state; may be given more than once, or separated by commas"},
			&cli.StringFlag{Name: "user", Usage: "only this user's runs"},
			&cli.StringFlag{Name: "recipe", Usage: "only runs of this recipe"},
			&cli.StringFlag{Name: "name", Usage: "only runs whose name begins with this"},
			&cli.StringFlag{Name: "model", Usage: "only runs that were registered as a version of this model"},
			&cli.StringFlag{Name: "pipeline", Usage: "only steps of the pipeline with this name or id"},
			&cli.StringFlag{Name: "since", Usage: "only runs submitted from then on: a time, or how long ago (2h, 7d)"},
			&cli.StringFlag{Name: "until", Usage: "only runs submitted before then"},
			&cli.StringFlag{Name: "sort", Usage: strings.Join(runSorts, ", ") + "; with a leading - the greatest first", DefaultText: "newest first"},
			&cli.BoolFlag{Name: "cost", Usage: "with what each run has had and what it cost up to now"},
			&cli.IntFlag{Name: "limit", Usage: "at most this many; 0 means all", Value: defaultRunLimit},
		}, watchFlags()...),
		Action: func(c *cli.Context) error {
			f, err := a.parseRunList(c)
			if err != nil {
				return err
			}
			w, err := parseWatch(c, watchEvery)
			if err != nil {
				return err
			}
			if w.on {
				return a.watch(c.Context, w, func(ctx context.Context, cl *client.Client) (view, error) { return a.runView(ctx, cl, f) })
			}
			return a.runList(c.Context, f, c.Bool("cost"))
		}}
}

func (a *app) parseRunList(c *cli.Context) (api.RunFilter, error) {
	if _, err := positionals(c); err != nil {
		return api.RunFilter{}, err
	}
	f := api.RunFilter{User: c.String("user"), Recipe: c.String("recipe"), Name: c.String("name"), Model: c.String("model"), Pipeline: c.String("pipeline"), Sort: c.String("sort"), Limit: c.Int("limit")}
	if f.Limit < 0 {
		return f, forge.Invalidf("limit", "%d is negative; 0 means all", f.Limit)
	}
	for _, word := range c.StringSlice("state") {
		for s := range strings.SplitSeq(word, ",") {
			if !slices.Contains(forge.RunStates, forge.RunState(s)) {
				return f, forge.Invalidf("state", "%q is no state of a run; there are %s%s", s, joinAny(forge.RunStates), didYouMean(s, texts(forge.RunStates)))
			}
			f.States = append(f.States, forge.RunState(s))
		}
	}
	if by := strings.TrimPrefix(f.Sort, "-"); c.IsSet("sort") && !slices.Contains(runSorts, by) {
		return f, forge.Invalidf("sort", "%q is nothing to sort by; there are %s%s", f.Sort, strings.Join(runSorts, ", "), didYouMean(by, runSorts))
	}
	var err error
	if f.Since, err = a.moment(c, "since"); err != nil {
		return f, err
	}
	if f.Until, err = a.moment(c, "until"); err != nil {
		return f, err
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return f, forge.Invalidf("until", "%s is not after --since %s", c.String("until"), c.String("since"))
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

func (a *app) runList(ctx context.Context, f api.RunFilter, cost bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	rows := cl.EveryRunRow(ctx, f)
	heads, cells := runHeads, p.runCells
	if cost {
		rows = cl.EveryRunRowWithCost(ctx, f)
		heads, cells = slices.Concat(runHeads, []string{">GPU_HOURS", ">COST"}), p.costCells
	}
	switch {
	case p.mode == modeJSON && cost:
		return p.done(jsonList(p, rows))
	case p.mode == modeJSON:
		return p.done(jsonList(p, cl.EveryRun(ctx, f)))
	}
	t := p.table(heads...)
	n, last := 0, int64(0)
	for r, err := range rows {
		if err != nil {
			return p.done(err)
		}
		n, last = n+1, r.Number
		t.row(cells(r)...)
	}
	t.flush()
	err = p.done(nil)
	if n == f.Limit && last > 1 {
		what := "the newest"
		if f.Sort != "" {
			what = "the first"
		}
		fmt.Fprintf(a.Err, "%s %d; all of them with --limit 0\n", what, n)
	}
	if narrowed := f; n == 0 {
		narrowed.Sort, narrowed.Limit = "", 0
		if reflect.ValueOf(narrowed).IsZero() {
			a.nothing(p, n, "no runs yet", "forgectl run submit RECIPE --dataset NAME --base NAME")
		} else {
			a.nothing(p, n, "no such runs", "forgectl run list")
		}
	}
	return err
}

var runHeads = []string{">RUN", "STATE", "NAME", "RECIPE:3", "USER", ">GPUS:5", ">PRIORITY:4", ">STEP", ">LOSS:7", "SUBMITTED:6", "ENDED:2", "REASON", "MODEL:1"}

func (p *printer) runTable() *table { return p.table(runHeads...) }

// costCells adds what a run has had. One that had nothing cost nothing.
func (p *printer) costCells(r api.RunRow) []string {
	if r.GPUHours == 0 {
		return append(p.runCells(r), "", "")
	}
	return append(p.runCells(r), p.hours(r.GPUHours), p.money(&forge.Cost{Money: r.Cost}))
}

func (p *printer) runCells(r api.RunRow) []string {
	state := string(r.State)
	if r.Held && p.people() {
		state += " (held)"
	}
	return []string{strconv.FormatInt(r.Number, 10), state, p.orDash(r.Name), r.Recipe, r.User, strconv.Itoa(r.GPUs), strconv.Itoa(r.Priority),
		steps(r.Step, r.TotalSteps), p.loss(r.Loss), p.time(r.SubmittedAt), p.time(r.EndedAt), p.orDash(string(r.Reason)), r.Model}
}

// runView is the listing as it is watched.
func (a *app) runView(ctx context.Context, cl *client.Client, f api.RunFilter) (view, error) {
	rows := []api.RunRow{}
	for r, err := range cl.EveryRunRow(ctx, f) {
		if err != nil {
			return view{}, err
		}
		rows = append(rows, r)
	}
	return view{value: rows, print: func(p *printer) {
		t := p.runTable()
		for _, r := range rows {
			t.row(p.runCells(r)...)
		}
		t.flush()
	}}, nil
}

func steps(at, total int64) string {
	return strconv.FormatInt(at, 10) + "/" + strconv.FormatInt(total, 10)
}
