package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// emptyPatience is how long a driver may take to let go of memory that dead processes had, before the attempt is done without it: the GPU is then
	// looked after by the rules of its health.
	emptyPatience = 30 * time.Second
	// silencePatience is how long a driver, or one GPU, may say nothing at all before the attempt is done without its word. By then the rules of health
	// keep the GPU or the node from being placed (after 10 s and a minute), and its processes are proven gone: to hold on would only keep the run from
	// going on elsewhere.
	silencePatience = 2 * time.Minute
	// heldMiB is what an idle GPU may have in use beside what its driver reserves.
	heldMiB = 15
	// lookPatience bounds one question to the driver.
	lookPatience = 20 * time.Second
	// lookAgain is how soon it is asked anew while a GPU is not empty, and ever more slowly up to lookRarely.
	lookAgain  = 300 * time.Millisecond
	lookRarely = 10 * time.Second
)

// emptying is what is known of the GPUs of an attempt whose processes have ended.
type emptying struct {
	since  time.Time // when they were first proven gone
	heard  time.Time // when the newest question was begun whose answer says something of each GPU, at first since
	asking bool
	asked  time.Time // when the newest question was begun; zero: none was answered
	look   forge.GPULook
	err    error
}

// answered takes in what came of a question. Silence is counted from the last answer that was one.
func (v *emptying) answered(began time.Time, look forge.GPULook, err error) {
	v.asking, v.asked, v.look, v.err = false, began, look, err
	if err == nil && look.State == forge.NVMLOK && !slices.ContainsFunc(look.GPUs, func(g forge.GPUReading) bool { return g.Problem != "" }) {
		v.heard = began
	}
}

// again is how long to leave the driver alone after a question.
func (v *emptying) again() time.Duration {
	return min(max(lookAgain, v.asked.Sub(v.since)/8), lookRarely)
}

// emptied says whether the driver, too, shows nothing of an attempt whose processes are proven gone; why is what is in the way. It never waits for the
// driver: the answer to a question is there at a later look.
func (e *Executor) emptied(a *attempt) (ok bool, why string) {
	if e.o.Holders == nil || len(a.uuids) == 0 {
		return true, ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v := &a.emptying
	now := time.Now()
	if v.since.IsZero() {
		v.since, v.heard = now, now
	}
	answered := !v.asked.IsZero()
	if !v.asking && (!answered || now.Sub(v.asked) >= v.again()) {
		v.asking = true
		e.tasks.Go(func() { e.askDriver(a) })
	}
	if !answered {
		return false, "its processes are gone, and the driver is asked whether their GPUs are empty"
	}
	j := vacant{of: rundir.Hold, run: a.run, attempt: a.at.Number, patient: v.asked.Sub(v.since) < e.patience(emptyPatience),
		hears: v.asked.Sub(v.heard) < e.patience(silencePatience)}.judge(v.look, v.err, a.uuids)
	for _, p := range j.end {
		if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			e.logOf(a).Warn().Err(err).Int("pid", p.PID).Msg("a leftover on a GPU is not killed")
		}
	}
	if j.note != "" && j.free {
		e.logOf(a).Warn().Str("gpus", j.note).Msg("released; what is left of its GPUs is for the rules of health")
	}
	return j.free, j.why
}

func (e *Executor) patience(usual time.Duration) time.Duration {
	if e.o.GPUPatience > 0 {
		return e.o.GPUPatience
	}
	return usual
}

// askDriver takes a look that begins after the attempt's processes were gone.
func (e *Executor) askDriver(a *attempt) {
	ctx, cancel := context.WithTimeout(e.life, lookPatience)
	defer cancel()
	began := time.Now()
	look, err := e.o.Holders(ctx, a.uuids)
	e.mu.Lock()
	a.emptying.answered(began, look, err)
	again := a.emptying.again()
	e.mu.Unlock()
	e.nudge()
	time.AfterFunc(again, e.nudge) // should it not be enough
}

// vacant judges whether GPUs are empty of one attempt. It is pure, but for who a pid is.
type vacant struct {
	of      func(pid int) (rundir.Holder, error)
	run     forge.RunID
	attempt int
	patient bool // there is time left to wait for what has no process
	hears   bool // and for a driver that says nothing
}

type vacancy struct {
	free bool
	why  string           // it is not
	note string           // it is, and there is more on it
	end  []rundir.Process // of the attempt itself
}

