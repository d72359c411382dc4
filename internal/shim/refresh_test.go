package shim_test

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// TestAShimOnSlurmAsksTheFileServerForItsStop watches the attempt's directory being opened, which is all that can be seen of it without a file
// server whose clients remember that a name was absent.
func TestAShimOnSlurmAsksTheFileServerForItsStop(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds until a mark is looked for again")
	}
	t.Parallel()
	a := handedOver(t, 1, 1, program(t, executortest.Act{Hold: true}), nil)
	started(t, a, planted(0, 1, "0"), nil)
	eventually(t, "live", func() bool { _, err := rundir.ReadLive(a, 0); return err == nil })
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.InotifyAddWatch(fd, a.Dir(), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	opened := 0
	eventually(t, "the directory itself was opened twice", func() bool {
		buf := make([]byte, 4096)
		n, _ := unix.Read(fd, buf)
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			mask, name := binary.NativeEndian.Uint32(buf[at+4:]), binary.NativeEndian.Uint32(buf[at+12:])
			if mask&unix.IN_ISDIR != 0 && name == 0 {
				opened++
			}
			at += unix.SizeofInotifyEvent + int(name)
		}
		return opened >= 2
	})
}
