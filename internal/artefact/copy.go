package artefact

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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
)

const (
	// HalfPrefix begins the name of a copy that is not whole yet.
	HalfPrefix = ".new-"
	chunk      = 1 << 20
	op         = "artefact.copy"
)

// copiesAtOnce bounds the files that are copied side by side: a fileserver has others to serve.
var copiesAtOnce = 4

// ErrNoRoom is in the chain of an error that says that the disk, or a quota, is full.
var ErrNoRoom = errors.New("no room is left")

// ErrDiffers is in the chain of an error that says that files are not what their manifest says.
var ErrDiffers = errors.New("it is not what was hashed")

// free is what may still be written below a directory; tests make it small.
var free = func(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(min(st.Bavail, uint64(1<<62)/uint64(max(st.Bsize, 1)))) * st.Bsize, err
}

// create opens a file to be written; tests make its disk full.
var create = func(path string, mode fs.FileMode) (io.WriteCloser, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, mode)
}

// copying orders copies of one content; a channel, so that who waits can give up.
var copying sync.Map

// Place is where the copy of a content lies below an artefact root.
func Place(root, tenant, digest string) string { return filepath.Join(root, tenant, digest) }

// Copy copies an artefact to Place and answers its manifest there. Bytes are read and written one by one, never cloned or linked: what a manifest
// refers to now lies on scratch, which is purged. Each file is hashed on its way and has to be the one that was hashed before. A copy that is there
// is read whole and used if it is good. What was begun by a process that was killed is gone on with.
//
// ErrNoRoom and ErrDiffers are final, and leave nothing; any other error may pass, fs.ErrPermission when somebody does something about it. When ctx ends what is whole of it stays for the next try.
// progress is told by several goroutines.
func Copy(ctx context.Context, m forge.Manifest, root, tenant string, progress func(done, total int64)) (forge.Manifest, error) {
	return CopyFrom(ctx, nil, m, root, tenant, progress)
}

// CopyFrom is Copy of the directory in, which is open: whoever puts another one in its place meanwhile changes nothing. nil: it opens the manifest's.
func CopyFrom(ctx context.Context, in *os.Root, m forge.Manifest, root, tenant string, progress func(done, total int64)) (forge.Manifest, error) {
	var none forge.Manifest
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Path == "." {
			return none, forge.Invalidf("files", "%q is no path below %s", f.Path, m.Root).WithOp(op)
		}
	}
	if len(m.Files) == 0 || !filepath.IsLocal(tenant) {
		return none, forge.Invalidf("files", "there is nothing to copy").WithOp(op)
	}
	digest := m.Digest()
	final := Place(root, tenant, digest)
	turn, _ := copying.LoadOrStore(final, make(chan struct{}, 1))
	select {
	case turn.(chan struct{}) <- struct{}{}:
		defer func() { <-turn.(chan struct{}) }()
	case <-ctx.Done():
		return none, ctx.Err()
	}
	c := &copier{ctx: ctx, in: in, from: m, dir: filepath.Dir(final), temp: filepath.Join(filepath.Dir(final), HalfPrefix+digest), group: groupBits(root), total: m.Bytes(), progress: progress}
	if err := c.mkdir(c.dir); err != nil {
		return none, c.fault(err)
	}
	if _, err := os.Lstat(final); err == nil {
		out, bad, err := c.whole(final)
		if err != nil || !bad {
			return out, err
		}
		away, err := Away(c.dir, digest) // others that refer to it get back what they were promised
		if err != nil {
			return none, err
		}
		defer func() { _ = Purge(c.dir, away) }()
	}
	out, err := c.copy(final)
	if err != nil && ctx.Err() == nil {
		_ = os.RemoveAll(c.temp)
	}
	return out, err
}

type copier struct {
	ctx       context.Context
	in        *os.Root // nil: that of from
	from      forge.Manifest
	dir, temp string
	group     fs.FileMode
	done      atomic.Int64
	total     int64
	progress  func(done, total int64)
}

func (c *copier) read(n int) {
	done := c.done.Add(int64(n))
	if c.progress != nil {
		c.progress(min(done, c.total), c.total)
	}
}

// copy makes the copy below temp and renames it when every byte and every name is on the disk.
func (c *copier) copy(final string) (forge.Manifest, error) {
	var none forge.Manifest
	if err := c.mkdir(c.temp); err != nil {
		return none, c.fault(err)
	}
	there := make([]bool, len(c.from.Files))
	need := int64(0)
	for i, f := range c.from.Files {
		there[i] = c.same(filepath.Join(c.temp, filepath.FromSlash(f.Path)), f)
		if c.ctx.Err() != nil {
			return none, c.ctx.Err()
		}
		if !there[i] {
			need += f.Size
		}
	}
	if left, err := free(c.temp); err == nil && left < need {
		return none, c.noRoom(need, left)
	}
	in := c.in
	if in == nil {
		opened, err := os.OpenRoot(c.from.Root)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrDiffers, err)
		}
		if err != nil {
			return none, c.fault(err)
		}
		defer opened.Close()
		in = opened
	}
	dirs := map[string]bool{c.temp: true}
	for _, f := range c.from.Files {
		for dir := filepath.Dir(filepath.Join(c.temp, filepath.FromSlash(f.Path))); !dirs[dir]; dir = filepath.Dir(dir) {
			if err := c.mkdir(dir); err != nil {
				return none, c.fault(err)
			}
			dirs[dir] = true
		}
	}
	c.done.Store(c.total - need)
	err := parallel(c.ctx, copiesAtOnce, len(there), func(i int) error {
		if there[i] {
			return nil
		}
		return c.file(in, i)
	})
	if err != nil {
		return none, c.fault(err)
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return none, c.fault(err)
		}
	}
	crash.At("copy.synced")
	if err := os.Rename(c.temp, final); err != nil {
		return none, c.fault(err)
	}
	if err := syncDir(c.dir); err != nil {
		return none, c.fault(err)
	}
	crash.At("copy.renamed")
	return c.manifest(final)
}

