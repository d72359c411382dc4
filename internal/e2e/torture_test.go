//go:build e2e && long

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/invariant"
)

const (
	tortureRuns   = 40
	tortureChaos  = 60 * time.Second
	tortureSettle = 150 * time.Second
	tortureHold   = 8 // fruitless attempts before forged holds a run
)

// asked is what was submitted, as far as the judgement needs it.
type asked struct {
	number, after    string
	id               forge.RunID
	ranks, steps     int
	fails, cancelled bool
}

// torture is one hostile cluster. All that it does follows from its seed, but not when the kernel
// gets round to it: a seed that failed once may need several tries.
type torture struct {
	t     *testing.T
	ctx   context.Context
	s     *forgedtest.Site
	rnd   *rand.Rand
	runs  []*asked
	owed  []forge.RunID
	down  time.Time         // forged is dead until then
	conts map[int]time.Time // stopped processes, and when they go on
	did   map[string]int
	story []string
}

// TestTorture kills, stops and terminates ranks, shims and forged, and damages checkpoints, for a
// minute under forty runs of mixed shapes; then every run must have ended as it should.
func TestTorture(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("FORGE_TORTURE_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("FORGE_TORTURE_SEED: %v", err)
		}
	}
	t.Logf("FORGE_TORTURE_SEED=%d", seed)
	ctx, s := openFor(t, tortureChaos+tortureSettle+caseTimeout, func(o *forgedtest.Options) {
		o.CPUSlots = 4
		o.Extra = fmt.Sprintf("retry: {backoff_min: 50ms, backoff_max: 500ms, fruitless_limit: %d, pause_after: 1000}\n", tortureHold)
	})
	x := &torture{t: t, ctx: ctx, s: s, rnd: rand.New(rand.NewPCG(seed, 1)), conts: map[int]time.Time{}, did: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("FORGE_TORTURE_SEED=%d; what was done:\n%s", seed, strings.Join(x.story, "\n"))
		}
	})
	for range tortureRuns / 2 {
		x.submit()
	}
	x.chaos()
	x.calm()
	x.judge()
	t.Logf("done to it: %v", x.did)
}

func (x *torture) note(what, format string, args ...any) {
	x.did[what]++
	x.story = append(x.story, time.Now().UTC().Format("15:04:05.000 ")+what+" "+fmt.Sprintf(format, args...))
}

func (x *torture) oneOf(n ...int) int { return n[x.rnd.IntN(len(n))] }

// submit asks for one more run. An answer that did not come owes nothing.
func (x *torture) submit() {
	if len(x.runs) >= tortureRuns {
		return
	}
	a := &asked{ranks: 1 + x.rnd.IntN(4), steps: 40 + x.rnd.IntN(260)}
	args := []string{"run", "submit", "probe", "--gpus-per-node", strconv.Itoa(a.ranks), "--priority", strconv.Itoa(x.oneOf(10, 50, 50, 90)),
		"--set", fmt.Sprint("steps=", a.steps), "--set", fmt.Sprint("step_ms=", x.oneOf(5, 10, 20)), "--set", fmt.Sprint("save_every=", x.oneOf(1, 5, 10))}
	switch x.rnd.IntN(6) {
	case 0:
		if len(x.runs) > 0 {
			a.after = x.runs[x.rnd.IntN(len(x.runs))].number
			args = append(args, "--after", a.after)
		}
	case 1:
		a.fails = true
		args = append(args, "--set", fmt.Sprint("fail_at=", 1+x.rnd.IntN(a.steps)), "--max-retries", strconv.Itoa(x.rnd.IntN(3)))
	case 2:
		args = append(args, "--register", "bot"+strconv.Itoa(x.rnd.IntN(3)))
	case 3:
		args = append(args, "--time", "1s", "--total-time", "1h") // saved at the limit, again and again
	}
	var out api.Submitted
	if err := x.s.CtlJSON(x.ctx, &out, args...); err != nil {
		x.note("submit-refused", "%v", err)
		return
	}
	a.id, a.number = out.Run.ID, fmt.Sprint(out.Run.Number)
	x.runs, x.owed = append(x.runs, a), append(x.owed, a.id)
	x.note("submit", "%s %v", a.number, args[3:])
}

