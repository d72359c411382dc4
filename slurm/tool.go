package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Tools is where Slurm's programs are and how they are called.
type Tools struct {
	Bin     string        // their directory; empty: they are looked for in PATH
	Conf    string        // SLURM_CONF; empty: Slurm's own place
	Timeout time.Duration // of one call; zero: DefaultTimeout

	extra []string // variables that a check plants, to see that no job gets them
}

// DefaultTimeout of one call. A controller that does not answer keeps Slurm's clients for MessageTimeout, 10 s by default.
const DefaultTimeout = 25 * time.Second

// maxOutput bounds what is kept of one answer: 100,000 jobs in a line each.
const maxOutput = 64 << 20

// Trouble says what kind of no an answer is.
type Trouble int

// The troubles.
const (
	TroubleNone    Trouble = iota
	TroubleAway            // the controller does not answer, or not in time: nothing is known
	TroubleBusy            // it asks to be left alone for a while: rate limits, too many jobs
	TroubleRefused         // it understood and will never do it as it is
	TroubleOther           // anything else: nothing is known
)

// ToolError is a call that did not end well.
type ToolError struct {
	Program string
	Code    int // -1: it was killed, or never started
	Words   string
	Trouble Trouble
}

func (e *ToolError) Error() string {
	if e.Code < 0 {
		return fmt.Sprintf("%s: %s", e.Program, e.Words)
	}
	return fmt.Sprintf("%s (exit %d): %s", e.Program, e.Code, e.Words)
}

// TroubleOf finds the kind of an error that came from a tool.
func TroubleOf(err error) Trouble {
	var t *ToolError
	switch {
	case err == nil:
		return TroubleNone
	case errors.As(err, &t):
		return t.Trouble
	}
	return TroubleOther
}

// Run calls one program of Slurm. Its environment holds nothing of ours: Slurm's clients would send it to the job.
func (t Tools) Run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	timeout := t.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	path, err := t.path(program)
	if err != nil {
		return "", &ToolError{Program: program, Code: -1, Words: err.Error(), Trouble: TroubleOther}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = t.env()
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(stdin)
	out, errOut := &bounded{limit: maxOutput}, &bounded{limit: 64 << 10}
	cmd.Stdout, cmd.Stderr = out, errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	said := strings.TrimSpace(errOut.String())
	switch {
	case ctx.Err() != nil:
		return "", &ToolError{Program: program, Code: -1, Words: fmt.Sprintf("no answer within %s %s", timeout, said), Trouble: TroubleAway}
	case out.over:
		return "", &ToolError{Program: program, Code: -1, Words: fmt.Sprintf("more than %d bytes", maxOutput), Trouble: TroubleOther}
	case err != nil:
		e := &ToolError{Program: program, Code: cmd.ProcessState.ExitCode(), Words: firstOf(said, err.Error()), Trouble: troubleIn(said)}
		return out.String(), e
	}
	return out.String(), nil
}

func (t Tools) path(program string) (string, error) {
	if t.Bin == "" {
		return exec.LookPath(program)
	}
	return filepath.Join(t.Bin, program), nil
}

// env: times as seconds, words in English, and the configuration of this cluster.
func (t Tools) env() []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + home(), "LANG=C", "LC_ALL=C", "TZ=UTC", "SLURM_TIME_FORMAT=%s"}
	if t.Conf != "" {
		env = append(env, "SLURM_CONF="+t.Conf)
	}
	return append(env, t.extra...)
}

func home() string {
	if h, err := os.UserHomeDir(); err == nil {
		return h
	}
	return "/"
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// troubleIn reads Slurm's words. What is not known here is TroubleOther, from which nothing follows.
func troubleIn(words string) Trouble {
	for _, k := range []struct {
		part string
		is   Trouble
	}{
		{"Unable to contact slurm controller", TroubleAway},
		{"Socket timed out", TroubleAway},
		{"Connection refused", TroubleAway},
		{"Connection timed out", TroubleAway},
		{"Zero Bytes were transmitted", TroubleAway},
		{"slurm_receive_msg", TroubleAway},
		{"Slurm backup controller in standby", TroubleAway},
		{"SubmitJob", TroubleBusy}, // AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit: others of the account have to end first
		{"Slurm temporarily unable to accept job", TroubleBusy},
		{"Too many jobs", TroubleBusy},
		{"Resource temporarily unavailable", TroubleBusy},
		{"RPC rate limit", TroubleBusy},
		{"Invalid partition", TroubleRefused},
		{"invalid partition", TroubleRefused},
		{"Invalid account", TroubleRefused},
		{"Invalid qos", TroubleRefused},
		{"Invalid feature", TroubleRefused},
		{"Invalid generic resource", TroubleRefused},
		{"Requested node configuration is not available", TroubleRefused},
		{"Requested reservation is invalid", TroubleRefused},
		{"Requested time limit is invalid", TroubleRefused},
		{"Requested time limit exceeds partition limit", TroubleRefused},
		{"Node count specification invalid", TroubleRefused},
		{"More processors requested than permitted", TroubleRefused},
		{"Memory specification can not be satisfied", TroubleRefused},
		{"Requested partition configuration not available now", TroubleRefused},
		{"Job violates accounting/QOS policy", TroubleRefused},
		{"User's group not permitted to use this partition", TroubleRefused},
		{"Access/permission denied", TroubleRefused},
		{"Invalid node name", TroubleRefused},
		{"unrecognized option", TroubleRefused},
	} {
		if strings.Contains(words, k.part) {
			return k.is
		}
	}
	return TroubleOther
}

// bounded keeps the first bytes and says whether there were more.
type bounded struct {
	b     bytes.Buffer
	limit int
	over  bool
}

func (w *bounded) Write(p []byte) (int, error) {
	room := w.limit - w.b.Len()
	if room < len(p) {
		w.over = true
	}
	w.b.Write(p[:max(0, min(room, len(p)))])
	return len(p), nil
}

func (w *bounded) String() string { return w.b.String() }