// file copies one. Its name appears when it is whole.
func (c *copier) file(in *os.Root, i int) error {
	f := c.from.Files[i]
	src, err := in.OpenFile(filepath.FromSlash(f.Path), os.O_RDONLY|syscall.O_NONBLOCK, 0) // no link leads out of it
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE):
		return fmt.Errorf("%s: %w", filepath.Join(c.from.Root, filepath.FromSlash(f.Path)), err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDiffers, err)
	}
	defer src.Close()
	if st, err := src.Stat(); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no regular file", ErrDiffers, f.Path)
	}
	part := filepath.Join(c.temp, fmt.Sprintf(".part-%d", i))
	mode := 0o400 | c.group&0o040
	_ = os.Remove(part)
	dst, err := create(part, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	// A buffer of our own: the kernel would clone blocks where it can, and then no second copy is there.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sum, dst)}, &counted{c, src}, make([]byte, chunk))
	if s, ok := dst.(interface{ Sync() error }); err == nil && ok {
		err = s.Sync()
	}
	if cerr := dst.Close(); err == nil {
		err = cerr // network filesystems report a full disk only here
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", f.Path, err)
	case n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return fmt.Errorf("%w: %s has %d bytes, sha256 %.12x; it had %d, sha256 %.12s", ErrDiffers, f.Path, n, sum.Sum(nil), f.Size, f.SHA256)
	}
	if err := os.Chmod(part, mode); err != nil {
		return err
	}
	crash.At("copy.file_written")
	return os.Rename(part, filepath.Join(c.temp, filepath.FromSlash(f.Path)))
}

type counted struct {
	c *copier
	r io.Reader
}

func (r *counted) Read(b []byte) (int, error) {
	if err := r.c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(b)
	r.c.read(n)
	return n, err
}

// whole reads a copy that is there. bad: it is not what it should be.
func (c *copier) whole(dir string) (out forge.Manifest, bad bool, err error) {
	for _, f := range c.from.Files {
		if !c.same(filepath.Join(dir, filepath.FromSlash(f.Path)), f) {
			return out, true, c.ctx.Err()
		}
	}
	out, err = c.manifest(dir)
	return out, false, err
}

// same says whether a file is there with the content that it should have.
func (c *copier) same(path string, want forge.File) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() != want.Size {
		return false
	}
	sum := sha256.New()
	_, err = io.CopyBuffer(struct{ io.Writer }{sum}, &counted{c, f}, make([]byte, chunk))
	return err == nil && hex.EncodeToString(sum.Sum(nil)) == want.SHA256
}

// manifest is that of the copy: the same content, with the times and inodes that it has there.
func (c *copier) manifest(dir string) (forge.Manifest, error) {
	out := forge.Manifest{Root: dir}
	for _, f := range c.from.Files {
		st, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return out, err
		}
		out.Files = append(out.Files, forge.File{Path: f.Path, Size: f.Size, SHA256: f.SHA256, ModTime: st.ModTime().UTC(), Inode: inode(st)})
	}
	return out, nil
}

// fault says of an error what can be done about it.
func (c *copier) fault(err error) error {
	root := filepath.Dir(c.dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: uid %d has to be let read %s and write below %s", err, os.Getuid(), c.from.Root, root)
	case !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT):
		return err
	}
	left, _ := free(root)
	return c.noRoom(c.total-c.done.Load(), left)
}

func (c *copier) noRoom(need, left int64) error {
	words := fmt.Sprintf("%d bytes more are needed in %s, and %d are free: %d are missing", need, c.dir, left, need-left)
	if left >= need {
		words = fmt.Sprintf("%d bytes more are needed in %s, and its quota, or its inodes, are used up", need, c.dir)
	}
	return forge.Errorf(forge.KindUnavailable, op, "%w: %s", ErrNoRoom, words).WithHint("free some, or have the quota raised; nothing of the copy was left")
}

// mkdir makes a directory with what the group of the root may do in it, whatever the umask is.
func (c *copier) mkdir(dir string) error {
	err := os.Mkdir(dir, 0o700|c.group)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, st.Mode()&os.ModeSetgid|0o700|c.group)
}

// groupBits is what the group of the artefact root may do: readers of copies are those of the site's choice.
func groupBits(root string) fs.FileMode {
	st, err := os.Stat(root)
	if err != nil {
		return 0
	}
	return st.Mode() & 0o050
}

func inode(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// parallel calls f for 0..n-1, so many at once, until one fails.
func parallel(ctx context.Context, most, n int, f func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	errs := make([]error, n)
	var wg sync.WaitGroup
	for range min(n, most) {
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
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// IsCopy says whether a name below ROOT/TENANT is that of a whole copy.
func IsCopy(name string) bool { return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == "" }
