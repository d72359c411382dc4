package health_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

var t0 = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

const (
	gpuA = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
	gpuB = "GPU-bbbbbbbb-0000-0000-0000-000000000002"
)

func ptr[T any](v T) *T { return &v }

func table(t testing.TB, changes ...forge.HealthRule) *health.Table {
	t.Helper()
	out, err := health.New(forge.HealthRules{Rules: changes})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// scene is a node with two GPUs that is looked at every five seconds.
type scene struct {
	t    *testing.T
	n    *health.Node
	now  time.Time
	look forge.GPULook
	seen health.Seen
}

// builtin is the table without changes.
var builtin = sync.OnceValue(func() *health.Table {
	t, err := health.New(forge.HealthRules{})
	if err != nil {
		panic(err)
	}
	return t
})

func watch(t *testing.T, changes ...forge.HealthRule) *scene {
	rules := builtin()
	if len(changes) > 0 {
		rules = table(t, changes...)
	}
	s := &scene{t: t, n: rules.Watch(), now: t0, seen: health.Seen{Expected: []string{gpuA, gpuB}, Busy: map[string]bool{gpuA: true, gpuB: true}}}
	s.look = forge.GPULook{State: forge.NVMLOK, Driver: "570.1", Boot: "one", GPUs: []forge.GPUReading{well(gpuA), well(gpuB)}}
	s.quiet("a node that is well", s.sees(nil))
	return s
}

func well(uuid string) forge.GPUReading {
	return forge.GPUReading{UUID: uuid, Type: "H100", TemperatureC: ptr(50), MaxC: ptr(87), SlowdownC: ptr(89), ShutdownC: ptr(92), MarginC: ptr(39),
		MemoryTemperatureC: ptr(60), MemoryMaxC: ptr(95), MemoryUsedMiB: ptr(int64(0)), EnergyJoules: ptr(1e6), ECCCorrected: ptr(int64(0)), ECCUncorrected: ptr(int64(0)),
		RemapPending: ptr(false), RemapFailure: ptr(false), LinksUp: ptr(18), LinksDown: ptr(0), LinkReplays: ptr(int64(7)), LinkRecovered: ptr(int64(0)),
		LinkCRC: ptr(int64(3)), Recovery: ptr(0)}
}

// sees looks once, five seconds on, at GPU A as f leaves it.
func (s *scene) sees(f func(*forge.GPUReading)) []forge.Finding {
	s.now = s.now.Add(5 * time.Second)
	s.look.At = s.now
	s.look.GPUs = slices.Clone(s.look.GPUs)
	if f != nil {
		f(&s.look.GPUs[0])
	}
	return s.n.Look(s.look, s.seen)
}

// passes looks at what does not change for that long, and gives all that is found.
func (s *scene) passes(d time.Duration) []forge.Finding {
	var out []forge.Finding
	for end := s.now.Add(d); s.now.Before(end); {
		out = append(out, s.sees(nil)...)
	}
	return out
}

func (s *scene) quiet(what string, found []forge.Finding) {
	s.t.Helper()
	if len(found) > 0 {
		s.t.Fatalf("%s: found %+v", what, found)
	}
}

func (s *scene) one(what, rule string, run forge.RunAct, hold forge.HoldAct, found []forge.Finding) forge.Finding {
	s.t.Helper()
	if len(found) != 1 || found[0].Rule != rule || found[0].Run != run || found[0].Hold != hold {
		s.t.Fatalf("%s: found %+v; want one of %s: %s, %s", what, found, rule, run, hold)
	}
	return found[0]
}

func (s *scene) xid(n int, run string) []forge.Finding {
	return s.n.EventOf(forge.GPUEvent{At: s.now, UUID: gpuA, Kind: forge.GPUEventXID, XID: n, Count: 1}, forge.RunID(run))
}

func TestAConditionIsFoundOnceAndIsOverOnce(t *testing.T) {
	s := watch(t)
	f := s.one("too hot", "temperature_max", forge.RunGoesOn, forge.HoldWarn, s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(88) }))
	if f.UUID != gpuA || f.Over || !strings.Contains(f.Words, "88 °C, made for 87 °C") || !f.At.Equal(s.now) || f.Class != "warn" {
		t.Fatalf("%+v", f)
	}
	s.quiet("still too hot", s.passes(10*time.Minute))
	s.quiet("below the highest, and not yet back", append(s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(86) }), s.passes(10*time.Minute)...))
	s.quiet("back, and not yet for long enough", append(s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(84) }), s.passes(110*time.Second)...))
	if f := s.one("over", "temperature_max", forge.RunGoesOn, forge.HoldWarn, s.passes(10*time.Second)); !f.Over {
		t.Fatalf("%+v", f)
	}
	s.quiet("over once", s.passes(10*time.Minute))
}

