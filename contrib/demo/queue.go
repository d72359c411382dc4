package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

// Two tenants share a machine of four slots under the default policy. The ranks are the probe of the tests: they speak the whole rank
// contract, and what they end with shows whether a resume lost or doubled a step.
const (
	longSteps  = 600 // of 50 ms
	queueExtra = "policy: {preset: default, probe: 2s, backfill_margin: 1s}\n"
)

type queueDay struct {
	*demo
	ada, bob *forgedtest.Site // the same site, by their keys
}

func theQueue(d *demo) []chapter {
	t := &queueDay{demo: d}
	return []chapter{
		{"init, serve; two tenants", t.start},
		{"short runs overtake a long gang, which saves, resumes and ends as if nothing had been", t.overtake},
		{"a reservation is kept", t.reserve},
		{"a what-if that comes true", t.whatIf},
		{"the same planner on traces", t.traces},
	}
}

func (t *queueDay) start(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "forge")
	if err != nil {
		return err
	}
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: t.bin, CPUSlots: 4, Network: "none", KeepOnStop: t.keep, Dir: dir, Extra: queueExtra,
		RunRoot: filepath.Join(dir, "scratch"), WithProbe: true, PollEvery: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	t.site = s
	if err := s.Start(ctx); err != nil {
		return err
	}
	for _, p := range []struct {
		tenant, user string
		site         **forgedtest.Site
	}{{"physics", "ada", &t.ada}, {"biology", "bob", &t.bob}} {
		for _, args := range [][]string{{"tenant", "create", p.tenant}, {"--tenant", p.tenant, "user", "create", p.user}} {
			if err := t.show(ctx, args...); err != nil {
				return err
			}
		}
		secret, err := s.Ctl(ctx, "--tenant", p.tenant, "key", "create", p.user)
		if err != nil {
			return err
		}
		*p.site = s.As(strings.TrimSpace(secret))
	}
	var tenants []struct {
		Name   string
		Weight float64
	}
	if err := t.show(ctx, "tenant", "edit", "physics", "--weight", "2"); err != nil {
		return err
	}
	if err := t.show(ctx, "tenant", "list"); err != nil {
		return err
	}
	if err := s.CtlJSON(ctx, &tenants, "tenant", "list"); err != nil {
		return err
	}
	weight := 0.0
	for _, x := range tenants {
		if x.Name == "physics" {
			weight = x.Weight
		}
	}
	return t.claim(weight == 2, "forgectl tenant list", "physics is entitled to twice as much as biology")
}

// probe submits a run of the probe recipe and gives its number.
func (t *queueDay) probe(ctx context.Context, as *forgedtest.Site, gpus, steps, ms int, more ...string) (string, error) {
	args := append([]string{"run", "submit", "probe", "--gpus-per-node", strconv.Itoa(gpus), "--set", fmt.Sprint("steps=", steps), "--set", fmt.Sprint("step_ms=", ms), "--set", "save_every=20"}, more...)
	fmt.Printf("  $ forgectl %s\n", strings.Join(args, " "))
	var out api.Submitted
	if err := as.CtlJSON(ctx, &out, args...); err != nil {
		return "", err
	}
	return fmt.Sprint(out.Run.Number), nil
}

func (t *queueDay) run(ctx context.Context, as *forgedtest.Site, run string) (api.RunDetail, error) {
	var r api.RunDetail
	return r, as.CtlJSON(ctx, &r, "run", "show", run)
}

func ended(r api.RunDetail) bool { return r.State.Terminal() }

// why asks until the answer is of that code, shows it, and gives it.
func (t *queueDay) why(ctx context.Context, as *forgedtest.Site, run string, code forge.HoldCode) (api.Why, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var w api.Why
		if err := as.CtlJSON(ctx, &w, "run", "why", run); err != nil {
			return w, err
		}
		if w.Code == code {
			return w, t.showOn(ctx, as, "run", "why", run)
		}
		if w.State != forge.RunPending {
			return w, fmt.Errorf("run %s is %s and never waited with %q: %s", run, w.State, code, w.Sentence)
		}
		select {
		case <-ctx.Done():
			return w, fmt.Errorf("run %s waits with %q, not with %q: %s", run, w.Code, code, w.Sentence)
		case <-tick.C:
		}
	}
}

