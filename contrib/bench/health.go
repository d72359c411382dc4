package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

// verdict is what follows for the run and for the hardware, in the words of the sources.
type verdict struct {
	run  forge.RunAct
	hold forge.HoldAct
}

// What the sources ask for, by the class that they put an XID or a reading into. This table was written from the documents that
// docs/gpu-health.md names, and not from the code that it judges.
var (
	appFails     = verdict{"fail", "warn"}
	appRecorded  = verdict{"fail", "nothing"}
	secondary    = verdict{"go_on", "nothing"}
	warned       = verdict{"go_on", "warn"}
	told         = verdict{"go_on", "nothing"}
	drainedLater = verdict{"go_on", "drain_gpu"}
	cordonedOnly = verdict{"go_on", "cordon_gpu"}
	nodeOnly     = verdict{"go_on", "cordon_node"}
	contained    = verdict{"elsewhere", "drain_gpu"}
	fatal        = verdict{"elsewhere", "cordon_gpu"}
	fatalNode    = verdict{"elsewhere", "cordon_node"}
)

var documentedXIDs = []struct {
	want verdict
	xids []int
}{
	{appFails, []int{13, 31, 32}},
	{appRecorded, []int{43, 68, 69, 39, 40, 41, 70, 71, 72}},
	{secondary, []int{45}},
	{drainedLater, []int{63}},
	{warned, []int{92, 121, 137, 141, 152, 153, 157, 160, 161}},
	{told, []int{154}},
	{contained, []int{94, 109}},
	{fatal, []int{48, 46, 62, 64, 95, 110, 119, 120, 136, 140, 143, 155, 156, 158}},
	{fatal, []int{74, 144, 145, 146, 147, 148, 149, 150}},
	{fatalNode, []int{79, 54, 167, 151}},
	{drainedLater, []int{1, 14, 106, 500, 9999}}, // numbers that the table does not have
}

// reading is a threshold of the sources: what GPUs are like below it, and at it, and for how long that has to last.
type reading struct {
	name   string
	before func(*forge.GPUReading, *health.Seen)
	at     func(*forge.GPUReading, *health.Seen)
	lasts  time.Duration
	want   verdict
	first  bool // it is so when the GPU is first looked at
}

func as[T any](v T) *T { return &v }

