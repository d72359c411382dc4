package daemon

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// history is a run that ended, as chance made it.
func history(rnd *rand.Rand) (store.OldRun, store.Uses, func(forge.Checkpoint) bool) {
	pick := func(n int) bool { return rnd.IntN(n) == 0 }
	id := forge.RunID("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	o := store.OldRun{Run: forge.Run{ID: id, Number: 7, State: []forge.RunState{forge.RunCompleted, forge.RunFailed, forge.RunCancelled}[rnd.IntN(3)]}}
	if pick(20) {
		o.Run.State = forge.RunPending
	}
	o.Run.Spec.Params = map[string]any{}
	if pick(3) {
		o.Run.Spec.Params["checkpoint.keep_every"] = 3
	}
	if pick(3) {
		o.Run.Spec.Params["checkpoint.keep_best"] = "loss"
	}
	u := store.Uses{Needed: map[forge.RunID]string{}, RootsOf: map[forge.RunID][]string{}, Versions: map[forge.RunID][]store.MadeVersion{}}
	gone := map[saveKey]bool{}
	step := int64(0)
	for n := 1; n <= 1+rnd.IntN(4); n++ {
		a := forge.Attempt{Run: id, Number: n, RunDir: "/runs/" + string(id), State: forge.AttemptEnded, Reason: forge.EndNodeLost}
		dir := attemptDir(a.RunDir, n)
		if pick(40) {
			a.State = forge.AttemptExited
		}
		if step = max(0, step-int64(rnd.IntN(3))); rnd.IntN(4) > 0 {
			for range rnd.IntN(5) {
				step++
				c := forge.Checkpoint{Run: id, Attempt: n, Step: step, Path: fmt.Sprintf("%s/checkpoints/checkpoint-%d", dir, step),
					Verdict: []forge.Verdict{forge.VerdictVerified, forge.VerdictVerified, forge.VerdictWritten, forge.VerdictTorn, forge.VerdictForeign}[rnd.IntN(5)]}
				if pick(2) {
					loss := float64(rnd.IntN(100))
					c.Loss = &loss
				}
				if pick(6) {
					gone[key(c)] = true
				}
				o.Saves = append(o.Saves, c)
				if pick(15) { // somebody registered what lies there
					u.RootsOf[id] = append(u.RootsOf[id], c.Path)
				}
			}
		}
		o.Attempts = append(o.Attempts, a)
	}
	rnd.Shuffle(len(o.Saves), func(i, j int) { o.Saves[i], o.Saves[j] = o.Saves[j], o.Saves[i] })
	last := &o.Attempts[len(o.Attempts)-1]
	if o.Run.State == forge.RunCompleted {
		last.Reason = forge.EndCompleted
		switch rnd.IntN(3) {
		case 0: // registered in place
			root := attemptDir(last.RunDir, last.Number) + "/output"
			u.Versions[id], u.RootsOf[id] = []store.MadeVersion{{Name: "bot@1", Root: root}}, append(u.RootsOf[id], root)
		case 1:
			u.Versions[id] = []store.MadeVersion{{Name: "bot@1", Root: "/kept/T/" + strings.Repeat("a", 64)}}
		}
	}
	if pick(8) {
		u.Needed[id] = "run 9"
	}
	return o, u, func(c forge.Checkpoint) bool { return !gone[key(c)] }
}

// needed is what must stay of a history, said again from docs/gc.md and not from the code: directories of which nothing may go.
func needed(o store.OldRun, u store.Uses, there func(forge.Checkpoint) bool) []string {
	runDir := o.Attempts[0].RunDir
	if o.Run.State == forge.RunPending || u.Needed[o.Run.ID] != "" {
		return []string{runDir}
	}
	var out []string
	for _, a := range o.Attempts {
		if a.State != forge.AttemptEnded {
			return []string{runDir}
		}
		if a.Reason == forge.EndCompleted && len(u.Versions[o.Run.ID]) == 0 {
			out = append(out, attemptDir(runDir, a.Number)+"/output")
		}
		if a.Reason == forge.EndCompleted {
			out = append(out, attemptDir(runDir, a.Number)+"/metrics.jsonl")
		}
	}
	out = append(out, u.RootsOf[o.Run.ID]...)
	higher := func(a, b forge.Checkpoint) bool { return a.Step > b.Step || a.Step == b.Step && a.Attempt > b.Attempt }
	for _, c := range o.Saves {
		verifiedAbove := false
		for _, d := range o.Saves {
			verifiedAbove = verifiedAbove || d.Verdict == forge.VerdictVerified && there(d) && higher(d, c)
		}
		good := c.Verdict == forge.VerdictVerified || c.Verdict == forge.VerdictWritten
		every := o.Run.Spec.Params["checkpoint.keep_every"] != nil && c.Step%3 == 0
		best := o.Run.Spec.Params["checkpoint.keep_best"] != nil && c.Loss != nil
		for _, d := range o.Saves {
			best = best && !(d.Loss != nil && d.Verdict != forge.VerdictTorn && d.Verdict != forge.VerdictForeign && *d.Loss < *c.Loss)
			best = best && !(d.Loss != nil && d.Verdict != forge.VerdictTorn && d.Verdict != forge.VerdictForeign && *d.Loss == *c.Loss && higher(d, c))
		}
		switch {
		case c.Verdict == forge.VerdictVerified && there(c) && !verifiedAbove, c.Verdict == forge.VerdictWritten && !verifiedAbove, good && every, good && best:
			out = append(out, c.Path)
		}
	}
	return out
}

func TestWhatIsNeededIsNeverInAPlan(t *testing.T) {
	went, stayed := map[string]int{}, map[string]int{}
	for seed := range uint64(3_000) {
		o, u, there := history(rand.New(rand.NewPCG(seed, 9)))
		plan := judgeOld(o, u, there)
		var gone []string
		for _, x := range plan {
			if x.Why == "" {
				t.Fatalf("seed %d: %s has no reason", seed, x.Path)
			}
			if !x.goes {
				stayed[x.Kind]++
				continue
			}
			went[x.Kind]++
			gone = append(gone, x.Path)
			for _, n := range needed(o, u, there) {
				if below(n, x.Path) || below(x.Path, n) {
					t.Fatalf("seed %d: %s goes (%s), and %s is needed", seed, x.Path, x.Why, n)
				}
			}
			if filepath.Dir(filepath.Dir(x.Path)) != o.Attempts[0].RunDir && x.Kind == api.GCAttempt || !below(x.Path, o.Attempts[0].RunDir+"/attempts") {
				t.Fatalf("seed %d: %s is no %s", seed, x.Path, x.Kind)
			}
		}
		for i, a := range gone { // nothing is counted twice
			for _, b := range gone[i+1:] {
				if below(a, b) || below(b, a) {
					t.Fatalf("seed %d: %s and %s", seed, a, b)
				}
			}
		}
	}
	for _, kind := range []string{api.GCAttempt, api.GCCheckpoint, api.GCOutput} {
		if went[kind] < 100 || stayed[kind] < 100 {
			t.Errorf("%s: %d went and %d stayed: chance shows too little", kind, went[kind], stayed[kind])
		}
	}
}
