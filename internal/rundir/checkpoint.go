package rundir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// ManifestName is the file that makes a checkpoint durable; it is written last.
const ManifestName = "forge_manifest.json"

// maxManifest bounds what is read of a manifest, whoever wrote it: about 80,000 files.
const maxManifest = 16 << 20

// SaveManifest is forge_manifest.json.
type SaveManifest struct {
	Layout  int         `json:"layout"`
	Run     forge.RunID `json:"run_id"`
	Attempt int         `json:"attempt"`
	Step    int64       `json:"step"`
	World   int         `json:"world_size"`
	SavedAt time.Time   `json:"saved_at"`
	Seconds float64     `json:"seconds,omitempty"` // that the whole save took
	Files   []SavedFile `json:"files"`
}

// longestSave bounds what a manifest may say of its save: more is not believed.
const longestSave = 6 * time.Hour

func (m SaveManifest) took() forge.Duration {
	if d := time.Duration(m.Seconds * float64(time.Second)); m.Seconds > 0 && m.Seconds <= longestSave.Seconds() {
		return forge.Duration(d)
	}
	return 0
}

// SavedFile is one file of a checkpoint.
type SavedFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Rank   int    `json:"rank"`
}

// Checkpoints lists the saved states of a run that have a manifest, over all attempts, highest
// step first and at equal steps the newest attempt. Without verify only manifests are read.
func Checkpoints(runDir string, run forge.RunID, verify bool) ([]forge.Checkpoint, error) {
	return CheckpointsContext(context.Background(), runDir, run, verify)
}

// CheckpointsContext is Checkpoints that can be given up; it then returns the context's error.
func CheckpointsContext(ctx context.Context, runDir string, run forge.RunID, verify bool) ([]forge.Checkpoint, error) {
	saves, err := findSaves(runDir, run)
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
			if c, err = Verify(ctx, run, c); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// Verify reads every byte of a checkpoint and returns it with the verdict. The error is only ever
// the context's: what is wrong with the checkpoint is its verdict.
func Verify(ctx context.Context, run forge.RunID, c forge.Checkpoint) (forge.Checkpoint, error) {
	m, digest, err := readManifest(c.Path, run, c.Attempt, c.Step)
	if err == nil {
		c.World, c.Bytes, c.SHA256, c.SavedAt, c.Took = m.World, m.bytes(), digest, m.SavedAt, m.took()
		err = verifyFiles(ctx, c.Path, m.Files)
	}
	if ctx.Err() != nil {
		return c, ctx.Err()
	}
	if err != nil {
		c.Verdict, c.Why, c.Verified = forge.VerdictTorn, err.Error(), time.Time{}
		return c, nil
	}
	c.Verdict, c.Why, c.Verified = forge.VerdictVerified, "", time.Now().UTC()
	return c, nil
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
func findSaves(runDir string, run forge.RunID) ([]save, error) {
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
			saves = append(saves, look(filepath.Join(dir, e.Name()), run, n, step))
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

func look(path string, run forge.RunID, attempt int, step int64) save {
	c := forge.Checkpoint{Run: run, Attempt: attempt, Step: step, Path: path, Verdict: forge.VerdictWritten}
	m, digest, err := readManifest(path, run, attempt, step)
	if err != nil {
		c.Verdict, c.Why = forge.VerdictTorn, err.Error()
		return save{checkpoint: c, unfinished: errors.Is(err, errNoManifest)}
	}
	c.World, c.Bytes, c.SHA256, c.SavedAt, c.Took = m.World, m.bytes(), digest, m.SavedAt, m.took()
	return save{checkpoint: c}
}

var errNoManifest = errors.New("no " + ManifestName + ": the save was not finished")

// readManifest reads a manifest and holds it against the directories that it lies in. The digest is
// of its bytes.
func readManifest(dir string, run forge.RunID, attempt int, step int64) (SaveManifest, string, error) {
	var m SaveManifest
	root, err := openDir(dir)
	if err != nil {
		return m, "", err
	}
	defer root.Close()
	f, err := root.OpenFile(ManifestName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return m, "", errNoManifest
	}
	if err != nil {
		return m, "", fmt.Errorf("manifest: %w", err)
	}
	defer f.Close()
	data, err := readRegular(f, ManifestName, maxManifest)
	if err != nil {
		return m, "", fmt.Errorf("manifest: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, "", fmt.Errorf("manifest does not parse: %w", err)
	}
	sum := sha256.Sum256(data)
	return m, hex.EncodeToString(sum[:]), m.check(run, attempt, step)
}

func (m SaveManifest) check(run forge.RunID, attempt int, step int64) error {
	switch {
	case m.Layout != Layout:
		return fmt.Errorf("manifest has layout %d, want %d", m.Layout, Layout)
	case m.Run != run:
		return fmt.Errorf("manifest is of run %q, not of %q", m.Run, run)
	case m.Attempt != attempt:
		return fmt.Errorf("manifest is of attempt %d and lies in attempt %d", m.Attempt, attempt)
	case m.Step != step:
		return fmt.Errorf("manifest is of step %d and lies in checkpoint-%d", m.Step, step)
	case len(m.Files) == 0:
		return errors.New("manifest lists no file")
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Path == "." {
			return fmt.Errorf("manifest lists %q, which leaves the checkpoint's directory", f.Path)
		}
		if f.Size < 0 {
			return fmt.Errorf("manifest gives %q the size %d", f.Path, f.Size)
		}
	}
	return nil
}

func (m SaveManifest) bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// verifyFiles looks at every size first, since a short file is found without reading the others.
func verifyFiles(ctx context.Context, dir string, files []SavedFile) error {
	root, err := openDir(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
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
	return parallel(ctx, len(files), func(i int) error {
		f := files[i]
		got, err := hashFile(ctx, root, filepath.FromSlash(f.Path))
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if got.Size != f.Size || got.SHA256 != f.SHA256 {
			return fmt.Errorf("%s does not have the sha256 that the manifest says", f.Path)
		}
		return nil
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