var documentedReadings = []reading{
	{"GPU is lost", nil, func(g *forge.GPUReading, _ *health.Seen) { g.Lost, g.Problem = true, "GPU is lost" }, 0, fatalNode, false},
	{"a GPU is missing", nil, func(_ *forge.GPUReading, s *health.Seen) { s.Expected = append(s.Expected, "GPU-none") }, 0, fatalNode, false},
	{"reset required", nil, func(g *forge.GPUReading, _ *health.Seen) { g.Reset, g.Problem = true, "reset required" }, 0, fatal, false},
	{"recovery action 1", recoveryIs(0), recoveryIs(1), 0, fatal, false},
	{"recovery action 4", recoveryIs(0), recoveryIs(4), 0, cordonedOnly, false},
	{"recovery action 2", recoveryIs(0), recoveryIs(2), 0, fatalNode, false},
	{"recovery action 7", recoveryIs(0), recoveryIs(7), 0, fatalNode, false},
	{"recovery action 6", recoveryIs(0), recoveryIs(6), 0, fatal, false},
	{"recovery action 3", recoveryIs(0), recoveryIs(3), 0, drainedLater, false},
	{"recovery action 5", recoveryIs(0), recoveryIs(5), 0, warned, false},
	{"over the highest temperature", hot(87), hot(88), 0, warned, false},
	{"no margin left", func(g *forge.GPUReading, _ *health.Seen) { g.MarginC = as(1) }, func(g *forge.GPUReading, _ *health.Seen) { g.MarginC = as(0) }, 0, warned, false},
	{"memory over its highest temperature", func(g *forge.GPUReading, _ *health.Seen) { g.MemoryTemperatureC = as(95) },
		func(g *forge.GPUReading, _ *health.Seen) { g.MemoryTemperatureC = as(96) }, 0, warned, false},
	{"over the slowdown for five minutes", hot(90), hot(91), 5 * time.Minute, drainedLater, false},
	{"a degree below the shutdown", hot(93), hot(94), 0, contained, false},
	{"uncorrected errors that were there", nil, func(g *forge.GPUReading, _ *health.Seen) { g.ECCUncorrected = as(int64(1)) }, 0, drainedLater, true},
	{"uncorrected errors that came", func(g *forge.GPUReading, _ *health.Seen) { g.ECCUncorrected = as(int64(1)) },
		func(g *forge.GPUReading, _ *health.Seen) { g.ECCUncorrected = as(int64(2)) }, 0, contained, true},
	{"corrected errors", func(g *forge.GPUReading, _ *health.Seen) { g.ECCCorrected = as(int64(50_000_000)) },
		func(g *forge.GPUReading, _ *health.Seen) { g.ECCCorrected = as(int64(50_000_001)) }, 0, warned, false},
	{"a row to be remapped", nil, func(g *forge.GPUReading, _ *health.Seen) { g.RemapPending = as(true) }, 0, drainedLater, false},
	{"a row that could not be remapped", nil, func(g *forge.GPUReading, _ *health.Seen) { g.RemapFailure = as(true) }, 0, cordonedOnly, false},
	{"retired pages", func(g *forge.GPUReading, _ *health.Seen) { g.RetiredPages = as(10) }, func(g *forge.GPUReading, _ *health.Seen) { g.RetiredPages = as(11) }, 0, cordonedOnly, false},
	{"a page to be retired", nil, func(g *forge.GPUReading, _ *health.Seen) { g.RetirePending = as(true) }, 0, cordonedOnly, false},
	{"an NVLink that is down", nil, func(g *forge.GPUReading, _ *health.Seen) { g.LinksDown, g.LinksUp = as(1), as(17) }, 30 * time.Second, drainedLater, false},
	{"an NVLink that sent again", nil, func(g *forge.GPUReading, _ *health.Seen) { g.LinkReplays = as(*g.LinkReplays + 1) }, 0, drainedLater, false},
	{"an NVLink that recovered", nil, func(g *forge.GPUReading, _ *health.Seen) { g.LinkRecovered = as(*g.LinkRecovered + 1) }, 0, drainedLater, false},
	{"a checksum error on NVLink", nil, func(g *forge.GPUReading, _ *health.Seen) { g.LinkCRC = as(*g.LinkCRC + 1) }, 0, warned, false},
	{"a hundred checksum errors a second", func(g *forge.GPUReading, _ *health.Seen) { g.LinkCRC = as(*g.LinkCRC + 499) },
		func(g *forge.GPUReading, _ *health.Seen) { g.LinkCRC = as(*g.LinkCRC + 500) }, 0, drainedLater, false},
	{"memory that nobody of ours has", idleWith(15), idleWith(16), time.Minute, drainedLater, false},
	{"a process that holds a GPU and cannot be ended", nil, func(g *forge.GPUReading, s *health.Seen) {
		s.Stuck = []health.StuckProcess{{UUID: g.UUID, PID: 1, State: "zombie", For: 301 * time.Second}}
	}, 0, drainedLater, false},
	{"a process that cannot be ended", nil, func(_ *forge.GPUReading, s *health.Seen) {
		s.Stuck = []health.StuckProcess{{PID: 1, State: "zombie", For: 301 * time.Second}}
	}, 0, warned, false},
	{"NVML not back in 10 s", hungFor(9), hungFor(10), 0, drainedLater, false},
	{"NVML not back in 60 s", hungFor(59), hungFor(60), 0, nodeOnly, false},
}

func recoveryIs(n int) func(*forge.GPUReading, *health.Seen) {
	return func(g *forge.GPUReading, _ *health.Seen) { g.Recovery = as(n) }
}

