package invariant

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Violation is one broken invariant, numbered as in DESIGN §6.
type Violation struct {
	Invariant int
	Text      string
}

func (v Violation) String() string { return fmt.Sprintf("invariant %d: %s", v.Invariant, v.Text) }

// Judge looks for violations of each invariant.
func Judge(f Facts) []Violation {
	j := &judge{f: f, runs: map[string]Run{}}
	for _, r := range f.Runs {
		j.runs[r.ID] = r
	}
	j.acknowledged()
	j.oneFence()
	j.slots()
	j.gangs()
	j.resume()
	j.claims()
	j.terminal()
	j.histories()
	j.tenants()
	j.reasons()
	j.plans()
	return j.out
}

type judge struct {
	f    Facts
	runs map[string]Run
	out  []Violation
}

func (j *judge) say(n int, format string, args ...any) {
	j.out = append(j.out, Violation{n, fmt.Sprintf(format, args...)})
}

// 1: an acknowledged submission survives.
func (j *judge) acknowledged() {
	for _, id := range j.f.Acknowledged {
		if _, ok := j.runs[string(id)]; !ok {
			j.say(1, "run %s was acknowledged and is gone", id)
		}
	}
}

func open(state string) bool { return forge.AttemptState(state).Open() }

// 2: at most one attempt of a run holds the fence, and none but the newest changes anything
// that is read.
func (j *judge) oneFence() {
	count := map[string]int{}
	for _, a := range j.f.Attempts {
		if open(a.State) {
			count[a.Run]++
		}
		if a.Number > j.runs[a.Run].Attempt {
			j.say(2, "run %s has attempt %d and counts %d", a.Run, a.Number, j.runs[a.Run].Attempt)
		}
	}
	for run, n := range count {
		if n > 1 {
			j.say(2, "run %s has %d open attempts", run, n)
		}
	}
	for run, d := range j.f.Dirs {
		if d.Fence > j.runs[string(run)].Attempt {
			j.say(2, "the fence of run %s is %d and its newest attempt is %d", run, d.Fence, j.runs[string(run)].Attempt)
		}
		seen := map[Start]int{}
		for _, s := range d.Starts {
			if seen[s]++; seen[s] == 2 {
				j.say(2, "rank %d of attempt %d of run %s started twice", s.Rank, s.Attempt, run)
			}
			if s.Attempt > d.Fence {
				j.say(2, "attempt %d of run %s started behind a fence of %d", s.Attempt, run, d.Fence)
			}
		}
	}
}

// 3: a GPU belongs to one attempt, and is released only when its processes are gone.
func (j *judge) slots() {
	state := map[string]string{}
	elsewhere := map[string]bool{} // its GPUs are another queue's to give, and a node of it that is lost may go on without anybody's knowing
	for _, a := range j.f.Attempts {
		state[key(a.Run, a.Number)] = a.State
		elsewhere[key(a.Run, a.Number)] = a.HandedOver && a.Reason == string(forge.EndNodeLost)
	}
	holder := map[string]string{}
	for _, a := range j.f.Allocations {
		slot := fmt.Sprintf("%s/%s/%d", a.Cluster, a.Node, a.Slot)
		if other, ok := holder[slot]; ok {
			j.say(3, "slot %s belongs to %s and %s", slot, other, key(a.Run, a.Attempt))
		}
		holder[slot] = key(a.Run, a.Attempt)
		if !open(state[key(a.Run, a.Attempt)]) {
			j.say(3, "slot %s is held by %s, which is %s", slot, key(a.Run, a.Attempt), state[key(a.Run, a.Attempt)])
		}
	}
	held := map[string]int{}
	for _, h := range holder {
		held[h]++
	}
	for _, a := range j.f.Attempts {
		switch n := held[key(a.Run, a.Number)]; {
		case a.HandedOver && n > 0:
			j.say(3, "%s was handed over to the queue of %s and holds %d slots", key(a.Run, a.Number), a.Cluster, n)
		case open(a.State) && !a.HandedOver && n == 0:
			j.say(3, "%s is %s and holds nothing", key(a.Run, a.Number), a.State)
		}
	}
	for _, p := range j.f.Procs {
		if s := state[key(p.Run, p.Attempt)]; !open(s) && !elsewhere[key(p.Run, p.Attempt)] {
			j.say(3, "process %d of %s lives and its GPUs were released (%s)", p.Pid, key(p.Run, p.Attempt), s)
		}
	}
}