func TestWhatWasNotLookedAtHasNotLasted(t *testing.T) {
	s := watch(t)
	s.one("hot", "temperature_max", forge.RunGoesOn, forge.HoldWarn, s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(90) }))
	s.quiet("four minutes over the slowdown", s.passes(4*time.Minute))
	s.now = s.now.Add(10 * time.Minute)
	s.quiet("and four more after a gap", s.passes(4*time.Minute))
	s.one("five minutes over the slowdown", "temperature_slowdown", forge.RunGoesOn, forge.HoldDrain, s.passes(70*time.Second))
}

func TestAClockThatIsSetBackNeitherEndsNorBeginsAnything(t *testing.T) {
	s := watch(t)
	s.one("hot", "temperature_max", forge.RunGoesOn, forge.HoldWarn, s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(90) }))
	s.quiet("three minutes", s.passes(3*time.Minute))
	s.now = s.now.Add(-time.Hour)
	s.quiet("four more by a clock that was set back", s.passes(4*time.Minute))
	s.one("five", "temperature_slowdown", forge.RunGoesOn, forge.HoldDrain, s.passes(70*time.Second))
}

func TestNoAnswerIsNoFinding(t *testing.T) {
	s := watch(t)
	s.one("hot", "temperature_max", forge.RunGoesOn, forge.HoldWarn, s.sees(func(g *forge.GPUReading) { g.TemperatureC = ptr(88) }))
	for _, state := range []forge.NVMLState{forge.NVMLError, forge.NVMLBlind} {
		s.look.State = state
		s.look.GPUs = nil
		s.now = s.now.Add(5 * time.Second)
		s.look.At = s.now
		s.quiet(string(state), s.n.Look(s.look, s.seen))
		s.quiet("and for long", s.n.Tick(s.now.Add(time.Hour)))
	}
}

// What is found of one rule and one GPU begins, is over, begins, is over: whatever is measured, whenever, in whatever order clocks say.
func TestNothingFlaps(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := watch(t)
		began := map[string]time.Time{}
		for range 300 {
			s.now = s.now.Add([]time.Duration{0, 0, 20 * time.Second, 3 * time.Minute, -time.Minute}[rng.IntN(4+int(seed%2))])
			for _, f := range s.sees(func(g *forge.GPUReading) { mangle(rng, g, &s.look) }) {
				key := f.Rule + " " + f.UUID
				at, on := began[key]
				switch {
				case !f.Over && on:
					t.Fatalf("seed %d: %s began twice", seed, key)
				case f.Over && !on:
					t.Fatalf("seed %d: %s was over and had not begun", seed, key)
				case f.Over:
					if r, _ := builtin().Rule(f.Rule); seed%2 == 0 && f.At.Sub(at) < r.ClearFor {
						t.Fatalf("seed %d: %s was over after %s", seed, key, f.At.Sub(at))
					}
					delete(began, key)
				default:
					began[key] = f.At
				}
			}
			s.look.GPUs = []forge.GPUReading{s.look.GPUs[0], well(gpuB)}
			s.look.State = forge.NVMLOK
		}
	}
}

func mangle(rng *rand.Rand, g *forge.GPUReading, l *forge.GPULook) {
	switch rng.IntN(14) {
	case 0:
		*g = well(gpuA)
	case 1:
		g.TemperatureC = ptr(80 + rng.IntN(14))
	case 2:
		g.MarginC = ptr(rng.IntN(6) - 3)
	case 3:
		g.ECCUncorrected = ptr(rng.Int64N(3))
	case 4:
		g.RemapPending = ptr(rng.IntN(2) == 0)
	case 5:
		g.LinksDown = ptr(rng.IntN(2))
	case 6:
		g.Lost, g.Problem = rng.IntN(2) == 0, ""
	case 7:
		g.HungSince = rng.Int64N(90)
	case 8:
		g.Recovery = ptr(rng.IntN(8))
	case 9:
		g.Throttle = []forge.ThrottleReason{forge.ThrottleHWThermal}
	case 10:
		g.LinkReplays = ptr(rng.Int64N(9))
	case 11:
		l.State = []forge.NVMLState{forge.NVMLHung, forge.NVMLError, forge.NVMLNoDriver}[rng.IntN(3)]
	case 12:
		g.MemoryTemperatureC = nil
	case 13:
		g.Problem = []string{"", "Unknown Error"}[rng.IntN(2)]
	}
}

func ExampleTable_XID() {
	t, _ := health.New(forge.HealthRules{})
	r := t.XID(79)
	fmt.Println(r.Name, r.Class, r.Run, r.Hold)
	// Output: xid_79 node elsewhere cordon_node
}
