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
)

func (a *app) evalCompareCommand() *cli.Command {
	return &cli.Command{Name: "compare", Usage: "hold an eval against a baseline, sample by sample", ArgsUsage: "BASELINE CANDIDATE",
		Description: "forgectl eval compare 12 15\nforgectl eval compare chat@3 chat@4 --suite safety\n\n" +
			"Each is an eval (the number of its run, or i3 for the third that was imported), or with --suite NAME@VERSION: the newest whole eval of it by that suite.\n" +
			"Above 0 the candidate is better, whichever way the metric goes. The exit code is 12 where it regressed, 13 where the two cannot be compared.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "suite", Usage: "of the evals that are named by their models"},
			&cli.IntFlag{Name: "flips", Value: api.DefaultFlips, Usage: "most samples that are shown of those that the two scored differently; where the candidate is worse first"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "BASELINE", "CANDIDATE")
			if err != nil {
				return err
			}
			n := c.Int("flips")
			if n < 0 || n > api.MaxFlips {
				return forge.Invalidf("flips", "%d is out of range; want 0 to %d", n, api.MaxFlips)
			}
			return a.evalCompare(c.Context, api.CompareFilter{Baseline: args[0], Candidate: args[1], Suite: c.String("suite"), Flips: n})
		}}
}

func (a *app) evalCompare(ctx context.Context, f api.CompareFilter) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	x, err := cl.CompareEvals(ctx, f)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		if err := p.done(p.json(x)); err != nil {
			return err
		}
		return comparedEnd(x.Comparison)
	}
	side := func(b forge.EvalBrief) string { return fmt.Sprintf("%s (eval %s)", b.Model, b.Eval) }
	if p.people() {
		p.fields("baseline", side(x.Baseline), "candidate", side(x.Candidate), "suite", x.Suite+" "+short(x.SuiteSHA256))
	}
	p.compared(x.Comparison)
	p.flips(x.Flips)
	if err := p.done(nil); err != nil {
		return err
	}
	return comparedEnd(x.Comparison)
}

// compared prints what a comparison found: what keeps the two apart, or a line for each benchmark.
func (p *printer) compared(c forge.Comparison) {
	if p.people() {
		p.line("")
	}
	if len(c.Invalid) > 0 {
		t := p.table("NOT SHARED", "BASELINE", "CANDIDATE", "WHY")
		for _, i := range c.Invalid {
			p.tagged(t, "invalid", i.Field, p.orDash(i.Baseline), p.orDash(i.Candidate), i.Why)
		}
		t.flush()
	}
	if len(c.Benchmarks) > 0 {
		reach := 0.0 // one scale for all pictures
		for _, b := range c.Benchmarks {
			reach = max(reach, math.Abs(b.Low), math.Abs(b.High), b.Margin)
		}
		heads := []string{"BENCHMARK", "METRIC", ">BASELINE", ">CANDIDATE", ">DIFFERENCE", "INTERVAL", ">P", ">WORSE:3", ">BETTER:3", ">PAIRS:2", ">NEEDED:1", "VERDICT"}
		if p.people() {
			heads = append(heads[:6:6], append([]string{"WORSE · BETTER:4"}, heads[6:]...)...)
		} else {
			heads = append(heads, "FILTER", "METHOD", "P_RAW", "MARGIN", "SAFETY")
		}
		t := p.table(heads...)
		for _, b := range c.Benchmarks {
			cells := []string{b.Task, b.Metric, fixed(b.Baseline), fixed(b.Candidate), fmt.Sprintf("%+.4f", b.Difference), fmt.Sprintf("%+.4f %+.4f", b.Low, b.High)}
			if p.people() {
				cells = append(cells, interval(b, reach))
			}
			cells = append(cells, strconv.FormatFloat(b.PAdjusted, 'g', 3, 64), strconv.FormatInt(b.Worse, 10), strconv.FormatInt(b.Better, 10), strconv.FormatInt(b.Pairs, 10), p.orDash(countOf(b.Needed)), verdictWord(b))
			if !p.people() {
				cells = append(cells, b.Filter, b.Method, strconv.FormatFloat(b.P, 'g', 3, 64), decimal(&b.Margin), strconv.FormatBool(b.Safety))
			}
			p.tagged(t, "benchmark", cells...)
		}
		t.flush()
	}
	if p.people() {
		p.line("")
		p.line("%s: %s", c.Verdict, verdictSays[c.Verdict])
		for _, b := range c.Benchmarks {
			if b.Verdict != forge.CompareNonInferior || b.UpTo != nil {
				p.line("  %s %s: %s", clean(b.Task), clean(b.Metric), clean(b.Words))
			}
		}
		return
	}
	p.line("verdict\t%s", c.Verdict)
}

var verdictSays = map[forge.CompareVerdict]string{
	forge.CompareIncomparable: "the two did not ask the same, or something of them is missing",
	forge.CompareRegressed:    "the candidate is worse",
	forge.CompareInconclusive: "the samples do not settle it",
	forge.CompareNonInferior:  "the candidate is no worse than its margins allow",
}

func verdictWord(b forge.BenchmarkComparison) string {
	if b.Safety {
		return string(b.Verdict) + " (safety)"
	}
	return string(b.Verdict)
}

func fixed(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }

// countOf leaves out what is not known.
func countOf(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// The picture of an interval: 0 in the middle, the margin where the candidate is just no worse.
const (
	intervalHalf = 10
	intervalLine = '─'
)

func interval(b forge.BenchmarkComparison, reach float64) string {
	if reach == 0 {
		reach = 1
	}
	at := func(v float64) int { return intervalHalf + int(math.Round(min(max(v/reach, -1), 1)*intervalHalf)) }
	out := []rune(strings.Repeat("·", 2*intervalHalf+1))
	for i := at(b.Low); i <= at(b.High); i++ {
		out[i] = intervalLine
	}
	out[at(-b.Margin)] = '┊'
	out[intervalHalf] = '│'
	out[at(b.Difference)] = '●'
	return string(out)
}

// flips prints samples that the two scored differently.
func (p *printer) flips(all []forge.Flip) {
	if len(all) == 0 {
		return
	}
	if !p.people() {
		t := p.table("TASK", "FILTER", "METRIC", "DOC", "BASELINE", "CANDIDATE", "WORSE", "PROMPT", "WANTED", "BASELINE_SAYS", "CANDIDATE_SAYS")
		for _, f := range all {
			p.tagged(t, "flip", f.Task, f.Filter, f.Metric, strconv.FormatInt(f.DocID, 10), fixed(f.Baseline), fixed(f.Candidate), strconv.FormatBool(f.Worse), f.Prompt, f.Target, f.BaselineResponse, f.CandidateResponse)
		}
		t.flush()
		return
	}
	p.line("")
	p.line("samples that they scored differently:")
	for i, f := range all {
		if i > 0 {
			p.line("")
		}
		way := "better"
		if f.Worse {
			way = "worse"
		}
		p.line("%s: %s, document %d, %s %s → %s", way, clean(f.Task), f.DocID, clean(f.Metric), decimal(&f.Baseline), decimal(&f.Candidate))
		p.fields("asked", flipText(f.Prompt), "wanted", flipText(f.Target), "baseline", flipText(f.BaselineResponse), "candidate", flipText(f.CandidateResponse))
	}
}

// flipText is a text with its lines behind each other, cut where nobody reads on.
func flipText(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
