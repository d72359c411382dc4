package artefact

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// TrashDir is where something goes first that is to be removed: by one rename, so that a crash leaves it whole in its place, or not there at all.
const TrashDir = ".forge-trash"

// Away moves ROOT/rel into ROOT/TrashDir and answers its name there. No directory on the way may be a link, and none leads out of root.
// fs.ErrNotExist: it is gone already.
func Away(root, rel string) (name string, err error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if err := plain(r, rel); err != nil {
		return "", err
	}
	if err := r.Mkdir(TrashDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := plain(r, TrashDir); err != nil {
		return "", err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	name = hex.EncodeToString(random[:]) + "-" + filepath.Base(rel)
	if err := r.Rename(rel, filepath.Join(TrashDir, name)); err != nil {
		return "", err
	}
	return name, syncDir(filepath.Join(root, filepath.Dir(rel)))
}

// plain holds that a path is of directories alone, none of them a link; the last may be a file.
func plain(r *os.Root, rel string) error {
	if !filepath.IsLocal(rel) || filepath.Clean(rel) != rel || rel == "." {
		return fmt.Errorf("%q is no path below %s", rel, r.Name())
	}
	parts := strings.Split(rel, "/")
	for i := range parts {
		path := filepath.Join(parts[:i+1]...)
		st, err := r.Lstat(path)
		switch {
		case err != nil:
			return err
		case st.Mode()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link: forge made none there", filepath.Join(r.Name(), path))
		case i < len(parts)-1 && !st.IsDir():
			return fmt.Errorf("%s is no directory", filepath.Join(r.Name(), path))
		}
	}
	return nil
}

// Purge removes for good what Away has moved. Asked again it goes on where it was cut off.
func Purge(root, name string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := plain(r, TrashDir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return r.RemoveAll(filepath.Join(TrashDir, name))
}

// Trash lists what a removal that was cut off has left.
func Trash(root string) []string {
	entries, err := os.ReadDir(filepath.Join(root, TrashDir))
	if err != nil {
		return nil
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}

// Usage is what would be free on the disk if path went: a file with a second name elsewhere frees nothing. No link is followed.
func Usage(path string) (bytes int64, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && (sys.Nlink == 1 || st.IsDir()) {
			bytes += sys.Blocks * 512
		}
		return nil
	})
	return bytes, err
}
