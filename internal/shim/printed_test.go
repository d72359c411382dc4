package shim_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestARankThatPrintsForeverFillsNoDiskAndEndsAsItWould(t *testing.T) {
	const limit = 2 << 20
	a := prepared(t, []string{self(t), "chatter"}, func(l *rundir.LaunchFile) { l.Options.LogLimit = limit }, 1)
	_, x := runShim(t, a)
	if len(x.Ranks) != 1 || x.Ranks[0].Code != 0 {
		t.Fatalf("%+v", x)
	}
	if !strings.Contains(x.Detail, "log_limit is 2 MiB: stdout of rank 0") {
		t.Errorf("the last word names no key: %q", x.Detail)
	}
	st, err := os.Stat(a.StdoutPath(0))
	if err != nil || st.Size() < 24<<20 {
		t.Fatalf("%v, %v", st.Size(), err)
	}
	if used := st.Sys().(*syscall.Stat_t).Blocks * 512; used > limit+1<<20 {
		t.Errorf("%d bytes are used of the disk", used)
	}
	var all strings.Builder
	var files rundir.Files
	for offset := int64(0); ; {
		c, err := files.Read(t.Context(), a, "stdout.0", offset, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if c.Next == offset {
			break
		}
		all.Write(c.Data)
		offset = c.Next
	}
	got := all.String()
	if !strings.HasPrefix(got, "the first line\n") || !strings.HasSuffix(got, "the last line\n") || strings.Count(got, "are not kept here") != 1 || strings.Contains(got, "\x00") {
		t.Errorf("%d bytes, from %.40q", len(got), got)
	}
}
