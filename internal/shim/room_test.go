package shim_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// saidToTake leaves a checkpoint of an earlier attempt whose manifest says how many bytes it has.
func saidToTake(t *testing.T, a rundir.Attempt, bytes int64) {
	t.Helper()
	run := forge.RunID(filepath.Base(a.RunDir))
	earlier := rundir.At(a.RunDir, 1).CheckpointDir()
	if err := (executortest.Save{Run: run, Attempt: 1, Step: 4, World: 1, Files: map[string]string{"w": "abc"}}).Write(earlier); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(earlier, "checkpoint-4", rundir.ManifestName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m rundir.SaveManifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m.Files[0].Size = bytes
	if data, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestNoRankStartsWhereNotEvenOneCheckpointFits(t *testing.T) {
	a := prepared(t, []string{self(t), "print"}, nil, 1)
	free, _, err := rundir.Room(a.Dir())
	if err != nil {
		t.Fatal(err)
	}
	saidToTake(t, a, 2*free)
	_, x := runShim(t, a)
	if x.Cause != forge.StopLaunch || !strings.Contains(x.Detail, "no room for a single checkpoint") || !strings.Contains(x.Detail, "the one of step 4 took") {
		t.Errorf("%+v", x)
	}
	if got := stdout(t, a, 0); got != "" {
		t.Errorf("a rank started: %q", got)
	}
}

func TestLittleRoomForCheckpointsIsSaidAndNoMore(t *testing.T) {
	a := prepared(t, []string{self(t), "print"}, func(l *rundir.LaunchFile) {
		l.Spec.Params = map[string]any{"checkpoint.keep_last": 4}
	}, 1)
	free, _, err := rundir.Room(a.Dir())
	if err != nil {
		t.Fatal(err)
	}
	saidToTake(t, a, free/4)
	if _, x := runShim(t, a); x.Cause != forge.StopRankExit {
		t.Errorf("%+v", x)
	}
	r, err := rundir.ReadResume(a)
	if err != nil || !strings.Contains(r.Room, "4 are kept while the next one is written") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAFullFineTuneNeedsRoomForItsWeightsBeforeItHasSavedAny(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "huge")
	if err := errors.Join(os.Mkdir(huge, 0o755), os.WriteFile(filepath.Join(huge, "model.safetensors"), nil, 0o644), os.Truncate(filepath.Join(huge, "model.safetensors"), 1<<40)); err != nil {
		t.Fatal(err) // all hole: a terabyte that takes none
	}
	st, err := os.Stat(filepath.Join(huge, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for peft, want := range map[string]forge.StopCause{"none": forge.StopLaunch, "lora": forge.StopRankExit} {
		a := prepared(t, []string{self(t), "print"}, func(l *rundir.LaunchFile) {
			l.Spec.Params, l.Spec.Base = map[string]any{"peft": peft}, &forge.InputRef{Path: huge}
			l.Inputs = []forge.Manifest{{Root: huge, Files: []forge.File{{Path: "model.safetensors", Size: 1 << 40, ModTime: st.ModTime(), Inode: st.Sys().(*syscall.Stat_t).Ino}}}}
		}, 1)
		if _, x := runShim(t, a); x.Cause != want {
			t.Errorf("peft %s: %+v, want %s", peft, x, want)
		}
	}
}

func TestARunThatWasToBeginFromACheckpointThatIsGoneStartsNoRank(t *testing.T) {
	from := &forge.BranchPoint{Run: "OTHER", Number: 3, Attempt: 1, Step: 20, Path: "/nowhere/checkpoint-20", SHA256: "abc"}
	a := prepared(t, []string{self(t), "print"}, func(l *rundir.LaunchFile) { l.Spec.ResumeFrom = from }, 1)
	_, x := runShim(t, a)
	if x.Cause != forge.StopInputs || !strings.Contains(x.Detail, "step 20 of run 3") || !strings.Contains(x.Detail, "not there any more") {
		t.Errorf("%+v", x)
	}
	if got := stdout(t, a, 0); got != "" {
		t.Errorf("a rank started: %q", got)
	}
}