// judge: a look that says nothing proves nothing, and only one of a machine without NVML is none; it is waited for, though not for ever. Strangers keep
// nobody's attempt from its end, and nothing is placed beside them. A GPU that is lost or wants a reset has nothing of ours on it once our processes are
// gone, and takes nothing new.
func (v vacant) judge(l forge.GPULook, failed error, uuids []string) vacancy {
	silent := ""
	switch {
	case failed != nil:
		silent = failed.Error()
	case l.State == forge.NVMLNoDriver:
		return vacancy{free: true}
	case l.State != forge.NVMLOK:
		silent = fmt.Sprintf("NVML is %s: %s", l.State, l.Detail)
	}
	if silent != "" && v.hears {
		return vacancy{why: "its processes are gone, and whether their GPUs are empty is not known: " + silent}
	} else if silent != "" {
		return vacancy{free: true, note: "whether they are empty is not known: " + silent}
	}
	out := vacancy{free: true}
	var why, notes []string
	for _, uuid := range uuids {
		g := readingOf(l, uuid)
		switch {
		case g == nil || g.Lost || g.Reset:
			notes = append(notes, uuid+" does not answer for good")
			continue
		case g.Problem != "" && v.hears:
			why = append(why, fmt.Sprintf("GPU %s: %s", uuid, g.Problem))
			continue
		case g.Problem != "":
			notes = append(notes, uuid+": "+g.Problem)
			continue
		case !g.Told:
			continue
		}
		ours, gone, others := v.sort(g.Processes)
		out.end = append(out.end, ours...)
		held := g.MemoryUsedMiB != nil && *g.MemoryUsedMiB > heldMiB && len(others) == 0
		switch {
		case len(ours) > 0:
			why = append(why, fmt.Sprintf("GPU %s: process %s of the attempt, which is being ended", uuid, pids(ours)))
		case len(gone) > 0 && v.patient:
			why = append(why, fmt.Sprintf("GPU %s: the driver still shows process %s, which has ended", uuid, numbers(gone)))
		case held && v.patient:
			why = append(why, fmt.Sprintf("GPU %s: %d MiB are in use, and no process has them", uuid, *g.MemoryUsedMiB))
		case held || len(gone) > 0:
			notes = append(notes, uuid+" holds memory with no process")
		}
		if len(others) > 0 {
			notes = append(notes, fmt.Sprintf("%s has process %s, which is not of this attempt", uuid, numbers(others)))
		}
	}
	out.free, out.why, out.note = len(why) == 0, strings.Join(why, "; "), strings.Join(notes, "; ")
	return out
}

// sort tells the attempt's own processes from those that are gone and those of others. One whose owner cannot be learned is not ours.
func (v vacant) sort(all []forge.GPUProcess) (ours []rundir.Process, gone, others []int) {
	for _, p := range all {
		h, err := v.of(p.PID)
		switch {
		case errors.Is(err, os.ErrProcessDone):
			gone = append(gone, p.PID)
		case err == nil && h.Ours && h.Run == v.run && h.Attempt == v.attempt:
			ours = append(ours, h.Process)
		default:
			others = append(others, p.PID)
		}
	}
	return ours, gone, others
}

func readingOf(l forge.GPULook, uuid string) *forge.GPUReading {
	for i := range l.GPUs {
		if l.GPUs[i].UUID == uuid {
			return &l.GPUs[i]
		}
	}
	return nil
}

func pids(all []rundir.Process) string {
	n := make([]int, len(all))
	for i, p := range all {
		n[i] = p.PID
	}
	return numbers(n)
}

func numbers(n []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", ", "), "[]") }

// uuidsOf lists the devices of an attempt; CPU slots are none.
func uuidsOf(l forge.Launch) (out []string) {
	for _, d := range l.Devices {
		if d.Kind == forge.GPUDevice && d.UUID != "" {
			out = append(out, d.UUID)
		}
	}
	return out
}

// Holder is a process that uses a GPU of this host.
type Holder = rundir.Holder

// HolderOf describes the process with a pid of this host. os.ErrProcessDone: there is none that this process can see.
func HolderOf(pid int) (Holder, error) { return rundir.Hold(pid) }

// End kills one, by its identity: a process that has its pid by now is not touched. Nothing but what is ours may be given.
func End(h Holder) error {
	if !h.Ours || h.Run == "" {
		return fmt.Errorf("process %d is not forge's", h.PID)
	}
	if err := h.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
