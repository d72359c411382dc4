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

func (a *app) runEstimateCommand() *cli.Command {
	return &cli.Command{Name: "estimate", Usage: "say what a run would take: GPU memory by part, which GPUs hold it, time and cost", ArgsUsage: "RECIPE [-- COMMAND…]",
		Description: "forgectl run estimate lora_sft --base llama --dataset chat --set train.max_length=4096 --gpus 4\n\n" +
			"Takes the flags and the run file of run submit; nothing is submitted. From config.json and the headers of the weights alone, it counts what torch will hold.\n" +
			"Parts marked with ~ are guesses. What is not known is an error that names it (exit 7).",
		Flags: a.estimateFlags(),
		Action: func(c *cli.Context) error {
			file, err := a.fileOf(c)
			if err != nil {
				return err
			}
			if isPipeline(file) {
				return forge.Invalidf("file", "%s is a pipeline: estimate its steps one by one", c.String("file"))
			}
			o, err := a.parseSubmit(c, file)
			if err != nil {
				return err
			}
			return a.runEstimate(c.Context, o)
		}}
}

// estimateFlags are those of a submission, without what only says how it is submitted.
func (a *app) estimateFlags() []cli.Flag {
	return slices.DeleteFunc(a.runSubmitCommand().Flags, func(f cli.Flag) bool {
		return slices.Contains([]string{"wait", "dry-run", "force", "no-check"}, f.Names()[0])
	})
}

func (a *app) runEstimate(ctx context.Context, o submitOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	e, err := cl.EstimateRun(ctx, o.request)
	if err != nil {
		return o.source.lineOf(err)
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(e))
	}
	p.estimate(e)
	return p.done(nil)
}

// estimateBar is how many cells the longest bar has.
const estimateBar = 24

func (p *printer) estimate(e api.Estimate) {
	if p.people() {
		p.line("%s, each GPU holds %s; the base has %s weights", gangSize(e.Gang), size(e.Bytes), thousands(e.Parameters))
		p.line("")
	}
	var most int64
	for _, part := range e.Parts {
		most = max(most, part.Bytes)
	}
	t := p.table("PART", ">MEMORY", "", "WHAT")
	for _, part := range e.Parts {
		name, memory := strings.ReplaceAll(part.Name, "_", " "), p.bytes(part.Bytes)
		if !p.people() {
			t.row("part", part.Name, memory, strconv.FormatBool(part.Guess), part.Doc)
			continue
		}
		if part.Guess {
			memory = "~" + memory
		}
		t.row(name, memory, strings.Repeat("█", int(float64(part.Bytes)/float64(max(1, most))*estimateBar+0.5)), part.Doc)
	}
	t.flush()
	if p.people() && len(e.GPUs) > 0 {
		p.line("")
	}
	t = p.table("GPU", "CLUSTER", ">COUNT", ">MEMORY", "FITS", ">LEFT", "TIME")
	for _, g := range e.GPUs {
		left, memory, took := "", "", ""
		if g.MemoryMiB > 0 {
			left, memory = p.signed(g.FreeBytes), p.bytes(g.MemoryMiB<<20)
		}
		if g.Duration > 0 {
			took = g.Duration.String()
			if p.people() {
				took = "~" + span(g.Duration.D())
			}
		}
		row := []string{g.Type, g.Cluster, strconv.Itoa(g.Count), memory, g.Fits, left, took}
		if !p.people() {
			row = append([]string{"gpu"}, row...)
		}
		t.row(row...)
	}
	t.flush()
	for _, c := range e.Advice {
		text := "--set " + strings.Join(c.Set, " --set ")
		if c.GPUs > 0 {
			text += fmt.Sprintf(" --gpus %d", c.GPUs)
		}
		if p.people() {
			p.line("would fit with %s: %s", clean(text), size(c.Bytes))
		} else {
			p.line("advice\t%s\t%d", clean(text), c.Bytes)
		}
	}
	p.estimateTime(e)
}

func gangSize(g forge.Gang) string {
	return fmt.Sprintf("%s × %s", plural(g.Nodes, "node"), plural(g.GPUsPerNode, "GPU"))
}

func (p *printer) signed(n int64) string {
	if n < 0 {
		return "-" + p.bytes(-n)
	}
	return p.bytes(n)
}

// estimateTime says how long, at what price, and what all of it rests on.
func (p *printer) estimateTime(e api.Estimate) {
	if p.people() {
		p.line("")
	}
	steps, took, hours, cost := "", "", "", ""
	if e.Steps > 0 {
		steps = strconv.FormatInt(e.Steps, 10)
	}
	if e.Duration > 0 {
		took, hours = e.Duration.String(), strconv.FormatFloat(e.GPUHours, 'f', 2, 64)
		if p.people() {
			took = span(e.Duration.D()) + map[string]string{"history": ", as runs like it took", "operations": ", a guess by its arithmetic"}[e.From]
		}
	}
	if e.Cost != nil {
		cost = strconv.FormatFloat(*e.Cost, 'f', 2, 64)
		if p.people() {
			cost += currencyText(" ", e.Currency)
		}
	}
	if p.people() {
		for _, v := range []*string{&steps, &took, &cost} {
			if *v == "" {
				*v = "not known"
			}
		}
	}
	p.fields("steps", steps, "time", took, "GPU hours", hours, "cost", cost)
	for _, n := range e.Notes {
		if p.people() {
			p.line("note: %s", clean(n))
		} else {
			p.line("note\t%s", clean(n))
		}
	}
}
