package main

import (
	"context"
	"fmt"
	"maps"
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
		if err := a.knowsKey(m, o.run, k); err != nil {
			return err
		}
	}
	p := a.printer()
	switch {
	case p.mode == modeJSON:
		return p.done(p.json(m))
	case o.plot:
		for _, k := range o.query.Keys {
			for _, l := range plot(clean(k), clean(m.Units[k]), m.Curves[k], plotSize{width: a.Width, height: plotHeight}) {
				p.line("%s", l)
			}
		}
	case len(o.query.Keys) > 0:
		t := p.table("KEY", ">STEP", ">SPAN", ">MIN", ">MAX", ">LAST", "UNIT:1")
		for _, k := range o.query.Keys {
			for _, b := range m.Curves[k] {
				t.row(k, strconv.FormatInt(b.Step, 10), strconv.FormatInt(b.Span, 10), number(b.Min), number(b.Max), number(b.Last), p.orDash(m.Units[k]))
			}
		}
		t.flush()
	default:
		t := p.table("KEY", ">LAST", ">MIN", ">MAX", "UNIT:1")
		for _, k := range m.Keys {
			lo, hi := extent(m.Curves[k])
			t.row(k, number(m.Last[k]), lo, hi, p.orDash(m.Units[k]))
		}
		t.flush()
	}
	a.nothing(p, len(m.Keys), "no metrics yet", "forgectl run why "+o.run)
	return p.done(nil)
}

// knowsKey refuses a key that neither the run has reported nor its recipe names, with those that may have been meant.
func (a *app) knowsKey(m api.Metrics, run, key string) error {
	if slices.Contains(m.Keys, key) {
		return nil
	}
	if _, named := m.Units[key]; named {
		if len(m.Keys) > 0 {
			fmt.Fprintf(a.Err, "run %s has not reported %s yet\n", run, clean(key))
		}
		return nil
	}
	known := slices.Concat(m.Keys, slices.Collect(maps.Keys(m.Units)))
	if len(known) == 0 { // nothing is known of a program of somebody's own before it says something
		return nil
	}
	known = slices.Compact(sorted(known))
	with := func(keys []string) string {
		words := make([]string, len(keys))
		for i, k := range keys {
			if words[i] = clean(k); m.Units[k] != "" {
				words[i] += " (" + clean(m.Units[k]) + ")"
			}
		}
		return strings.Join(words, ", ")
	}
	meant := ""
	if near := nearest(key, known, 3); len(near) > 0 {
		meant = "; did you mean " + with(near) + "?"
	}
	return forge.Invalidf("key", "run %s has no metric %q%s", run, key, meant).WithHint("it has %s", with(known))
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
