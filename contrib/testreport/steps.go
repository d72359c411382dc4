package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// lintTags turns on every build tag of ours, so that tagged files are looked at as well.
const lintTags = "e2e,long,crashpoints"

const (
	quick = 5 * time.Minute
	slow  = 30 * time.Minute
)

// modes is what each way of calling runs, in order.
var modes = map[string][]step{
	"lint": lint,
	"fast": {
		gofmt, vet,
		goTestsBut("go test -short", "./cmd/forgectl", "-short", "-p=4"), // it follows as it ships; many tests wait for programs
		forgectlWithoutCgo("-short"), roomsWithoutCgo("-short"),
		pythonEnvironment,
		pythonTests("contrib/python-env", "not long and not training"),
		pythonTests("recipes/python", "not long and not slow and not training and not gpu"),
	},
	"full": append(append([]step{}, lint...),
		build,
		goTests("go test -race", "-race", "-count=1", "-timeout=20m", "./..."),
		forgectlWithoutCgo("-count=1"), roomsWithoutCgo("-count=1"),
		pythonEnvironment,
		pythonTests("contrib/python-env", "not long"),
		trainingTests("not long and not gpu"),
		endToEnd("e2e"),
		apiCheck(45*time.Second),
	),
	"long": append(append([]step{}, lint...),
		build,
		goTests("go test -race (long)", "-race", "-count=1", "-timeout=60m", "-tags=long", "./..."),
		forgectlWithoutCgo("-count=1"), roomsWithoutCgo("-count=1"),
		pythonEnvironment,
		pythonTests("contrib/python-env", ""),
		trainingTests("not gpu"),
		lowestEnvironment, lowestTests,
		endToEnd("e2e,long"),
		apiCheck(5*time.Minute),
		fuzz("./internal/api/server", 20*time.Second),
	),
}

var lint = []step{gofmt, vet, staticcheck, shellcheck}

var gofmt = step{name: "gofmt", timeout: quick, do: func(ctx context.Context, _ *bench, log io.Writer) (tally, error) {
	files, err := tracked(ctx, log, func(path string) bool { return strings.HasSuffix(path, ".go") })
	if err != nil {
		return tally{}, err
	}
	bad, err := lines(ctx, log, append([]string{"gofmt", "-l"}, files...)...)
	if err != nil {
		return tally{}, err
	}
	for _, f := range bad {
		fmt.Fprintln(log, f)
	}
	if len(bad) > 0 {
		return tally{}, fmt.Errorf("%d files are not formatted; gofmt -w them", len(bad))
	}
	return tally{}, nil
}}

var vet = step{name: "go vet", timeout: slow, do: func(ctx context.Context, _ *bench, log io.Writer) (tally, error) {
	// Twice: files for a tag and files for its absence exclude each other.
	for _, tags := range []string{"", lintTags} {
		c := command{args: []string{"go", "vet", "-trimpath", "-tags=" + tags, "./..."}, stdout: log, stderr: log}
		if err := c.run(ctx); err != nil {
			return tally{}, err
		}
	}
	return tally{}, nil
}}

var staticcheck = step{name: "staticcheck", timeout: slow, do: func(ctx context.Context, _ *bench, log io.Writer) (tally, error) {
	// -trimpath through GOFLAGS: the same build of the C parts as vet and build, not another.
	flags := strings.TrimSpace(os.Getenv("GOFLAGS") + " -trimpath")
	for _, tags := range []string{"", lintTags} {
		c := command{args: []string{"go", "tool", "staticcheck", "-tags=" + tags, "./..."}, env: []string{"GOFLAGS=" + flags}, stdout: log, stderr: log}
		if err := c.run(ctx); err != nil {
			return tally{}, err
		}
	}
	return tally{}, nil
}}

var shellcheck = step{name: "shellcheck", timeout: quick, do: func(ctx context.Context, _ *bench, log io.Writer) (tally, error) {
	scripts, err := tracked(ctx, log, isShellScript)
	if err != nil {
		return tally{}, err
	}
	if len(scripts) == 0 {
		return tally{}, errors.New("found no shell scripts, and there are some")
	}
	return tally{}, command{args: append([]string{"shellcheck"}, scripts...), stdout: log, stderr: log}.run(ctx)
}}

