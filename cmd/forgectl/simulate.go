package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

// simulated is what one simulate was asked for.
type simulated struct {
	trace string
	plot  string
	opt   sim.Options
}

const simRestart = 30 * time.Second

func (a *app) simulateCommand() *cli.Command {
	return &cli.Command{Name: "simulate", Usage: "replay a trace of runs, or the live queue, through forged's own planning on virtual time",
		Description: "A trace is a file with a line for each run: job_id,submit_s,num_gpu,duration_s,model. The same planner and the same presets as\n" +
			"forged's decide; --estimates says how much of the durations they see. --generate writes a trace instead of replaying one.\n" +
			"With --live the server's own queue is played on, as it is and as it would be with more nodes, without one, or under another policy.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "trace", Usage: "the `PATH` of the trace; - reads standard input"},
			&cli.StringFlag{Name: "cluster", Usage: "`NODESxGPUS`", Value: "8x8"},
			&cli.StringFlag{Name: "policy", Usage: "a preset: " + strings.Join(sim.Policies(), ", "), Value: "default"},
			&cli.StringFlag{Name: "estimates", Usage: "what the policy knows of durations: oracle (all), progress (what runs report once they work), none", Value: string(sim.EstimatesProgress)},
			&cli.StringFlag{Name: "restart-cost", Usage: "what every start but the first costs, on all of a run's GPUs (default 30s)"},
			&cli.StringFlag{Name: "checkpoint-every", Usage: "runs save so often beside their stops (default: only at stops)"},
			&cli.Float64Flag{Name: "grace-ok", Usage: "part of the saves at stops that succeed; else the work since the last checkpoint is lost", Value: 1},
			&cli.StringFlag{Name: "node-mtbf", Usage: "mean time between failures of one node, such as 30d; it is away for an hour (default: none fails)"},
			&cli.Uint64Flag{Name: "seed", Usage: "what chance is drawn from", Value: 1},
			&cli.StringFlag{Name: "plot", Usage: "draw utilisation and queue over time into this `PATH`, as SVG"},
			&cli.BoolFlag{Name: "live", Usage: "ask the server what a change would do to the queue that it has; with --add-nodes, --drain or --policy"},
			&cli.StringSliceFlag{Name: "add-nodes", Usage: "with --live: `NODESxGPUS:TYPE`, such as 4x8:h100, each like a node that is there"},
			&cli.StringSliceFlag{Name: "drain", Usage: "with --live: a `NODE` that takes no new work"},
			&cli.IntFlag{Name: "generate", Usage: "write a trace of so many runs, made from --seed for --cluster"},
			&cli.Float64Flag{Name: "load", Usage: "with --generate: GPU time asked for, as part of all there is", Value: 0.9},
		},
		Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			if c.Bool("live") {
				q, err := liveOptions(c)
				if err != nil {
					return err
				}
				return a.simulateLive(c.Context, q)
			}
			for _, name := range []string{"add-nodes", "drain"} {
				if c.IsSet(name) {
					return forge.Invalidf(name, "goes with --live")
				}
			}
			if c.IsSet("generate") {
				return a.generateTrace(c)
			}
			s, err := simulateOptions(c)
			if err != nil {
				return err
			}
			return a.simulate(c.Context, s)
		}}
}

func simulateOptions(c *cli.Context) (simulated, error) {
	s := simulated{trace: c.String("trace"), plot: c.String("plot"), opt: sim.Options{Estimates: sim.Estimates(c.String("estimates")),
		RestartCost: simRestart, GraceOK: c.Float64("grace-ok"), Seed: c.Uint64("seed")}}
	if s.trace == "" {
		return s, forge.Invalidf("trace", "is missing").WithHint("forgectl simulate --trace FILE, or --generate N > FILE to make one")
	}
	if c.IsSet("load") {
		return s, forge.Invalidf("load", "goes with --generate")
	}
	var err error
	if s.opt.Cluster, err = sim.ParseCluster(c.String("cluster")); err != nil {
		return s, err
	}
	if s.opt.Policy, err = sim.Policy(c.String("policy")); err != nil {
		return s, forge.Invalidf("policy", "%q is not a policy%s; want %s", c.String("policy"), didYouMean(c.String("policy"), sim.Policies()), strings.Join(sim.Policies(), ", "))
	}
	for name, to := range map[string]*time.Duration{"restart-cost": &s.opt.RestartCost, "checkpoint-every": &s.opt.CheckpointEvery, "node-mtbf": &s.opt.NodeMTBF} {
		if c.IsSet(name) {
			if *to, err = lifetime(c, name); err != nil {
				return s, err
			}
		}
	}
	return s, s.opt.Validate()
}

