package health_test

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

func TestAnXIDIsFoundWithItsRuleAndItsCount(t *testing.T) {
	s := watch(t)
	e := forge.GPUEvent{At: s.now, UUID: gpuA, Kind: forge.GPUEventXID, XID: 79, Count: 10_000}
	f := s.one("lost", "xid_79", forge.RunElsewhere, forge.HoldNode, s.n.Event(e))
	if f.UUID != gpuA || f.XID != 79 || f.Count != 10_000 || f.Class != "node" || !strings.Contains(f.Words, "XID 79: the GPU has fallen off the bus, 10000 times") || !f.At.Equal(s.now) {
		t.Errorf("%+v", f)
	}
	f = s.one("not in the table", "xid_399", forge.RunGoesOn, forge.HoldDrain, s.xid(399, "r"))
	if f.XID != 399 || !strings.Contains(f.Words, "XID 399") || strings.Contains(f.Words, "times") {
		t.Errorf("%+v", f)
	}
}

func TestAWordHeardTwiceIsOne(t *testing.T) {
	s := watch(t)
	s.one("by forged", "xid_31", forge.RunFails, forge.HoldWarn, s.xid(31, ""))
	s.now = s.now.Add(2 * time.Second)
	s.quiet("and by the shim, two seconds later", s.xid(31, "r1"))
	s.now = s.now.Add(-4 * time.Second)
	s.quiet("and by a clock that is two seconds behind", s.xid(31, "r1"))
	s.one("another number", "xid_13", forge.RunFails, forge.HoldWarn, s.xid(13, "r1"))
	e := forge.GPUEvent{At: s.now, UUID: gpuB, Kind: forge.GPUEventXID, XID: 31}
	if got := s.n.EventOf(e, "r1"); len(got) != 1 || got[0].UUID != gpuB {
		t.Errorf("of another GPU: %+v", got)
	}
	s.now = s.now.Add(10 * time.Second)
	s.one("of another run, which is news", "xid_31", forge.RunFails, forge.HoldWarn, s.xid(31, "r2"))
}

func TestAStormIsOneFindingAndItsEndTellsHowManyItWas(t *testing.T) {
	s := watch(t)
	found := 0
	for range 600 {
		s.now = s.now.Add(time.Second)
		found += len(s.n.EventOf(forge.GPUEvent{At: s.now, UUID: gpuA, Kind: forge.GPUEventXID, XID: 31, Count: 10_000}, "r1"))
	}
	if found != 1 {
		t.Fatalf("ten minutes of a storm are %d findings", found)
	}
	s.quiet("not over yet", s.passes(590*time.Second))
	f := s.one("over", "xid_31", forge.RunFails, forge.HoldWarn, s.passes(15*time.Second))
	if !f.Over || f.Count != 6_000_000 || f.UUID != gpuA || f.XID != 31 {
		t.Errorf("%+v", f)
	}
	s.quiet("over once", s.passes(time.Hour))
	s.one("and found again", "xid_31", forge.RunFails, forge.HoldWarn, s.xid(31, "r1"))
}

func TestWhatOurOwnKillLeavesIsNoFault(t *testing.T) {
	s := watch(t)
	s.n.Killed(gpuA, s.now)
	s.now = s.now.Add(-time.Second)
	s.quiet("just before, by the driver's clock", s.xid(45, "r1"))
	s.now = s.now.Add(31 * time.Second)
	s.quiet("within half a minute", s.xid(45, "r1"))
	s.one("another XID is one", "xid_31", forge.RunFails, forge.HoldWarn, s.xid(31, "r1"))
	s.now = s.now.Add(time.Second)
	f := s.one("later", "xid_45", forge.RunGoesOn, forge.HoldNothing, s.xid(45, "r1"))
	if !strings.Contains(f.Words, "it follows XID 31") {
		t.Errorf("%+v", f)
	}
	got := s.n.EventOf(forge.GPUEvent{At: s.now, UUID: gpuB, Kind: forge.GPUEventXID, XID: 45}, "r2")
	if s.one("on another GPU", "xid_45", forge.RunGoesOn, forge.HoldNothing, got); strings.Contains(got[0].Words, "follows") {
		t.Errorf("%+v", got)
	}
	for range 40 { // kills are forgotten, and not the last one
		s.now = s.now.Add(time.Minute)
		s.n.Killed(gpuA, s.now)
	}
	s.quiet("after many kills", s.xid(45, "r1"))
}

