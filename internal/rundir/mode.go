package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// dirMode is the mode of a run directory where nothing else is said, and with it of all that is made below: readable by the account's group, closed to others.
const dirMode os.FileMode = 0o750

// Owner is how the files of a run are made. It is given to the run directory; what is made below takes it from there, whoever
// makes it and under whatever umask. The zero value is the account's own group, which may read.
type Owner struct {
	GID   int         // 0: the account's own group
	Umask os.FileMode // of 0777; others never get anything
}

// own gives the run directory to its owner. It is the same however often it happens: the one before may have died half-way.
func (o Owner) own(runDir string) error {
	if o == (Owner{}) {
		return nil
	}
	st, err := os.Lstat(runDir)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && o.GID != 0 && int(sys.Gid) != o.GID {
		if err := os.Lchown(runDir, -1, o.GID); err != nil {
			return fmt.Errorf("give the run directory to group %d: %w", o.GID, err)
		}
	}
	want := os.ModeSetgid | 0o700 | 0o070&^o.Umask
	if st.Mode()&(os.ModePerm|os.ModeSetgid) == want {
		return nil
	}
	return os.Chmod(runDir, want) // after chown, which takes setgid away
}

// groupBits is what the group of a directory may do in it.
func groupBits(dir string) os.FileMode {
	st, err := os.Stat(dir)
	if err != nil {
		return dirMode & 0o070
	}
	return st.Mode() & 0o070
}

// makeLike makes one directory with the modes of its parent. A setgid parent hands that on by itself.
func makeLike(dir string) error {
	group := groupBits(filepath.Dir(dir))
	if err := os.Mkdir(dir, 0o700|group); err != nil || group&0o020 == 0 {
		return err
	}
	st, err := os.Stat(dir) // a usual umask keeps the group from writing
	if err != nil {
		return err
	}
	return os.Chmod(dir, st.Mode()&os.ModeSetgid|0o700|group)
}

// openLike makes a file with the modes of its directory.
func openLike(path string, flag int) (*os.File, error) {
	group := groupBits(filepath.Dir(path)) & 0o060
	f, err := os.OpenFile(path, flag|os.O_CREATE, 0o600|group)
	if err != nil || group&0o020 == 0 {
		return f, err
	}
	// One that is somebody else's is there already, and as it should be.
	if err := f.Chmod(0o600 | group); err != nil && !errors.Is(err, fs.ErrPermission) {
		f.Close()
		return nil, err
	}
	return f, nil
}
