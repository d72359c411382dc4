package artefact

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scratch is an output as a run leaves it.
func scratch(t *testing.T) forge.Manifest {
	t.Helper()
	m := forge.Manifest{Root: t.TempDir()}
	for _, f := range [][2]string{{"adapter_config.json", "{}"}, {"adapter_model.safetensors", strings.Repeat("w", 3<<20)}, {"merged/config.json", "{ }"}} {
		path := filepath.Join(m.Root, f[0])
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(f[1]), 0o600))
		m.Files = append(m.Files, forge.File{Path: f[0], Size: int64(len(f[1])), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(f[1])))})
	}
	return m
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestACopyIsWholeAndStaysWhenScratchIsPurged(t *testing.T) {
	m, root := scratch(t), t.TempDir()
	must(t, os.Chmod(root, 0o750))
	var told sync.Mutex // files are copied beside each other
	var done, total int64
	got, err := Copy(t.Context(), m, root, "T1", func(d, all int64) {
		told.Lock()
		defer told.Unlock()
		done, total = max(done, d), all
	})
	must(t, err)
	if got.Root != Place(root, "T1", m.Digest()) || got.Digest() != m.Digest() || done != m.Bytes() || total != m.Bytes() {
		t.Errorf("%+v; %d of %d", got, done, total)
	}
	must(t, os.RemoveAll(m.Root))
	seen, err := Checker{}.Check(t.Context(), got, nil)
	if err != nil || len(seen.Differs) > 0 || seen.Bytes != m.Bytes() || seen.Files != 3 {
		t.Errorf("%+v, %v", seen, err)
	}
	for _, f := range got.Files {
		st, err := os.Lstat(filepath.Join(got.Root, f.Path))
		must(t, err)
		if sys := st.Sys().(*syscall.Stat_t); st.Mode().Perm() != 0o440 || sys.Nlink != 1 || f.Inode != sys.Ino || !f.ModTime.Equal(st.ModTime()) {
			t.Errorf("%s: %s, %d names, inode %d and %d", f.Path, st.Mode(), sys.Nlink, sys.Ino, f.Inode)
		}
	}
	if left := names(t, filepath.Join(root, "T1")); len(left) != 1 {
		t.Errorf("beside it: %q", left)
	}
}