func TestWhatTheDriverWantsIsRead(t *testing.T) {
	s := watch(t)
	for _, e := range []forge.GPUEvent{{Kind: forge.GPUEventRecovery, UUID: gpuA}, {Kind: forge.GPUEventXID, XID: 154, UUID: gpuA}} {
		if !health.LookNow(e) {
			t.Errorf("%+v is of no use without a reading", e)
		}
	}
	if health.LookNow(forge.GPUEvent{Kind: forge.GPUEventXID, XID: 79}) {
		t.Error("XID 79 says all there is to say")
	}
	s.quiet("a recovery action that changed", s.n.Event(forge.GPUEvent{At: s.now, UUID: gpuA, Kind: forge.GPUEventRecovery, XID: 79}))
	s.one("as an XID", "xid_154", forge.RunGoesOn, forge.HoldNothing, s.xid(154, ""))
	s.quiet("what holds nothing back is not told as over", s.passes(time.Hour))
}

func TestXIDsOfAppsInThreeRunsSpeakAgainstTheGPU(t *testing.T) {
	s := watch(t)
	say := func(xid int, run string) []forge.Finding {
		s.now = s.now.Add(9 * time.Hour)
		return s.xid(xid, run)
	}
	s.one("the first run", "xid_13", forge.RunFails, forge.HoldWarn, say(13, "r1"))
	s.one("the same run again", "xid_31", forge.RunFails, forge.HoldWarn, say(31, "r1"))
	s.one("the second", "xid_31", forge.RunFails, forge.HoldWarn, say(31, "r2"))
	s.one("nobody's", "xid_31", forge.RunFails, forge.HoldWarn, say(31, ""))
	s.one("the third, of which the first is more than a day ago", "xid_31", forge.RunFails, forge.HoldWarn, say(31, "r3"))
	s.one("another number counts for nothing", "xid_43", forge.RunFails, forge.HoldNothing, say(43, "r4"))
	s.now = s.now.Add(-14 * time.Hour)
	got := say(13, "r5")
	if len(got) != 2 || got[1].Rule != "xid_many_runs" || got[1].Hold != forge.HoldDrain || got[1].Run != forge.RunGoesOn || got[1].UUID != gpuA || got[1].XID != 13 ||
		!strings.Contains(got[1].Words, "3 different runs within 24h") {
		t.Fatalf("%+v", got)
	}
	s.now = s.now.Add(time.Minute)
	s.one("which is found once", "xid_31", forge.RunFails, forge.HoldWarn, s.xid(31, "r6"))
	over := s.passes(11 * time.Minute)
	if len(over) != 3 || !over[0].Over || !over[1].Over || !over[2].Over {
		t.Errorf("%+v", over)
	}
}

