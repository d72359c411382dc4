package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	niceMost     = 19
	ioprioThread = 1       // IOPRIO_WHO_PROCESS, which means one thread
	ioprioIdle   = 3 << 13 // IOPRIO_CLASS_IDLE
)

// giveWay lowers all threads of the process, as `nice -n 19 ionice -c 3` would have begun it: a login node is
// others' too. Both are per thread on Linux, and inherited by the threads that a thread starts, so it looks
// until there is none that it has not lowered. What the kernel refuses is left as it is.
func giveWay() {
	lowered := map[int]bool{}
	for found := true; found; {
		found = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || lowered[id] {
				continue
			}
			lowered[id], found = true, true
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, niceMost)
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioThread, uintptr(id), ioprioIdle)
		}
	}
}
