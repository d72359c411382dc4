package main

import (
	"context"
	"errors"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// exitCodes is the one table from kinds to exit codes. Scripts rest on it: a number is never
// reused for something else.
var exitCodes = map[forge.Kind]int{
	forge.KindInternal:     1,
	forge.KindInvalid:      2,
	forge.KindUnauthorized: 3,
	forge.KindForbidden:    4,
	forge.KindNotFound:     5,
	forge.KindConflict:     6,
	forge.KindPrecondition: 7,
	forge.KindUnavailable:  8,
}

// The exit codes that are not about an error of forgectl's own.
const (
	exitRunFailed    = 10
	exitRunCancelled = 11
	exitRegressed    = 12
	exitIncomparable = 13
	exitInterrupted  = 130
)

// runEnded is how --wait passes the end of a run to the shell.
type runEnded struct {
	number int64
	state  forge.RunState
	reason forge.EndReason
}

func (e *runEnded) Error() string {
	if e.reason != "" {
		return fmt.Sprintf("run %d %s: %s", e.number, e.state, e.reason)
	}
	return fmt.Sprintf("run %d %s", e.number, e.state)
}

func (e *runEnded) code() int {
	switch e.state {
	case forge.RunFailed:
		return exitRunFailed
	case forge.RunCancelled:
		return exitRunCancelled
	}
	return 0
}

// comparedWorse is how a comparison that is no good passes its verdict to the shell.
type comparedWorse struct{ c forge.Comparison }

func (e *comparedWorse) Error() string {
	if e.c.Verdict == forge.CompareIncomparable {
		return fmt.Sprintf("evals %s and %s cannot be compared", e.c.Baseline.Eval, e.c.Candidate.Eval)
	}
	return fmt.Sprintf("%s is worse than %s: %s", e.c.Candidate.Model, e.c.Baseline.Model, e.c.Worse())
}

func (e *comparedWorse) code() int {
	if e.c.Verdict == forge.CompareIncomparable {
		return exitIncomparable
	}
	return exitRegressed
}

// comparedEnd is nil where the candidate is no worse, and where the samples do not settle it.
func comparedEnd(c forge.Comparison) error {
	if c.Verdict == forge.CompareRegressed || c.Verdict == forge.CompareIncomparable {
		return &forge.Error{Kind: forge.KindPrecondition, Err: &comparedWorse{c}}
	}
	return nil
}

func exitCode(err error) int {
	var ended *runEnded
	var worse *comparedWorse
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return ended.code()
	case errors.As(err, &worse):
		return worse.code()
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	if c, ok := exitCodes[forge.KindOf(err)]; ok {
		return c
	}
	return exitCodes[forge.KindInternal]
}

// complain says an error on standard error: what was being done, what is wrong, what to do.
func complain(io Streams, command string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	where := "forgectl"
	if command != "" {
		where += ": " + command
	}
	fmt.Fprintf(io.Err, "%s: %s\n", where, clean(err.Error()))
	if h := forge.HintOf(err); h != "" {
		fmt.Fprintf(io.Err, "hint: %s\n", clean(h))
	}
}