var build = step{name: "build", timeout: slow, do: func(ctx context.Context, _ *bench, log io.Writer) (tally, error) {
	return tally{}, command{args: []string{"make", "--no-print-directory", "build-test"}, stdout: log, stderr: log}.run(ctx)
}}

func goTests(name string, args ...string) step {
	return step{name: name, timeout: time.Hour, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		return runGoTest(ctx, b, log, name, nil, args)
	}}
}

// goTestsBut runs the tests of all packages but one.
func goTestsBut(name, but string, args ...string) step {
	return step{name: name, timeout: time.Hour, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		packages, err := lines(ctx, log, "go", "list", "./...")
		if err != nil {
			return tally{}, err
		}
		rest := slices.DeleteFunc(slices.Clone(packages), func(p string) bool { return strings.HasSuffix(p, strings.TrimPrefix(but, ".")) })
		if len(rest) != len(packages)-1 {
			return tally{}, fmt.Errorf("%s is not one of the %d packages", but, len(packages))
		}
		return runGoTest(ctx, b, log, name, nil, append(slices.Clone(args), rest...))
	}}
}

// forgectlWithoutCgo: it must run on any login node, so it is built and tested as it ships.
func forgectlWithoutCgo(arg string) step {
	const name = "forgectl without cgo"
	return step{name: name, timeout: slow, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		env := []string{"CGO_ENABLED=0"}
		c := command{args: []string{"go", "build", "-trimpath", "-o", os.DevNull, "./cmd/forgectl"}, env: env, stdout: log, stderr: log}
		if err := c.run(ctx); err != nil {
			return tally{}, err
		}
		return runGoTest(ctx, b, log, name, env, []string{arg, "./cmd/forgectl/..."})
	}}
}

// roomsWithoutCgo: what forgectl is made of, and nvml, whose other half exists only without
// cgo. A step of its own, so that their tests cannot stand in for forgectl's.
func roomsWithoutCgo(arg string) step {
	const name = "its rooms without cgo"
	return step{name: name, timeout: slow, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		return runGoTest(ctx, b, log, name, []string{"CGO_ENABLED=0"}, []string{arg, "./internal/api/client/...", "./recipes/...", "./nvml/..."})
	}}
}

var (
	pythonEnvironment = installed("python environment", func(b *bench) *string { return &b.python })
	// lowestEnvironment has the lowest packages that the recipes support; the other one has the newest.
	lowestEnvironment = installed("lowest python environment", func(b *bench) *string { return &b.lowest }, "--lowest")
)

func installed(name string, interpreter func(*bench) *string, args ...string) step {
	return step{name: name, timeout: time.Hour, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		// What it says goes to the terminal as well: the first time it may take minutes, or gigabytes.
		out, err := lines(ctx, io.MultiWriter(log, os.Stderr), append([]string{"contrib/python-env/install"}, args...)...)
		if err != nil {
			return tally{}, err
		}
		if len(out) == 0 {
			return tally{}, errors.New("contrib/python-env/install printed no path")
		}
		python := filepath.Join(out[len(out)-1], "bin", "python")
		*interpreter(b) = python
		_, err = os.Stat(python)
		return tally{}, err
	}}
}

// pythonTests runs the tests of one folder that carry the marks asked for.
func pythonTests(dir, marks string) step {
	return pytest("pytest "+dir, func(b *bench) string { return b.python }, dir, marks, "tests")
}

// trainingTests are so many, most of them on one core, that two processes share them, file by file.
func trainingTests(marks string) step {
	const dir = "recipes/python"
	return step{name: "pytest " + dir, timeout: time.Hour, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		hands, err := deal(dir, "tests/test_*.py", 2)
		if err != nil {
			return tally{}, err
		}
		var (
			said  = make([]bytes.Buffer, len(hands))
			found = make([]tally, len(hands))
			errs  = make([]error, len(hands))
			wg    sync.WaitGroup
		)
		for i, files := range hands {
			s := pytest(fmt.Sprintf("pytest %s %d", dir, i+1), func(b *bench) string { return b.python }, dir, marks, files...)
			wg.Go(func() { found[i], errs[i] = s.do(ctx, b, &said[i]) })
		}
		wg.Wait()
		var all tally
		for i := range hands {
			all.add(found[i])
			_, err := said[i].WriteTo(log)
			errs = append(errs, err)
		}
		return all, errors.Join(errs...)
	}}
}

