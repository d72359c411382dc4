package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// moment is what signals are measured from: one GPU, or the node as a whole, at one look.
type moment struct {
	look  forge.GPULook
	seen  Seen
	g     forge.GPUReading // the zero value for a node, and for a GPU that is not there
	there bool
	last  *forge.GPUReading // of the look before; nil: there was none
	since time.Duration     // that look
	slow  int               // distinct minutes in which the hardware slowed it down
	links bool              // it had an NVLink up, once
	ours  bool              // a run of ours has it, or a part of it
}

// truth is a signal that is there or is not: 1 is beyond a threshold of 0.
func truth(v bool, words string, args ...any) (float64, string, bool) {
	if v {
		return 1, fmt.Sprintf(words, args...), true
	}
	return 0, "", true
}

func unknown() (float64, string, bool) { return 0, "", false }

// answers says that the GPU answered, so that what is absent was not said by this GPU and not because nothing was.
func (m *moment) answers() bool {
	return m.there && m.g.Problem == "" && !m.g.Lost && !m.g.Reset && m.g.HungSince == 0
}

func lost(m *moment) (float64, string, bool) {
	if !m.there || m.g.HungSince > 0 {
		return unknown()
	}
	return truth(m.g.Lost, "the driver no longer reaches it")
}

func missing(m *moment) (float64, string, bool) {
	return truth(!m.there, "it is not among the %d GPUs that the driver has", len(m.look.GPUs))
}

func wantsReset(m *moment) (float64, string, bool) {
	switch {
	case !m.there || m.g.HungSince > 0:
		return unknown()
	case m.g.Reset:
		return truth(true, "the driver says that it has to be reset")
	}
	return recovery(1, 6)(m)
}

// recovery is whether the driver wants one of these done.
func recovery(actions ...int) func(*moment) (float64, string, bool) {
	return func(m *moment) (float64, string, bool) {
		if m.g.Recovery == nil {
			return unknown()
		}
		return truth(slices.Contains(actions, *m.g.Recovery), "the driver's recovery action is %d (%s)", *m.g.Recovery, recoveryWords(*m.g.Recovery))
	}
}

func recoveryWords(n int) string {
	words := []string{"nothing", "reset the GPU", "restart the node", "stop traffic between GPUs", "drain, then reset", "recover IMEX", "reset the bus", "restart the system"}
	if n < 0 || n >= len(words) {
		return "not known"
	}
	return words[n]
}

// overMax takes both ways in which drivers say it: the highest temperature, and the degrees that are left.
func overMax(m *moment) (float64, string, bool) {
	t, most, left := m.g.TemperatureC, m.g.MaxC, m.g.MarginC
	switch {
	case t != nil && most != nil && *t > *most:
		return float64(*t - *most), fmt.Sprintf("%d °C, made for %d °C at most", *t, *most), true
	case left != nil && *left <= 0:
		return float64(1 - *left), fmt.Sprintf("%d °C are left below the slowdown", *left), true
	case t != nil && most != nil:
		return float64(*t - *most), fmt.Sprintf("%d °C, made for %d °C at most", *t, *most), true
	case left != nil:
		return float64(-*left), fmt.Sprintf("%d °C are left below the slowdown", *left), true
	}
	return unknown()
}

func overMemoryMax(m *moment) (float64, string, bool) {
	return over(m.g.MemoryTemperatureC, m.g.MemoryMaxC, "memory at %d °C, made for %d °C at most")
}

func overSlowdown(m *moment) (float64, string, bool) {
	if m.g.TemperatureC == nil || m.g.SlowdownC == nil {
		if m.g.MarginC == nil {
			return unknown()
		}
		return float64(-*m.g.MarginC), fmt.Sprintf("%d °C over the slowdown", -*m.g.MarginC), true
	}
	return over(m.g.TemperatureC, m.g.SlowdownC, "%d °C, it slows down at %d °C")
}