// chaos does one bad thing after the other.
func (x *torture) chaos() {
	end := time.After(tortureChaos)
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return
		case <-x.ctx.Done():
			x.t.Fatal(x.ctx.Err())
		case now := <-tick.C:
			x.heal(now)
			x.strike(now)
		}
	}
}

// heal lets go on what is due.
func (x *torture) heal(now time.Time) {
	for pid, at := range x.conts {
		if now.After(at) {
			_ = syscall.Kill(pid, syscall.SIGCONT)
			delete(x.conts, pid)
		}
	}
	if !x.down.IsZero() && now.After(x.down) {
		must(x.t, x.s.Start(x.ctx))
		x.down = time.Time{}
	}
}

func (x *torture) strike(now time.Time) {
	_, stopped := x.conts[x.s.Pid()]
	answers := x.down.IsZero() && !stopped
	switch n := x.rnd.IntN(100); {
	case n < 16:
		x.kill("rank", "kill-rank", syscall.SIGKILL)
	case n < 28:
		x.kill("shim", "kill-shim", syscall.SIGKILL)
	case n < 34:
		x.killNewShim()
	case n < 42:
		x.kill("shim", "term-shim", syscall.SIGTERM)
	case n < 50:
		if pid := x.kill("shim", "stop-shim", syscall.SIGSTOP); pid != 0 {
			x.conts[pid] = now.Add(time.Second + time.Duration(x.rnd.IntN(1000))*time.Millisecond)
		}
	case n < 53:
		if pid := x.kill("rank", "stop-rank", syscall.SIGSTOP); pid != 0 {
			x.conts[pid] = now.Add(time.Second)
		}
	case n < 63 && answers:
		x.damage()
	case n < 70 && answers:
		x.note("kill-forged", "%d", x.s.Pid())
		x.s.Kill()
		x.down = now.Add(time.Duration(x.rnd.IntN(2)) * time.Second)
	case n < 74 && answers:
		// In the middle of a submission.
		done := make(chan struct{})
		pause := time.Duration(x.rnd.IntN(30)) * time.Millisecond
		go func() { defer close(done); x.submit() }()
		select {
		case <-done:
		case <-time.After(pause):
		}
		x.s.Kill()
		<-done
		x.note("kill-forged-submitting", "after %s", pause)
		x.down = now
	case n < 78 && answers:
		x.note("stop-forged", "%d", x.s.Pid())
		_ = syscall.Kill(x.s.Pid(), syscall.SIGSTOP)
		x.conts[x.s.Pid()] = now.Add(time.Second + time.Duration(x.rnd.IntN(1000))*time.Millisecond)
	case n < 92 && answers:
		x.submit()
	case answers && len(x.runs) > 0:
		a := x.runs[x.rnd.IntN(len(x.runs))]
		flag := [][]string{nil, {"--save"}, {"--now"}}[x.rnd.IntN(3)]
		if x.did["cancel"] < tortureRuns/4 {
			_, err := x.s.Ctl(x.ctx, append([]string{"run", "cancel", a.number}, flag...)...)
			a.cancelled = a.cancelled || err == nil
			if err == nil {
				x.note("cancel", "%s %v", a.number, flag)
			}
		}
	}
}

// processes lists the living shims or ranks of the site.
func (x *torture) processes(kind string) []forgedtest.Process {
	all, err := forgedtest.Survivors(x.s.Dir)
	must(x.t, err)
	if kind == "shim" {
		return forgedtest.Shims(all)
	}
	return forgedtest.Ranks(all, "proberank")
}

func (x *torture) kill(kind, what string, sig syscall.Signal) int {
	all := x.processes(kind)
	if len(all) == 0 {
		return 0
	}
	p := all[x.rnd.IntN(len(all))]
	x.note(what, "%d %s", p.Pid, p.Command)
	_ = syscall.Kill(p.Pid, sig)
	return p.Pid
}

