package rundir_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// saved makes a run with checkpoints at steps 10 (attempt 1) and 20 (attempt 2).
func saved(t *testing.T) (runDir string, newest string) {
	t.Helper()
	runDir = filepath.Join(t.TempDir(), "R")
	for n, step := range map[int]int64{1: 10, 2: 20} {
		save(t, runDir, n, step)
	}
	return runDir, filepath.Join(rundir.At(runDir, 2).CheckpointDir(), "checkpoint-20")
}

func save(t *testing.T, runDir string, n int, step int64) {
	t.Helper()
	s := executortest.Save{Run: "R", Attempt: n, Step: step, World: 2, Files: map[string]string{
		"adapter.bin": strings.Repeat("weights", 100), "rank-1/optimizer.bin": "momentum",
	}}
	if err := s.Write(rundir.At(runDir, n).CheckpointDir()); err != nil {
		t.Fatal(err)
	}
}

// two is what an attempt of run R with two ranks goes on from.
var two = rundir.Fit{Run: "R", World: 2}

// edit changes the manifest of a checkpoint.
func edit(t *testing.T, dir string, change func(m *rundir.SaveManifest)) {
	t.Helper()
	path := filepath.Join(dir, rundir.ManifestName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m rundir.SaveManifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	change(&m)
	if data, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, string(data))
}

func TestResume(t *testing.T) {
	t.Run("from the highest verified step over all attempts", func(t *testing.T) {
		dir, newest := saved(t)
		r := rundir.ChooseResume(dir, two)
		if r.Step != 20 || r.Attempt != 2 || r.Path != newest || len(r.SHA256) != 64 || len(r.Skipped) != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("from the newest attempt at equal steps", func(t *testing.T) {
		dir, _ := saved(t)
		save(t, dir, 3, 20)
		if r := rundir.ChooseResume(dir, two); r.Step != 20 || r.Attempt != 3 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("from the start when there is nothing", func(t *testing.T) {
		if r := rundir.ChooseResume(filepath.Join(t.TempDir(), "R"), two); r.Step != 0 || r.Path != "" || len(r.Skipped) != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("steps are numbers, not names", func(t *testing.T) {
		dir, _ := saved(t)
		save(t, dir, 2, 100)
		if r := rundir.ChooseResume(dir, two); r.Step != 100 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("can be given up, and then names no checkpoint", func(t *testing.T) {
		dir, _ := saved(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r, err := rundir.ChooseResumeContext(ctx, dir, two, nil); !errors.Is(err, context.Canceled) || r.Path != "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestTornCheckpointIsSkippedForTheOneBeforeIt(t *testing.T) {
	flip := func(t *testing.T, path string, keepTimes bool) {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		mustWrite(t, path, string(data))
		if keepTimes {
			if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, why string
		tear      func(t *testing.T, dir string)
	}{
		{"truncated file", "bytes, the manifest says", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "adapter.bin"), 699); err != nil {
				t.Fatal(err)
			}
		}},
		{"missing shard", "optimizer.bin is missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "rank-1", "optimizer.bin")); err != nil {
				t.Fatal(err)
			}
		}},
		{"one flipped bit in a file of the same size", "sha256", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "adapter.bin"), true)
		}},
		{"manifest of another attempt", "of attempt 1 and lies in attempt 2", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Attempt = 1 })
		}},
		{"manifest of another run", `of run "Q"`, func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Run = "Q" })
		}},
		{"manifest of another step", "of step 19", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Step = 19 })
		}},
		{"manifest of another layout", "layout 2", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Layout = 2 })
		}},
		{"manifest without files", "lists no file", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Files = nil })
		}},
		{"path that leaves the directory", "leaves the checkpoint's directory", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Files[0].Path = "../../../../fence" })
		}},
		{"absolute path", "leaves the checkpoint's directory", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Files[0].Path = "/etc/passwd" })
		}},
		{"link that leaves the directory", "adapter.bin", func(t *testing.T, dir string) {
			path, outside := filepath.Join(dir, "adapter.bin"), filepath.Join(t.TempDir(), "same")
			if err := os.Rename(path, outside); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, path); err != nil {
				t.Fatal(err)
			}
		}},
		{"directory in place of a file", "not a regular file", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "adapter.bin")
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o750)); err != nil {
				t.Fatal(err)
			}
		}},
		{"half a manifest", "does not parse", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, rundir.ManifestName), 50); err != nil {
				t.Fatal(err)
			}
		}},
		{"manifest without end", "more than", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, rundir.ManifestName), 1<<30); err != nil {
				t.Fatal(err)
			}
		}},
		{"no manifest", "not finished", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, rundir.ManifestName)); err != nil {
				t.Fatal(err)
			}
		}},
		{"saved by another number of ranks", "saved by 4 ranks", func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.World = 4 })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, newest := saved(t)
			c.tear(t, newest)
			r := rundir.ChooseResume(dir, two)
			if r.Step != 10 || r.Attempt != 1 {
				t.Errorf("resumes from step %d of attempt %d, want 10 of 1", r.Step, r.Attempt)
			}
			if len(r.Skipped) != 1 || r.Skipped[0].Path != newest || r.Skipped[0].Step != 20 || !strings.Contains(r.Skipped[0].Why, c.why) {
				t.Errorf("skipped %+v, want %s because of %q", r.Skipped, newest, c.why)
			}
		})
	}
}

