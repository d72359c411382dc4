package health_test

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func (s *scene) returns(hold forge.HoldAct, uuid string, since time.Time, want string) {
	s.t.Helper()
	ok, why := s.n.MayReturn(hold, uuid, since, s.now)
	if want == "" {
		if !ok {
			s.t.Fatalf("may not return: %s", why)
		}
		return
	}
	if ok || !strings.Contains(why, want) {
		s.t.Fatalf("may return: %v, %q; want %q", ok, why, want)
	}
}

func TestADrainedGPUReturnsWhenItsConditionIsOver(t *testing.T) {
	s := watch(t)
	s.passes(10 * time.Minute)
	s.one("a row to be remapped", "remap_pending", forge.RunGoesOn, forge.HoldDrain, s.sees(func(g *forge.GPUReading) { g.RemapPending = ptr(true) }))
	since := s.now
	s.passes(time.Hour)
	s.returns(forge.HoldDrain, gpuA, since, "remap_pending: a memory row is replaced at the next reset")
	s.returns(forge.HoldDrain, gpuB, since, "")
	s.sees(func(g *forge.GPUReading) { g.RemapPending = ptr(false) })
	s.returns(forge.HoldDrain, gpuA, since, "remap_pending")
	if over := s.passes(2 * time.Minute); len(over) != 1 || !over[0].Over {
		t.Fatalf("%+v", over)
	}
	s.returns(forge.HoldDrain, gpuA, since, "remap_pending has been over for 0s; it has to be for 5m0s")
	s.passes(295 * time.Second)
	s.returns(forge.HoldDrain, gpuA, since, "over for 4m55s")
	s.passes(5 * time.Second)
	s.returns(forge.HoldDrain, gpuA, since, "")
	s.returns(forge.HoldGPU, gpuA, since, "no reset has been seen since 2026-11-26T12:10:")
	s.returns(forge.HoldWarn, gpuA, since, "")
	s.returns(forge.HoldNothing, "nobody", since, "")
}

func TestAnXIDHoldsUntilItStaysAway(t *testing.T) {
	s := watch(t)
	s.passes(10 * time.Minute)
	s.xid(94, "r1")
	since := s.now
	s.passes(9 * time.Minute)
	s.returns(forge.HoldDrain, gpuA, since, "xid_94: XID 94: contained memory error")
	s.passes(2 * time.Minute)
	s.returns(forge.HoldDrain, gpuA, since, "xid_94 has been over for")
	s.passes(5 * time.Minute)
	s.returns(forge.HoldDrain, gpuA, since, "")
}

func TestOnlyAConditionThatHoldsHolds(t *testing.T) {
	s := watch(t)
	s.passes(10 * time.Minute)
	s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(88) })
	s.xid(31, "r1")
	s.returns(forge.HoldDrain, gpuA, t0, "")
	s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(90) })
	s.returns(forge.HoldDrain, gpuA, t0, "temperature_slowdown: it begins again")
}

func TestAGPUReturnsOnlyOnGoodLooks(t *testing.T) {
	s := watch(t)
	s.returns(forge.HoldDrain, gpuA, t0, "it has answered for 0s; it has to for 5m0s")
	s.passes(5 * time.Minute)
	s.returns(forge.HoldDrain, gpuA, t0, "")
	s.returns(forge.HoldDrain, "GPU-other", t0, "not among the GPUs")
	if ok, why := s.n.MayReturn(forge.HoldDrain, gpuA, t0, s.now.Add(3*time.Minute)); ok || !strings.Contains(why, "nothing has been seen of it for 3m0s") {
		t.Errorf("%v %s", ok, why)
	}
	s.sees(func(g *forge.GPUReading) { g.Problem = "Unknown Error" })
	s.returns(forge.HoldDrain, gpuA, t0, "it does not answer")
	s.sees(func(g *forge.GPUReading) { g.Problem = "" })
	s.returns(forge.HoldDrain, gpuA, t0, "it has answered for 0s")
	s.sees(nil)
	s.returns(forge.HoldDrain, gpuA, t0, "it has answered for 5s")
	s.passes(5 * time.Minute)
	s.now = s.now.Add(10 * time.Minute)
	s.sees(nil)
	s.returns(forge.HoldDrain, gpuA, t0, "it has answered for 0s")
	s.passes(5 * time.Minute)
	s.returns(forge.HoldDrain, gpuA, t0, "")
	s.look.State, s.look.Detail = forge.NVMLBlind, "died five times"
	s.sees(nil)
	s.returns(forge.HoldDrain, gpuA, t0, "the driver does not answer (blind): died five times")
	s.look.State = forge.NVMLOK
	s.sees(nil)
	s.returns(forge.HoldDrain, gpuA, t0, "it has answered for 0s")
	if ok, why := builtin().Watch().MayReturn(forge.HoldDrain, gpuA, t0, s.now); ok || !strings.Contains(why, "nothing has been seen") {
		t.Errorf("%v %s", ok, why)
	}
}

