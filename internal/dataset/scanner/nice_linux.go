package scanner

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	leastNice   = 19
	idleIO      = 3 << 13 // IOPRIO_CLASS_IDLE
	ioOfProcess = 1       // IOPRIO_WHO_PROCESS
)

// giveWay lets everybody else go first, to the CPUs and to the disks, and be spared when memory runs out. On Linux a nice value is a thread's; threads that
// are started later have that of the one that starts them. What the system does not let us have is no reason not to read.
func giveWay() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("900"), 0)
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, leastNice)
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioOfProcess, uintptr(tid), idleIO)
		}
	}
}