func (t *queueDay) overtake(ctx context.Context) error {
	// By a first run forged learns that biology's runs of this recipe report their steps: later ones are tried at once, for the probe time.
	first, err := t.probe(ctx, t.bob, 1, 60, 50, "--name", "first")
	if err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.bob, first, "its end", ended); err != nil {
		return err
	}
	long, err := t.probe(ctx, t.ada, 4, longSteps, 50, "--name", "long", "--set", "save_ms=300") // long enough for a look at who waits for it
	if err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.ada, long, "step 60", func(r api.RunDetail) bool { return r.Step >= 60 }); err != nil {
		return err
	}
	short, err := t.probe(ctx, t.bob, 1, 20, 50, "--name", "short")
	if err != nil {
		return err
	}
	w, err := t.why(ctx, t.bob, short, forge.HoldPreempting)
	if err != nil {
		return err
	}
	if err := t.claim(strings.Contains(w.Sentence, "waits for 1 of 1 run"), "forgectl run why "+short+", with bob's key", "bob's short run %s", strings.TrimSuffix(w.Sentence, ".")); err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.bob, short, "its end", ended); err != nil {
		return err
	}
	// The long one goes on; now it is spared, and the next short run waits for its turn.
	if err := t.untilOn(ctx, t.ada, long, "its second attempt", func(r api.RunDetail) bool {
		return r.Attempt == 2 && r.State == forge.RunRunning
	}); err != nil {
		return err
	}
	second, err := t.probe(ctx, t.bob, 1, 20, 50, "--name", "second")
	if err != nil {
		return err
	}
	if w, err = t.why(ctx, t.bob, second, forge.HoldCapacity); err != nil {
		return err
	}
	if err := t.claim(w.Sentence != "", "forgectl run why "+second, "the next short run stops nobody: the long one was stopped a moment ago and is spared"); err != nil {
		return err
	}
	for run, as := range map[string]*forgedtest.Site{long: t.ada, second: t.bob} {
		if err := t.untilOn(ctx, as, run, "its end", ended); err != nil {
			return err
		}
	}
	if err := t.showOn(ctx, t.ada, "run", "events", long); err != nil {
		return err
	}
	l, err := t.run(ctx, t.ada, long)
	if err != nil {
		return err
	}
	s, err := t.run(ctx, t.bob, short)
	if err != nil {
		return err
	}
	if len(l.Attempts) != 2 {
		return fmt.Errorf("the long run has %d attempts, want 2", len(l.Attempts))
	}
	if err := t.claim(s.EndedAt.Before(l.EndedAt) && l.Attempts[0].Reason == forge.EndCheckpointedPreempt, "forgectl run show "+long+", run show "+short,
		"the short run ended %s before the long one, which was preempted once", l.EndedAt.Sub(s.EndedAt).Round(time.Second)); err != nil {
		return err
	}
	if l.Loss == nil {
		return errors.New("the long run has no loss")
	}
	want := forgedtest.ProbeLoss(longSteps)
	return t.claim(l.State == forge.RunCompleted && l.Attempts[1].ResumeStep > 0 && *l.Loss == want, "forgectl run show "+long,
		"it went on from step %d; its last value is %.6f, as undisturbed (%.6f)", l.Attempts[1].ResumeStep, *l.Loss, want)
}