func TestTheSecondFaultOfAGPUInADaySpeaksAgainstTheNode(t *testing.T) {
	s := watch(t)
	s.one("the first", "xid_48", forge.RunElsewhere, forge.HoldGPU, s.xid(48, "r1"))
	s.now = s.now.Add(30 * time.Second)
	s.one("what comes with it", "xid_95", forge.RunElsewhere, forge.HoldGPU, s.xid(95, "r1"))
	s.now = s.now.Add(59 * time.Second)
	s.one("and still", "xid_46", forge.RunElsewhere, forge.HoldGPU, s.xid(46, "r1"))
	got := s.n.Event(forge.GPUEvent{At: s.now, UUID: gpuB, Kind: forge.GPUEventXID, XID: 119})
	s.one("on another GPU", "xid_119", forge.RunElsewhere, forge.HoldGPU, got)
	s.now = s.now.Add(time.Hour)
	s.one("a link is another thing", "xid_74", forge.RunElsewhere, forge.HoldGPU, s.xid(74, "r2"))
	s.now = s.now.Add(22*time.Hour + 55*time.Minute)
	got = s.xid(62, "r3")
	if len(got) != 2 || got[0].Rule != "xid_62" || got[1].Rule != "xid_again" || got[1].Hold != forge.HoldNode || got[1].XID != 62 || got[1].UUID != gpuA {
		t.Fatalf("within a day: %+v", got)
	}
	s.now = s.now.Add(25 * time.Hour)
	s.passes(time.Minute)
	s.one("a day later", "xid_62", forge.RunElsewhere, forge.HoldGPU, s.xid(62, "r3"))
}

func TestAFaultBetweenGPUsIsNoneForARunOnOne(t *testing.T) {
	for gang, want := range map[int]forge.RunAct{0: forge.RunElsewhere, 1: forge.RunGoesOn, 2: forge.RunElsewhere} {
		s := watch(t)
		s.n.Gang(gang)
		s.one("NVLink", "xid_74", want, forge.HoldGPU, s.xid(74, "r1"))
		s.one("memory", "xid_48", forge.RunElsewhere, forge.HoldGPU, s.xid(48, "r1"))
	}
}

func TestAnXIDOfAMIGInstanceIsTheInstances(t *testing.T) {
	s := watch(t)
	one := well("MIG-1")
	one.Parent, one.MIGID, one.MIG = gpuA, ptr(7), "1g.10gb"
	s.look.GPUs = []forge.GPUReading{one, well(gpuB)}
	s.quiet("MIG", s.sees(nil))
	e := forge.GPUEvent{At: s.now, UUID: gpuA, Kind: forge.GPUEventXID, XID: 31, MIGID: ptr(7)}
	if f := s.one("of the program's", "xid_31", forge.RunFails, forge.HoldWarn, s.n.Event(e)); f.UUID != "MIG-1" || !strings.Contains(f.Words, "MIG instance 7") {
		t.Errorf("%+v", f)
	}
	e.MIGID, e.XID = ptr(8), 13
	if f := s.one("of an instance that is not known", "xid_13", forge.RunFails, forge.HoldWarn, s.n.Event(e)); f.UUID != gpuA {
		t.Errorf("%+v", f)
	}
	e.MIGID, e.XID = ptr(7), 48
	if f := s.one("of the whole GPU", "xid_48", forge.RunElsewhere, forge.HoldGPU, s.n.Event(e)); f.UUID != gpuA {
		t.Errorf("%+v", f)
	}
	e.XID = 79
	if f := s.one("of the node", "xid_79", forge.RunElsewhere, forge.HoldNode, s.n.Event(e)); f.UUID != gpuA {
		t.Errorf("%+v", f)
	}
	if ok, why := s.n.MayReturn(forge.HoldDrain, "MIG-1", t0, s.now); ok || !strings.Contains(why, "xid_48") {
		t.Errorf("a part of a GPU that is broken: %v %s", ok, why)
	}
}

func TestXIDsAreRememberedWithinBounds(t *testing.T) {
	s := watch(t)
	for i := range 2000 {
		s.now = s.now.Add(2 * time.Minute)
		s.n.EventOf(forge.GPUEvent{At: s.now, UUID: gpuA, Kind: forge.GPUEventXID, XID: 200 + i%300, Count: 1}, "r")
	}
	s.now = s.now.Add(time.Hour)
	s.one("the first of many", "xid_62", forge.RunElsewhere, forge.HoldGPU, s.xid(62, "r"))
}
