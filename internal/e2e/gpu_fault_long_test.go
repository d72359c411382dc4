//go:build e2e && long

package e2e

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// onFakeGPUs is a site whose one host has so many GPUs and no CPU slots.
func onFakeGPUs(t *testing.T, gpus int, more string) (*forgedtest.FakeGPUs, func(*forgedtest.Options)) {
	t.Helper()
	f, err := forgedtest.NewFakeGPUs(t.Context(), "../..", t.TempDir(), gpus)
	must(t, err)
	return f, func(o *forgedtest.Options) {
		o.CPUSlots = 0
		o.Extra = "gpus: {library_path: " + f.Dir + ", sample_every: 200ms" + more + "}\n"
	}
}

// slotOf is the GPU that the newest attempt of a run has.
func slotOf(t *testing.T, f *forgedtest.FakeGPUs, looks string) int {
	t.Helper()
	for gpu := range 8 {
		if strings.Contains(looks, f.UUID("", gpu)) {
			return gpu
		}
	}
	t.Fatalf("no GPU in %s", looks)
	return -1
}

func TestABadGPUEndsAnAttemptAndABadProgramItsRun(t *testing.T) {
	f, change := onFakeGPUs(t, 4, ", app_patience: 300ms")
	ctx, s := openFor(t, 2*time.Minute, change)
	on := func(run string) int {
		dir := s.RunDir(string(show(t, ctx, s, run).ID))
		return slotOf(t, f, read(t, dir+"/attempts/0001/nodes/0000/gpus/gpus.json"))
	}
	args := []string{"--set", "steps=200", "--set", "step_ms=20", "--set", "save_every=10"}
	run := submit(t, ctx, s, args...)
	until(t, ctx, s, run, "half-way", atStep(45))
	must(t, f.XID("", on(run), 48))
	r := until(t, ctx, s, run, "ended", ended)
	if r.State != forge.RunCompleted || len(r.Attempts) < 2 {
		t.Fatalf("%s after %d attempts: %s", r.State, len(r.Attempts), r.Reason)
	}
	first := r.Attempts[0]
	t.Logf("%s: %s", first.Reason, first.Detail)
	if first.Reason != forge.EndGPUFault || !strings.Contains(first.Detail, "XID 48 (") {
		t.Errorf("%s: %s", first.Reason, first.Detail)
	}
	run = submit(t, ctx, s, args...)
	until(t, ctx, s, run, "half-way", atStep(45))
	must(t, f.XID("", on(run), 31))
	r = until(t, ctx, s, run, "ended", ended)
	t.Logf("%s: %s", r.State, r.Reason)
	if r.State != forge.RunFailed || len(r.Attempts) != 1 || r.Attempts[0].Reason != forge.EndUserExit || !strings.Contains(r.Attempts[0].Detail, "XID 31 (") {
		t.Errorf("%s: %+v", r.State, r.Attempts)
	}
}
