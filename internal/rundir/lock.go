package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of AcquireLock.
var (
	ErrLockHeld = errors.New("another shim of this attempt and node is alive")
	ErrLockUsed = errors.New("a shim of this attempt and node was here before; an attempt starts once")
)

// Lock is a shim's life: the kernel lets go of it however the shim dies.
type Lock struct{ f *os.File }

// AcquireLock takes the lock for life and leaves the shim's identity in it, for good: whoever finds
// the lock free and an identity in it knows that the shim was there and is dead, and a second shim
// that comes later does not start the ranks again.
func AcquireLock(path string, self Process) (*Lock, error) {
	f, err := openLike(path, os.O_RDWR|syscall.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("shim lock: %w", err)
	}
	if err := flockFor(f, time.Second); err != nil {
		f.Close()
		return nil, err
	}
	if by, err := lockOwner(f); err != nil || by.PID != 0 {
		f.Close()
		return nil, errors.Join(ErrLockUsed, err)
	}
	data, err := json.Marshal(self)
	if err == nil {
		_, err = f.WriteAt(append(data, '\n'), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("shim lock: %w", err)
	}
	return &Lock{f: f}, nil
}

// MarkLock is AcquireLock where the run directory is shared by several machines. There flock may be missing or
// mean something on each machine alone, so that it is taken if that can be had and proves nothing; what counts is
// the mark, which link(2) gives to exactly one shim of this attempt and node. locked is why there is no lock beside it.
func MarkLock(path string, self Process) (lock *Lock, locked, err error) {
	data, err := json.Marshal(self)
	if err != nil {
		return nil, nil, err
	}
	made, err := linkOnce(path, append(data, '\n'), false)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("shim lock: %w", err)
	case !made:
		return nil, nil, ErrLockUsed
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return &Lock{}, fmt.Errorf("shim lock: %w", err), nil
	}
	for range 100 {
		if locked = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(locked, unix.EINTR) && !errors.Is(locked, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(2 * time.Millisecond) // somebody probes
	}
	return &Lock{f: f}, locked, nil
}

// flockFor tries for a while: ProbeLock of a daemon holds the lock for some microseconds.
func flockFor(f *os.File, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("shim lock: %w", err)
		case time.Now().After(deadline):
			return ErrLockHeld
		}
		if by, err := lockOwner(f); err == nil && by.PID != 0 {
			if alive, err := by.Alive(); err == nil && alive {
				return ErrLockHeld
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Close gives the lock back; the process's end does the same.
func (l *Lock) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// LockState is what a look at a shim's lock says.
type LockState struct {
	Held bool    // a shim lives
	By   Process // who took it; zero when nobody ever did, pid -1 when its name cannot be read
}

// Dead says that a shim was there and is there no more.
func (s LockState) Dead() bool { return !s.Held && s.By.PID != 0 }

// ProbeLock looks at a shim's lock. No file is the zero state: no shim has come so far. The owner
// is read before the lock is tried, so that a shim that arrives between the two is never taken for
// a dead one.
func ProbeLock(path string) (LockState, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return LockState{}, nil
	}
	if err != nil {
		return LockState{}, fmt.Errorf("probe shim lock: %w", err)
	}
	defer f.Close()
	by, err := lockOwner(f)
	if errors.Is(err, ErrBroken) {
		by = Process{PID: -1} // power was lost under it: somebody was there, and lives only if the lock is held
	} else if err != nil {
		return LockState{}, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return LockState{By: by}, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return LockState{Held: true, By: by}, nil
	}
	return LockState{}, fmt.Errorf("probe shim lock: %w", err)
}

func lockOwner(f *os.File) (Process, error) {
	buf := make([]byte, 512)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Process{}, fmt.Errorf("shim lock: %w", err)
	}
	if n == 0 {
		return Process{}, nil
	}
	var p Process
	if err := json.Unmarshal(buf[:n], &p); err != nil {
		return Process{}, fmt.Errorf("shim lock: %w: %w", ErrBroken, err)
	}
	return p, nil
}
