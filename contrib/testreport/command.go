package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command is one child process of a step.
type command struct {
	args   []string
	dir    string
	env    []string // over the environment of this process
	stdout io.Writer
	stderr io.Writer
}

// run runs it in a process group of its own, so that a limit or Ctrl-C ends what it started
// too. Output goes to files: a grandchild that outlives it cannot keep a pipe, and us, open.
func (c command) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(environment(), c.env...)
	cmd.Stdout, cmd.Stderr = c.stdout, c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(firstWords(c.args, 4), " "), err)
	}
	return nil
}

// environment is ours without make's own variables, which would make a child's make think
// that it is part of this one.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES":
		default:
			env = append(env, kv)
		}
	}
	return env
}

func firstWords(words []string, n int) []string {
	if len(words) > n {
		return append(append([]string{}, words[:n]...), "…")
	}
	return words
}

// lines runs a command and returns its standard output by lines.
func lines(ctx context.Context, log io.Writer, args ...string) ([]string, error) {
	var out strings.Builder
	if err := (command{args: args, stdout: &out, stderr: log}).run(ctx); err != nil {
		return nil, err
	}
	return strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' }), nil
}