func TestACordonedGPUReturnsAfterAReset(t *testing.T) {
	was := func(g *forge.GPUReading) {
		g.Recovery, g.ECCUncorrected, g.ECCCorrected = ptr(1), ptr(int64(4)), ptr(int64(9))
	}
	for name, reset := range map[string]func(*scene){
		"energy counted anew":         func(s *scene) { s.sees(func(g *forge.GPUReading) { g.EnergyJoules = ptr(1.) }) },
		"uncorrected errors anew":     func(s *scene) { s.sees(func(g *forge.GPUReading) { g.ECCUncorrected = ptr(int64(0)) }) },
		"corrected errors anew":       func(s *scene) { s.sees(func(g *forge.GPUReading) { g.ECCCorrected = ptr(int64(0)) }) },
		"no recovery action any more": func(s *scene) { s.sees(func(g *forge.GPUReading) { g.Recovery = ptr(0) }) },
		"lost, and there again": func(s *scene) {
			s.sees(func(g *forge.GPUReading) { g.Lost = true })
			s.sees(func(g *forge.GPUReading) { g.Lost = false })
		},
		"a machine that was restarted": func(s *scene) { s.look.Boot = "two"; s.sees(nil) },
		"another driver":               func(s *scene) { s.look.Driver = "580.1"; s.sees(nil) },
		"a driver that was gone": func(s *scene) {
			s.look.State = forge.NVMLNoDriver
			s.sees(nil)
			s.look.State = forge.NVMLOK
			s.sees(nil)
		},
		"vanished, and there again": func(s *scene) {
			all := s.look.GPUs
			s.look.GPUs = all[1:]
			s.now, s.look.At = s.now.Add(5*time.Second), s.now.Add(5*time.Second)
			s.n.Look(s.look, s.seen)
			s.look.GPUs = all
			s.sees(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := watch(t)
			s.sees(was)
			s.xid(95, "r1")
			since := s.now
			s.passes(20 * time.Minute)
			if ok, _ := s.n.MayReturn(forge.HoldGPU, gpuA, since, s.now); ok {
				t.Fatal("may return and was not reset")
			}
			reset(s)
			s.sees(func(g *forge.GPUReading) { *g = well(gpuA) })
			s.returns(forge.HoldGPU, gpuA, since, "ecc_uncorrected: 4")
			s.passes(20 * time.Minute)
			s.returns(forge.HoldGPU, gpuA, since, "")
			s.returns(forge.HoldGPU, gpuA, s.now, "no reset has been seen")
		})
	}
}

func TestANodeReturnsAfterARestartWithAllItsGPUsWell(t *testing.T) {
	s := watch(t)
	s.xid(79, "r1")
	since := s.now
	s.sees(func(g *forge.GPUReading) { g.Lost, g.Problem = true, "GPU is lost" })
	s.passes(20 * time.Minute)
	s.returns(forge.HoldNode, "", since, gpuA+": ")
	s.sees(func(g *forge.GPUReading) { *g = well(gpuA) })
	s.passes(20 * time.Minute)
	s.returns(forge.HoldGPU, gpuA, since, "")
	s.returns(forge.HoldNode, "", since, "the machine has not been restarted, nor its driver loaded anew, since")
	s.look.Boot = "two"
	s.sees(nil)
	s.returns(forge.HoldNode, "", since, "")
	s.returns(forge.HoldNode, "", s.now, "not been restarted")
	s.sees(func(g *forge.GPUReading) { g.RemapPending = ptr(true) })
	s.returns(forge.HoldNode, "", since, gpuA+": remap_pending")
	s.sees(func(g *forge.GPUReading) { g.RemapPending = ptr(false) })
	s.passes(20 * time.Minute)
	s.returns(forge.HoldNode, "", since, "")
	s.seen.Expected = append(s.seen.Expected, "GPU-three")
	s.sees(nil)
	s.returns(forge.HoldNode, "", since, "GPU-three is not among the GPUs")
}

func TestADriverThatWasLoadedAnewIsAsGoodAsARestart(t *testing.T) {
	s := watch(t)
	s.xid(79, "r1")
	since := s.now
	s.passes(20 * time.Minute)
	s.sees(func(g *forge.GPUReading) { g.EnergyJoules = ptr(5.) })
	s.returns(forge.HoldNode, "", since, "not been restarted")
	s.look.GPUs[1].EnergyJoules = ptr(5.)
	s.sees(nil)
	s.returns(forge.HoldNode, "", since, "")
}

func TestANodeWhoseDriverHangsDoesNotReturn(t *testing.T) {
	s := watch(t)
	s.passes(10 * time.Minute)
	s.look.State, s.look.Detail = forge.NVMLHung, "nvmlInit"
	s.sees(nil)
	since := s.now
	if got := s.n.Tick(s.now.Add(59 * time.Second)); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	s.one("a minute", "nvml_hung_node", forge.RunGoesOn, forge.HoldNode, s.n.Tick(s.now.Add(time.Minute)))
	s.now = s.now.Add(time.Minute)
	s.look.State, s.look.Boot = forge.NVMLOK, "two"
	s.passes(100 * time.Second)
	s.returns(forge.HoldNode, "", since, "nvml_hung_node: the driver does not answer: nvmlInit")
	s.passes(10 * time.Minute)
	s.returns(forge.HoldNode, "", since, "")
}

func TestTheGPUsOfAMIGParentAreItsInstances(t *testing.T) {
	s := watch(t)
	one, two := well("MIG-1"), well("MIG-2")
	one.Parent, two.Parent = gpuA, gpuA
	s.look.GPUs = []forge.GPUReading{one, two, well(gpuB)}
	s.passes(6 * time.Minute)
	s.returns(forge.HoldDrain, gpuA, t0, "")
	s.look.GPUs[1].Problem = "hung"
	s.sees(nil)
	s.returns(forge.HoldDrain, gpuA, t0, "it does not answer")
	s.returns(forge.HoldDrain, "MIG-1", t0, "")
}

func TestHowLongAGPUHasToBeWellIsTheSites(t *testing.T) {
	s := watch(t, forge.HealthRule{Name: "xid_94", ClearFor: time.Second})
	s.xid(94, "")
	s.passes(10 * time.Second)
	s.returns(forge.HoldDrain, gpuA, t0, "over for 5s; it has to be for 5m0s")
}
