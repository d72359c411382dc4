package rundir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// putSource copies the archive of a run's working directory into the run directory, once. Where it is lost nothing is put:
// the shim says so, and starts nothing.
func putSource(l LaunchFile) error {
	if l.Spec.Source == nil || l.Archive == nil && l.SourceFile == "" {
		return nil
	}
	to := SourcePath(l.RunDir)
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	open := l.Archive
	if open == nil {
		open = func() (io.ReadCloser, error) { return os.Open(l.SourceFile) }
	}
	from, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("archive of the working directory: %w", err)
	}
	defer from.Close()
	temp := tempPath(to)
	err = func() error {
		f, err := openLike(temp, os.O_WRONLY|os.O_EXCL)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		if err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = rename(temp, to)
		}
		return err
	}()
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("archive of the working directory: %w", err)
	}
	return SyncDir(filepath.Dir(to))
}

// OpenSource opens the archive of a run's working directory: a regular file, and no link.
func OpenSource(runDir string) (*os.File, error) {
	f, err := os.OpenFile(SourcePath(runDir), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a regular file", SourcePath(runDir))
	}
	return f, nil
}