func (a *app) simulate(ctx context.Context, s simulated) error {
	jobs, err := a.readTrace(s.trace)
	if err != nil {
		return err
	}
	drawing, err := newDrawing(s.plot)
	if err != nil {
		return err
	}
	defer drawing.drop()
	stop := a.replaying(ctx, filepath.Base(s.trace), &s.opt)
	r, err := sim.Replay(ctx, jobs, s.opt)
	stop()
	if err != nil {
		return err
	}
	if err := drawing.keep(func(w io.Writer) error {
		return r.SVG(w, fmt.Sprintf("%s on %s: policy %s, estimates %s", filepath.Base(s.trace), s.opt.Cluster, r.Policy, s.opt.Estimates))
	}); err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(r.Figures))
	}
	p.figures(r, a.Width)
	return p.done(nil)
}

func (a *app) readTrace(path string) ([]sim.Job, error) {
	if path == "-" {
		return sim.ReadTrace(a.In)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, forge.Invalidf("trace", "%w", err)
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil && i.IsDir() {
		return nil, forge.Invalidf("trace", "%s is a directory; want a file", path)
	}
	return sim.ReadTrace(f)
}

// figures prints what came of a replay: a name and a value a line for programs, and for people with a picture.
func (p *printer) figures(r *sim.Result, width int) {
	f := r.Figures
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	if !p.people() {
		p.fields("policy", f.Policy, "jobs", strconv.Itoa(f.Jobs), "avg_jct_s", number(f.AvgJCT), "p99_jct_s", number(f.P99JCT), "makespan_s", number(f.Makespan),
			"avg_queue_s", number(f.AvgQueue), "p95_queue_s", number(f.P95Queue), "max_queue_s", number(f.MaxQueue), "utilization", number(f.Utilization),
			"preemptions", strconv.FormatInt(f.Preemptions, 10), "max_preemptions_per_run", strconv.Itoa(f.MaxPreempted), "lost_gpu_s", number(f.LostGPU),
			"events", strconv.FormatInt(f.Events, 10), "wall_s", number(f.Wall))
		return
	}
	took := func(v float64) string {
		return fmt.Sprintf("%s (%s s)", span(time.Duration(v*float64(time.Second))), thousands(int64(v+0.5)))
	}
	p.line("%s under policy %s", plural(f.Jobs, "run"), f.Policy)
	p.fields("completion, mean", took(f.AvgJCT), "completion, p99", took(f.P99JCT), "makespan", took(f.Makespan),
		"queueing, mean", took(f.AvgQueue), "queueing, p95", took(f.P95Queue), "queueing, longest", took(f.MaxQueue),
		"GPU time in use", fmt.Sprintf("%.1f%%", 100*f.Utilization), "preemptions", fmt.Sprintf("%s, at most %d of one run", thousands(f.Preemptions), f.MaxPreempted),
		"work done in vain", fmt.Sprintf("%.1f GPU hours", f.LostGPU/3600), "replayed", fmt.Sprintf("%s events in %.1f s", thousands(f.Events), f.Wall))
	cols := max(20, min(72, width-10))
	used, queued := r.Series.Columns(cols)
	p.line("")
	p.chart("GPUs in use", "100%", used, 1)
	most := max(1, slices.Max(append(queued, 0)))
	p.chart("runs that wait", strconv.Itoa(int(most+0.5)), queued, most)
	end := span(time.Duration(r.Series.Length()) * time.Millisecond)
	p.line("%6s  0%*s", "", len(used)-1, end)
}

const chartHeight = 4

var eighths = []rune(" ▁▂▃▄▅▆▇█")

// chart draws bars of eighths of a character, from 0 to most.
func (p *printer) chart(title, top string, values []float64, most float64) {
	p.line("%6s  %s", "", title)
	for row := chartHeight - 1; row >= 0; row-- {
		label := map[int]string{chartHeight - 1: top, 0: "0"}[row]
		bars := make([]rune, len(values))
		for i, v := range values {
			level := int(v/most*chartHeight*8+0.5) - row*8
			if row == 0 && v > 0 {
				level = max(level, 1) // something, however little, is not nothing
			}
			bars[i] = eighths[max(0, min(8, level))]
		}
		p.line("%6s %s%s", label, "│", strings.TrimRight(string(bars), " "))
	}
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// drawing is a file that appears whole or not at all.
type drawing struct {
	path string
	f    *os.File
}

// newDrawing fails before a long replay, not after it.
func newDrawing(path string) (*drawing, error) {
	if path == "" {
		return &drawing{}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, forge.Invalidf("plot", "%w", err)
	}
	return &drawing{path, f}, nil
}

func (d *drawing) keep(draw func(io.Writer) error) error {
	if d.f == nil {
		return nil
	}
	if err := draw(d.f); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	if err := d.f.Chmod(0o644); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	if err := d.f.Close(); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	if err := os.Rename(d.f.Name(), d.path); err != nil {
		return forge.Invalidf("plot", "%w", err)
	}
	d.f = nil
	return nil
}

func (d *drawing) drop() {
	if d.f != nil {
		_ = d.f.Close()
		_ = os.Remove(d.f.Name())
	}
}
