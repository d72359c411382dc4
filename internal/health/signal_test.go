package health_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

// edge is a signal just short of its threshold, and just beyond it.
type edge struct {
	rule  string
	short func(*scene, *forge.GPUReading)
	on    func(*scene, *forge.GPUReading)
	lasts time.Duration
	run   forge.RunAct
	hold  forge.HoldAct
	class string
	says  string
}

func TestEverySignalAtItsThreshold(t *testing.T) {
	type g = forge.GPUReading
	busy := func(s *scene, on bool) { s.seen.Busy = map[string]bool{gpuA: on, gpuB: true} }
	slow := func(s *scene, g *g, minutes int) {
		s.now = s.now.Truncate(time.Minute)
		for range minutes {
			g.Throttle = []forge.ThrottleReason{forge.ThrottlePowerCap, forge.ThrottleBrake}
			s.now = s.now.Add(time.Minute)
			s.look.At = s.now
			if got := s.n.Look(s.look, s.seen); len(got) > 0 {
				s.t.Fatalf("after %d minutes: %+v", minutes, got)
			}
		}
		g.Throttle = []forge.ThrottleReason{forge.ThrottleIdle, forge.ThrottlePowerCap, forge.ThrottleSWThermal, forge.ThrottleClocks, forge.ThrottleSync}
		s.now = s.now.Add(2 * time.Second)
	}
	covered := map[string]bool{}
	for _, e := range []edge{
		{"gpu_lost", func(*scene, *g) {}, func(_ *scene, g *g) { g.Lost = true }, 0, forge.RunElsewhere, forge.HoldNode, "node", "no longer reaches"},
		{"reset_required", func(_ *scene, g *g) { g.Recovery = nil }, func(_ *scene, g *g) { g.Reset = true }, 0, forge.RunElsewhere, forge.HoldGPU, "gpu", "has to be reset"},
		{"reset_required", func(_ *scene, g *g) { g.Recovery = ptr(0) }, func(_ *scene, g *g) { g.Recovery = ptr(1) }, 0, forge.RunElsewhere, forge.HoldGPU, "gpu", "recovery action is 1 (reset the GPU)"},
		{"reset_required", func(_ *scene, g *g) { g.Recovery = ptr(0) }, func(_ *scene, g *g) { g.Recovery = ptr(6) }, 0, forge.RunElsewhere, forge.HoldGPU, "gpu", "6 (reset the bus)"},
		{"drain_and_reset", func(_ *scene, g *g) { g.Recovery = ptr(8) }, func(_ *scene, g *g) { g.Recovery = ptr(4) }, 0, forge.RunGoesOn, forge.HoldGPU, "gpu", "4 (drain, then reset)"},
		{"reboot_required", func(_ *scene, g *g) { g.Recovery = ptr(0) }, func(_ *scene, g *g) { g.Recovery = ptr(2) }, 0, forge.RunElsewhere, forge.HoldNode, "node", "2 (restart the node)"},
		{"reboot_required", func(_ *scene, g *g) { g.Recovery = ptr(-1) }, func(_ *scene, g *g) { g.Recovery = ptr(7) }, 0, forge.RunElsewhere, forge.HoldNode, "node", "7 (restart the system)"},
		{"drain_peers", func(_ *scene, g *g) { g.Recovery = ptr(0) }, func(_ *scene, g *g) { g.Recovery = ptr(3) }, 0, forge.RunGoesOn, forge.HoldDrain, "link", "3 (stop traffic between GPUs)"},
		{"fabric_recovery", func(_ *scene, g *g) { g.Recovery = ptr(0) }, func(_ *scene, g *g) { g.Recovery = ptr(5) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "5 (recover IMEX)"},
		{"temperature_max", func(_ *scene, g *g) { g.TemperatureC = ptr(87) }, func(_ *scene, g *g) { g.TemperatureC = ptr(88) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "88 °C, made for 87 °C at most"},
		{"temperature_max", func(_ *scene, g *g) { g.MaxC, g.MarginC = nil, ptr(1) }, func(_ *scene, g *g) { g.MarginC = ptr(0) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "0 °C are left"},
		{"temperature_max", func(_ *scene, g *g) { g.MarginC = ptr(1) }, func(_ *scene, g *g) { g.MarginC = ptr(0) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "0 °C are left"},
		{"memory_temperature_max", func(_ *scene, g *g) { g.MemoryTemperatureC = ptr(95) }, func(_ *scene, g *g) { g.MemoryTemperatureC = ptr(96) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "memory at 96 °C, made for 95 °C"},
		{"temperature_slowdown", func(_ *scene, g *g) { g.MaxC, g.TemperatureC = nil, ptr(89) }, func(_ *scene, g *g) { g.TemperatureC = ptr(90) }, 5 * time.Minute, forge.RunGoesOn, forge.HoldDrain, "gpu", "90 °C, it slows down at 89 °C"},
		{"temperature_shutdown", func(_ *scene, g *g) { g.MaxC, g.SlowdownC, g.MarginC, g.TemperatureC = nil, nil, nil, ptr(90) }, func(_ *scene, g *g) { g.TemperatureC = ptr(91) }, 0, forge.RunElsewhere, forge.HoldDrain, "gpu", "91 °C, it switches off at 92 °C"},
		{"hw_slowdown", func(s *scene, g *g) { slow(s, g, 5) }, func(s *scene, g *g) {
			g.Throttle = []forge.ThrottleReason{forge.ThrottleHWThermal}
			s.now = s.now.Add(time.Minute)
			s.look.At = s.now
		}, 0, forge.RunGoesOn, forge.HoldDrain, "gpu", "in 6 minutes of late (hw_thermal)"},
		{"ecc_uncorrected", func(*scene, *g) {}, func(_ *scene, g *g) { g.ECCUncorrected = ptr(int64(1)) }, 0, forge.RunGoesOn, forge.HoldDrain, "gpu", "1 uncorrected memory errors"},
		{"ecc_uncorrected_grew", func(*scene, *g) {}, func(_ *scene, g *g) { g.ECCUncorrected = ptr(int64(1)) }, 0, forge.RunElsewhere, forge.HoldDrain, "job", "1 more uncorrected memory errors, 1 in all"},
		{"ecc_corrected", func(_ *scene, g *g) { g.ECCCorrected = ptr(int64(50_000_000)) }, func(_ *scene, g *g) { g.ECCCorrected = ptr(int64(50_000_001)) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "50000001 corrected"},
		{"remap_pending", func(*scene, *g) {}, func(_ *scene, g *g) { g.RemapPending = ptr(true) }, 0, forge.RunGoesOn, forge.HoldDrain, "gpu", "at the next reset"},
		{"remap_failure", func(*scene, *g) {}, func(_ *scene, g *g) { g.RemapFailure = ptr(true) }, 0, forge.RunGoesOn, forge.HoldGPU, "gpu", "could not be replaced"},
		{"retired_pages", func(_ *scene, g *g) { g.RetiredPages = ptr(10) }, func(_ *scene, g *g) { g.RetiredPages = ptr(11) }, 0, forge.RunGoesOn, forge.HoldGPU, "gpu", "11 retired"},
		{"retire_pending", func(_ *scene, g *g) { g.RetirePending = ptr(false) }, func(_ *scene, g *g) { g.RetirePending = ptr(true) }, 0, forge.RunGoesOn, forge.HoldGPU, "gpu", "at the next reset"},
		{"nvlink_down", func(_ *scene, g *g) { g.LinksUp = nil }, func(_ *scene, g *g) { g.LinksDown, g.LinksUp = ptr(1), ptr(17) }, 30 * time.Second, forge.RunGoesOn, forge.HoldDrain, "link", "1 NVLinks are down, 17 up"},
		{"nvlink_replays", func(*scene, *g) {}, func(_ *scene, g *g) { g.LinkReplays = ptr(int64(8)) }, 0, forge.RunGoesOn, forge.HoldDrain, "link", "1 more replays, 8 in all"},
		{"nvlink_replays", func(*scene, *g) {}, func(_ *scene, g *g) { g.LinkReplays = ptr(int64(2)) }, 0, forge.RunGoesOn, forge.HoldDrain, "link", "2 more replays, 2 in all"},
		{"nvlink_recoveries", func(*scene, *g) {}, func(_ *scene, g *g) { g.LinkRecovered = ptr(int64(1)) }, 0, forge.RunGoesOn, forge.HoldDrain, "link", "1 more recoveries"},
		{"nvlink_crc", func(*scene, *g) {}, func(_ *scene, g *g) { g.LinkCRC = ptr(int64(4)) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "1 more CRC errors"},
		{"nvlink_crc_rate", func(*scene, *g) {}, func(s *scene, g *g) { g.LinkCRC = ptr(int64(503)) }, 0, forge.RunGoesOn, forge.HoldDrain, "link", "100 checksum errors a second"},
		{"foreign_use", func(s *scene, _ *g) { s.seen.Foreign = map[string]string{"GPU-other": "ada: python"} }, func(s *scene, _ *g) { s.seen.Foreign = map[string]string{gpuA: "ada: python"} }, 0, forge.RunGoesOn, forge.HoldDrain, "gpu", "ada: python"},
		{"memory_held", func(s *scene, g *g) { busy(s, false); g.MemoryUsedMiB = ptr(int64(15)) }, func(_ *scene, g *g) { g.MemoryUsedMiB = ptr(int64(16)) }, time.Minute, forge.RunGoesOn, forge.HoldDrain, "gpu", "16 MiB are used by nobody that can be seen"},
		{"memory_held", func(_ *scene, g *g) { g.MemoryUsedMiB = ptr(int64(4000)) }, func(s *scene, _ *g) { busy(s, false); s.seen.Foreign = map[string]string{gpuA: "ada: python"} }, time.Minute, forge.RunGoesOn, forge.HoldDrain, "gpu", "4000 MiB are used by ada: python"},
		{"process_stuck", func(s *scene, g *g) { s.stuck(gpuA, 300*time.Second) }, func(s *scene, _ *g) { s.stuck(gpuA, 301*time.Second) }, 0, forge.RunGoesOn, forge.HoldDrain, "gpu", "process 77 (python) is zombie since 5m1s"},
		{"nvml_hung_gpu", func(_ *scene, g *g) { g.HungSince = 9 }, func(_ *scene, g *g) { g.HungSince, g.HungCall = 10, "nvmlX" }, 0, forge.RunGoesOn, forge.HoldDrain, "gpu", "nvmlX has not come back for 10 s"},
		{"nvml_hung_long", func(_ *scene, g *g) { g.HungSince = 59 }, func(_ *scene, g *g) { g.HungSince, g.HungCall = 60, "nvmlX" }, 0, forge.RunGoesOn, forge.HoldNode, "node", "for 60 s"},
		{"gpu_silent", func(*scene, *g) {}, func(_ *scene, g *g) { g.Problem = "Unknown Error" }, time.Minute, forge.RunGoesOn, forge.HoldDrain, "gpu", "does not answer: Unknown Error"},
		{"gpu_missing", func(*scene, *g) {}, func(s *scene, _ *g) { s.seen.Expected = append(s.seen.Expected, "GPU-three") }, 0, forge.RunElsewhere, forge.HoldNode, "node", "not among the 2 GPUs"},
		{"gpu_count", func(s *scene, _ *g) { s.seen.Count = 2 }, func(s *scene, _ *g) { s.seen.Count = 3 }, 0, forge.RunGoesOn, forge.HoldNode, "node", "2 of 3 GPUs are there"},
		{"driver_missing", func(s *scene, _ *g) {}, func(s *scene, _ *g) { s.look.State, s.look.Detail = forge.NVMLNoDriver, "no library" }, time.Minute, forge.RunGoesOn, forge.HoldNode, "node", "the node has 2 GPUs: no library"},
		{"nvml_hung_node", func(s *scene, _ *g) {}, func(s *scene, _ *g) { s.look.State, s.look.Detail = forge.NVMLHung, "nvmlInit" }, time.Minute, forge.RunGoesOn, forge.HoldNode, "node", "does not answer: nvmlInit"},
		{"zombie", func(s *scene, _ *g) { s.stuck("", 300*time.Second) }, func(s *scene, _ *g) { s.stuck("", 301*time.Second) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "process 77"},
		{"clock_skew", func(s *scene, _ *g) { s.seen.Now = s.now.Add(60 * time.Second) }, func(s *scene, _ *g) { s.seen.Now = s.now.Add(61 * time.Second) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "1m1s behind"},
		{"clock_skew", func(s *scene, _ *g) { s.seen.Now = s.now.Add(-60 * time.Second) }, func(s *scene, _ *g) { s.seen.Now = s.now.Add(-61 * time.Second) }, 0, forge.RunGoesOn, forge.HoldWarn, "warn", "1m1s ahead"},
	} {
		covered[e.rule] = true
		t.Run(e.rule, func(t *testing.T) {
			s := watch(t)
			if got := only(e.rule, s.sees(func(g *forge.GPUReading) { e.short(s, g) })); len(got) > 0 {
				t.Fatalf("short of it: %+v", got)
			}
			if e.lasts > 0 {
				if got := only(e.rule, s.hold(2*e.lasts)); len(got) > 0 {
					t.Fatalf("short of it for long: %+v", got)
				}
			}
			began := s.now.Add(5 * time.Second)
			got := only(e.rule, s.sees(func(g *forge.GPUReading) { e.on(s, g) }))
			if e.lasts > 0 {
				if len(got) > 0 {
					t.Fatalf("at once: %+v", got)
				}
				if got = only(e.rule, s.hold(e.lasts-5*time.Second)); len(got) > 0 {
					t.Fatalf("before %s: %+v", e.lasts, got)
				}
				got = only(e.rule, s.hold(5*time.Second))
				if !s.now.Equal(began.Add(e.lasts)) {
					t.Fatal("the test has lost count of time")
				}
			}
			f := s.one("beyond it", e.rule, e.run, e.hold, got)
			if f.Class != e.class || !strings.Contains(f.Words, e.says) || f.Over {
				t.Errorf("%+v; want class %s and %q", f, e.class, e.says)
			}
			node := slices.Contains([]string{"gpu_count", "driver_missing", "nvml_hung_node", "zombie", "clock_skew"}, e.rule)
			if node != (f.UUID == "") {
				t.Errorf("it is about %q", f.UUID)
			}
		})
	}
	for _, r := range builtin().Rules() {
		if len(r.XIDs) == 0 && !covered[r.Name] && !slices.Contains([]string{"xid_unknown", "xid_many_runs", "xid_again"}, r.Name) {
			t.Errorf("%s is not looked at", r.Name)
		}
	}
}

func (s *scene) stuck(uuid string, d time.Duration) {
	s.seen.Stuck = []health.StuckProcess{{UUID: "GPU-other", PID: 1, For: time.Hour}, {UUID: uuid, PID: 76, State: "zombie", Command: "sh", For: time.Second}, {UUID: uuid, PID: 77, State: "zombie", Command: "python", For: d}}
}

// hold passes time with everything as it is, and what is measured in seconds of a look's age kept as far from it.
func (s *scene) hold(d time.Duration) []forge.Finding {
	s.seen.Now = time.Time{}
	return s.passes(d)
}

func only(rule string, found []forge.Finding) []forge.Finding {
	return slices.DeleteFunc(found, func(f forge.Finding) bool { return f.Rule != rule })
}

func TestWhatIsNotSaidIsNotFound(t *testing.T) {
	s := watch(t)
	s.quiet("a GPU that says nothing but its name", s.sees(func(g *forge.GPUReading) { *g = forge.GPUReading{UUID: gpuA} }))
	s.seen = health.Seen{}
	s.look.GPUs = []forge.GPUReading{{UUID: gpuA, MemoryUsedMiB: ptr(int64(9000))}}
	s.quiet("memory, when nobody knows whose it is", s.passes(10*time.Minute))
	s.look.State = forge.NVMLNoDriver
	s.quiet("no driver where no GPUs are expected", s.passes(10*time.Minute))
}

func TestAMachineWithoutBridgesHasNoBrokenLinks(t *testing.T) {
	n := builtin().Watch()
	g := well(gpuA)
	g.LinksUp, g.LinksDown = ptr(0), ptr(12)
	for i := range 100 {
		if got := n.Look(forge.GPULook{At: t0.Add(time.Duration(i) * 5 * time.Second), State: forge.NVMLOK, GPUs: []forge.GPUReading{g}}, health.Seen{}); len(got) > 0 {
			t.Fatalf("%+v", got)
		}
	}
}

func TestMemoryOfAMIGInstanceIsThatOfWhoHasIt(t *testing.T) {
	s := watch(t)
	one, whole := well("MIG-1"), well(gpuA)
	one.Parent, one.MemoryUsedMiB, whole.MemoryUsedMiB = gpuA, ptr(int64(500)), ptr(int64(500))
	s.look.GPUs = []forge.GPUReading{whole, one, well(gpuB)}
	for _, busy := range []string{"MIG-1", gpuA} {
		s.seen.Busy = map[string]bool{busy: true}
		s.quiet("a run has "+busy, s.passes(3*time.Minute))
	}
	s.seen.Busy = map[string]bool{gpuB: true}
	if got := s.passes(2 * time.Minute); len(got) != 2 || got[0].Rule != "memory_held" {
		t.Errorf("nobody has it: %+v", got)
	}
	s.seen.Count = 2
	s.quiet("a GPU and its instance are one", s.sees(nil))
	s.look.GPUs = []forge.GPUReading{one, well(gpuB)}
	s.seen.Expected = []string{gpuA, gpuB}
	s.quiet("a GPU is there by its instance", s.sees(nil))
}

func TestALostGPUIsNotMissingTooAndAMissingOneNotSilent(t *testing.T) {
	s := watch(t)
	s.one("lost", "gpu_lost", forge.RunElsewhere, forge.HoldNode, s.sees(func(g *forge.GPUReading) { g.Lost, g.Problem = true, "GPU is lost" }))
	s.quiet("lost for long", s.passes(10*time.Minute))
	s.sees(func(g *forge.GPUReading) { *g = well(gpuA) })
	s.passes(10 * time.Minute)
	s.look.GPUs = s.look.GPUs[1:]
	s.one("missing", "gpu_missing", forge.RunElsewhere, forge.HoldNode, s.sees(nil))
	s.quiet("missing for long", s.passes(10*time.Minute))
	s.look.GPUs = append([]forge.GPUReading{well(gpuA)}, s.look.GPUs...)
	if f := s.one("back", "gpu_missing", forge.RunElsewhere, forge.HoldNode, s.passes(3*time.Minute)); !f.Over || f.UUID != gpuA {
		t.Errorf("%+v", f)
	}
}

func TestMinutesOfSlownessAreThoseOfTheLastTen(t *testing.T) {
	s := watch(t)
	s.now = s.now.Truncate(time.Minute).Add(time.Minute)
	hot := func(on bool) []forge.Finding {
		s.look.GPUs = slices.Clone(s.look.GPUs)
		s.look.GPUs[0].Throttle = nil
		if on {
			s.look.GPUs[0].Throttle = []forge.ThrottleReason{forge.ThrottleHWSlowdown}
		}
		s.look.At = s.now
		got := s.n.Look(s.look, s.seen)
		s.now = s.now.Add(time.Minute)
		return got
	}
	for range 30 { // five minutes of eleven, for ever
		for i := range 11 {
			s.quiet("five of eleven", hot(i < 5))
		}
	}
	for range 5 {
		s.quiet("five", hot(true))
	}
	s.one("six", "hw_slowdown", forge.RunGoesOn, forge.HoldDrain, hot(true))
	for range 7 {
		s.quiet("three of the last ten", hot(false))
	}
	s.quiet("two", hot(false))
	s.quiet("one", hot(false))
	if f := s.one("none, and for two minutes less than three", "hw_slowdown", forge.RunGoesOn, forge.HoldDrain, hot(false)); !f.Over {
		t.Errorf("%+v", f)
	}
}

func TestAGPUThatIsNoLongerThereIsForgotten(t *testing.T) {
	s := watch(t)
	s.seen.Expected = nil
	s.look.GPUs = []forge.GPUReading{well(gpuB)}
	for range 30 {
		s.now = s.now.Add(time.Hour)
		s.quiet("one is gone", s.sees(nil))
	}
	s.look.GPUs = append(s.look.GPUs, well(gpuA))
	s.quiet("and there again", s.sees(nil))
	s.returns(forge.HoldGPU, gpuA, t0, "it has answered for 0s")
}