func hot(c int) func(*forge.GPUReading, *health.Seen) {
	return func(g *forge.GPUReading, _ *health.Seen) { g.TemperatureC = as(c) }
}

func idleWith(mib int64) func(*forge.GPUReading, *health.Seen) {
	return func(g *forge.GPUReading, s *health.Seen) { g.MemoryUsedMiB, s.Busy = as(mib), map[string]bool{} }
}

func hungFor(s int64) func(*forge.GPUReading, *health.Seen) {
	return func(g *forge.GPUReading, _ *health.Seen) { g.HungSince, g.HungCall, g.Problem = s, "nvmlX", "hung" }
}

func wellGPU() forge.GPUReading {
	return forge.GPUReading{UUID: "GPU-1", TemperatureC: as(60), MaxC: as(87), SlowdownC: as(90), ShutdownC: as(95), MarginC: as(30), MemoryTemperatureC: as(60), MemoryMaxC: as(95),
		MemoryUsedMiB: as(int64(0)), ECCCorrected: as(int64(0)), ECCUncorrected: as(int64(0)), RemapPending: as(false), RemapFailure: as(false), LinksUp: as(18), LinksDown: as(0),
		LinkReplays: as(int64(0)), LinkRecovered: as(int64(0)), LinkCRC: as(int64(0)), Recovery: as(0)}
}

// healthMatrix asks the table of GPU health for every XID and every threshold of its sources, and counts what is done as they say: that it is
// found at the threshold and not before, and what follows for the run and for the hardware.
func healthMatrix(_ context.Context, e env) ([]figure, error) {
	t, err := health.New(forge.HealthRules{})
	if err != nil {
		return nil, err
	}
	right, all := 0, 0
	var wrong []error
	check := func(what string, ok bool, got any) {
		all++
		if ok {
			right++
			return
		}
		wrong = append(wrong, fmt.Errorf("%s: %v", what, got))
	}
	for _, row := range documentedXIDs {
		for _, xid := range row.xids {
			got := t.Watch().EventOf(forge.GPUEvent{At: matrixStart, UUID: "GPU-1", Kind: forge.GPUEventXID, XID: xid, Count: 1}, "r1")
			check(fmt.Sprintf("XID %d", xid), len(got) == 1 && verdict{got[0].Run, got[0].Hold} == row.want, got)
		}
	}
	for _, r := range documentedReadings {
		short, found := r.judge(t)
		check(r.name+", short of it", !strongest(short).beyond(r.want), short)
		check(r.name, strongest(found) == r.want, found)
	}
	for _, s := range documentedStories {
		got := s.tell(t)
		check(s.name, s.want == strongest(got), got)
	}
	if e.verbose {
		fmt.Printf("health_matrix: %d of %d\n", right, all)
	}
	return []figure{atLeast("health_matrix", 100*float64(right)/float64(all), "%", fmt.Sprintf("sources' table of %d", all), 100, 1)}, errors.Join(wrong...)
}

var matrixStart = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// judge looks at a GPU that is well, for long enough at what is short of the threshold, then at what is at it.
func (r reading) judge(t *health.Table) (short, found []forge.Finding) {
	n, now := t.Watch(), matrixStart
	g, s := wellGPU(), health.Seen{Expected: []string{"GPU-1"}, Busy: map[string]bool{"GPU-1": true}}
	look := func() []forge.Finding {
		now = now.Add(5 * time.Second)
		return n.Look(forge.GPULook{At: now, State: forge.NVMLOK, GPUs: []forge.GPUReading{g}}, s)
	}
	if !r.first {
		look()
	}
	if r.before != nil {
		r.before(&g, &s)
		short = look()
		for range int(r.lasts/(5*time.Second)) * 2 {
			short = append(short, look()...)
		}
	}
	r.at(&g, &s)
	found = look()
	for i := range int(r.lasts / (5 * time.Second)) {
		if i+1 < int(r.lasts/(5*time.Second)) {
			short = append(short, look()...)
		} else {
			found = append(found, look()...)
		}
	}
	return short, found
}

