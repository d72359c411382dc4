//go:build linux && cgo

package nvml_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

// script stands in for forged with a child that misbehaves in a way that no fake library can.
func script(t *testing.T, body string) *nvml.Prober {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &nvml.Prober{Self: path, Timeout: time.Minute}
}

func TestAChildThatMisbehaves(t *testing.T) {
	cases := []struct {
		name, body string
		says       []string
	}{
		{"exit 127 names what the dynamic linker said", "echo 'forged: symbol lookup error: undefined symbol: nvmlDeviceGetCount' >&2; exit 127", []string{"exit code 127", "undefined symbol: nvmlDeviceGetCount"}},
		{"a signal is named", "kill -SEGV $$", []string{"signal 11"}},
		{"silence", "exit 0", []string{"no report", "EOF"}},
		{"garbage", "echo hello", []string{"no report"}},
		{"half a document", `printf '{"state":"ok","gpus":[{"slot":0'`, []string{"no report"}},
		{"two documents", `echo '{"state":"ok"}{"state":"ok"}'`, []string{"no report", "more follows"}},
		{"an unknown state", `echo '{"state":"splendid"}'`, []string{"no report", "splendid"}},
		{"a good document and a bad exit", `echo '{"state":"ok","gpus":[]}'; exit 3`, []string{"exit code 3"}},
		{"a flood", `PATH=/usr/bin:/bin; yes | head -c 3000000`, []string{"more than 1048576 bytes"}},
	}
	for _, c := range cases {
		t.Run(c.name+" is an error report", func(t *testing.T) {
			wantState(t, look(t, script(t, c.body)), nvml.StateError, c.says...)
		})
	}

	t.Run("a grandchild that holds the pipe open does not hold the parent", func(t *testing.T) {
		start := time.Now()
		r := look(t, script(t, `PATH=/usr/bin:/bin; sleep 20 & echo '{"state":"ok","gpus":[]}'`))
		wantState(t, r, nvml.StateError)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %s (%+v)", took, r)
		}
	})

	t.Run("a binary that cannot be started is our error, not the driver's", func(t *testing.T) {
		_, err := nvml.Inventory(t.Context(), filepath.Join(t.TempDir(), "forged"), time.Second)
		if forge.KindOf(err) != forge.KindInternal || !strings.Contains(err.Error(), "start") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("nothing of the parent's environment reaches it", func(t *testing.T) {
		t.Setenv("LD_BIND_NOW", "1")
		t.Setenv("FORGE_SECRET", "s3cret")
		p := script(t, `PATH=/usr/bin:/bin; env >&2; env | cut -d= -f1 | sort | tr '\n' ' ' >&2; exit 1`)
		p.LibraryPath, p.FakeState = "/lib/somewhere", "/state"
		r := look(t, p)
		for _, w := range []string{"FORGE_SECRET", "LD_BIND_NOW", "HOME"} {
			if strings.Contains(r.Detail, w) {
				t.Errorf("the child saw %s: %s", w, r.Detail)
			}
		}
		for _, w := range []string{"LD_LIBRARY_PATH", "FAKENVML_STATE"} {
			if !strings.Contains(r.Detail, w) {
				t.Errorf("the child did not see %s: %s", w, r.Detail)
			}
		}
	})
}

func TestChildMain(t *testing.T) {
	t.Run("without its verb it says what it is for and prints no document", func(t *testing.T) {
		var out bytes.Buffer
		if code := nvml.ChildMain([]string{"help"}, &out); code != 64 || out.Len() != 0 {
			t.Errorf("exit code %d, output %q", code, out.String())
		}
	})

	t.Run("prints one JSON document that is a Report, here of a machine without a driver", func(t *testing.T) {
		var out bytes.Buffer
		if code := nvml.ChildMain([]string{"inventory"}, &out); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		var r nvml.Report
		d := json.NewDecoder(&out)
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil || r.State == "" || r.GPUs == nil {
			t.Errorf("%v, %+v", err, r)
		}
	})
}
