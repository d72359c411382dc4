package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mode := ""
	if len(os.Args) == 2 {
		mode = os.Args[1]
	}
	steps, ok := modes[mode]
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: go run ./contrib/testreport lint|fast|full|long")
		os.Exit(2)
	}
	if err := clearOutput(outputDir); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	b := &bench{out: outputDir}
	if err := runAll(ctx, os.Stdout, b, steps); err != nil {
		stop()
		os.Exit(1)
	}
}

// outputDir is where the output of each step is kept until the next run.
const outputDir = ".cache/test"

func clearOutput(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o750)
}

// bench is what steps share: where they leave output, and what earlier ones found.
type bench struct {
	out    string
	python string // interpreter of the shared environment, once that step has run
	lowest string // of the one with the lowest packages that are supported
}

// step is one thing that must succeed. do writes what people need after a failure to log.
type step struct {
	name    string
	timeout time.Duration
	counts  bool // it runs tests; none at all is a failure
	do      func(ctx context.Context, b *bench, log io.Writer) (tally, error)
}

// runAll runs the steps in order. After a runner whose tests failed the others still run, so that one run says all that is wrong; any other
// step that fails ends it, since what comes next needs it.
func runAll(ctx context.Context, w io.Writer, b *bench, steps []step) error {
	start := time.Now()
	var sum tally
	var failed []error
	for i, s := range steps {
		fmt.Fprintf(w, "%-28s ", s.name)
		t, took, err := runStep(ctx, b, i, s)
		sum.add(t)
		fmt.Fprintf(w, "%7.1f s%s\n", took.Seconds(), t.column())
		if err == nil {
			continue
		}
		copyLog(w, logPath(b, i, s))
		t.list(w)
		err = fmt.Errorf("%s: %w (its output: %s)", s.name, err, logPath(b, i, s))
		fmt.Fprintf(w, "\n%v\n", err)
		failed = append(failed, err)
		if !s.counts || ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintf(w, "%-28s %7.1f s\n", "in all", time.Since(start).Seconds())
	if len(failed) > 0 {
		sum.list(w)
	}
	if len(failed) > 1 {
		fmt.Fprintf(w, "\n%v\n", errors.Join(failed...))
	}
	if len(sum.leftOut) > 0 {
		fmt.Fprintf(w, "%d tests were left out for their length; make test runs them\n", len(sum.leftOut))
	}
	if sum.tests() > 0 {
		fmt.Fprintln(w, sum.closing())
	}
	return errors.Join(failed...)
}

func runStep(ctx context.Context, b *bench, i int, s step) (tally, time.Duration, error) {
	start := time.Now()
	log, err := os.Create(logPath(b, i, s))
	if err != nil {
		return tally{}, 0, err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	t, err := s.do(ctx, b, log)
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		err = fmt.Errorf("stopped after its limit of %s", s.timeout)
	case ctx.Err() != nil:
		err = fmt.Errorf("interrupted")
	case err == nil:
		err = t.verdict(s.counts)
	}
	return t, time.Since(start), err
}

func logPath(b *bench, i int, s step) string {
	name := []byte(s.name)
	for j, c := range name {
		if c < '0' || c > 'z' || c > '9' && c < 'A' {
			name[j] = '-'
		}
	}
	return filepath.Join(b.out, fmt.Sprintf("%02d-%s.log", i+1, name))
}

func copyLog(w io.Writer, path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = io.Copy(w, f)
}
