package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/recipes"
)

func (a *app) evalCommand() *cli.Command {
	return &cli.Command{Name: "eval", Usage: "evaluate models; list evals, show and compare what they found, import those made elsewhere", Subcommands: []*cli.Command{
		a.evalRunCommand(),
		{Name: "list", Usage: "list completed and imported evals, newest first",
			Flags: []cli.Flag{&cli.StringFlag{Name: "model", Usage: "only of this model: NAME or NAME@VERSION"}, &cli.StringFlag{Name: "suite", Usage: "only of this suite"}},
			Action: func(c *cli.Context) error {
				if _, err := positionals(c); err != nil {
					return err
				}
				return a.evalList(c.Context, api.EvalFilter{Model: c.String("model"), Suite: c.String("suite")})
			}},
		{Name: "show", Usage: "show the scores of an eval against the thresholds of its suite", ArgsUsage: "EVAL", Action: func(c *cli.Context) error {
			args, err := positionals(c, "EVAL")
			if err != nil {
				return err
			}
			return a.evalShow(c.Context, args[0])
		}},
		a.evalCompareCommand(),
		a.evalImportCommand(),
	}}
}

func (a *app) evalList(ctx context.Context, f api.EvalFilter) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, func(ctx context.Context, l api.Listing) (api.List[forge.Eval], error) {
		f.Limit, f.Cursor = l.Limit, l.Cursor
		return cl.Evals(ctx, f)
	})
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table(">EVAL", "MODEL", "SUITE", ">SAMPLES:2", "LIMITED:1", "DTYPE:3", "WHEN", "FROM:4")
	n := 0
	for e, err := range all {
		if err != nil {
			return p.done(err)
		}
		n++
		t.row(e.Name, e.Model, e.Suite, strconv.FormatInt(e.Facts.Samples, 10), p.orDash(limitedBy(e)), p.orDash(e.Facts.DType), p.time(e.CreatedAt), p.orDash(importedFrom(e)))
	}
	t.flush()
	a.nothing(p, n, "no evals yet", "forgectl eval run NAME@VERSION --suite default-offline")
	return p.done(nil)
}

// importedFrom says who has imported it; empty of one that a run has made.
func importedFrom(e forge.Eval) string {
	if e.Imported == nil {
		return ""
	}
	return "imported by " + e.Imported.By
}

func limitedBy(e forge.Eval) string {
	if !e.Limited {
		return ""
	}
	return fmt.Sprintf("to %d", e.Facts.Limit)
}

func (a *app) evalShow(ctx context.Context, run string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	e, err := cl.Eval(ctx, run)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(e))
	}
	p.fields("eval", e.Name, "model", e.Model, "suite", e.Suite+" "+short(e.SuiteSHA256), "limited", limitedBy(e.Eval), "harness", "lm_eval "+e.Facts.Harness["lm_eval"],
		"computed", fmt.Sprintf("%s on %s, batches of %d", e.Facts.DType, e.Facts.Device, e.Facts.BatchSize), "chat template", short(e.Facts.ChatTemplate), "when", p.time(e.CreatedAt), "trained on", leakOf(e.Facts.Leak))
	if i := e.Imported; i != nil {
		p.fields("imported", fmt.Sprintf("by %s from %d files; which model answered is their word", i.By, len(i.Files)), "called", i.Called, "made", p.time(i.MadeAt), "lacks", strings.Join(i.Lacks, ", "))
	}
	p.section("scores")
	t := p.table("TASK", "METRIC", "FILTER:2", ">VALUE", ">STDERR:1", ">N:3", ">THRESHOLD", "REACHED", ">BOUND:4", "SURELY:4")
	for _, s := range e.Scores {
		threshold, reached, bound, surely := "-", "-", "-", "-"
		if b := benchmarkOf(e.Benchmarks, s); b != nil {
			threshold, reached = decimal(b.Threshold), reaches(*b, s.Value)
			if v, ok := badSide(*b, s); ok {
				bound, surely = decimal(&v), reaches(*b, v)
			}
		}
		p.tagged(t, "score", s.Task, s.Metric, s.Filter, strconv.FormatFloat(s.Value, 'f', 4, 64), decimal(s.StdErr), strconv.FormatInt(s.N, 10), threshold, reached, bound, surely)
	}
	t.flush()
	if c := e.Comparison; c != nil {
		if p.people() {
			p.line("")
			p.line("compared with %s (eval %s):", clean(c.Baseline.Model), clean(c.Baseline.Eval))
		}
		p.compared(*c)
	}
	if p.people() && e.Limited {
		p.line("")
		p.line("limited to %d samples of each task: these numbers stand for nothing else", e.Facts.Limit)
	}
	return p.done(nil)
}

func benchmarkOf(all []recipes.Benchmark, s forge.EvalScore) *recipes.Benchmark {
	for i := range all {
		if all[i].Task == s.Task && all[i].Metric == s.Metric && all[i].Filter == s.Filter {
			return &all[i]
		}
	}
	return nil
}

func reaches(b recipes.Benchmark, v float64) string {
	switch {
	case b.Threshold == nil:
		return "-"
	case b.Direction == "lower" && v <= *b.Threshold, b.Direction != "lower" && v >= *b.Threshold:
		return "yes"
	}
	return "no"
}

// badSide is the bound of the 95 % interval on the side that would be worse: for shares by Wilson, else by the standard error. Gates reckon
// for themselves.
func badSide(b recipes.Benchmark, s forge.EvalScore) (float64, bool) {
	const z = 1.959963984540054
	half, centre := 0.0, s.Value
	switch n := float64(s.N); {
	case s.Aggregation == "mean" && strings.HasPrefix(s.Metric, "acc") && s.Value >= 0 && s.Value <= 1:
		centre = (s.Value + z*z/(2*n)) / (1 + z*z/n)
		half = z / (1 + z*z/n) * math.Sqrt(s.Value*(1-s.Value)/n+z*z/(4*n*n))
	case s.StdErr == nil:
		return 0, false
	default:
		half = z * *s.StdErr
	}
	if b.Direction == "lower" {
		return centre + half, true
	}
	return centre - half, true
}

// leakOf says whether the questions were trained on; empty where nobody looked.
func leakOf(l *forge.EvalLeak) string {
	if l == nil {
		return ""
	}
	return l.Words()
}
