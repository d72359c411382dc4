package rundir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// heldDir is where a run's directory has checkpoints that other runs begin from, out of reach of the retention of its own ranks.
func heldDir(runDir string) string { return filepath.Join(runDir, "held") }

// Branch makes a checkpoint of a run ready for another run to begin from, and says what it is. keep is for a run that goes on: its ranks
// remove what they do not need any more, so the files get second names below held/, which cost no space while the first ones
// are there. Names first, bytes after: what was removed halfway is found torn, and what was linked whole stays.
//
// Path of the answer is where to read it. When ctx ends before every byte was read the verdict is VerdictWritten, and that is no error: the
// shim reads them all before it is used. KindNotFound when there is no such checkpoint; KindPrecondition
// when it has to be kept and this filesystem has no second names for files.
func Branch(ctx context.Context, runDir string, run forge.RunID, attempt int, step int64, keep bool) (forge.Checkpoint, error) {
	const op = "checkpoint.branch"
	fit := fitIn(runDir, run)
	fit.World = 0 // of the run that begins from it, which is another
	path := filepath.Join(At(runDir, attempt).CheckpointDir(), fmt.Sprintf("checkpoint-%d", step))
	s, m := look(fit, path, attempt, step)
	switch {
	case s.unfinished:
		return forge.Checkpoint{}, forge.Errorf(forge.KindNotFound, op, "there is no checkpoint of step %d by attempt %d any more", step, attempt)
	case s.checkpoint.Verdict != forge.VerdictWritten || !keep:
		return readable(ctx, fit, s.checkpoint)
	}
	held, err := hold(runDir, path, fmt.Sprintf("%04d-checkpoint-%d-%.12s", attempt, step, s.checkpoint.SHA256), m)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return forge.Checkpoint{}, forge.Errorf(forge.KindNotFound, op, "the checkpoint of step %d by attempt %d was removed by its run just now", step, attempt)
		}
		return forge.Checkpoint{}, forge.Errorf(forge.KindPrecondition, op, "the checkpoint of step %d cannot be kept for another run here: %w", step, err)
	}
	c := s.checkpoint
	c.Path = held
	return readable(ctx, fit, c)
}

func readable(ctx context.Context, fit Fit, c forge.Checkpoint) (forge.Checkpoint, error) {
	if c.Verdict != forge.VerdictWritten {
		return c, nil
	}
	v, err := Verify(ctx, fit, c)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return c, nil
	case err == nil && !v.Removed.IsZero():
		return v, forge.Errorf(forge.KindNotFound, "checkpoint.branch", "the checkpoint of step %d by attempt %d was removed by its run just now", c.Step, c.Attempt)
	}
	return v, err
}

// hold links what a manifest lists, and last the manifest, below a name that appears whole. A step that is saved again has another
// manifest, and so another name.
func hold(runDir, path, name string, m SaveManifest) (string, error) {
	dir := heldDir(runDir)
	held := filepath.Join(dir, name)
	if now := time.Now(); os.Chtimes(held, now, now) == nil { // it is there, and wanted anew: PruneHeld looks at the time
		return held, nil
	}
	if err := MakeDir(dir); err != nil {
		return "", err
	}
	sweepHeld(dir, time.Now())
	temp, err := os.MkdirTemp(dir, ".tmp-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	mode := 0o700 | groupBits(dir)
	if err := os.Chmod(temp, mode); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(runDir) // a manifest's names and what lies there are a rank's word
	if err != nil {
		return "", err
	}
	defer root.Close()
	from, err := filepath.Rel(runDir, path)
	if err != nil {
		return "", err
	}
	to, err := filepath.Rel(runDir, temp)
	if err != nil {
		return "", err
	}
	for _, name := range append(namesOf(m), ManifestName) {
		if err := root.MkdirAll(filepath.Join(to, filepath.Dir(name)), mode); err != nil {
			return "", err
		}
		if err := root.Link(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return "", err
		}
	}
	if err := SyncDir(temp); err != nil {
		return "", err
	}
	if err := rename(temp, held); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) { // else somebody was as quick
		return "", err
	}
	return held, SyncDir(dir)
}

// sweepHeld removes what was left half-made long ago: a forged that was killed meanwhile leaves names that keep their bytes on the disk.
func sweepHeld(dir string, now time.Time) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if st, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), ".tmp-") && now.Sub(st.ModTime()) > time.Hour {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

func namesOf(m SaveManifest) []string {
	out := make([]string, len(m.Files))
	for i, f := range m.Files {
		out[i] = filepath.FromSlash(f.Path)
	}
	return out
}

// heldAtLeast is how long what is held stays in any case: the run that it was held for may not be stored yet.
const heldAtLeast = 24 * time.Hour

// PruneHeld removes what of a run is held for others and not needed by path any more. It is moved out of the way first and looked at again, so
// that who holds it anew in this moment keeps it, or makes it anew.
func PruneHeld(runDir string, needed []string, now time.Time) (removed int, err error) {
	dir := heldDir(runDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	sweepHeld(dir, now)
	old := func(path string) bool {
		st, err := os.Lstat(path)
		return err == nil && st.IsDir() && now.Sub(st.ModTime()) >= heldAtLeast
	}
	var faults []error
	for _, e := range entries {
		held := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") || slices.Contains(needed, held) || !old(held) {
			continue
		}
		away := filepath.Join(dir, ".tmp-"+e.Name())
		if err := os.Rename(held, away); err != nil {
			faults = append(faults, err)
			continue
		}
		if !old(away) && os.Rename(away, held) == nil {
			continue
		}
		if err := os.RemoveAll(away); err != nil {
			faults = append(faults, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(faults...)
}
