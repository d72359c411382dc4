package rundir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestWhatShimsSawOfGPUsIsReadAsStreams(t *testing.T) {
	at := rundir.At(filepath.Join(t.TempDir(), "R"), 1)
	mustWrite(t, at.GPUsPath(1), `{"state":"ok","gpus":[]}`)
	mustWrite(t, at.GPUEventsPath(1), "{\"xid\":79}\n")
	var files rundir.Files
	for stream, want := range map[string]string{"gpus.1": `{"state":"ok","gpus":[]}`, "gpu_events.1": "{\"xid\":79}\n", "gpus.0": ""} {
		c, err := files.Read(t.Context(), at, stream, 0, 1<<20)
		if err != nil || string(c.Data) != want {
			t.Errorf("%s: %q, %v", stream, c.Data, err)
		}
	}
	for _, bad := range []string{"gpus.", "gpus.-1", "gpus.1/../../x", "gpu_events.99999999"} {
		if _, err := files.Read(t.Context(), at, bad, 0, 1); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestWhatRanksPutInTheWayIsNeitherFollowedNorWaitedFor(t *testing.T) {
	dir := t.TempDir()
	link, fifo, outside := filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), filepath.Join(dir, "outside")
	mustWrite(t, outside, "secret\n")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0) // without a reader the open alone fails
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, path := range []string{link, fifo} {
		if data, err := rundir.Tail(path, 10); err == nil {
			t.Errorf("read %s: %q", path, data)
		}
		if err := rundir.Append(path, []byte("x\n")); err == nil {
			t.Errorf("appended to %s", path)
		}
	}
	if data, _ := os.ReadFile(outside); string(data) != "secret\n" {
		t.Errorf("%q", data)
	}
	own := filepath.Join(dir, "own")
	for range 2 {
		if err := rundir.Append(own, []byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := rundir.Tail(own, 6); err != nil || string(data) != "\nline\n" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestAnEndIsExplainedByTheNodeThatItCameFrom(t *testing.T) {
	t0 := time.Date(2026, 11, 26, 22, 0, 0, 0, time.UTC)
	exit := func(node forge.NodeName, rank, code int, byShim bool, after time.Duration) rundir.Exit {
		return rundir.Exit{Ranks: []forge.RankExit{{Rank: rank, Node: node, Code: code, ByShim: byShim, EndedAt: t0.Add(after)}}, EndedAt: t0.Add(after)}
	}
	hit := func(rank int) *forge.PatternHit {
		return &forge.PatternHit{Name: "nccl_timeout", Action: forge.PatternRetry, Rank: rank}
	}
	t.Run("by its GPU", func(t *testing.T) {
		n1, n2 := exit("n1", 0, 143, true, 2*time.Second), exit("n2", 1, 137, true, time.Second)
		n2.Cause, n2.GPUFault = forge.StopGPUFault, &forge.Finding{Rule: "xid_79", XID: 79, Run: forge.RunElsewhere}
		n1.GPUEvents, n2.GPUEvents = []forge.GPUEvent{{At: t0.Add(time.Minute), XID: 45}}, []forge.GPUEvent{{At: t0, XID: 79}}
		var o forge.Observation
		rundir.Explain(&o, []rundir.Exit{n1, n2}, &n2)
		if o.GPUFault == nil || o.GPUFault.Node != "n2" || o.GPUFault.XID != 79 || len(o.Suspects) != 1 || o.Suspects[0] != "n2" {
			t.Errorf("%+v, suspects %v", o.GPUFault, o.Suspects)
		}
		if len(o.GPUEvents) != 2 || o.GPUEvents[0].XID != 79 {
			t.Errorf("%+v", o.GPUEvents)
		}
	})
	t.Run("by what the rank printed that failed first, and by no other", func(t *testing.T) {
		first, later := exit("n1", 0, 1, false, time.Second), exit("n2", 1, 1, false, 2*time.Second)
		later.Pattern = hit(1)
		var o forge.Observation
		rundir.Explain(&o, []rundir.Exit{later, first}, &first)
		if o.Pattern != nil {
			t.Errorf("what followed is taken for the cause: %+v", o.Pattern)
		}
		first.Pattern = hit(0)
		rundir.Explain(&o, []rundir.Exit{later, first}, &first)
		if o.Pattern == nil || o.Pattern.Rank != 0 {
			t.Errorf("%+v", o.Pattern)
		}
	})
	t.Run("a fault of the program's own speaks against no node", func(t *testing.T) {
		x := exit("n1", 0, 1, false, time.Second)
		x.Cause, x.GPUFault = forge.StopRankExit, &forge.Finding{XID: 31, Run: forge.RunFails, Words: "XID 31"}
		var o forge.Observation
		rundir.Explain(&o, []rundir.Exit{x}, &x)
		if o.GPUFault == nil || !strings.Contains(o.GPUFault.Words, "31") || o.Suspects != nil {
			t.Errorf("%+v, suspects %v", o.GPUFault, o.Suspects)
		}
	})
}
