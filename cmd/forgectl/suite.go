package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

// fetchTimeout bounds a fetch: benchmarks are gigabytes at most, and a mirror may be slow.
const fetchTimeout = 2 * time.Hour

// fetchLeave is how long a loader that was interrupted has to clean its cache.
const fetchLeave = 10 * time.Second

func (a *app) suiteCommand() *cli.Command {
	return &cli.Command{Name: "suite", Usage: "list suites of benchmarks, show what they measure, check and fetch them", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list the suites that evals can run", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.suiteList(c.Context)
		}},
		{Name: "show", Usage: "show a suite with its benchmarks, thresholds and margins", ArgsUsage: "SUITE", Action: func(c *cli.Context) error {
			args, err := positionals(c, "SUITE")
			if err != nil {
				return err
			}
			return a.suiteShow(c.Context, args[0])
		}},
		{Name: "lint", Usage: "check a directory with a suite as forged would at its start, without one", ArgsUsage: "PATH",
			Description: "Exit code 0 and what the suite means, or an error that names file, line and key.",
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "PATH")
				if err != nil {
					return err
				}
				s, err := recipes.ReadSuite(args[0])
				if err != nil {
					return err
				}
				return a.suiteDone(s)
			}},
		{Name: "fetch", Usage: "bring the data of a suite into the cache of this host, for evals that run without network", ArgsUsage: "SUITE",
			Description: "Evals fetch nothing. Run this where there is network, as the account that jobs run under, with HF_HOME\nset to the cache that the nodes see. HF_ENDPOINT names a mirror, HF_TOKEN an account that may read gated data.\nA suite whose data is its own needs none of it.",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "python", Usage: "interpreter of the training environment (FORGE_PYTHON)", EnvVars: []string{"FORGE_PYTHON"}, Value: "python3"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "SUITE")
				if err != nil {
					return err
				}
				return a.suiteFetch(c.Context, args[0], c.String("python"))
			}},
	}}
}

func (a *app) suiteList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	items, err := cl.Suites(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(items)))
	}
	t := p.table("SUITE", ">VERSION:2", ">TASKS:3", "DATA", "FROM:1", "WHAT")
	for _, s := range items {
		t.row(s.Name, strconv.Itoa(s.Version), strconv.Itoa(s.Tasks), suiteData(s.Offline), recipeFrom(s.Site), s.Doc)
	}
	t.flush()
	return p.done(nil)
}

func suiteData(offline bool) string {
	if offline {
		return "its own"
	}
	return "cache"
}

func (a *app) suiteShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.Suite(ctx, name)
	if err != nil {
		return err
	}
	return a.suiteDone(s.Suite)
}

func (a *app) suiteDone(s recipes.Suite) error {
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(s))
	}
	p.fields("suite", s.Name, "what", s.Doc, "version", strconv.Itoa(s.Version), "data", suiteData(s.Offline), "chat template", s.ChatTemplate, "path", s.Path, "sha256", s.SHA256)
	p.section("benchmarks")
	t := p.table("TASK", "METRIC", "FILTER", "BETTER", ">THRESHOLD", ">MARGIN")
	for _, b := range s.Benchmarks {
		p.tagged(t, "benchmark", b.Task, b.Metric, b.Filter, b.Direction, decimal(b.Threshold), decimal(b.Margin))
	}
	t.flush()
	if p.people() && s.Path == "" {
		p.line("")
		p.line("next: forgectl run submit eval --model NAME@VERSION --suite %s", clean(s.Name))
	}
	return p.done(nil)
}

func decimal(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'g', 4, 64)
}

// suiteFetch runs the harness's own loader on this host. It says itself when there is no network.
func (a *app) suiteFetch(ctx context.Context, name, python string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.Suite(ctx, name)
	if err != nil {
		return err
	}
	if s.Offline {
		fmt.Fprintf(a.Out, "suite %s brings its data itself; there is nothing to fetch\n", clean(s.Name))
		return nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return forge.Errorf(forge.KindPrecondition, "suite.fetch", "there is no cache directory: %v", err)
	}
	src, err := recipes.ExtractPython(filepath.Join(cache, "forge-ml"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-m", "forge_train.suite_fetch", strings.Join(s.Tasks(), ","))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+src, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdout, cmd.Stderr = a.Out, a.Err
	// asked, not killed: the loader takes back what is half in the cache
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, fetchLeave
	err = cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return forge.Errorf(forge.KindUnavailable, "suite.fetch", "suite %s is not whole in the cache: it was not fetched within %s", s.Name, fetchTimeout).
			WithHint("fetch again: what is there is kept")
	case errors.As(err, &ended):
		return forge.Errorf(forge.KindUnavailable, "suite.fetch", "suite %s is not whole in the cache; its loader says above why (%s)", s.Name, ended).
			WithHint("fetch again when that is mended: what is there is kept")
	}
	return forge.Errorf(forge.KindPrecondition, "suite.fetch", "%s cannot be run: %v", python, err).
		WithHint("name the interpreter of the training environment with --python; contrib/python-env/install makes one")
}
