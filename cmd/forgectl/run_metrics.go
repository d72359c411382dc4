package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	plotKey    = "loss"
	plotHeight = 16
)

type metricsOptions struct {
	run   string
	plot  bool
	query api.MetricsQuery
}

func (a *app) runMetricsCommand() *cli.Command {
	return &cli.Command{Name: "metrics", Usage: "print or draw a run's curves", ArgsUsage: "RUN",
		Description: "Without --key: one line a key with its last value and range. Steps are optimizer steps.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "a curve, like loss; may be given more than once"},
			&cli.BoolFlag{Name: "plot", Usage: "draw it (loss when no key is given)"},
			&cli.Int64Flag{Name: "from", Usage: "first step"},
			&cli.Int64Flag{Name: "to", Usage: "last step; 0 is the newest"},
			&cli.IntFlag{Name: "points", Usage: "at most this many points for each key", Value: api.DefaultPoints},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			o := metricsOptions{run: args[0], plot: c.Bool("plot"),
				query: api.MetricsQuery{Keys: c.StringSlice("key"), From: c.Int64("from"), To: c.Int64("to"), Points: c.Int("points")}}
			if o.query.Points < 1 || o.query.Points > api.MaxPoints {
				return forge.Invalidf("points", "%d is out of range; want 1 to %d", o.query.Points, api.MaxPoints)
			}
			if o.plot && len(o.query.Keys) == 0 {
				o.query.Keys = []string{plotKey}
			}
			return a.runMetrics(c.Context, o)
		}}
}

func (a *app) runMetrics(ctx context.Context, o metricsOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	m, err := cl.Metrics(ctx, o.run, o.query)
	if err != nil {
		return err
	}
	for _, k := range o.query.Keys {
		if len(m.Keys) > 0 && !slices.Contains(m.Keys, k) {
			return forge.Invalidf("key", "run %s reports no %q; it reports %s", o.run, k, strings.Join(m.Keys, ", "))
		}
	}
	p := a.printer()
	switch {
	case p.mode == modeJSON:
		return p.done(p.json(m))
	case o.plot:
		for _, k := range o.query.Keys {
			for _, l := range plot(clean(k), m.Curves[k], plotSize{width: a.Width, height: plotHeight}) {
				p.line("%s", l)
			}
		}
	case len(o.query.Keys) > 0:
		t := p.table("KEY", ">STEP", ">SPAN", ">MIN", ">MAX", ">LAST")
		for _, k := range o.query.Keys {
			for _, b := range m.Curves[k] {
				t.row(k, strconv.FormatInt(b.Step, 10), strconv.FormatInt(b.Span, 10), number(b.Min), number(b.Max), number(b.Last))
			}
		}
		t.flush()
	default:
		t := p.table("KEY", ">LAST", ">MIN", ">MAX")
		for _, k := range m.Keys {
			lo, hi := extent(m.Curves[k])
			t.row(k, number(m.Last[k]), lo, hi)
		}
		t.flush()
	}
	a.nothing(p, len(m.Keys), "no metrics yet", "forgectl run why "+o.run)
	return p.done(nil)
}

func extent(curve []forge.MetricBucket) (lo, hi string) {
	if len(curve) == 0 {
		return "-", "-"
	}
	a, b := curve[0].Min, curve[0].Max
	for _, c := range curve {
		a, b = min(a, c.Min), max(b, c.Max)
	}
	return number(a), number(b)
}