func overShutdown(m *moment) (float64, string, bool) {
	return over(m.g.TemperatureC, m.g.ShutdownC, "%d °C, it switches off at %d °C")
}

func over(t, limit *int, words string) (float64, string, bool) {
	if t == nil || limit == nil {
		return unknown()
	}
	return float64(*t - *limit), fmt.Sprintf(words, *t, *limit), true
}

func slowMinutes(m *moment) (float64, string, bool) {
	if !m.answers() {
		return unknown()
	}
	words := make([]string, len(m.g.Throttle))
	for i, t := range m.g.Throttle {
		words[i] = string(t)
	}
	return float64(m.slow), fmt.Sprintf("slowed down in %d minutes of late (%s)", m.slow, orNone(strings.Join(words, ", "))), true
}

func orNone(s string) string {
	if s == "" {
		return "not just now"
	}
	return s
}

// slowed says whether the hardware itself lowers the clocks. A power cap is normal under load, and idle is idle.
func slowed(g forge.GPUReading) bool {
	return slices.ContainsFunc(g.Throttle, func(t forge.ThrottleReason) bool {
		return t == forge.ThrottleHWSlowdown || t == forge.ThrottleHWThermal || t == forge.ThrottleBrake
	})
}

func count(v *int64, words string) (float64, string, bool) {
	if v == nil {
		return unknown()
	}
	return float64(*v), fmt.Sprintf("%d %s", *v, words), true
}

func eccUncorrected(m *moment) (float64, string, bool) {
	return count(m.g.ECCUncorrected, "uncorrected memory errors since the driver was loaded")
}

func eccCorrected(m *moment) (float64, string, bool) {
	return count(m.g.ECCCorrected, "corrected memory errors since the driver was loaded")
}

func eccGrew(m *moment) (float64, string, bool) {
	return grew("uncorrected memory errors", func(g forge.GPUReading) *int64 { return g.ECCUncorrected })(m)
}

// grew is what a counter has grown by since the look before. One that went back has begun anew.
func grew(what string, of func(forge.GPUReading) *int64) func(*moment) (float64, string, bool) {
	return func(m *moment) (float64, string, bool) {
		now := of(m.g)
		if now == nil || m.last == nil || of(*m.last) == nil {
			return unknown()
		}
		d := *now - *of(*m.last)
		if d < 0 {
			d = *now
		}
		return float64(d), fmt.Sprintf("%d more %s, %d in all", d, what, *now), true
	}
}

func crcRate(m *moment) (float64, string, bool) {
	n, _, ok := grew("", func(g forge.GPUReading) *int64 { return g.LinkCRC })(m)
	if !ok {
		return unknown()
	}
	rate := n / max(1, m.since.Seconds())
	return rate, fmt.Sprintf("%.0f checksum errors a second", rate), true
}

func flag(v *bool, words string) (float64, string, bool) {
	if v == nil {
		return unknown()
	}
	return truth(*v, "%s", words)
}

func remapPending(m *moment) (float64, string, bool) {
	return flag(m.g.RemapPending, "a memory row is replaced at the next reset")
}

func remapFailure(m *moment) (float64, string, bool) {
	return flag(m.g.RemapFailure, "a memory row could not be replaced")
}

func retirePending(m *moment) (float64, string, bool) {
	return flag(m.g.RetirePending, "a memory page is retired at the next reset")
}

func retiredPages(m *moment) (float64, string, bool) {
	if m.g.RetiredPages == nil {
		return unknown()
	}
	return float64(*m.g.RetiredPages), fmt.Sprintf("%d retired memory pages", *m.g.RetiredPages), true
}

// linksDown counts only where links were up: a machine without bridges or switches has all of them down for ever, and nothing is wrong with it.
func linksDown(m *moment) (float64, string, bool) {
	if m.g.LinksDown == nil {
		return unknown()
	}
	if !m.links {
		return 0, "", true
	}
	up := 0
	if m.g.LinksUp != nil {
		up = *m.g.LinksUp
	}
	return float64(*m.g.LinksDown), fmt.Sprintf("%d NVLinks are down, %d up", *m.g.LinksDown, up), true
}

