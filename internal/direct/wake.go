package direct

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Wake fires soon after something of ours has changed. It only says "look now": a Poll that comes
// by itself sees the same.
func (e *Executor) Wake() <-chan struct{} { return e.wake }

func (e *Executor) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// nudgeSoon asks for another look after killed processes had time to die.
func (e *Executor) nudgeSoon() { time.AfterFunc(50*time.Millisecond, e.nudge) }

// watchShim wakes when a shim that is not our child ends: one that a forged before us started.
func (e *Executor) watchShim(a *attempt, node int, by rundir.Process) {
	e.mu.Lock()
	skip := a.watched[node] || by.PID <= 0
	if !skip {
		a.watched[node] = true
	}
	e.mu.Unlock()
	if skip {
		return
	}
	fd, err := by.Open()
	if err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			e.nudge()
		}
		return
	}
	e.notify.add(a.at.NodeDir(node))
	e.tasks.Go(func() {
		defer unix.Close(fd)
		for {
			// A bounded wait, so that Close is noticed.
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 500)
			select {
			case <-e.done:
				return
			default:
			}
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				e.nudge()
				return
			}
		}
	})
}

// notifier wakes when live.json or exit.json appears in a shim's directory. Without inotify (a
// limit reached, a filesystem without it) nothing is lost but some milliseconds.
type notifier struct {
	fd   int
	file *os.File
}

func (e *Executor) newNotifier() *notifier {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		e.log.Debug().Err(err).Msg("inotify not available")
		return &notifier{fd: -1}
	}
	n := &notifier{fd: fd, file: os.NewFile(uintptr(fd), "inotify")}
	e.tasks.Go(func() {
		buf := make([]byte, 16<<10)
		for {
			// What happened is not read: Poll looks at the directory itself.
			if _, err := n.file.Read(buf); err != nil {
				return
			}
			e.nudge()
		}
	})
	return n
}

// add watches a directory until the attempt's directory is removed; a removed one leaves by itself.
func (n *notifier) add(dir string) {
	if n.fd >= 0 {
		_, _ = unix.InotifyAddWatch(n.fd, dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	}
}

func (n *notifier) close() error {
	if n.file == nil {
		return nil
	}
	return n.file.Close()
}
