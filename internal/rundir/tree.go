package rundir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

// HashTree digests a directory, or one file, where it lies. Only regular files make an artefact: a
// link is followed when it ends at a regular file inside the tree and refused otherwise, because what
// lies outside can change without the tree knowing. Files that change while they are read are refused.
func HashTree(ctx context.Context, root string) (forge.Manifest, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return forge.Manifest{}, err
	}
	m := forge.Manifest{Root: root}
	resolved, err := filepath.EvalSymlinks(root) // the root itself may be a link, below it rules are strict
	if err != nil {
		return m, err
	}
	st, err := os.Stat(resolved)
	if err != nil {
		return m, err
	}
	dir, paths := resolved, []string(nil)
	if !st.IsDir() {
		dir, paths = filepath.Dir(resolved), []string{filepath.Base(resolved)}
	} else if paths, err = listTree(resolved); err != nil {
		return m, err
	}
	in, err := os.OpenRoot(dir)
	if err != nil {
		return m, err
	}
	defer in.Close()
	m.Files = make([]forge.File, len(paths))
	err = parallel(ctx, len(paths), func(i int) error {
		f, err := hashFile(ctx, in, paths[i])
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, paths[i]), err)
		}
		m.Files[i] = f
		return nil
	})
	if err != nil {
		return forge.Manifest{Root: root}, err
	}
	if !st.IsDir() {
		m.Files[0].Path = "."
	}
	return m, nil
}

func listTree(root string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		paths = append(paths, rel)
		return err
	})
	return paths, err
}

// hashFile streams one file. The file is opened below root, so that no link leads out of it.
func hashFile(ctx context.Context, root *os.Root, path string) (forge.File, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if st, serr := root.Lstat(path); serr == nil && st.Mode()&fs.ModeSymlink != 0 {
			return forge.File{}, fmt.Errorf("is a link that leaves the directory or leads nowhere: %w", err)
		}
		return forge.File{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return forge.File{}, err
	}
	if !before.Mode().IsRegular() {
		return forge.File{}, fmt.Errorf("is not a regular file (%s)", before.Mode().Type())
	}
	h := sha256.New()
	n, err := io.CopyBuffer(h, &giveUp{ctx, f}, make([]byte, min(before.Size()+1, 1<<20)))
	if err != nil {
		return forge.File{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return forge.File{}, err
	}
	if n != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return forge.File{}, errors.New("changed while it was read")
	}
	file := forge.File{Path: filepath.ToSlash(path), Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}
	file.ModTime, file.Inode = before.ModTime().UTC(), inode(before)
	return file, nil
}

// giveUp ends a long read when the context ends.
type giveUp struct {
	ctx context.Context
	r   io.Reader
}

func (g *giveUp) Read(b []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, err
	}
	return g.r.Read(b)
}

func inode(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

// CheckInputs holds a registered artefact against the disk. Equal size, modification time and inode
// are trusted; a change of time or inode alone (a copy, a restore) is decided by the digest.
func CheckInputs(m forge.Manifest) error { return CheckInputsContext(context.Background(), m) }

// CheckInputsContext is CheckInputs that can be given up.
func CheckInputsContext(ctx context.Context, m forge.Manifest) error {
	return parallel(ctx, len(m.Files), func(i int) error { return checkInput(ctx, m.Root, m.Files[i]) })
}

func checkInput(ctx context.Context, base string, want forge.File) error {
	path := filepath.Join(base, filepath.FromSlash(want.Path))
	if want.Path != "." && !filepath.IsLocal(filepath.FromSlash(want.Path)) {
		return forge.Errorf(forge.KindInvalid, "inputs.check", "%q leaves %s", want.Path, base)
	}
	changed := func(format string, args ...any) error {
		return forge.Invalidf("inputs", "%s changed since registration: %s", path, fmt.Sprintf(format, args...)).WithOp("inputs.check").
			WithHint("register it again as a new version and submit with that version")
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return changed("it is gone")
	case err != nil:
		return forge.Errorf(forge.KindUnavailable, "inputs.check", "%s cannot be read here: %w", path, err)
	case !st.Mode().IsRegular():
		return changed("it is no longer a regular file")
	case st.Size() != want.Size:
		return changed("it has %d bytes, it had %d", st.Size(), want.Size)
	case st.ModTime().Equal(want.ModTime) && want.Inode != 0 && inode(st) == want.Inode:
		return nil
	}
	dir, name := filepath.Split(path)
	if resolved, rerr := filepath.EvalSymlinks(path); rerr == nil {
		dir, name = filepath.Split(resolved)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return forge.Errorf(forge.KindUnavailable, "inputs.check", "%s cannot be read here: %w", path, err)
	}
	defer root.Close()
	got, err := hashFile(ctx, root, name)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return forge.Errorf(forge.KindUnavailable, "inputs.check", "%s cannot be read here: %w", path, err)
	case got.SHA256 != want.SHA256:
		return changed("its content is different (sha256 %.12s…, registered %.12s…)", got.SHA256, want.SHA256)
	}
	return nil
}

// parallel runs f for 0..n-1 on up to NumCPU workers and returns the error of the lowest index that
// failed among those that ran; after a failure nothing new is begun.
func parallel(ctx context.Context, n int, f func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	errs := make([]error, n)
	var wg sync.WaitGroup
	for range min(n, runtime.NumCPU()) {
		wg.Go(func() {
			for !failed.Load() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[i] = f(i); errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