// reserve: a run that must not be stopped holds half of the machine; a gang of a higher class waits for all of it, and only who is gone in time overtakes it.
func (t *queueDay) reserve(ctx context.Context) error {
	holder, err := t.probe(ctx, t.ada, 2, 240, 50, "--preemptible=false", "--time", "25s", "--name", "holder")
	if err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.ada, holder, "its start", func(r api.RunDetail) bool { return r.State == forge.RunRunning }); err != nil {
		return err
	}
	head, err := t.probe(ctx, t.bob, 4, 20, 50, "--priority", "60", "--name", "head")
	if err != nil {
		return err
	}
	late, err := t.probe(ctx, t.ada, 2, 20, 50, "--preemptible=false", "--time", "10m", "--name", "late")
	if err != nil {
		return err
	}
	w, err := t.why(ctx, t.ada, late, forge.HoldBehind)
	if err != nil {
		return err
	}
	if err := t.claim(strings.Contains(w.Sentence, "would fit now"), "forgectl run why "+late, "one that may run for ten minutes and cannot be stopped waits behind the gang: %s", w.Sentence); err != nil {
		return err
	}
	brief, err := t.probe(ctx, t.ada, 2, 20, 50, "--preemptible=false", "--time", "8s", "--name", "brief")
	if err != nil {
		return err
	}
	if err := t.showOn(ctx, t.bob, "queue"); err != nil {
		return err
	}
	for run, as := range map[string]*forgedtest.Site{brief: t.ada, holder: t.ada, head: t.bob, late: t.ada} {
		if err := t.untilOn(ctx, as, run, "its end", ended); err != nil {
			return err
		}
	}
	var h, b, l, x api.RunDetail
	for _, g := range []struct {
		run  string
		as   *forgedtest.Site
		into *api.RunDetail
	}{{head, t.bob, &h}, {brief, t.ada, &b}, {late, t.ada, &l}, {holder, t.ada, &x}} {
		if *g.into, err = t.run(ctx, g.as, g.run); err != nil {
			return err
		}
	}
	if err := t.claim(b.StartedAt.Before(h.StartedAt) && !b.EndedAt.After(x.EndedAt.Add(5*time.Second)), "forgectl run show "+brief, "one that ends within 8 s overtook the gang on what it waits for"); err != nil {
		return err
	}
	return t.claim(h.StartedAt.Before(l.StartedAt) && h.StartedAt.Sub(x.EndedAt) < 5*time.Second && len(x.Attempts) == 1, "forgectl run show "+head,
		"the gang started %s after the run that it waited for, before all others; nobody was stopped", h.StartedAt.Sub(x.EndedAt).Round(10*time.Millisecond))
}

// traces replays a made trace under several policies, and a public one where it lies beside the project.
func (t *queueDay) traces(ctx context.Context) error {
	trace := filepath.Join(t.site.Dir, "trace.csv")
	fmt.Println("  $ forgectl simulate --generate 3000 --seed 7 --cluster 8x8 --load 0.95 > trace.csv")
	out, err := t.site.Ctl(ctx, "simulate", "--generate", "3000", "--seed", "7", "--cluster", "8x8", "--load", "0.95")
	if err != nil {
		return err
	}
	if err := os.WriteFile(trace, []byte(out), 0o600); err != nil {
		return err
	}
	f, err := t.table(ctx, trace, []string{"fifo", "fair", "srsf", "default"}, nil)
	if err != nil {
		return err
	}
	if err := t.claim(f["default"].AvgJCT < 0.6*f["fair"].AvgJCT && f["default"].Makespan < 1.02*f["fair"].Makespan, "forgectl simulate --trace trace.csv --policy default",
		"on the same work runs complete in %.0f %% of the time that strict age with backfill takes, and the end comes no later", 100*f["default"].AvgJCT/f["fair"].AvgJCT); err != nil {
		return err
	}
	plot := filepath.Join(t.site.Dir, "queue.svg")
	if err := t.show(ctx, "simulate", "--trace", trace, "--cluster", "8x8", "--plot", plot); err != nil {
		return err
	}
	svg, err := os.ReadFile(plot)
	if err != nil {
		return err
	}
	if err := t.claim(strings.HasPrefix(string(svg), "<svg") || strings.HasPrefix(string(svg), "<?xml"), "--plot queue.svg", "utilisation and queue are drawn: %d bytes of SVG", len(svg)); err != nil {
		return err
	}
	philly := filepath.Join("..", "shared", "traces", "philly-1.csv")
	if _, err := os.Stat(philly); err != nil {
		fmt.Println("  (philly-1, a public trace, does not lie at ../shared/traces: see docs/simulate.md for how it came out)")
		return nil
	}
	g, err := t.table(ctx, philly, []string{"fair", "srsf", "default"}, published)
	if err != nil {
		return err
	}
	return t.claim(g["default"].AvgJCT <= 1.11*published["SRSF"].AvgJCT && g["default"].Makespan <= 1.01*published["Tiresias-L"].Makespan, "forgectl simulate --trace philly-1.csv --cluster 8x8 --estimates oracle",
		"philly-1: the average of shortest-first and the end of Tiresias-L, at once")
}

