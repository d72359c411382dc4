package shim

import (
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const lost, mmu = "XID 79 (off the bus) on GPU 3 (GPU-3)", "XID 31 (memory fault) on GPU 3 (GPU-3)"

func elsewhere() forge.Finding {
	return forge.Finding{Rule: "xid_79", UUID: "GPU-3", XID: 79, Run: forge.RunElsewhere, Words: lost}
}

func fails(xid int) forge.Finding {
	return forge.Finding{Rule: "xid", UUID: "GPU-3", XID: xid, Run: forge.RunFails, Words: mmu}
}

func TestAGangAndTheFaultsOfItsGPUs(t *testing.T) {
	term, kill := syscall.SIGTERM, syscall.SIGKILL
	const minute = time.Minute
	t.Run("a GPU that cannot be trusted ends all ranks at once and unsaved", func(t *testing.T) {
		g := testGang(2)
		g.gpu(elsewhere(), minute, at(5))
		wantOrders(t, g, order{-100, kill}, order{-101, kill})
		for _, m := range g.members {
			g.exited(m, killedBy(kill), false, at(5.1))
		}
		if f, words := g.blame(); g.cause != forge.StopGPUFault || f == nil || f.XID != 79 || words != lost || !g.members[0].exit.ByShim {
			t.Errorf("%s %+v %q %+v", g.cause, f, words, g.members[0].exit)
		}
	})
	t.Run("also while they save for another reason, which stays what it was", func(t *testing.T) {
		g := testGang(1)
		g.asked(rundir.Stop{Signal: forge.SignalCheckpoint}, at(1))
		wantOrders(t, g, order{100, term})
		g.gpu(elsewhere(), minute, at(2))
		wantOrders(t, g, order{-100, kill})
		if f, _ := g.blame(); g.cause != forge.StopIntent || f != nil {
			t.Errorf("%s %+v", g.cause, f)
		}
	})
	t.Run("a program that was faster to fail than the driver to speak failed for the GPU", func(t *testing.T) {
		g := testGang(2)
		g.exited(g.members[1], exitedWith(1), false, at(1))
		g.gpu(elsewhere(), minute, at(1.02))
		if g.cause != forge.StopGPUFault || g.detail != lost+"; rank 1 exited 1" {
			t.Errorf("%s %q", g.cause, g.detail)
		}
		wantOrders(t, g, order{-100, kill})
	})
	t.Run("and so did one that was alone", func(t *testing.T) {
		g := testGang(1)
		g.exited(g.members[0], exitedWith(1), false, at(1))
		g.gpu(elsewhere(), minute, at(1.02))
		if f, _ := g.blame(); g.cause != forge.StopGPUFault || f == nil {
			t.Errorf("%s %+v", g.cause, f)
		}
	})
	t.Run("what has ended well, or saved, did so before", func(t *testing.T) {
		g := testGang(2)
		g.exited(g.members[0], exited0, false, at(1))
		g.exited(g.members[1], exitedWith(forge.ExitCheckpointed), false, at(1))
		cause := g.cause
		g.gpu(elsewhere(), minute, at(1.02))
		if f, _ := g.blame(); g.cause != cause || f != nil {
			t.Errorf("%s %+v", g.cause, f)
		}
	})
	t.Run("a fault of the program's own: it may end by itself", func(t *testing.T) {
		g := testGang(1)
		g.gpu(fails(31), minute, at(1))
		wantOrders(t, g)
		g.tick(signs{}, at(60.9))
		wantOrders(t, g)
		g.exited(g.members[0], exitedWith(1), false, at(60.9))
		if f, words := g.blame(); g.cause != forge.StopRankExit || words != "rank 0 exited 1, after "+mmu || f == nil || f.Run != forge.RunFails {
			t.Errorf("%s %q %+v", g.cause, words, f)
		}
	})
	t.Run("and is ended if it does not", func(t *testing.T) {
		g := testGang(1)
		g.gpu(fails(31), minute, at(1))
		g.gpu(fails(31), minute, at(50))
		g.tick(signs{size: 9}, at(61)) // whatever it still seems to do
		wantOrders(t, g, order{-100, term})
		g.exited(g.members[0], killedBy(term), false, at(62))
		if f, words := g.blame(); g.cause != forge.StopGPUError || f == nil || !strings.HasPrefix(words, mmu+", after which") {
			t.Errorf("%s %q", g.cause, words)
		}
	})
	t.Run("a GPU that fails meanwhile is what counts", func(t *testing.T) {
		g := testGang(1)
		g.gpu(fails(31), minute, at(1))
		g.gpu(elsewhere(), minute, at(2))
		if f, words := g.blame(); g.cause != forge.StopGPUFault || f.XID != 79 || words != lost {
			t.Errorf("%s %+v %q", g.cause, f, words)
		}
	})
	t.Run("an end by forged is not said to follow from an earlier fault", func(t *testing.T) {
		g := testGang(1)
		g.gpu(fails(31), minute, at(1))
		g.asked(rundir.Stop{Signal: forge.SignalKill}, at(2))
		g.exited(g.members[0], killedBy(kill), false, at(2))
		if f, words := g.blame(); f != nil || strings.Contains(words, "XID") {
			t.Errorf("%+v %q", f, words)
		}
	})
	t.Run("XID 45 is what the end of a process looks like", func(t *testing.T) {
		killed := testGang(2)
		killed.asked(rundir.Stop{Signal: forge.SignalCancel}, at(1))
		killed.gpu(fails(45), minute, at(1.1))
		ended := testGang(2)
		ended.exited(ended.members[0], exited0, false, at(1))
		ended.gpu(fails(45), minute, at(1.1))
		for _, g := range []*gang{killed, ended} {
			if g.tick(signs{}, at(62)); g.fault != nil || g.cause == forge.StopGPUError {
				t.Errorf("%s %+v", g.cause, g.fault)
			}
		}
		alone := testGang(1)
		alone.gpu(fails(45), minute, at(1))
		if alone.fault == nil {
			t.Error("of a rank that nobody ended it is a fault")
		}
	})
	t.Run("a condition that is over, or that the run may go on with, is nothing", func(t *testing.T) {
		g := testGang(1)
		over, warn := elsewhere(), elsewhere()
		over.Over, warn.Run = true, forge.RunGoesOn
		g.gpu(over, minute, at(1))
		g.gpu(warn, minute, at(1))
		g.tick(signs{}, at(99))
		wantOrders(t, g)
	})
	t.Run("the other nodes of the gang do not save what it has computed since", func(t *testing.T) {
		l, words := peerEnd(1, rundir.Exit{Cause: forge.StopGPUFault, Detail: lost, Ranks: []forge.RankExit{{Code: 137, ByShim: true}}})
		if l != levelKill || words != "node 1 ended: "+lost {
			t.Errorf("%v %q", l, words)
		}
	})
}

func TestTheGPUsOfAJob(t *testing.T) {
	gpu := func(minor int) forge.GPUReading {
		return forge.GPUReading{UUID: "GPU-" + string(rune('a'+minor)), Minor: minor}
	}
	whole := []forge.GPUReading{gpu(3), gpu(2), gpu(1), gpu(0)} // by PCI address, which need not be the order of /dev
	parent := forge.GPUReading{UUID: "MIG-1234", Minor: 0, MIG: "1g.10gb", Parent: "GPU-a", MIGID: new(int)}
	for _, c := range []struct {
		name string
		env  map[string]string
		want int
		seen []forge.GPUReading
		own  string // uuid=slot
	}{
		{"not confined: numbers are those of /dev/nvidiaN", map[string]string{"CUDA_VISIBLE_DEVICES": "2,3"}, 2, whole, "GPU-c=2 GPU-d=3"},
		{"confined: the step's numbers are the node's own", map[string]string{"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "2,3"}, 2, whole, "GPU-c=2 GPU-d=3"},
		{"confined, and NVML lists no others", map[string]string{"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "2,3"}, 2, whole[:2], "GPU-c=2 GPU-d=3"},
		{"confined and numbered anew", map[string]string{"CUDA_VISIBLE_DEVICES": "0,1"}, 2, whole[:2], "GPU-d=0 GPU-c=1"},
		{"the whole node", map[string]string{"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 4, whole, "GPU-d=0 GPU-c=1 GPU-b=2 GPU-a=3"},
		{"the job's numbers, where it has one node", map[string]string{"CUDA_VISIBLE_DEVICES": "zero", "SLURM_JOB_GPUS": "1"}, 1, whole, "GPU-b=1"},
		{"by UUID, or the beginning of one", map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-b,MIG-12"}, 2, append(whole[:4:4], parent), "GPU-b=0 MIG-1234=1"},
		{"a beginning that is no name", map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-"}, 1, whole, ""},
		{"a UUID that is not here", map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-z"}, 1, whole, ""},
		{"numbered anew or not, who knows", map[string]string{"CUDA_VISIBLE_DEVICES": "0,1"}, 2, whole, ""},
		{"a number that no GPU has", map[string]string{"SLURM_STEP_GPUS": "7"}, 1, whole, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := &job{nodes: 1}
			if err := j.readGPUs(func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }, c.want); err != nil {
				t.Fatal(err)
			}
			own, err := j.ownGPUs(c.seen)
			var got []string
			for _, o := range own {
				got = append(got, o.uuid+"="+string(rune('0'+o.slot)))
			}
			if strings.Join(got, " ") != c.own || (err != nil) != (c.own == "") {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestWhoseEventItIs(t *testing.T) {
	one, two := 1, 2
	gpu, mig := ownGPU{uuid: "GPU-a"}, ownGPU{uuid: "MIG-x", parent: "GPU-a", mig: &one}
	for _, c := range []struct {
		name string
		own  ownGPU
		e    forge.GPUEvent
		ours bool
	}{
		{"the GPU's", gpu, forge.GPUEvent{UUID: "GPU-a"}, true},
		{"another GPU's", gpu, forge.GPUEvent{UUID: "GPU-b"}, false},
		{"the whole GPU's that our instance is a part of", mig, forge.GPUEvent{UUID: "GPU-a"}, true},
		{"our instance's", mig, forge.GPUEvent{UUID: "GPU-a", MIGID: &one}, true},
		{"the neighbour's", mig, forge.GPUEvent{UUID: "GPU-a", MIGID: &two}, false},
		{"another GPU's instance", mig, forge.GPUEvent{UUID: "GPU-b", MIGID: &one}, false},
	} {
		if c.own.said(c.e) != c.ours {
			t.Errorf("%s: ours %v", c.name, !c.ours)
		}
	}
}

func TestPrintedLinesAreWhatPeopleRead(t *testing.T) {
	got := printedLines([]byte("half a line\n 3%|#   |\r50%|##  |\r\x1b[31mRuntimeError\x1b[0m: \x00CUDA error\xff\r\n\n"+strings.Repeat("x", 9<<10)+"\nlast"), true)
	want := []string{"3%|#   |", "50%|##  |", "RuntimeError: CUDA error\uFFFD", strings.Repeat("x", patternLine), "last"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%.300q", got)
	}
	if got := printedLines([]byte(strings.Repeat("y", 99)), true); len(got) != 1 {
		t.Errorf("one long line: %q", got)
	}
}
