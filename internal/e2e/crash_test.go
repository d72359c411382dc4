//go:build e2e

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// TestAKillAtEachCrashPointBreaksNoInvariant kills forged or its shim with SIGKILL at every
// named point of a run's way, restarts forged, and expects the run to end as if nothing had
// happened.
func TestAKillAtEachCrashPointBreaksNoInvariant(t *testing.T) {
	for _, point := range crash.Points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "fired")
			ctx, s := open(t, func(o *forgedtest.Options) {
				o.Forged = filepath.Join(o.Bin, "forged-crash")
				o.ServeEnv = []string{"FORGE_CRASH_AT=" + point, "FORGE_CRASH_MARK=" + mark}
			})
			var acknowledged []forge.RunID
			var out api.Submitted
			err := s.CtlJSON(ctx, &out, "run", "submit", "probe", "--gpus-per-node", "2", "--set", "steps=30", "--set", "step_ms=10", "--register", "bot")
			met := func() bool { _, err := os.Stat(mark); return err == nil }
			if err == nil {
				acknowledged = append(acknowledged, out.Run.ID)
			} else if !met() { // forged may die of a later point before its answer is out
				t.Fatal(err)
			}
			// Wait until the point was met, then until what it killed is settled.
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for !met() {
				select {
				case <-ctx.Done():
					t.Fatal("this point was never reached")
				case <-tick.C:
				}
			}
			if !strings.HasPrefix(point, "shim.") {
				select {
				case <-s.Exited():
				case <-ctx.Done():
					t.Fatal("forged outlived its crash point")
				}
				must(t, s.Start(ctx))
			}
			var list []forge.Run
			must(t, s.CtlJSON(ctx, &list, "run", "list"))
			switch {
			case len(list) == 0 && len(acknowledged) == 0: // not acknowledged, not there: nothing is owed
				out = api.Submitted{}
				must(t, s.CtlJSON(ctx, &out, "run", "submit", "probe", "--gpus-per-node", "2", "--set", "steps=30", "--register", "bot"))
			case len(list) != 1:
				t.Fatalf("%d runs, want 1: %+v", len(list), list)
			}
			r := until(t, ctx, s, "1", "ended", ended)
			if r.State != forge.RunCompleted || r.Step != 30 || r.Model != "bot@1" || r.Loss == nil {
				t.Errorf("%s at step %d, model %q, attempts %+v", r.State, r.Step, r.Model, r.Attempts)
			}
			if r.Loss != nil && *r.Loss != undisturbedLoss30 {
				t.Errorf("last loss %v, undisturbed %v", *r.Loss, undisturbedLoss30)
			}
			if err := s.Stop(ctx); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			sound(t, ctx, s, acknowledged...)
			left, err := forgedtest.Survivors(s.Dir)
			must(t, err)
			for _, p := range left {
				t.Errorf("pid %d survived: %s", p.Pid, p.Command)
			}
		})
	}
}

// undisturbedLoss30 is what the hash chain of proberank gives after 30 steps. A resume that
// repeats or leaves out a step gives another number.
const undisturbedLoss30 = 0.316828