func TestACopyThatIsThereIsReadAndUsedAndADamagedOneIsMadeAnew(t *testing.T) {
	m, root := scratch(t), t.TempDir()
	first, err := Copy(t.Context(), m, root, "T1", nil)
	must(t, err)
	again, err := Copy(t.Context(), m, root, "T1", nil)
	must(t, err)
	if again.Files[1].Inode != first.Files[1].Inode {
		t.Error("it was copied a second time")
	}
	bad := filepath.Join(first.Root, m.Files[1].Path)
	must(t, os.Chmod(bad, 0o600))
	must(t, os.WriteFile(bad, []byte(strings.Repeat("x", 3<<20)), 0o600))
	_, err = Copy(t.Context(), m, root, "T1", nil)
	must(t, err)
	if seen, err := (Checker{}).Check(t.Context(), first, nil); err != nil || len(seen.Differs) > 0 {
		t.Errorf("%+v, %v", seen, err)
	}
	if left := names(t, filepath.Join(root, "T1", TrashDir)); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestACopyThatWasCutOffGoesOnWhereItWas(t *testing.T) {
	m, root := scratch(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	old := create
	t.Cleanup(func() { create = old })
	opened := 0
	create = func(path string, mode fs.FileMode) (io.WriteCloser, error) {
		if opened++; strings.HasSuffix(path, "-2") { // killed when it comes to the last file
			cancel()
		}
		return old(path, mode)
	}
	copiesAtOnceForTest(t)
	_, err := Copy(ctx, m, root, "T1", nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	half := filepath.Join(root, "T1", HalfPrefix+m.Digest())
	if _, err := os.Stat(filepath.Join(half, m.Files[1].Path)); err != nil {
		t.Fatal("what was whole is gone:", err)
	}
	opened = 0
	create = func(path string, mode fs.FileMode) (io.WriteCloser, error) { opened++; return old(path, mode) }
	got, err := Copy(t.Context(), m, root, "T1", nil)
	must(t, err)
	if opened != 1 {
		t.Errorf("%d files were copied again, want the one that was not whole", opened)
	}
	if left := names(t, got.Root); !slices.Equal(left, []string{"adapter_config.json", "adapter_model.safetensors", "merged"}) {
		t.Errorf("%q", left)
	}

}

// copiesAtOnceForTest has files copied one after the other.
func copiesAtOnceForTest(t *testing.T) {
	old := copiesAtOnce
	copiesAtOnce = 1
	t.Cleanup(func() { copiesAtOnce = old })
}

// full is a file on a disk that is full after some bytes.
type full struct{ io.WriteCloser }

func (f full) Write(b []byte) (int, error) { return 0, &fs.PathError{Op: "write", Err: syscall.ENOSPC} }

func TestAFullDiskSaysHowMuchIsMissingAndLeavesNothing(t *testing.T) {
	m, root := scratch(t), t.TempDir()
	oldFree, oldCreate := free, create
	t.Cleanup(func() { free, create = oldFree, oldCreate })
	for name, fill := range map[string]func(){
		"known before": func() { free = func(string) (int64, error) { return 1 << 20, nil } },
		"met while writing": func() {
			var left atomic.Int64
			left.Store(m.Bytes())
			free = func(string) (int64, error) { return left.Load(), nil }
			create = func(p string, mode fs.FileMode) (io.WriteCloser, error) {
				left.Store(5)
				f, err := oldCreate(p, mode)
				return full{f}, err
			}
		},
	} {
		fill()
		_, err := Copy(t.Context(), m, root, "T1", nil)
		if !errors.Is(err, ErrNoRoom) || forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "are missing") {
			t.Errorf("%s: %v", name, err)
		}
		if left := names(t, filepath.Join(root, "T1")); len(left) > 0 {
			t.Errorf("%s leaves %q", name, left)
		}
		free, create = oldFree, oldCreate
	}
}

func TestWhatIsNotWhatWasHashedIsNotCopied(t *testing.T) {
	for name, change := range map[string]func(m forge.Manifest){
		"another content of the same size": func(m forge.Manifest) {
			must(t, os.WriteFile(filepath.Join(m.Root, "adapter_config.json"), []byte("[]"), 0o600))
		},
		"a file that is gone": func(m forge.Manifest) { must(t, os.Remove(filepath.Join(m.Root, "merged/config.json"))) },
		"a link out of it": func(m forge.Manifest) {
			must(t, os.Remove(filepath.Join(m.Root, "adapter_config.json")))
			must(t, os.Symlink("/etc/hostname", filepath.Join(m.Root, "adapter_config.json")))
		},
	} {
		m, root := scratch(t), t.TempDir()
		change(m)
		if _, err := Copy(t.Context(), m, root, "T1", nil); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v", name, err)
		}
		if left := names(t, filepath.Join(root, "T1")); len(left) > 0 {
			t.Errorf("%s leaves %q", name, left)
		}
	}
	m := scratch(t)
	m.Files[0].Path = "../x"
	if _, err := Copy(t.Context(), m, t.TempDir(), "T1", nil); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a path that leads out: %v", err)
	}
}

