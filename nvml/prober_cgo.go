//go:build linux && cgo

package nvml

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	// DefaultTimeout is how long a look may take; a first call after boot loads the driver, which
	// takes seconds on a machine with eight GPUs and without the persistence daemon.
	DefaultTimeout = 30 * time.Second

	maxOutput = 1 << 20
	maxStderr = 4 << 10
	// killWait is how long a killed child may take to be gone before it counts as stuck.
	killWait = 2 * time.Second
)

// Prober looks for GPUs in a child process. It is safe for concurrent use; looks are made one
// after the other, and none while an earlier child cannot be killed.
type Prober struct {
	Self        string        // the binary whose main calls ChildMain; usually /proc/self/exe
	Timeout     time.Duration // DefaultTimeout when 0
	LibraryPath string        // LD_LIBRARY_PATH of the child, for drivers in an unusual place
	FakeState   string        // FAKENVML_STATE of the child, for contrib/fake-nvml

	mu    sync.Mutex
	stuck *child
}

// Inventory is one look with a Prober of its own.
func Inventory(ctx context.Context, self string, timeout time.Duration) (Report, error) {
	return (&Prober{Self: self, Timeout: timeout}).Inventory(ctx)
}

// Inventory starts the child and reads its report. An error means that no look was made (the
// child could not be started, or the context ended); everything that a driver can do wrong is
// in the report.
func (p *Prober) Inventory(ctx context.Context) (Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	if p.stuck != nil {
		select {
		case <-p.stuck.done:
			p.stuck = nil
		default:
			return without(StateHung, "process %d of an earlier look still hangs in the driver and cannot be killed; nothing else is tried before it is gone", p.stuck.pid), nil
		}
	}
	c, err := start(p.Self, p.environment())
	if err != nil {
		return Report{}, &forge.Error{Kind: forge.KindInternal, Op: "nvml.inventory", Err: fmt.Errorf("start %s %s: %w", p.Self, strings.Join(childArgs, " "), err)}
	}
	timeout := p.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	select {
	case <-c.done:
		return c.report(), nil
	case <-ctx.Done():
		p.kill(c)
		return Report{}, ctx.Err()
	case <-limit.C:
	}
	if p.kill(c) {
		return without(StateHung, "the driver did not answer within %s; the asking process was killed", timeout), nil
	}
	return without(StateHung, "the driver did not answer within %s, and the asking process %d cannot be killed: it hangs in the kernel", timeout, c.pid), nil
}

// environment is empty but for what finds the library: nothing of forged's own reaches a
// process that runs foreign code, and LD_BIND_NOW, which would end it at once, is gone too.
func (p *Prober) environment() []string { return environment(p.LibraryPath, p.FakeState) }

func environment(libraryPath, fakeState string) []string {
	env := []string{}
	if libraryPath != "" {
		env = append(env, "LD_LIBRARY_PATH="+libraryPath)
	}
	if fakeState != "" {
		env = append(env, "FAKENVML_STATE="+fakeState)
	}
	return env
}

// kill ends the child and its group; false when it does not go. Then it is remembered.
func (p *Prober) kill(c *child) bool {
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	wait := time.NewTimer(killWait)
	defer wait.Stop()
	select {
	case <-c.done:
		return true
	case <-wait.C:
		p.stuck = c
		return false
	}
}

// child is one started look. err and the buffers may be read once done is closed.
type child struct {
	pid            int
	stdout, stderr bounded
	err            error
	done           chan struct{}
}

func start(self string, env []string) (*child, error) {
	c := &child{stdout: bounded{max: maxOutput}, stderr: bounded{max: maxStderr}, done: make(chan struct{})}
	cmd := exec.Command(self, childArgs...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.Stdout, cmd.Stderr = &c.stdout, &c.stderr
	cmd.WaitDelay = killWait / 2 // something else may hold the pipes open after the child's end
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that forked ends, so that thread stays until
		// the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	return c, <-started
}

// report reads what the child left. Only a child that ended well and printed a whole document
// is believed.
func (c *child) report() Report {
	var exit *exec.ExitError
	switch {
	case errors.As(c.err, &exit):
		how := fmt.Sprintf("ended with exit code %d", exit.ExitCode())
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			how = fmt.Sprintf("was ended by signal %d (%s)", ws.Signal(), ws.Signal())
		}
		return without(StateError, "the process that asks the driver %s%s", how, c.lastWords())
	case c.err != nil:
		return without(StateError, "the process that asks the driver: %w%s", c.err, c.lastWords())
	case c.stdout.over:
		return without(StateError, "the process that asks the driver printed more than %d bytes", maxOutput)
	}
	var r Report
	d := json.NewDecoder(&c.stdout.kept)
	err := d.Decode(&r)
	if err == nil && d.More() {
		err = errors.New("more follows the document")
	}
	if err == nil && r.State != StateOK && r.State != StateNoDriver && r.State != StateError {
		err = fmt.Errorf("unknown state %.40q", r.State)
	}
	if err != nil {
		return without(StateError, "the process that asks the driver printed no report: %w%s", err, c.lastWords())
	}
	if r.GPUs == nil {
		r.GPUs = []forge.GPU{}
	}
	return r
}

// lastWords is the last line on stderr: the dynamic linker names the missing function there.
func (c *child) lastWords() string {
	text := strings.TrimSpace(c.stderr.kept.String())
	text = text[strings.LastIndexByte(text, '\n')+1:]
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %.300q", text)
}

// without is a report that knows nothing of any GPU.
func without(s State, format string, args ...any) Report {
	return Report{State: s, GPUs: []forge.GPU{}, Detail: fmt.Errorf(format, args...).Error()}
}

// bounded keeps the first max bytes and swallows the rest, so that a child that floods its
// output neither fills memory nor blocks. The buffer is not embedded: io.Copy would find its
// ReadFrom and go past the bound.
type bounded struct {
	kept bytes.Buffer
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.kept.Len(); len(p) > room {
		b.over = true
		b.kept.Write(p[:room])
	} else {
		b.kept.Write(p)
	}
	return len(p), nil
}
