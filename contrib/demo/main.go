// Command demo tells a story of forge-ml for real, on this machine: `make demo` the main job, `make demo-front` a site's first day, `make demo-slurm` a
// gang on Slurm, `make demo-queue` who goes next and why, `make demo-train` training that resumes exactly, `make demo-data` what is in a dataset and where
// it went, `make demo-gates` what may go to production, and the proof, `make demo-gpu` GPUs that fail. Each claim is printed with the command that shows it; a claim that is false ends the demo with exit code 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// budget bounds a story whose machine is in trouble.
const budget = 8 * time.Minute

// chapter is one part of a story.
type chapter struct {
	name string
	tell func(context.Context) error
}

// stories by the name that --story takes.
var stories = map[string]func(*demo) []chapter{"main": mainJob, "front": firstDay, "slurm": onSlurm, "queue": theQueue, "train": exactly, "rlhf": fromHumanFeedback, "data": whatIsInIt, "gates": throughTheGates, "gpu": gpuHealth}

func main() {
	d := &demo{began: time.Now()}
	story := flag.String("story", "main", "which story to tell: "+strings.Join(slices.Sorted(maps.Keys(stories)), " or "))
	flag.StringVar(&d.bin, "bin", "bin", "directory of forged and forgectl")
	flag.StringVar(&d.python, "python", "", "interpreter of the training environment")
	flag.StringVar(&d.data, "data", "recipes/python/data/support_chat.jsonl", "chat dataset")
	flag.BoolVar(&d.keep, "keep", false, "leave the state directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	err := fmt.Errorf("there is no story %q", *story)
	if chapters, ok := stories[*story]; ok {
		err = d.run(ctx, chapters(d))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
}

type demo struct {
	bin, python, data string
	keep              bool
	began             time.Time
	phases            []string
	site              *forgedtest.Site
	net               *netWatch          // nil: the story has more machines than this one
	slurm             *slurmtest.Cluster // nil: the story has none
	claims            int
	last              string // what there is to say at the end
}

func (d *demo) run(ctx context.Context, chapters []chapter) (err error) {
	for _, p := range []*string{&d.bin, &d.data} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if d.python == "" {
		return errors.New("--python is missing; make demo passes it")
	}
	defer func() {
		if d.site != nil {
			err = errors.Join(err, d.leave(ctx))
		}
		if d.slurm != nil {
			err = errors.Join(err, d.powerOff())
		}
		if err == nil {
			d.closing()
		}
	}()
	for _, c := range chapters {
		fmt.Printf("\n\033[1m== %s\033[0m\n", c.name)
		at := time.Now()
		if err := c.tell(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		d.phases = append(d.phases, fmt.Sprintf("%6.1f s  %s", time.Since(at).Seconds(), c.name))
	}
	return nil
}

// claim prints what was shown, and by which command.
func (d *demo) claim(ok bool, shownBy, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if !ok {
		return fmt.Errorf("this is false: %s (%s)", text, shownBy)
	}
	d.claims++
	fmt.Printf("  ✓ %s\n      %s\n", text, shownBy)
	return nil
}

// show runs a command for the reader's eyes: on a terminal it draws what people see there.
func (d *demo) show(ctx context.Context, args ...string) error { return d.showOn(ctx, d.site, args...) }

// showOn is show for somebody else's key.
func (d *demo) showOn(ctx context.Context, site *forgedtest.Site, args ...string) error {
	fmt.Printf("  $ forgectl %s\n", strings.Join(args, " "))
	cmd := site.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("forgectl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// tinyModel makes a model offline, small enough to be trained on a CPU in seconds.
func (d *demo) tinyModel(ctx context.Context) (string, error) {
	tiny := filepath.Join(d.site.Dir, "tiny")
	cmd := exec.CommandContext(ctx, d.python, "-m", "forge_train.tiny", tiny)
	paths, err := filepath.Glob(filepath.Join(d.site.State(), "python", "forge_train-*"))
	if err != nil || len(paths) == 0 {
		return "", fmt.Errorf("the training package was not unpacked: %w", err)
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.site.Dir, "PYTHONPATH=" + paths[0], "HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1"}
	fmt.Printf("  $ python -m forge_train.tiny %s\n", tiny)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tiny model: %w\n%s", err, out)
	}
	return tiny, nil
}

// until polls a run until something is so. A run that ends first makes it false.
func (d *demo) until(ctx context.Context, run, what string, ok func(api.RunDetail) bool) error {
	return d.untilOn(ctx, d.site, run, what, ok)
}

// untilOn is until for somebody else's run.
func (d *demo) untilOn(ctx context.Context, site *forgedtest.Site, run, what string, ok func(api.RunDetail) bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var r api.RunDetail
		if err := site.CtlJSON(ctx, &r, "run", "show", run); err != nil {
			return err
		}
		switch {
		case ok(r):
			return nil
		case r.State.Terminal(), r.Hold != nil:
			out, _ := site.Ctl(context.WithoutCancel(ctx), "run", "why", run)
			logs, _ := site.Ctl(context.WithoutCancel(ctx), "run", "logs", run, "--stderr")
			return fmt.Errorf("run %s is %s before %s\n%s\n%s", run, r.State, what, out, logs)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s of run %s: %w", what, run, ctx.Err())
		case <-tick.C:
		}
	}
}