// killNewShim waits a little for a shim that was not there, to meet it before it has done much.
func (x *torture) killNewShim() {
	old := map[int]bool{}
	for _, p := range x.processes("shim") {
		old[p.Pid] = true
	}
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); {
		for _, p := range x.processes("shim") {
			if !old[p.Pid] {
				x.note("kill-new-shim", "%d %s", p.Pid, p.Command)
				_ = syscall.Kill(p.Pid, syscall.SIGKILL)
				return
			}
		}
	}
}

// damage breaks a checkpoint that no attempt has resumed from, so that "resumed only from what
// verifies" can still be judged from the disk afterwards. forged stands still meanwhile, and
// the ranks of the newest attempt have loaded what they resume from: nobody is just choosing.
func (x *torture) damage() {
	must(x.t, syscall.Kill(x.s.Pid(), syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(x.s.Pid(), syscall.SIGCONT) }()
	if len(x.runs) == 0 {
		return
	}
	a := x.runs[x.rnd.IntN(len(x.runs))]
	dir := x.s.RunDir(string(a.id))
	attempts, err := filepath.Glob(filepath.Join(dir, "attempts", "*"))
	must(x.t, err)
	if len(attempts) == 0 {
		return
	}
	slices.Sort(attempts)
	newest := attempts[len(attempts)-1]
	for _, p := range x.processes("shim") {
		n, _ := strconv.Atoi(filepath.Base(newest))
		if !strings.Contains(p.Command, dir+" --attempt "+strconv.Itoa(n)+" ") {
			continue
		}
		for rank := range a.ranks {
			b, _ := os.ReadFile(filepath.Join(newest, "ranks", fmt.Sprintf("%04d", rank), "stdout"))
			if !strings.Contains(string(b), "starts attempt") {
				return
			}
		}
	}
	used := ""
	for _, d := range attempts {
		b, _ := os.ReadFile(filepath.Join(d, "resume.json"))
		used += string(b)
	}
	saves, err := filepath.Glob(filepath.Join(dir, "attempts", "*", "checkpoints", "checkpoint-*", "forge_manifest.json"))
	must(x.t, err)
	saves = slices.DeleteFunc(saves, func(p string) bool { return strings.Contains(used, `"`+filepath.Dir(p)+`"`) })
	if len(saves) == 0 {
		return
	}
	slices.SortFunc(saves, func(p, q string) int { return stepIn(p) - stepIn(q) })
	at := len(saves) - 1 // the newest in every second case
	if x.rnd.IntN(2) == 0 {
		at = x.rnd.IntN(len(saves))
	}
	file := filepath.Join(filepath.Dir(saves[at]), "state.bin")
	if x.rnd.IntN(4) == 0 {
		file = saves[at]
	}
	how := x.rnd.IntN(3)
	x.note("damage", "%d %s", how, file)
	b, err := os.ReadFile(file)
	if err != nil || len(b) == 0 {
		return // damaged before
	}
	switch how {
	case 0:
		must(x.t, os.Truncate(file, int64(x.rnd.IntN(len(b)))))
	case 1:
		must(x.t, os.Remove(file))
	case 2:
		b[x.rnd.IntN(len(b))] ^= 1 << x.rnd.IntN(8)
		must(x.t, os.WriteFile(file, b, 0o640))
	}
}

func stepIn(manifest string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(manifest)), "checkpoint-"))
	return n
}

// calm ends the chaos and waits until nothing is left to happen.
func (x *torture) calm() {
	x.heal(time.Now().Add(time.Hour))
	deadline := time.After(tortureSettle)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var list []forge.Run
		must(x.t, x.s.CtlJSON(x.ctx, &list, "run", "list", "--limit", "200"))
		open := slices.DeleteFunc(list, x.settled(slices.Clone(list)))
		if len(open) == 0 {
			return
		}
		select {
		case <-deadline:
			for _, r := range open {
				why, _ := x.s.Ctl(x.ctx, "run", "why", fmt.Sprint(r.Number))
				events, _ := x.s.Ctl(x.ctx, "run", "events", fmt.Sprint(r.Number))
				x.t.Errorf("run %d %s never ended: %s, attempt %d\n%s\n%s", r.Number, r.ID, r.State, r.Attempt, why, events)
			}
			return
		case <-tick.C:
		}
	}
}

