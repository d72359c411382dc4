package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
)

// Filesystems of which several hosts may have a view. SQLite's WAL keeps its index in shared
// memory, so two hosts on one database corrupt it without any error.
var networkFS = map[int64]string{
	0x6969: "nfs", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x517b: "smb", 0x0bd00bd0: "lustre", 0x47504653: "gpfs",
	0x00c36400: "ceph", 0x19830326: "beegfs", 0x65735546: "fuse", 0x01021997: "9p", 0x5346414f: "afs", 0x7461636f: "ocfs2",
	0x01161970: "gfs2", 0x20030528: "orangefs",
}

// prepareStateDir makes the state directory with mode 0700, or checks the one that is there.
func prepareStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return stateDirError(dir, err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return stateDirError(dir, err)
	}
	if !st.IsDir() {
		return forge.Invalidf("state_dir", "%s is not a directory", dir)
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return forge.Invalidf("state_dir", "%s has mode %04o and others may read keys there; want 0700, and changing it failed: %v", dir, st.Mode().Perm(), err)
		}
	}
	return checkLocal(dir)
}

func checkLocal(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return stateDirError(dir, err)
	}
	return judgeFS(dir, int64(fs.Type))
}

// judgeFS refuses a filesystem by its magic number, of which some systems extend the sign.
func judgeFS(dir string, magic int64) error {
	if name, bad := networkFS[magic&0xffffffff]; bad {
		return (&forge.Error{Kind: forge.KindInvalid, Op: "state_dir", Field: "state_dir",
			Err: fmt.Errorf("%s is on a network filesystem (%s); SQLite's write-ahead log needs a disk of this one host", dir, name)}).
			WithHint("use a local disk, e.g. --state-dir /var/lib/forge; run directories (clusters[].run_root) may stay on the network filesystem")
	}
	return nil
}

func stateDirError(dir string, err error) error {
	e := &forge.Error{Kind: forge.KindInvalid, Op: "state_dir", Field: "state_dir", Err: fmt.Errorf("%s: %w", dir, err)}
	if errors.Is(err, os.ErrPermission) {
		return e.WithHint("uid %d may not write there; choose another with --state-dir, or give the directory to this user", os.Geteuid())
	}
	return e
}

const lockFile = "forged.lock"

// A forged that was killed while it started a program holds its lock a moment longer than it lives: the program has it until it has become
// itself. On a busy machine, where the next forged starts at once, the two meet.
const (
	lockPatience = 5 * time.Second
	lockAgain    = 20 * time.Millisecond
)

// stateLock keeps a second daemon off a state directory for as long as the process lives.
type stateLock struct{ f *os.File }

func lockState(dir string) (*stateLock, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, stateDirError(dir, err)
	}
	for patience := time.Now().Add(lockPatience); ; time.Sleep(lockAgain) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		text := make([]byte, 16)
		n, _ := f.ReadAt(text, 0)
		if pid, _ := strconv.Atoi(string(text[:n])); pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) && time.Now().Before(patience) {
			continue
		}
		_ = f.Close()
		return nil, (&forge.Error{Kind: forge.KindConflict, Op: "serve", Field: "state_dir",
			Err: fmt.Errorf("another forged (pid %s) serves %s", string(text[:n]), dir)}).
			WithHint("stop it first, or give this one its own --state-dir")
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return &stateLock{f}, nil
}

// lockHolder is the pid of the forged that serves a state directory. The lock lives as long as the
// process, so the pid in it is nobody else's.
func lockHolder(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return 0, stateDirError(dir, err)
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return 0, forge.Errorf(forge.KindPrecondition, "reload", "no forged serves %s", dir).WithHint("forged serve --state-dir %s", dir)
	case !errors.Is(err, unix.EWOULDBLOCK):
		return 0, stateDirError(dir, err)
	}
	text := make([]byte, 16)
	n, _ := f.ReadAt(text, 0)
	return strconv.Atoi(string(text[:n]))
}

func (l *stateLock) release() error { return l.f.Close() }