// deal gives the files of a folder out in turn, as paths from it.
func deal(dir, pattern string, hands int) ([][]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) < hands {
		return nil, fmt.Errorf("%s has %d files like %s, want %d or more: %w", dir, len(files), pattern, hands, err)
	}
	out := make([][]string, hands)
	for i, f := range files {
		rel, err := filepath.Rel(dir, f)
		if err != nil {
			return nil, err
		}
		out[i%hands] = append(out[i%hands], rel)
	}
	return out, nil
}

// lowestTests are those in which old packages would differ: every recipe trains, splits, stops and resumes.
var lowestTests = pytest("pytest, lowest packages", func(b *bench) string { return b.lowest }, "recipes/python", "training and not long",
	"tests/test_dpo.py", "tests/test_reward.py", "tests/test_parallel.py", "tests/test_resume_exact.py", "tests/test_resume.py")

func pytest(name string, interpreter func(*bench) string, dir, marks string, paths ...string) step {
	return step{name: name, timeout: time.Hour, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		junit, err := filepath.Abs(filepath.Join(b.out, strings.NewReplacer("/", "-", ",", "").Replace(name)+".xml"))
		if err != nil {
			return tally{}, err
		}
		args := append([]string{interpreter(b), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=" + junit, "-m", marks}, paths...)
		env := []string{"PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1"}
		failure := command{args: args, dir: dir, env: env, stdout: log, stderr: log}.run(ctx)
		f, err := os.Open(junit)
		if err != nil {
			return tally{}, errors.Join(failure, err)
		}
		defer f.Close()
		t, err := readJUnit(f)
		return t, errors.Join(failure, err)
	}}
}

func endToEnd(tags string) step {
	const name = "end to end"
	return step{name: name, timeout: time.Hour, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		bin, err := filepath.Abs("bin")
		if err != nil {
			return tally{}, err
		}
		env := []string{"FORGE_BIN=" + bin, "FORGE_PYTHON=" + b.python}
		return runGoTest(ctx, b, log, name, env, []string{"-race", "-count=1", "-timeout=50m", "-tags=" + tags, "./internal/e2e/..."})
	}}
}

// runGoTest keeps the whole stream beside the logs and shows only what failed. What it links is run once and never debugged:
// without symbols that takes half the time.
func runGoTest(ctx context.Context, b *bench, log io.Writer, name string, env, args []string) (tally, error) {
	path := filepath.Join(b.out, strings.ReplaceAll(name, " ", "-")+".json")
	f, err := os.Create(path)
	if err != nil {
		return tally{}, err
	}
	defer f.Close()
	// vet has run already; go test would only repeat a part of it.
	failure := command{args: append([]string{"go", "test", "-json", "-vet=off", "-ldflags=-s -w"}, args...), env: env, stdout: f, stderr: log}.run(ctx)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return tally{}, err
	}
	t, err := readGoTest(f, log)
	if !slices.Contains(args, "-short") { // then nothing has a reason to be left out
		t.skipped, t.leftOut = append(t.skipped, t.leftOut...), nil
	}
	return t, errors.Join(failure, err)
}

// tracked lists files of the work tree that git knows or would know, so that neither build
// outputs nor somebody's virtual environment is looked at.
func tracked(ctx context.Context, log io.Writer, want func(string) bool) ([]string, error) {
	all, err := lines(ctx, log, "git", "ls-files", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, f := range all {
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() && want(f) {
			files = append(files, f)
		}
	}
	return files, nil
}

func isShellScript(path string) bool {
	if strings.HasSuffix(path, ".sh") {
		return true
	}
	if filepath.Ext(path) != "" {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	first, _ := bufio.NewReaderSize(f, 128).ReadString('\n')
	return strings.HasPrefix(first, "#!") && (strings.Contains(first, "bash") || strings.Contains(first, "/sh"))
}