// settled says that nothing more will happen to a run: it ended, forged holds it, or it waits for
// one that will never complete.
func (x *torture) settled(all []forge.Run) func(forge.Run) bool {
	byID := map[forge.RunID]forge.Run{}
	for _, r := range all {
		byID[r.ID] = r
	}
	var is func(r forge.Run) bool
	is = func(r forge.Run) bool {
		if r.State.Terminal() || r.State == forge.RunPending && r.Hold != nil {
			return true
		}
		if r.State != forge.RunPending {
			return false
		}
		// What it waits for comes from forged: a submission that was cut off is known to nobody else. The
		// listing leaves it out.
		after := show(x.t, x.ctx, x.s, fmt.Sprint(r.Number)).Spec.After
		return slices.ContainsFunc(after, func(id forge.RunID) bool {
			return byID[id].State != forge.RunCompleted && is(byID[id])
		})
	}
	return is
}

func (x *torture) judge() {
	counts := map[string]int{}
	for _, a := range x.runs {
		r := show(x.t, x.ctx, x.s, a.number)
		counts[string(r.State)]++
		if fault := x.fault(a, r); fault != "" {
			events, _ := x.s.Ctl(x.ctx, "run", "events", a.number)
			x.t.Errorf("run %s %s: %s: %s %s after %d attempts, step %d\n%s", a.number, r.ID, fault, r.State, r.Reason, len(r.Attempts), r.Step, events)
		}
	}
	x.t.Logf("%d runs: %v", len(x.runs), counts)
	must(x.t, x.s.Stop(x.ctx))
	f, err := invariant.Gather(x.ctx, x.s.State(), x.owed)
	must(x.t, err)
	for _, v := range invariant.Judge(f) {
		x.t.Error(v)
	}
	for _, m := range f.Metrics {
		if want := forgedtest.ProbeLoss(int(m.Step)); m.Loss != want {
			x.t.Errorf("run %s attempt %d: loss %v at step %d, an undisturbed run has %v", m.Run, m.Attempt, m.Loss, m.Step, want)
		}
	}
	if len(f.Allocations)+len(f.Claims) > 0 {
		x.t.Errorf("slots are still held: %v, claimed: %v", f.Allocations, f.Claims)
	}
	logs, err := filepath.Glob(filepath.Join(x.s.RunDir("*"), "attempts", "*", "nodes", "*", "shim.log"))
	must(x.t, err)
	for _, path := range append(logs, x.s.LogFile()) {
		for _, word := range []string{"panic:", "DATA RACE", "fatal error:"} {
			if _, text, found := strings.Cut(read(x.t, path), word); found {
				x.t.Errorf("%s: %s%.3000s", path, word, text)
			}
		}
	}
	left, err := forgedtest.Survivors(x.s.Dir)
	must(x.t, err)
	for _, p := range left {
		x.t.Errorf("pid %d survived: %s", p.Pid, p.Command)
	}
}

// fault says what is wrong with how a run ended. A cluster may cost a run time, never its result.
func (x *torture) fault(a *asked, r api.RunDetail) string {
	switch {
	case r.State == forge.RunCompleted:
		if r.Loss == nil || *r.Loss != forgedtest.ProbeLoss(a.steps) || r.Step != int64(a.steps) {
			return fmt.Sprintf("its last loss is not %v", forgedtest.ProbeLoss(a.steps))
		}
	case r.State == forge.RunCancelled:
		if !a.cancelled {
			return "nobody cancelled it"
		}
	case r.State == forge.RunFailed:
		if !a.fails || r.Reason != forge.EndUserExit {
			return "its program does not fail"
		}
	case r.Hold != nil:
		fruitless := len(r.Attempts) >= tortureHold && r.Hold.By == "forged" && strings.Contains(r.Hold.Reason, "without a newer checkpoint")
		for _, at := range r.Attempts[max(0, len(r.Attempts)-tortureHold):] {
			fruitless = fruitless && at.Reason.Infrastructure()
		}
		if !fruitless {
			return "held without evidence: " + r.Hold.Reason
		}
	case a.after == "":
		return "it has not ended"
	}
	return ""
}
