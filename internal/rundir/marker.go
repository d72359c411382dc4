package rundir

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
)

// Marker is what every process of an attempt inherits in its environment, wherever it was moved:
// it finds those that left their session and whose shim is dead.
type Marker struct {
	Run     forge.RunID
	Attempt int
	Node    int // index in the placement; negative: all
}

// Env is the marker as environment entries.
func (m Marker) Env() []string {
	env := []string{"FORGE_RUN_ID=" + string(m.Run), "FORGE_ATTEMPT=" + strconv.Itoa(m.Attempt)}
	if m.Node >= 0 {
		env = append(env, "NODE_RANK="+strconv.Itoa(m.Node))
	}
	return env
}

// Processes lists the living processes of our uid that carry the marker. An error means "not
// known", never "none". The caller itself is left out.
func (m Marker) Processes() ([]Process, error) {
	if m.Run == "" {
		return nil, errors.New("a marker without a run would match too much")
	}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	want, self, uid := m.Env(), os.Getpid(), os.Getuid()
	var out []Process
	var buf []byte
	for _, pid := range all {
		if pid == self {
			continue
		}
		env, err := environ(pid, &buf)
		if err != nil || !carries(env, want) || !ownedBy(pid, uid) {
			continue // gone meanwhile, or not ours to see
		}
		st, err := readStat(pid)
		if err != nil {
			continue
		}
		out = append(out, Process{PID: pid, StartTime: st.start, BootID: boot})
	}
	return out, nil
}

// environ reads the environment a process was started with into buf. A process whose first thread has
// ended looks like a zombie while its other threads run on and hold the GPU: those are asked.
func environ(pid int, buf *[]byte) ([]byte, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	env, err := readProc(dir+"/environ", buf)
	if errors.Is(err, unix.ESRCH) {
		err = nil // so say newer kernels of a thread without memory; older ones read nothing
	}
	if err != nil || len(env) > 0 || !threaded(pid) {
		return env, err
	}
	tasks, err := os.ReadDir(dir + "/task")
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if env, err := readProc(filepath.Join(dir, "task", t.Name(), "environ"), buf); err == nil && len(env) > 0 {
			return env, nil
		}
	}
	return nil, nil
}

// readProc reads a file of /proc into buf, which grows as it must. A shim looks at every process of its host before its last word,
// and with os.ReadFile that was half of the CPU that it took.
func readProc(path string, buf *[]byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if *buf == nil {
		*buf = make([]byte, 16<<10)
	}
	for n := 0; ; {
		if n == len(*buf) {
			*buf = append(*buf, make([]byte, n)...)
		}
		got, err := unix.Read(fd, (*buf)[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case got == 0:
			return (*buf)[:n], nil
		default:
			n += got
		}
	}
}

func carries(env []byte, want []string) bool {
	for _, w := range want {
		if !bytes.HasPrefix(env, []byte(w+"\x00")) && !bytes.Contains(env, []byte("\x00"+w+"\x00")) {
			return false
		}
	}
	return true
}

func ownedBy(pid, uid int) bool {
	st, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == uid
}