// published is what Muri's simulator gives on philly-1, exclusive GPUs (SIGCOMM '22, its raw numbers).
var published = map[string]sim.Figures{
	"SRSF": {AvgJCT: 980141, Makespan: 26065759}, "Themis": {AvgJCT: 1823179, Makespan: 24658269}, "Tiresias-L": {AvgJCT: 3330371, Makespan: 23556410},
}

// table replays a trace under several policies with all durations known, and prints it beside what others published.
func (t *queueDay) table(ctx context.Context, trace string, policies []string, beside map[string]sim.Figures) (map[string]sim.Figures, error) {
	out := map[string]sim.Figures{}
	fmt.Printf("  %-22s %14s %14s %14s\n", "policy", "average JCT", "makespan", "p95 queue")
	for _, name := range []string{"SRSF", "Themis", "Tiresias-L"} {
		if f, ok := beside[name]; ok {
			fmt.Printf("  %-22s %12.0f s %12.0f s %16s\n", name+" (published)", f.AvgJCT, f.Makespan, "")
		}
	}
	for _, p := range policies {
		var f sim.Figures
		if err := t.site.CtlJSON(ctx, &f, "simulate", "--trace", trace, "--cluster", "8x8", "--policy", p, "--estimates", "oracle", "--restart-cost", "30s"); err != nil {
			return nil, err
		}
		out[p] = f
		fmt.Printf("  %-22s %12.0f s %12.0f s %14.0f s\n", p, f.AvgJCT, f.Makespan, f.P95Queue)
	}
	return out, nil
}

// whatIf asks when a run would start, submits it, and compares.
func (t *queueDay) whatIf(ctx context.Context) error {
	busy, err := t.probe(ctx, t.ada, 4, 600, 50, "--preemptible=false", "--name", "busy")
	if err != nil {
		return err
	}
	// Its pace is believed after some seconds of steps.
	if err := t.untilOn(ctx, t.ada, busy, "step 300", func(r api.RunDetail) bool { return r.Step >= 300 }); err != nil {
		return err
	}
	args := []string{"run", "submit", "probe", "--gpus-per-node", "2", "--set", "steps=20", "--set", "step_ms=50"}
	if err := t.showOn(ctx, t.bob, append(args, "--dry-run")...); err != nil {
		return err
	}
	var plan api.Submitted
	if err := t.bob.CtlJSON(ctx, &plan, append(args, "--dry-run")...); err != nil {
		return err
	}
	if plan.Start == nil || plan.Start.At.IsZero() {
		return errors.New("a dry run says nothing of a start")
	}
	run, err := t.probe(ctx, t.bob, 2, 20, 50)
	if err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.bob, run, "its end", ended); err != nil {
		return err
	}
	r, err := t.run(ctx, t.bob, run)
	if err != nil {
		return err
	}
	off := r.StartedAt.Sub(plan.Start.At).Round(100 * time.Millisecond)
	return t.claim(off.Abs() < 5*time.Second, "forgectl run submit … --dry-run; forgectl run show "+run, "foretold for %s, started %s after that", plan.Start.At.Format("15:04:05"), off)
}