func TestASecondLookNamesWhatDiffersWhatIsGoneAndWhatWouldBeLoaded(t *testing.T) {
	m := scratch(t)
	must(t, os.WriteFile(filepath.Join(m.Root, "adapter_config.json"), []byte("[]"), 0o600))
	must(t, os.Remove(filepath.Join(m.Root, "merged/config.json")))
	for _, extra := range []string{"merged/evil.py", "model-00002.safetensors", "notes.md", ".cache/x.py"} {
		path := filepath.Join(m.Root, extra)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
	}
	seen, err := Checker{}.Check(t.Context(), m, nil)
	must(t, err)
	var got []string
	for _, d := range seen.Differs {
		rel, _ := filepath.Rel(m.Root, d.File)
		got = append(got, rel+": "+d.Why)
	}
	want := []string{"adapter_config.json: its content is different", "merged/config.json: it is gone",
		"merged/evil.py: it was not registered, and would be loaded with it", "model-00002.safetensors: it was not registered, and would be loaded with it"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// reader does something before it is read.
type reader struct {
	*os.File
	before func()
}

func (r reader) Read(b []byte) (int, error) { r.before(); return r.File.Read(b) }

func opening(before func(path string)) Checker {
	return Checker{Patience: 50 * time.Millisecond, open: func(path string) (file, error) {
		f, err := os.Open(path)
		return reader{f, func() { before(path) }}, err
	}}
}

func TestAChangeDuringTheReadIsSeen(t *testing.T) {
	m := scratch(t)
	k := opening(func(path string) {
		if filepath.Base(path) == "adapter_model.safetensors" { // the one before it has been read, and was good
			must(t, os.WriteFile(filepath.Join(m.Root, "adapter_config.json"), []byte("[]"), 0o600))
		}
	})
	seen, err := k.Check(t.Context(), m, nil)
	if err != nil || len(seen.Differs) != 1 || !strings.Contains(seen.Differs[0].Why, "changed while it was read") {
		t.Errorf("%+v, %v", seen, err)
	}
}

func TestWhoCannotLookSaysNothingOfTheBytes(t *testing.T) {
	m := scratch(t)
	stuck := make(chan struct{})
	defer close(stuck)
	if _, err := opening(func(string) { <-stuck }).Check(t.Context(), m, nil); forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("a filesystem that hangs: %v", err)
	}
	for err, kind := range map[error]forge.Kind{syscall.EACCES: forge.KindPrecondition, syscall.EIO: forge.KindUnavailable, syscall.ESTALE: forge.KindUnavailable} {
		k := Checker{open: func(path string) (file, error) { return nil, &fs.PathError{Op: "open", Path: path, Err: err} }}
		if _, got := k.Check(t.Context(), m, nil); forge.KindOf(got) != kind {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestARemovalGoesOutOfTheWayFirstAndIsFinishedLater(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "run/attempts/0001/checkpoints/checkpoint-5"), 0o700))
	must(t, os.WriteFile(filepath.Join(root, "run/attempts/0001/checkpoints/checkpoint-5/w"), []byte("w"), 0o600))
	name, err := Away(root, "run/attempts/0001/checkpoints/checkpoint-5")
	must(t, err)
	if left := names(t, filepath.Join(root, "run/attempts/0001/checkpoints")); len(left) > 0 {
		t.Errorf("%q", left)
	}
	if got := Trash(root); !slices.Equal(got, []string{name}) { // killed here
		t.Errorf("%q", got)
	}
	must(t, Purge(root, name))
	must(t, Purge(root, name))
	if got := Trash(root); len(got) > 0 {
		t.Errorf("%q", got)
	}
	if _, err := Away(root, "run/attempts/0002"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is gone: %v", err)
	}
}

func TestNoLinkLeadsARemovalElsewhere(t *testing.T) {
	root, other := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(other, "attempts/0001"), 0o700))
	must(t, os.MkdirAll(filepath.Join(root, "good/attempts/0001"), 0o700))
	must(t, os.Symlink(other, filepath.Join(root, "run")))
	must(t, os.Symlink("good", filepath.Join(root, "inside")))
	must(t, os.Symlink("0001", filepath.Join(root, "good/attempts/0002")))
	for _, rel := range []string{"run/attempts/0001", "inside/attempts/0001", "good/attempts/0002", "../x", "/etc", ".", "good/../good"} {
		if _, err := Away(root, rel); err == nil {
			t.Errorf("%s was moved away", rel)
		}
	}
	for _, path := range []string{filepath.Join(other, "attempts/0001"), filepath.Join(root, "good/attempts/0001")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	must(t, os.Mkdir(filepath.Join(root, "x"), 0o700))
	must(t, os.Symlink(other, filepath.Join(root, TrashDir)))
	if _, err := Away(root, "x"); err == nil {
		t.Error("it went where a link led")
	}
}

func TestUsageCountsWhatWouldBeFree(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a"), make([]byte, 1<<20), 0o600))
	one, err := Usage(dir)
	must(t, err)
	must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(t.TempDir(), "held")))
	two, err := Usage(dir)
	must(t, err)
	if one-two < 1<<20 {
		t.Errorf("%d with one name, %d with two", one, two)
	}
}
