package shim

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func recordIn(t *testing.T, every time.Duration, network bool) (*gpuRecord, rundir.Attempt) {
	t.Helper()
	at := rundir.At(filepath.Join(t.TempDir(), "R"), 1)
	if err := os.MkdirAll(at.NodeDir(0), 0o750); err != nil {
		t.Fatal(err)
	}
	return newGPURecord(at, 0, every, network, zerolog.Nop()), at
}

func seenIn(t *testing.T, at rundir.Attempt) string {
	t.Helper()
	data, err := os.ReadFile(at.GPUsPath(0))
	if err != nil {
		t.Fatal(err)
	}
	var l forge.GPULook
	if err := json.Unmarshal(data, &l); err != nil {
		t.Fatal(err)
	}
	return l.Detail
}

func TestLooksAreLeftAtTheirPaceAndTheNewestOne(t *testing.T) {
	for _, c := range []struct {
		name    string
		network bool
		pace    time.Duration
	}{{"on this host", false, 5 * time.Second}, {"over a network filesystem", true, 10 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, at := recordIn(t, 5*time.Second, c.network)
				done := make(chan struct{})
				go r.run(done)
				r.look(forge.GPULook{Detail: "first"})
				synctest.Wait()
				if got := seenIn(t, at); got != "first" {
					t.Fatalf("%q", got)
				}
				time.Sleep(c.pace / 2)
				r.look(forge.GPULook{Detail: "second"})
				r.look(forge.GPULook{Detail: "third"})
				synctest.Wait()
				if got := seenIn(t, at); got != "first" {
					t.Errorf("%q before its time", got)
				}
				time.Sleep(c.pace / 2)
				synctest.Wait()
				if got := seenIn(t, at); got != "third" {
					t.Errorf("%q, want the newest", got)
				}
				close(done)
				synctest.Wait()
			})
		})
	}
}

func TestAStormOfEventsFillsNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, at := recordIn(t, time.Second, false)
		done := make(chan struct{})
		go r.run(done)
		for i := range 5000 {
			r.event(forge.GPUEvent{UUID: "GPU-a", Kind: forge.GPUEventXID, XID: i, Count: 1})
		}
		close(done)
		synctest.Wait()
		data, err := os.ReadFile(at.GPUEventsPath(0))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		if len(lines) != maxGPUEvents || !bytes.Contains(lines[0], []byte(`"uuid":"GPU-a"`)) {
			t.Errorf("%d lines, the first %s", len(lines), lines[0])
		}
	})
}

func TestALookIsBounded(t *testing.T) {
	r, at := recordIn(t, time.Second, false)
	l := forge.GPULook{GPUs: []forge.GPUReading{{UUID: "GPU-a", Told: true}}}
	for pid := range 5000 {
		l.GPUs[0].Processes = append(l.GPUs[0].Processes, forge.GPUProcess{PID: pid, Kind: "compute"})
	}
	if err := r.replace(l); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(at.GPUsPath(0))
	if err != nil || len(data) > maxGPULook || !strings.Contains(string(data), "GPU-a") || strings.Contains(string(data), "processes_told") {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if !l.GPUs[0].Told {
		t.Error("what others look at was changed")
	}
}
