package artefact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNotOwn is in the chain of an error that says that a directory is a link, no directory, or somebody else's.
var ErrNotOwn = errors.New("it is no directory of the one who made it")

// OpenOwn opens ROOT/rel where every name of rel is a directory of this process's user and none is a link. Each is held against what was opened in its
// place, so that nobody gets another one in between the look and the opening.
func OpenOwn(root, rel string) (*os.Root, error) {
	if !filepath.IsLocal(rel) || filepath.Clean(rel) != rel || rel == "." {
		return nil, fmt.Errorf("%q is no path below %s", rel, root)
	}
	at, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	path := root
	for name := range strings.SplitSeq(rel, "/") {
		path = filepath.Join(path, name)
		next, err := openOwn(at, name, path)
		_ = at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func openOwn(at *os.Root, name, path string) (*os.Root, error) {
	st, err := at.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case st.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%s is a symbolic link: %w", path, ErrNotOwn)
	case !st.IsDir() || !own(st):
		return nil, fmt.Errorf("%s: %w", path, ErrNotOwn)
	}
	next, err := at.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	got, err := next.Stat(".")
	if err == nil && !os.SameFile(st, got) {
		err = fmt.Errorf("%s was changed while it was opened: %w", path, ErrNotOwn)
	}
	if err != nil {
		_ = next.Close()
		return nil, err
	}
	return next, nil
}

func own(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Getuid()
}

// Kept is a copy below an artefact root, or half of one.
type Kept struct {
	Tenant    string    `json:"tenant"`
	Name      string    `json:"name"` // its digest, after HalfPrefix where it is not whole
	Bytes     int64     `json:"bytes"`
	ChangedAt time.Time `json:"changed_at"`
}

// maxKept bounds a list: it crosses a pipe.
const maxKept = 100_000

// List lists what Copy has made below a root of this process's user. What is called otherwise is somebody's own, and what is a link is not followed.
func List(root string) ([]Kept, error) {
	tenants, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var out []Kept
	for _, t := range tenants {
		if !t.IsDir() || strings.HasPrefix(t.Name(), ".") {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(root, t.Name()))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() || !IsCopy(strings.TrimPrefix(e.Name(), HalfPrefix)) {
				continue
			}
			if len(out) == maxKept {
				return nil, fmt.Errorf("there are more than %d copies below %s", maxKept, root)
			}
			st, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			k := Kept{Tenant: t.Name(), Name: e.Name(), ChangedAt: changedAt(st)}
			if k.Bytes, err = Usage(filepath.Join(root, t.Name(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			out = append(out, k)
		}
	}
	return out, nil
}

// changedAt is of the inode: what was moved here is as new as that.
func changedAt(st fs.FileInfo) time.Time {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return time.Unix(sys.Ctim.Unix())
	}
	return st.ModTime()
}