func memoryHeld(m *moment) (float64, string, bool) {
	if m.seen.Busy == nil || m.g.MemoryUsedMiB == nil || !m.answers() {
		return unknown()
	}
	if m.ours {
		return 0, "", true
	}
	who := m.seen.Foreign[m.g.UUID]
	if who == "" {
		who = "nobody that can be seen"
	}
	return float64(*m.g.MemoryUsedMiB), fmt.Sprintf("%d MiB are used by %s", *m.g.MemoryUsedMiB, who), true
}

// foreignUse is certain where memory alone may be what a driver has not cleared up yet: at once nothing new goes there.
func foreignUse(m *moment) (float64, string, bool) {
	if !m.answers() {
		return unknown()
	}
	return truth(m.seen.Foreign[m.g.UUID] != "", "%s", m.seen.Foreign[m.g.UUID])
}

func hung(m *moment) (float64, string, bool) {
	if !m.there {
		return unknown()
	}
	return float64(m.g.HungSince), fmt.Sprintf("%s has not come back for %d s", m.g.HungCall, m.g.HungSince), true
}

func silent(m *moment) (float64, string, bool) {
	if !m.there || m.g.Lost || m.g.Reset || m.g.HungSince > 0 {
		return unknown()
	}
	return truth(m.g.Problem != "", "it does not answer: %s", m.g.Problem)
}

func stuckOnGPU(m *moment) (float64, string, bool) { return stuck(m.seen, m.g.UUID) }

func stuckOnNode(m *moment) (float64, string, bool) { return stuck(m.seen, "") }

// stuck is the oldest process that cannot be ended and holds this GPU, or none.
func stuck(s Seen, uuid string) (float64, string, bool) {
	var worst StuckProcess
	for _, p := range s.Stuck {
		if p.UUID == uuid && p.For >= worst.For {
			worst = p
		}
	}
	return worst.For.Seconds(), fmt.Sprintf("process %d (%s) is %s since %s", worst.PID, worst.Command, worst.State, worst.For.Round(time.Second)), true
}

func tooFew(m *moment) (float64, string, bool) {
	if m.look.State != forge.NVMLOK || m.seen.Count == 0 {
		return unknown()
	}
	n := whole(m.look)
	return float64(m.seen.Count - n), fmt.Sprintf("%d of %d GPUs are there", n, m.seen.Count), true
}

// whole is how many GPUs there are, MIG instances of one counted once.
func whole(l forge.GPULook) int {
	seen := map[string]bool{}
	for _, g := range l.GPUs {
		if g.Parent != "" {
			seen[g.Parent] = true
		} else {
			seen[g.UUID] = true
		}
	}
	return len(seen)
}

func driverMissing(m *moment) (float64, string, bool) {
	switch m.look.State {
	case forge.NVMLOK:
		return 0, "", true
	case forge.NVMLNoDriver:
		n := max(m.seen.Count, len(m.seen.Expected))
		return truth(n > 0, "there is no driver, and the node has %d GPUs: %s", n, m.look.Detail)
	}
	return unknown()
}

func allHung(m *moment) (float64, string, bool) {
	switch m.look.State {
	case forge.NVMLOK:
		return 0, "", true
	case forge.NVMLHung:
		return truth(true, "the driver does not answer: %s", m.look.Detail)
	}
	return unknown()
}

func skew(m *moment) (float64, string, bool) {
	if m.seen.Now.IsZero() {
		return unknown()
	}
	d := m.look.At.Sub(m.seen.Now)
	word := "ahead"
	if d < 0 {
		word = "behind"
	}
	return d.Abs().Seconds(), fmt.Sprintf("its clock is %s %s; what it says is taken as it comes", d.Abs().Round(time.Second), word), true
}
