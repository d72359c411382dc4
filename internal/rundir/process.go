package rundir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process names a process for good: a pid alone is reused, and after a reboot all of them are.
type Process struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"` // clock ticks after boot, field 22 of /proc/PID/stat
	BootID    string `json:"boot_id,omitempty"`
}

// BootID identifies this boot of this host.
var BootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
})

// Identify names the process that has this pid now. os.ErrProcessDone: there is none.
func Identify(pid int) (Process, error) {
	boot, err := BootID()
	if err != nil {
		return Process{}, err
	}
	st, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, StartTime: st.start, BootID: boot}, nil
}

// Alive says whether this very process still runs. A zombie has ended, unless other threads of it go on: it keeps its entry
// in /proc, with the same start time, until its parent collects it. An error means "not known".
func (p Process) Alive() (bool, error) {
	boot, err := BootID()
	if err != nil {
		return false, err
	}
	if p.PID <= 0 || p.BootID != "" && p.BootID != boot {
		return false, nil
	}
	st, err := readStat(p.PID)
	if errors.Is(err, os.ErrProcessDone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.start == p.StartTime && (!st.dead() || threaded(p.PID)), nil
}

// Signal sends a signal to this very process. os.ErrProcessDone: it has ended.
func (p Process) Signal(sig syscall.Signal) error {
	fd, err := p.Open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Open returns a pidfd of this very process. The identity is checked after the open: from then on
// the descriptor cannot come to mean another process.
func (p Process) Open() (int, error) {
	if p.PID <= 0 {
		return -1, os.ErrProcessDone
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, os.ErrProcessDone
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd of %d: %w", p.PID, err)
	}
	alive, err := p.Alive()
	if err == nil && !alive {
		err = os.ErrProcessDone
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// stat is what is needed of /proc/PID/stat.
type stat struct {
	state  byte
	parent int
	start  uint64
}

// dead says that its first thread has ended, which is all there is of most; threaded processes go on without it.
func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

// threaded says that a process has more than one thread: the kernel counts them as links of their directory, and that is cheaper
// to ask for than anything else. Half of what a host's /proc lists are kernel threads, of one each.
func threaded(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid)+"/task", &st) == nil && st.Nlink > 3
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return stat{}, os.ErrProcessDone
	}
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// parseStat counts fields after the last parenthesis: the command name before it may hold
// blanks and parentheses of its own.
func parseStat(data []byte) (stat, error) {
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return stat{}, fmt.Errorf("stat of a process has no command name: %.80q", data)
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 20 {
		return stat{}, fmt.Errorf("stat of a process has %d fields after the name, want 20 or more", len(f))
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return stat{}, fmt.Errorf("parent in stat: %w", err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time in stat: %w", err)
	}
	return stat{state: f[0][0], parent: parent, start: start}, nil
}

// Invoked says whether a living process of our uid was called with these arguments, in a row. It
// finds a program that was started and has not yet left a sign of its own.
func Invoked(args ...string) (bool, error) {
	all, err := pids()
	if err != nil {
		return false, err
	}
	want := []byte("\x00" + strings.Join(args, "\x00") + "\x00")
	for _, pid := range all {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && bytes.Contains(line, want) && pid != os.Getpid() && ownedBy(pid, os.Getuid()) {
			return true, nil
		}
	}
	return false, nil
}

// Children lists the direct children of a process, zombies left out. It reads every process and not
// /proc/PID/task/*/children, which not every kernel has.
func Children(pid int) ([]int, error) {
	pids, err := pids()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, p := range pids {
		if st, err := readStat(p); err == nil && st.parent == pid && (!st.dead() || threaded(p)) {
			out = append(out, p)
		}
	}
	return out, nil
}

func pids() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list /proc: %w", err)
	}
	var out []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}