func TestACheckpointSaysHowLongItTookUnlessItsManifestSaysNothingThatCouldBe(t *testing.T) {
	dir, newest := saved(t)
	for said, want := range map[float64]time.Duration{0: 0, 4.5: 4500 * time.Millisecond, -1: 0, 1e12: 0} {
		edit(t, newest, func(m *rundir.SaveManifest) { m.Seconds = said })
		for _, verify := range []bool{false, true} {
			list, err := rundir.Checkpoints(dir, "R", verify)
			if err != nil || list[0].Took.D() != want {
				t.Errorf("%g seconds, verify %v: took %s, %v", said, verify, list[0].Took, err)
			}
		}
	}
}

func TestCheckpointsListsNewestFirst(t *testing.T) {
	dir, newest := saved(t)
	save(t, dir, 2, 30)
	if err := os.Remove(filepath.Join(rundir.At(dir, 2).CheckpointDir(), "checkpoint-30", rundir.ManifestName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(newest, "adapter.bin"), 1); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(rundir.At(dir, 2).CheckpointDir(), "notes.txt"), "not a checkpoint")
	for _, verify := range []bool{false, true} {
		list, err := rundir.Checkpoints(dir, "R", verify)
		if err != nil || len(list) != 2 || list[0].Step != 20 || list[1].Step != 10 {
			t.Fatalf("verify %v: %+v, %v; want 20, 10 and not the unfinished 30", verify, list, err)
		}
		want := []forge.Verdict{forge.VerdictWritten, forge.VerdictWritten}
		if verify {
			want = []forge.Verdict{forge.VerdictTorn, forge.VerdictVerified}
		}
		for i, c := range list {
			if c.Verdict != want[i] || c.Bytes != 708 || c.World != 2 || c.SHA256 == "" || (c.Why != "") != (c.Verdict == forge.VerdictTorn) {
				t.Errorf("verify %v: %+v, want %s", verify, c, want[i])
			}
		}
	}
}

func TestTheLossOfACheckpointIsReadAndOneThatIsNoneSpoilsNothing(t *testing.T) {
	dir, newest := saved(t)
	for _, c := range []struct {
		said any
		want string
	}{{0.25, "0.25"}, {0, "0"}, {nil, "none"}, {"low", "none"}, {true, "none"}, {[]int{1}, "none"}} {
		edit(t, newest, func(m *rundir.SaveManifest) { m.Loss = c.said })
		all, err := rundir.Checkpoints(dir, "R", true)
		if err != nil || len(all) != 2 || all[0].Verdict != forge.VerdictVerified {
			t.Fatalf("%v: %+v, %v", c.said, all, err)
		}
		got := "none"
		if all[0].Loss != nil {
			got = fmt.Sprint(*all[0].Loss)
		}
		if got != c.want || all[1].Loss != nil {
			t.Errorf("%v is read as %s, want %s", c.said, got, c.want)
		}
	}
}
