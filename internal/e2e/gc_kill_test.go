//go:build e2e && long

package e2e

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// killedAt starts a forged that dies at a point, has it asked for something, and waits until it is dead.
func killedAt(t *testing.T, ctx context.Context, s *forgedtest.Site, point string, args ...string) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "fired")
	must(t, s.StartAs(ctx, filepath.Join(binDir(t), "forged-crash"), "FORGE_CRASH_AT="+point, "FORGE_CRASH_MARK="+mark))
	asking, stop := context.WithCancel(ctx)
	answered := make(chan error, 1)
	go func() {
		_, err := s.Ctl(asking, args...)
		answered <- err
	}()
	select {
	case <-s.Exited():
	case <-ctx.Done():
		t.Fatal("forged outlived its crash point")
	}
	stop() // forgectl would ask again
	<-answered
	if _, err := os.Stat(mark); err != nil {
		t.Fatal("it ended without having met the point")
	}
}

// aged makes all runs two hours older. forged does not run.
func aged(t *testing.T, ctx context.Context, s *forgedtest.Site) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(s.State(), "forge.db"))
	must(t, err)
	_, err = db.ExecContext(ctx, `UPDATE runs SET ended_at = ended_at - ?, version = version + 1`, int64(2*time.Hour))
	must(t, err)
	must(t, db.Close())
}

// oneCopy holds that the artefact root has one whole copy and nothing half, and that the version is it.
func oneCopy(t *testing.T, ctx context.Context, s *forgedtest.Site, root string) {
	t.Helper()
	var bot forge.Model
	must(t, s.CtlJSON(ctx, &bot, "model", "show", "bot"))
	if len(bot.Versions) != 1 {
		t.Fatalf("%+v", bot)
	}
	m := bot.Versions[0].Manifest
	all, err := filepath.Glob(filepath.Join(root, "*", "*"))
	must(t, err)
	hidden, err := filepath.Glob(filepath.Join(root, "*", ".*", "*"))
	must(t, err)
	if len(all) != 1 || all[0] != m.Root || len(hidden) > 0 {
		t.Errorf("below the root are %q and %q; the version lies in %s", all, hidden, m.Root)
	}
	seen, err := artefact.Checker{}.Check(ctx, m, nil)
	if err != nil || len(seen.Differs) > 0 || seen.Files == 0 {
		t.Errorf("%+v, %v", seen, err)
	}
}

// TestAKillInTheMiddleOfAGCTakesNothingThatStaysAndTheNextOneEndsIt kills forged at every named point of a removal.
func TestAKillInTheMiddleOfAGCTakesNothingThatStaysAndTheNextOneEndsIt(t *testing.T) {
	for _, point := range crash.GCPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			ctx, s := open(t, func(o *forgedtest.Options) { o.ArtifactRoot = root })
			run := until(t, ctx, s, submit(t, ctx, s, "--set", "steps=17", "--register", "bot"), "ended", ended)
			if run.Model != "bot@1" {
				t.Fatalf("%s %s: %s", run.State, run.Reason, run.Attempts[0].Detail)
			}
			must(t, s.Stop(ctx))
			aged(t, ctx, s)
			killedAt(t, ctx, s, point, "gc", "--older-than", "1h", "--yes")
			must(t, s.Start(ctx))

			var r api.GCReport
			must(t, s.CtlJSON(ctx, &r, "gc", "--older-than", "1h", "--yes"))
			if r.Count == 0 || len(r.Failed) > 0 {
				t.Errorf("the one after the kill: %+v", r)
			}
			dir := filepath.Join(run.Attempts[0].RunDir, "attempts", "0001")
			for path, want := range map[string]bool{"checkpoints/checkpoint-5": false, "checkpoints/checkpoint-10": false, "checkpoints/checkpoint-15/state.bin": true, "output": false, "metrics.jsonl": true} {
				if _, err := os.Lstat(filepath.Join(dir, path)); (err == nil) != want {
					t.Errorf("%s is there: %v", path, err == nil)
				}
			}
			if left := artefact.Trash(filepath.Dir(run.Attempts[0].RunDir)); len(left) > 0 {
				t.Errorf("the trash has %q", left)
			}
			var saves []forge.Checkpoint
			must(t, s.CtlJSON(ctx, &saves, "run", "checkpoints", "1", "--all"))
			for _, c := range saves {
				if c.Removed.IsZero() != (c.Step == 15) {
					t.Errorf("of step %d the tables say that it was removed: %v", c.Step, c.Removed)
				}
			}
			if len(saves) != 3 {
				t.Errorf("%+v", saves)
			}
			oneCopy(t, ctx, s, root)
			r = api.GCReport{}
			must(t, s.CtlJSON(ctx, &r, "gc", "--older-than", "1h", "--yes"))
			if r.Count > 0 || len(r.Failed) > 0 {
				t.Errorf("one more: %+v", r)
			}
			events, err := s.Ctl(ctx, "run", "events", "1")
			must(t, err)
			if !strings.Contains(events, "removed by gc") && !strings.Contains(events, "removed by a gc that was cut off") {
				t.Errorf("no event of the run says what went:\n%s", events)
			}
			sound(t, ctx, s)
		})
	}
}

// TestAKillInTheMiddleOfACopyLeavesOneWholeCopyAndOneVersion kills forged at every named point of a copy to the artefact root: at the end of a run, which the
// next forged ends by itself, and when somebody registers, who says it again.
func TestAKillInTheMiddleOfACopyLeavesOneWholeCopyAndOneVersion(t *testing.T) {
	for _, point := range crash.CopyPoints {
		t.Run(point+" at the end of a run", func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			ctx, s := open(t, func(o *forgedtest.Options) { o.ArtifactRoot = root })
			must(t, s.Stop(ctx))
			killedAt(t, ctx, s, point, "run", "submit", "probe", "--set", "steps=3", "--register", "bot")
			must(t, s.Start(ctx))
			if r := until(t, ctx, s, "1", "ended", ended); r.State != forge.RunCompleted || r.Model != "bot@1" {
				t.Errorf("%s %s, %q", r.State, r.Reason, r.Model)
			}
			oneCopy(t, ctx, s, root)
			sound(t, ctx, s)
		})
		t.Run(point+" when somebody registers", func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			ctx, s := open(t, func(o *forgedtest.Options) { o.ArtifactRoot = root })
			until(t, ctx, s, submit(t, ctx, s, "--set", "steps=3"), "ended", ended)
			must(t, s.Stop(ctx))
			killedAt(t, ctx, s, point, "model", "register", "bot", "1")
			must(t, s.Start(ctx))
			_, err := s.Ctl(ctx, "model", "register", "bot", "1")
			must(t, err)
			oneCopy(t, ctx, s, root)
			sound(t, ctx, s)
		})
	}
}
