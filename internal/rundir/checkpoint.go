package rundir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Checkpoints lists the saved states of a run that have a manifest, over all attempts, highest
// step first and at equal steps the newest attempt. Without verify only manifests are read.
func Checkpoints(runDir string, run forge.RunID, verify bool) ([]forge.Checkpoint, error) {
	return CheckpointsContext(context.Background(), runDir, run, verify)
}

// CheckpointsContext is Checkpoints that can be given up; it then returns the context's error.
func CheckpointsContext(ctx context.Context, runDir string, run forge.RunID, verify bool) ([]forge.Checkpoint, error) {
	fit := fitIn(runDir, run)
	saves, err := findSaves(runDir, fit)
	if err != nil {
		return nil, err
	}
	out := make([]forge.Checkpoint, 0, len(saves))
	for _, s := range saves {
		c := s.checkpoint
		if s.unfinished {
			continue // no manifest: being written, or given up
		}
		if verify {
			if c, err = Verify(ctx, fit, c); err != nil {
				return nil, err
			}
		}
		if c.Removed.IsZero() {
			out = append(out, c)
		}
	}
	return out, nil
}

// Verify reads every byte of a checkpoint and returns it with the verdict. The error is only ever
// the context's: what is wrong with the checkpoint is its verdict. One that is gone once it was read is not torn: its run
// has kept newer ones, and removed it. Its verdict stays what it was, and Removed is set.
func Verify(ctx context.Context, fit Fit, c forge.Checkpoint) (forge.Checkpoint, error) {
	s, m := look(fit, c.Path, c.Attempt, c.Step)
	seen := s.checkpoint
	seen.Run = c.Run
	if seen.Verdict == forge.VerdictWritten {
		if err := verifyFiles(ctx, c.Path, m); ctx.Err() != nil {
			return c, ctx.Err()
		} else if err != nil {
			seen.Verdict, seen.Why = forge.VerdictTorn, err.Error()
		} else {
			seen.Verdict, seen.Verified = forge.VerdictVerified, time.Now().UTC()
			return seen, nil
		}
	}
	if _, err := os.Lstat(filepath.Join(c.Path, ManifestName)); errors.Is(err, fs.ErrNotExist) {
		c.Removed = time.Now().UTC()
		return c, nil
	}
	return seen, nil
}

// Stamp changes when a file below a checkpoint's directory is written to, cut, replaced or removed. It
// reads no content: what keeps size, time and inode while its bytes rot is found by Verify alone.
func Stamp(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		inode := uint64(0)
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			inode = sys.Ino
		}
		_, err = fmt.Fprintf(h, "%q %d %d %d\n", path, st.Size(), st.ModTime().UnixNano(), inode)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// save is a checkpoint directory as it was found.
type save struct {
	checkpoint forge.Checkpoint
	unfinished bool // it has no manifest
}

// findSaves lists checkpoint directories newest first, in the order in which they are to be tried.
func findSaves(runDir string, fit Fit) ([]save, error) {
	attempts, err := os.ReadDir(attemptsDir(runDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	var saves []save
	for _, e := range attempts {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n < 1 || filepath.Base(At(runDir, n).Dir()) != e.Name() || !e.IsDir() {
			continue
		}
		dir := At(runDir, n).CheckpointDir()
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list checkpoints of attempt %d: %w", n, err)
		}
		for _, e := range entries {
			step, ok := stepOf(e.Name())
			if !ok {
				continue
			}
			s, _ := look(fit, filepath.Join(dir, e.Name()), n, step)
			saves = append(saves, s)
		}
	}
	slices.SortStableFunc(saves, func(a, b save) int {
		return cmp.Or(cmp.Compare(b.checkpoint.Step, a.checkpoint.Step), cmp.Compare(b.checkpoint.Attempt, a.checkpoint.Attempt))
	})
	return saves, nil
}

func stepOf(name string) (int64, bool) {
	num, ok := strings.CutPrefix(name, "checkpoint-")
	step, err := strconv.ParseInt(num, 10, 64)
	return step, ok && err == nil && step >= 0 && strconv.FormatInt(step, 10) == num
}

// look reads a manifest and says what can be said without reading the files.
func look(fit Fit, path string, attempt int, step int64) (save, SaveManifest) {
	c := forge.Checkpoint{Run: fit.Run, Attempt: attempt, Step: step, Path: path, Verdict: forge.VerdictWritten}
	m, digest, err := readManifest(path)
	if err == nil && m.Layout != Layout {
		err = fmt.Errorf("manifest has layout %d, want %d", m.Layout, Layout)
	}
	if err == nil {
		if why := fit.foreign(m); why != "" {
			c.Verdict, c.Why = forge.VerdictForeign, why
		} else {
			err = m.check(attempt, step)
		}
	}
	c.SHA256 = digest
	if err != nil {
		c.Verdict, c.Why = forge.VerdictTorn, err.Error()
		return save{checkpoint: c, unfinished: errors.Is(err, errNoManifest)}, m
	}
	c.World, c.AnyWorld, c.Bytes, c.SavedAt = m.World, m.AnyWorld, m.bytes(), m.SavedAt
	c.Loss = m.loss()
	c.Took, c.Signal = believed(m.Seconds), believed(m.SignalSeconds)
	return save{checkpoint: c}, m
}

// verifyFiles looks at every size first, since a short file is found without reading the others.
func verifyFiles(ctx context.Context, dir string, m SaveManifest) error {
	root, err := openDir(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := m.promises(); err != nil {
		return err
	}
	for _, f := range m.Files {
		st, err := root.Stat(filepath.FromSlash(f.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s is missing", f.Path)
		case err != nil:
			return fmt.Errorf("%s: %w", f.Path, err)
		case !st.Mode().IsRegular():
			return fmt.Errorf("%s is not a regular file", f.Path)
		case st.Size() != f.Size:
			return fmt.Errorf("%s has %d bytes, the manifest says %d", f.Path, st.Size(), f.Size)
		}
	}
	return parallel(ctx, len(m.Files), func(i int) error {
		f := m.Files[i]
		got, err := hashFile(ctx, root, filepath.FromSlash(f.Path))
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if got.Size != f.Size || got.SHA256 != f.SHA256 {
			return fmt.Errorf("%s does not have the sha256 that the manifest says", f.Path)
		}
		return m.checkFormat(root, f)
	})
}

// openDir opens a directory for access that cannot leave it. The directory itself must not be a link.
func openDir(dir string) (*os.Root, error) {
	st, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", filepath.Base(dir))
	}
	return os.OpenRoot(dir)
}