// strongest is what follows from all that was found.
func strongest(found []forge.Finding) verdict {
	out := told
	for _, f := range found {
		if rank(f.Run) > rank(out.run) {
			out.run = f.Run
		}
		if rank(f.Hold) > rank(out.hold) {
			out.hold = f.Hold
		}
	}
	return out
}

func (v verdict) beyond(w verdict) bool {
	return rank(v.run) >= rank(w.run) && rank(v.hold) >= rank(w.hold)
}

func rank[S ~string](act S) int {
	return map[string]int{"go_on": 0, "fail": 1, "elsewhere": 2, "nothing": 0, "warn": 1, "drain_gpu": 2, "cordon_gpu": 3, "cordon_node": 4}[string(act)]
}

// story is a rule of more than one word of the driver: what follows from the last one.
type story struct {
	name string
	want verdict
	tell func(*health.Table) []forge.Finding
}

var documentedStories = []story{
	{"XID 13 and 31 in three runs within a day", verdict{"fail", "drain_gpu"}, inRuns(8*time.Hour, 13, 31, 13)},
	{"XID 31 in two runs", appFails, inRuns(8*time.Hour, 31, 31)},
	{"XID 13 in three runs within more than a day", appFails, inRuns(13*time.Hour, 13, 13, 13)},
	{"a fault of the GPU's own for the second time in a day", fatalNode, inRuns(23*time.Hour, 95, 119)},
	{"a fault of the GPU's own, and one more than a day ago", fatal, inRuns(25*time.Hour, 95, 119)},
	{"XID 45 after our own kill", told, func(t *health.Table) []forge.Finding {
		n := t.Watch()
		n.Killed("GPU-1", matrixStart)
		return n.EventOf(forge.GPUEvent{At: matrixStart.Add(time.Second), UUID: "GPU-1", Kind: forge.GPUEventXID, XID: 45}, "r1")
	}},
	{"XID 74 while a run has one GPU", verdict{"go_on", "cordon_gpu"}, func(t *health.Table) []forge.Finding {
		n := t.Watch()
		n.Gang(1)
		return n.EventOf(forge.GPUEvent{At: matrixStart, UUID: "GPU-1", Kind: forge.GPUEventXID, XID: 74}, "r1")
	}},
	{"heat or power slows it in six of ten minutes", drainedLater, slowed(6, forge.ThrottleHWSlowdown)},
	{"in five of ten", told, slowed(5, forge.ThrottleHWThermal)},
	{"a power cap, which is normal", told, slowed(10, forge.ThrottlePowerCap)},
	{"an idle GPU, which is normal", told, slowed(10, forge.ThrottleIdle)},
}

// inRuns is these XIDs on one GPU, each of another run and so long after the last.
func inRuns(apart time.Duration, xids ...int) func(*health.Table) []forge.Finding {
	return func(t *health.Table) (last []forge.Finding) {
		n := t.Watch()
		for i, xid := range xids {
			e := forge.GPUEvent{At: matrixStart.Add(time.Duration(i) * apart), UUID: "GPU-1", Kind: forge.GPUEventXID, XID: xid}
			last = n.EventOf(e, forge.RunID(fmt.Sprintf("r%d", i)))
		}
		return last
	}
}

func slowed(minutes int, why forge.ThrottleReason) func(*health.Table) []forge.Finding {
	return func(t *health.Table) (all []forge.Finding) {
		n, g := t.Watch(), wellGPU()
		g.Throttle = []forge.ThrottleReason{why}
		for i := range minutes {
			all = append(all, n.Look(forge.GPULook{At: matrixStart.Add(time.Duration(i) * time.Minute), State: forge.NVMLOK, GPUs: []forge.GPUReading{g}}, health.Seen{})...)
		}
		return all
	}
}
