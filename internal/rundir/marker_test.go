package rundir_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// The first thread of a process is the main goroutine's during init, and stays it if that is locked.
func init() {
	if os.Getenv("RUNDIR_TEST") != "headless" {
		return
	}
	runtime.LockOSThread()
	go func() {
		fmt.Println("on")
		<-time.After(time.Minute)
		os.Exit(0)
	}()
	_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
}

// TestAMarkerFindsAndEndsWhatIsHardToSee: a process whose first thread has ended while another goes on looks like a zombie, and an
// environment may be longer than what is read of it at once.
func TestAMarkerFindsAndEndsWhatIsHardToSee(t *testing.T) {
	for name, does := range map[string]string{"without its first thread": "headless", "behind a long environment": "sleep"} {
		t.Run(name, func(t *testing.T) {
			mark := rundir.Marker{Run: forge.RunID(fmt.Sprintf("RUN%d-%s", os.Getpid(), does)), Attempt: 3, Node: -1}
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append([]string{"LONG=" + strings.Repeat("x", 100_000), "RUNDIR_TEST=" + does}, mark.Env()...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill() }()
			if does == "headless" {
				if _, err := out.Read(make([]byte, 1)); err != nil { // its other thread's word that it goes on
					t.Fatal(err)
				}
			}
			for deadline := time.Now().Add(10 * time.Second); ; {
				st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
				if err != nil {
					t.Fatal(err)
				}
				zombie := strings.Contains(string(st), ") Z ")
				found, err := mark.Processes()
				if err == nil && len(found) == 1 && found[0].PID == cmd.Process.Pid && zombie == (does == "headless") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("found %+v, %v; its stat is %s", found, err, st)
				}
			}
			if n, err := rundir.NewSweep(mark).Kill(); n != 1 || err != nil {
				t.Errorf("kill: %d, %v", n, err)
			}
			_ = cmd.Wait() // and it is gone, or this does not return
		})
	}
}
