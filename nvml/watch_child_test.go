//go:build linux && cgo

package nvml_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// line is what the child writes.
type line struct {
	Look   *forge.GPULook   `json:"look"`
	Events []forge.GPUEvent `json:"events"`
}

// watched is a running `forged nvml watch`: this very binary, on the real cgo path.
type watched struct {
	t     *testing.T
	state string // the fake's file
	stdin io.WriteCloser
	lines chan line
	pid   int
}

// watchChild starts one that looks once an hour, or when it is asked to, and has made its first look, which it returns.
func watchChild(t *testing.T, library string, args []string, state ...string) (*watched, forge.GPULook) {
	t.Helper()
	w := startChild(t, library, args, state...)
	return w, w.until("a first look", func(forge.GPULook) bool { return true })
}

func startChild(t *testing.T, library string, args []string, state ...string) *watched {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state.txt")
	writeState(t, file, state...)
	cmd := exec.Command(os.Args[0], append([]string{"nvml", "watch", "--every", "1h"}, args...)...)
	cmd.Env = []string{"LD_LIBRARY_PATH=" + library, "FAKENVML_STATE=" + file}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, state: file, stdin: stdin, lines: make(chan line, 10000), pid: cmd.Process.Pid}
	go func() {
		defer close(w.lines)
		in := bufio.NewScanner(stdout)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var l line
			d := json.NewDecoder(strings.NewReader(in.Text()))
			d.DisallowUnknownFields()
			if err := d.Decode(&l); err != nil || (l.Look == nil) == (l.Events == nil) {
				t.Errorf("the child wrote %q: %v", in.Text(), err)
			}
			w.lines <- l
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		unwilling := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer unwilling.Stop()
		for range w.lines {
		}
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("the child ended with %v when its stdin closed: %s", err, stderr.String())
		}
	})
	return w
}

// until reads on, past events, to a look of which it is true.
func (w *watched) until(what string, is func(forge.GPULook) bool) (last forge.GPULook) {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case l, open := <-w.lines:
			if !open {
				w.t.Fatalf("the child ended before %s", what)
			}
			if l.Look != nil {
				if last = *l.Look; is(last) {
					return last
				}
			}
		case <-deadline:
			w.t.Fatalf("no %s; the last look is %+v", what, last)
		}
	}
}

// ask changes the state and asks for looks until one, which began after the change, has come.
func (w *watched) ask(state ...string) forge.GPULook {
	w.t.Helper()
	writeState(w.t, w.state, state...)
	since := time.Now()
	if _, err := io.WriteString(w.stdin, "look\n"); err != nil {
		w.t.Fatal(err)
	}
	return w.until("look that began after the change", func(l forge.GPULook) bool { return l.At.After(since) })
}

// tick asks for looks until one is as it should be.
func (w *watched) tick(what string, is func(forge.GPULook) bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		since := time.Now()
		if _, err := io.WriteString(w.stdin, "look\n"); err != nil {
			w.t.Fatal(err)
		}
		if l := w.until(what, func(l forge.GPULook) bool { return l.At.After(since) }); is(l) {
			return
		} else if time.Now().After(deadline) {
			w.t.Fatalf("no look in which %s: %+v", what, l)
		}
	}
}

// events reads on, past looks, to the next line of events.
func (w *watched) events() []forge.GPUEvent {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case l, open := <-w.lines:
			if !open {
				w.t.Fatal("the child ended before an event")
			}
			if l.Events != nil {
				return l.Events
			}
		case <-deadline:
			w.t.Fatal("no event")
		}
	}
}