func key(run string, attempt int) string { return forge.AttemptKey(forge.RunID(run), attempt) }

// 4: a gang starts whole and ends whole.
func (j *judge) gangs() {
	slots := map[string]int{}
	for _, a := range j.f.Allocations {
		slots[key(a.Run, a.Attempt)]++
	}
	procs := map[string]int{}
	for _, p := range j.f.Procs {
		procs[key(p.Run, p.Attempt)]++
	}
	for _, a := range j.f.Attempts {
		k := key(a.Run, a.Number)
		if open(a.State) && !a.HandedOver && slots[k] != a.Ranks {
			j.say(4, "%s holds %d of %d slots", k, slots[k], a.Ranks)
		}
		if a.Reason == string(forge.EndCompleted) && a.Exits != a.Ranks {
			j.say(4, "%s completed with %d exits of %d ranks", k, a.Exits, a.Ranks)
		}
		if !open(a.State) && procs[k] > 0 && !(a.HandedOver && a.Reason == string(forge.EndNodeLost)) {
			j.say(4, "%s has ended and %d of its processes have not", k, procs[k])
		}
	}
}

// 5: a run resumes only from a verified checkpoint, and a step is stored once.
func (j *judge) resume() {
	for _, a := range j.f.Attempts {
		if a.ResumeFrom == "" {
			continue
		}
		d := j.f.Dirs[forge.RunID(a.Run)]
		step, ok := d.Verified[a.ResumeFrom]
		if !ok || step != a.ResumeStep {
			j.say(5, "%s resumed from %s at step %d, which does not verify", key(a.Run, a.Number), a.ResumeFrom, a.ResumeStep)
		}
	}
	type at struct {
		run  string
		step int64
	}
	seen := map[at]bool{}
	last := map[string]int64{}
	for _, m := range j.f.Metrics {
		if seen[at{m.Run, m.Step}] {
			j.say(5, "step %d of run %s is stored twice", m.Step, m.Run)
		}
		seen[at{m.Run, m.Step}] = true
		if prev, ok := last[m.Run]; ok && m.Step > prev+1 && !m.Eval { // an eval reports at times: its steps are samples
			j.say(5, "run %s misses the steps from %d to %d", m.Run, prev+1, m.Step-1)
		}
		last[m.Run] = max(last[m.Run], m.Step)
	}
}

