//go:build e2e

package e2e

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// TestAKillWhileAScheduleFiresSubmitsOneRun: a schedule's time has passed while forged was down. It is killed as it makes up for that, before
// and after the commit; started again it has one firing and one run, and fires no more.
func TestAKillWhileAScheduleFiresSubmitsOneRun(t *testing.T) {
	for _, point := range crash.SchedulePoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "fired")
			ctx, s := open(t, func(o *forgedtest.Options) {
				o.Forged = filepath.Join(o.Bin, "forged-crash")
				o.ServeEnv = []string{"FORGE_CRASH_AT=" + point, "FORGE_CRASH_MARK=" + mark}
			})
			file := filepath.Join(s.Dir, "run.yaml")
			write(t, file, "recipe: probe\nparams: {steps: 3, step_ms: 10}\n")
			var made api.ScheduleAdded
			must(t, s.CtlJSON(ctx, &made, "schedule", "add", "0 3 * * *", "--run", file, "--name", "nightly"))
			must(t, s.Stop(ctx))
			db, err := sql.Open("sqlite3", filepath.Join(s.State(), "forge.db"))
			must(t, err)
			_, err = db.ExecContext(ctx, `UPDATE schedules SET decided = decided - ?`, int64(3*24*time.Hour))
			must(t, err)
			must(t, db.Close())
			_ = s.Start(ctx) // it may be killed before it is ready
			select {
			case <-s.Exited():
			case <-ctx.Done():
				t.Fatal("forged outlived its crash point")
			}
			if _, err := os.Stat(mark); err != nil {
				t.Fatal("it ended without having met the point")
			}
			must(t, s.Start(ctx))
			var shown api.ScheduleDetail
			for len(shown.Firings) == 0 {
				must(t, s.CtlJSON(ctx, &shown, "schedule", "show", "nightly"))
			}
			f := shown.Firings[0]
			if len(shown.Firings) != 1 || f.State != forge.FiringFired || f.Run != 1 || f.Missed != 2 {
				t.Errorf("%+v", shown.Firings)
			}
			var all []forge.Run
			must(t, s.CtlJSON(ctx, &all, "run", "list"))
			if len(all) != 1 || all[0].Spec.Name != "nightly" {
				t.Errorf("%d runs: %+v", len(all), all)
			}
		})
	}
}
