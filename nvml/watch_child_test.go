//go:build linux && cgo

package nvml_test

import (
	"bufio"
	"encoding/json"
	"fmt"
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
	return w, w.until("a first look", func(forge.GPULook) bool { return true })
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

func TestAnEventIsToldOnceAndAtOnce(t *testing.T) {
	w, first := watchChild(t, fakeLibrary(t), nil, append(eightGPUs(), "event.1 3,8,13")...)
	if first.State != forge.NVMLOK || len(first.GPUs) != 8 {
		t.Fatalf("the first look is %+v", first)
	}
	state := append(eightGPUs(), "event.1 3,8,13")           // that was before the watch
	for k, xid := range []int{13, 63, 94, 48, 74, 79, 999} { // one of each class
		state = append(state, fmt.Sprintf("event.%d %d,8,%d", k+2, k, xid))
		writeState(t, w.state, state...)
		got := w.events()
		if len(got) != 1 || got[0].XID != xid || got[0].UUID != fmt.Sprintf("GPU-%d", k) || got[0].Kind != forge.GPUEventXID || got[0].Count != 1 || got[0].MIGID != nil {
			t.Errorf("XID %d of GPU %d: got %+v", xid, k, got)
		}
		if age := time.Since(got[0].At); age < 0 || age > 10*time.Second {
			t.Errorf("it came at %s", got[0].At)
		}
	}
	writeState(t, w.state, append(state, "event.20 7,0x8000,0", "event.21 6,8,31,5,0")...)
	if got := w.events(); len(got) != 1 || got[0].Kind != forge.GPUEventRecovery || got[0].UUID != "GPU-7" {
		if len(got) != 1 || got[0].XID != 31 {
			t.Errorf("a changed recovery action: got %+v", got)
		}
	}
}

func TestALostGPUIsSaidAndTheOthersGoOn(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), nil, eightGPUs()...)
	l := w.ask(append(eightGPUs(), "gpu.2.lost 1", "gpu.3.temp 93", "gpu.3.throttle 0x40", "gpu.3.procs 4711:1073741824,12:-")...)
	if r := l.GPUs[2]; !r.Lost || !strings.Contains(r.Problem, "lost") || r.UUID != "GPU-2" || r.PCI != "00000000:03:00.0" || r.TemperatureC != nil || r.Told {
		t.Errorf("the lost one: %+v", r)
	}
	r := l.GPUs[3]
	if r.Problem != "" || *r.TemperatureC != 93 || len(r.Throttle) != 1 || r.Throttle[0] != forge.ThrottleHWThermal {
		t.Errorf("the one after it: %+v", r)
	}
	if !r.Told || len(r.Processes) != 2 || r.Processes[0].PID != 4711 || *r.Processes[0].MemoryMiB != 1024 || r.Processes[1].MemoryMiB != nil {
		t.Errorf("its processes: %+v", r.Processes)
	}
	if l = w.ask(eightGPUs()...); l.GPUs[2].Lost || l.GPUs[2].Problem != "" || *l.GPUs[2].TemperatureC != 35 {
		t.Errorf("when it is back: %+v", l.GPUs[2])
	}
}
