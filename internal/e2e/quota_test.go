//go:build e2e

package e2e

import (
	"math"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// A tenant's way from what an operator grants to what its people see, over a restart.
func TestSharesQuotasAndPrioritiesHoldOverARestart(t *testing.T) {
	ctx, s := open(t)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := s.Ctl(ctx, args...)
		must(t, err)
		return out
	}
	ctl("tenant", "create", "lab")
	ctl("tenant", "edit", "lab", "--weight", "2", "--max-queued", "2", "--max-gpus", "1")
	var key api.CreatedKey
	must(t, s.CtlJSON(ctx, &key, "key", "create", "--user", "ada", "--tenant", "lab"))
	ada := s.As(key.Secret)

	done := submit(t, ctx, ada, "--set", "steps=20", "--set", "step_ms=20")
	until(t, ctx, ada, done, "completed", func(r api.RunDetail) bool { return r.State == forge.RunCompleted })
	long := submit(t, ctx, ada, "--set", "steps=1000000", "--set", "step_ms=100")
	until(t, ctx, ada, long, "running", func(r api.RunDetail) bool { return r.State == forge.RunRunning })
	first, second := submit(t, ctx, ada), submit(t, ctx, ada) // one GPU of the two is free, and they may not have it
	if out, err := ada.Ctl(ctx, "run", "submit", "probe"); err == nil || !strings.Contains(err.Error()+out, "2 runs of tenant lab wait, and no more than 2 may") {
		t.Errorf("a third that waits: %v %s", err, out)
	}
	if why, _ := ada.Ctl(ctx, "run", "why", first); !strings.Contains(why, "1") || show(t, ctx, ada, first).State != forge.RunPending {
		t.Errorf("beyond the tenant's GPUs: %s", why)
	}
	var effect api.PriorityEffect
	must(t, ada.CtlJSON(ctx, &effect, "run", "priority", second, "55", "--dry-run"))
	if effect.Position != 2 || effect.WouldBe != 1 || effect.Waiting != 2 {
		t.Errorf("it would go from %d to %d of %d", effect.Position, effect.WouldBe, effect.Waiting)
	}
	if _, err := ada.Ctl(ctx, "run", "priority", second, "55", "--yes"); err != nil {
		t.Fatal(err)
	}

	used := func() forge.Tenant {
		t.Helper()
		var own forge.Tenant
		must(t, ada.CtlJSON(ctx, &own, "tenant", "show", "lab"))
		return own
	}
	before := used()
	if before.Weight != 2 || before.Quota != (forge.Quota{MaxQueued: 2, MaxGPUs: 1}) || before.Use.GPUs != 1 || before.Use.Running != 1 || before.Use.Queued != 2 || before.Use.GPUHours <= 0 {
		t.Errorf("ada sees %+v, %+v", before, before.Use)
	}
	if out, err := ada.Ctl(ctx, "tenant", "list"); err != nil || strings.Contains(out, "default") {
		t.Errorf("ada lists %s, %v", out, err)
	}
	must(t, s.Stop(ctx))
	must(t, s.Start(ctx))
	// The long run goes on beside the daemon, so that use has grown by the seconds of the restart at most.
	if after := used(); after.Use.GPUHours < before.Use.GPUHours-1e-6 || math.Abs(after.Use.GPUHours-before.Use.GPUHours) > 0.02 {
		t.Errorf("%v GPU-hours before, %v after", before.Use.GPUHours, after.Use.GPUHours)
	}
	ctl("tenant", "edit", "lab", "--max-gpus", "none")
	got := until(t, ctx, ada, second, "completed", func(r api.RunDetail) bool { return r.State == forge.RunCompleted })
	if x := until(t, ctx, ada, first, "completed", func(r api.RunDetail) bool { return r.State == forge.RunCompleted }); !got.StartedAt.Before(x.StartedAt) {
		t.Errorf("run %s was raised and started at %s, run %s at %s", second, got.StartedAt, first, x.StartedAt)
	}
	ctl("run", "cancel", long, "--tenant", "lab", "--now")
	until(t, ctx, ada, long, "ended", ended)
	sound(t, ctx, s)
}
