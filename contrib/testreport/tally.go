package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// tally is what one runner, or all of them, reported.
type tally struct {
	passed  int
	failed  []string
	skipped []string
	leftOut []string // of make test-fast, for their length
}

func (t *tally) add(o tally) {
	t.passed += o.passed
	t.failed = append(t.failed, o.failed...)
	t.skipped = append(t.skipped, o.skipped...)
	t.leftOut = append(t.leftOut, o.leftOut...)
}

func (t tally) tests() int { return t.passed + len(t.failed) + len(t.skipped) }

// verdict turns what runners call success into failure: no test, a skipped test.
func (t tally) verdict(counts bool) error {
	switch {
	case len(t.failed) > 0:
		return fmt.Errorf("%d failed", len(t.failed))
	case len(t.skipped) > 0:
		return fmt.Errorf("%d skipped: a test that cannot run here must fail, or be marked long", len(t.skipped))
	case counts && t.tests() == 0:
		return errors.New("no test was run")
	}
	return nil
}

func (t tally) column() string {
	if t.tests() == 0 {
		return ""
	}
	if len(t.leftOut) > 0 {
		return fmt.Sprintf("   %d passed, %d left out", t.passed, len(t.leftOut))
	}
	return fmt.Sprintf("   %d passed", t.passed)
}

func (t tally) list(w io.Writer) {
	for _, name := range t.failed {
		fmt.Fprintln(w, "failed: ", name)
	}
	for _, name := range t.skipped {
		fmt.Fprintln(w, "skipped:", name)
	}
}

// closing is the line that CI reads. Skipped tests stand in it as failures: they are.
func (t tally) closing() string {
	return fmt.Sprintf("%d passed, %d failed", t.passed, len(t.failed)+len(t.skipped))
}

// shortPackage leaves out what all our packages share.
func shortPackage(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "github.com/forge-ml/forge-ml"), "/")
}
