//go:build linux && cgo

package nvml

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// watchArgs make forged's main call ChildMain with what follows the first.
var watchArgs = []string{"nvml", "watch"}

// maxLine bounds one document of the child.
const maxLine = 4 << 20

// watching is one started child. news is closed when it says no more, done when it is gone; err and the words may be read then.
type watching struct {
	pid    int
	stdin  *os.File
	stderr bounded
	news   chan News
	broken error // what was wrong with what it said
	err    error
	done   chan struct{}
	enough chan struct{} // closed when nobody listens any more
}

func startWatching(o WatchOptions) (*watching, error) {
	args := append(slices.Clone(watchArgs), "--every", o.Every.String())
	if len(o.UUIDs) > 0 {
		args = append(args, "--uuids", strings.Join(o.UUIDs, ","))
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	stdout, out, err := os.Pipe()
	if err != nil {
		_ = stdin.Close()
		return nil, err
	}
	defer out.Close()
	c := &watching{stdin: stdin, stderr: bounded{max: maxStderr}, news: make(chan News), done: make(chan struct{}), enough: make(chan struct{})}
	cmd := exec.Command(o.Self, args...)
	cmd.Env, cmd.Dir = environment(o.LibraryPath, o.FakeState), "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &c.stderr
	cmd.WaitDelay = killWait / 2 // something else may hold stderr open after the child's end
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that forked ends, so that thread stays until the child is gone.
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
	if err := <-started; err != nil {
		_, _ = stdin.Close(), stdout.Close()
		return nil, err
	}
	go c.read(stdout)
	return c, nil
}

// read passes on what the child says until it says no more, or something that is no document: then it is ended.
func (c *watching) read(stdout *os.File) {
	defer func() {
		_, _ = stdout.Close(), c.stdin.Close()
		close(c.news)
	}()
	go func() { // what the child started may hold the pipe open after its end
		<-c.done
		_ = stdout.SetReadDeadline(time.Now().Add(killWait / 2))
	}()
	lines := bufio.NewScanner(stdout)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var n News
		if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
			c.broken = fmt.Errorf("it printed %.80q: %w", lines.Text(), err)
		} else if n.Look != nil && !known(n.Look.State) {
			c.broken = fmt.Errorf("unknown state %.40q", n.Look.State)
		}
		if c.broken != nil {
			c.kill()
			return
		}
		select { // not done: what it still said is told all the same, since an XID may have been its last word
		case c.news <- n:
		case <-c.enough:
			return
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		c.broken = fmt.Errorf("it printed a line of more than %d bytes", maxLine)
		c.kill()
	}
}

func known(s State) bool {
	return s == StateOK || s == StateNoDriver || s == StateError || s == StateHung
}

// ask has the child look at once.
func (c *watching) ask() error {
	_ = c.stdin.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := c.stdin.WriteString("look\n")
	return err
}

// hangUp lets the child end by itself.
func (c *watching) hangUp() { _ = c.stdin.Close() }

func (c *watching) kill() { _ = syscall.Kill(-c.pid, syscall.SIGKILL) }

// gone waits for its end.
func (c *watching) gone(patience time.Duration) bool {
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-c.done:
		return true
	case <-wait.C:
		return false
	}
}

// words say how it ended.
func (c *watching) words() string {
	last := child{stderr: c.stderr, err: c.err}
	var exit *exec.ExitError
	switch {
	case c.broken != nil:
		return "the process that asks the driver was ended: " + c.broken.Error()
	case errors.As(c.err, &exit):
		how := fmt.Sprintf("ended with exit code %d", exit.ExitCode())
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			how = fmt.Sprintf("was ended by signal %d (%s)", ws.Signal(), ws.Signal())
		}
		return "the process that asks the driver " + how + last.lastWords()
	case c.err != nil:
		return fmt.Sprintf("the process that asks the driver: %v%s", c.err, last.lastWords())
	}
	return "the process that asks the driver ended by itself" + last.lastWords()
}