// 6: what was freed by preemption stays claimed for a run that waits, all that its gang needs of it, and only whoever was
// asked to leave is still there.
func (j *judge) claims() {
	holder, intent := map[string]string{}, map[string]string{}
	for _, a := range j.f.Allocations {
		holder[fmt.Sprintf("%s/%s/%d", a.Cluster, a.Node, a.Slot)] = a.Run
	}
	for _, a := range j.f.Attempts {
		if open(a.State) {
			intent[a.Run] = a.Intent
		}
		if a.State == string(forge.AttemptStopping) {
			intent[a.Run] = a.State // a rank has ended: it leaves by itself
		}
	}
	claimed, clusters := map[string]int{}, map[string]string{}
	for _, c := range j.f.Claims {
		slot := fmt.Sprintf("%s/%s/%d", c.Cluster, c.Node, c.Slot)
		claimed[c.For]++
		if other, ok := clusters[c.For]; ok && other != c.Cluster {
			j.say(6, "slots of %s and of %s are claimed for run %s: a gang lies in one cluster", other, c.Cluster, c.For)
		}
		clusters[c.For] = c.Cluster
		switch h := holder[slot]; {
		case h != "" && h != c.From:
			j.say(6, "slot %s is claimed for run %s and held by run %s, which was not stopped for it", slot, c.For, h)
		case h != "" && intent[h] == "":
			j.say(6, "slot %s is claimed for run %s and run %s there was not asked to leave", slot, c.For, h)
		}
		if s := j.runs[c.For].State; s != string(forge.RunPending) {
			j.say(6, "slot %s/%s/%d is claimed for run %s, which is %q", c.Cluster, c.Node, c.Slot, c.For, s)
		}
	}
	for run, n := range claimed {
		if want := j.runs[run].GPUs; n < want {
			j.say(6, "%d slots are claimed for run %s, whose gang needs %d: something was stopped for it in vain", n, run, want)
		}
	}
	if strings.Contains(j.f.PlanFault, "preempt") {
		j.say(6, "%s", j.f.PlanFault)
	}
}

// 7: a terminal state is final, and production is one version of a model.
func (j *judge) terminal() {
	ended := map[string]bool{}
	for _, e := range j.f.Events {
		if ended[e.Run] && (e.Type == string(forge.EventRunPlaced) || e.Type == string(forge.EventRunRunning) || e.Type == string(forge.EventRunEnded)) {
			j.say(7, "run %s had ended and then came %s", e.Run, e.Type)
		}
		if e.Type == string(forge.EventRunEnded) {
			ended[e.Run] = true
		}
	}
	for _, r := range j.f.Runs {
		if forge.RunState(r.State).Terminal() != ended[r.ID] {
			j.say(7, "run %s is %s and its events say ended: %v", r.ID, r.State, ended[r.ID])
		}
	}
	production, byRun := map[string]int{}, map[string]int{}
	for _, v := range j.f.Versions {
		if v.Stage == string(forge.StageProduction) {
			production[v.Model]++
		}
		if v.Run != "" {
			byRun[v.Run]++
		}
	}
	for m, n := range production {
		if n > 1 {
			j.say(7, "model %s has %d versions in production", m, n)
		}
	}
	for _, r := range j.f.Runs {
		want := 0
		if r.State == string(forge.RunCompleted) && r.Register != "" {
			want = 1
		}
		if got := byRun[r.ID]; r.Register != "" && got != want {
			j.say(7, "run %s is %s and made %d model versions, want %d", r.ID, r.State, got, want)
		}
	}
}

// 8: nothing of a tenant hangs on another's.
func (j *judge) tenants() {
	for _, e := range j.f.Events {
		if r, ok := j.runs[e.Run]; ok && e.Tenant != r.Tenant {
			j.say(8, "event %d of run %s belongs to tenant %q, the run to %q", e.Seq, e.Run, e.Tenant, r.Tenant)
		}
	}
	for _, v := range j.f.Versions {
		if r, ok := j.runs[v.Run]; ok && v.Tenant != r.Tenant {
			j.say(8, "a version of run %s belongs to tenant %q, the run to %q", v.Run, v.Tenant, r.Tenant)
		}
	}
}

// 9: every pending run has a reason in words.
func (j *judge) reasons() {
	for id, text := range j.f.Reasons {
		if text == "" {
			j.say(9, "run %s waits and nothing says why", id)
		}
	}
}

// 10: the same snapshot gives the same plan, and the plan breaks nothing.
func (j *judge) plans() {
	if j.f.Plans[0] != j.f.Plans[1] {
		j.say(10, "one snapshot gave two plans:\n%s\n%s", j.f.Plans[0], j.f.Plans[1])
	}
	if j.f.PlanFault != "" {
		j.say(10, "the plan does not pass CheckPlan: %s", j.f.PlanFault)
	}
}
