//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// niced gives way with threads at work, and says how every thread stands.
func niced() {
	for range 4 {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	for range 100 {
		runtime.Gosched()
	}
	giveWay()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		fmt.Println(err)
	}
	for _, t := range threads {
		id, _ := strconv.Atoi(t.Name())
		twenty, err := unix.Getpriority(unix.PRIO_PROCESS, id) // the kernel answers 20 less the niceness
		class, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioThread, uintptr(id), 0)
		fmt.Println(20-twenty, class>>13, err, int(errno))
	}
}

func TestWhoeverReadsHereGivesWayWithEveryThread(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), nicedEnv+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 2 {
		t.Fatalf("it has %q", lines)
	}
	for _, l := range lines {
		if l != "19 3 <nil> 0" {
			t.Errorf("a thread stands at %q, want nice 19 and class 3, idle", l)
		}
	}
}
