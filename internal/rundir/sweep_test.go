package rundir_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

// TestAProcessThatWasMetIsLeftUntilItHasEnded: one that dies has lost its marker and may still hold a GPU. Here it loses it by starting
// another program in its place, under the same pid.
func TestAProcessThatWasMetIsLeftUntilItHasEnded(t *testing.T) {
	mark := rundir.Marker{Run: "01JSWEEP", Attempt: 7, Node: -1}
	cmd := exec.Command("/bin/sh", "-c", "read go; exec env -i sleep 1000")
	cmd.Env = append(mark.Env(), "PATH=/usr/bin:/bin")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	self, err := rundir.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !done(); {
			if time.Now().After(deadline) {
				t.Fatal("never saw that ", what)
			}
		}
	}
	marked := func() bool {
		found, err := mark.Processes()
		return err == nil && len(found) == 1
	}
	sweep, stranger := rundir.NewSweep(mark), rundir.NewSweep(mark)
	until("it carries the marker", marked)
	if left, err := sweep.Left(); err != nil || len(left) != 1 || left[0] != self {
		t.Fatalf("left %v, %v", left, err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	until("it has lost the marker", func() bool { return !marked() })
	if left, err := stranger.Left(); err != nil || len(left) != 0 {
		t.Errorf("who never met it knows of %v, %v", left, err)
	}
	if left, err := sweep.Left(); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v; want it still", left, err)
	}
	if n, err := rundir.NewSweep(mark, self).Kill(); n != 1 || err != nil {
		t.Errorf("killed %d, %v; it was named", n, err)
	}
	until("nothing is left", func() bool {
		left, err := sweep.Left()
		return err == nil && len(left) == 0
	})
	_ = cmd.Wait()
}
