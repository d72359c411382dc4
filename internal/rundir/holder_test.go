package rundir

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func started(t *testing.T, env []string, uid int, args ...string) int {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// Start comes back while the kernel still loads the program: until that has been done there are neither arguments nor an environment to be read.
	p := Process{PID: cmd.Process.Pid, StartTime: startOf(t, cmd.Process.Pid)}
	for {
		env, unread := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/environ")
		alive, err := p.Alive()
		if len(env) > 0 || err == nil && !alive {
			return p.PID
		}
		if err = errors.Join(unread, err); err != nil && !errors.Is(err, syscall.ESRCH) { // it ended between the two looks
			t.Fatal(err)
		}
	}
}

func TestAProcessOnAGPUIsKnownByItsMarkerOrByWhatItDescendsFrom(t *testing.T) {
	mark := append(Marker{Run: "R", Attempt: 3, Node: 0}.Env(), "FORGE_RUN_DIR=/runs/R", "PATH="+os.Getenv("PATH"))
	holder := func(pid int) Holder {
		t.Helper()
		h, err := Hold(pid)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	uid := os.Getuid()
	if h := holder(started(t, mark, uid, "sleep", "600")); !h.Ours || h.Run != "R" || h.Attempt != 3 || h.RunDir != "/runs/R" || h.UID != uid {
		t.Errorf("with the marker: %+v", h)
	}
	// A rank that clears the environment of what it starts: the child of a process with the marker.
	shell := started(t, mark, uid, "sh", "-c", "env -i sleep 600 & wait")
	var children []int
	for len(children) == 0 {
		var err error
		if children, err = Children(shell); err != nil {
			t.Fatal(err)
		}
	}
	if h := holder(children[0]); h.Run != "R" || h.Attempt != 3 {
		t.Errorf("below one with the marker: %+v", h)
	}
	if h := holder(started(t, []string{"PATH=/bin"}, uid, "sleep", "600")); !h.Ours || h.Run != "" {
		t.Errorf("ours and without a marker: %+v", h)
	}
	if uid == 0 {
		if h := holder(started(t, mark, 65534, "sleep", "600")); h.Ours || h.Run != "" || h.UID != 65534 {
			t.Errorf("another user's with our marker: %+v", h)
		}
	}
	dead := started(t, mark, uid, "true")
	for {
		if alive, err := (Process{PID: dead, StartTime: startOf(t, dead)}).Alive(); err == nil && !alive {
			break
		}
	}
	for _, pid := range []int{dead, 1 << 30} {
		if _, err := Hold(pid); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%d, which has ended or never was: %v", pid, err)
		}
	}
}

func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	st, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return st.start
}

func TestACommandIsToldInOneShortLine(t *testing.T) {
	for in, want := range map[string]string{
		"python\x00train.py\x00--lr\x001e-4\x00": "python train.py --lr 1e-4",
		"a\x1b[31mred\r\nb\x00":                  "a?[31mred??b",
		"bad\xff\x00":                            "bad?",
		"über\u202e\x00":                         "über?",
	} {
		if got := commandOf([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := commandOf([]byte(strings.Repeat("é", 500))); len(got) > maxCommand || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
