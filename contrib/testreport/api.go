package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// apiCheck holds a real forged against the description of its API, for so long. Each operation is a test.
func apiCheck(limit time.Duration) step {
	const name = "schemathesis"
	return step{name: name, timeout: slow, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		out, err := lines(ctx, log, "contrib/api-check/install")
		if err != nil {
			return tally{}, err
		}
		if len(out) == 0 {
			return tally{}, errors.New("contrib/api-check/install printed no path")
		}
		junit := filepath.Join(b.out, name+".xml")
		failure := command{args: []string{"go", "run", "./contrib/api-check", "-venv", out[len(out)-1], "-for", limit.String(), "-junit", junit}, stdout: log, stderr: log}.run(ctx)
		f, err := os.Open(junit)
		if err != nil {
			return tally{}, errors.Join(failure, err)
		}
		defer f.Close()
		t, err := readJUnit(f)
		return t, errors.Join(failure, err)
	}}
}

// fuzz lets every fuzz target of a package look for so long. Each target is a test.
func fuzz(dir string, each time.Duration) step {
	name := "fuzz " + dir
	return step{name: name, timeout: slow, counts: true, do: func(ctx context.Context, b *bench, log io.Writer) (tally, error) {
		targets, err := lines(ctx, log, "go", "test", "-list", "^Fuzz", dir)
		if err != nil {
			return tally{}, err
		}
		var t tally
		for _, target := range targets {
			if !strings.HasPrefix(target, "Fuzz") {
				continue
			}
			c := command{args: []string{"go", "test", "-run", "^$", "-fuzz", "^" + target + "$", "-fuzztime", each.String(), dir}, stdout: log, stderr: log}
			if err := c.run(ctx); err != nil {
				t.failed = append(t.failed, target)
				fmt.Fprintln(log, target+": the input that failed lies under testdata/fuzz; keep it as a test")
				continue
			}
			t.passed++
		}
		if len(t.failed) > 0 {
			return t, fmt.Errorf("%d targets found something", len(t.failed))
		}
		return t, nil
	}}
}
