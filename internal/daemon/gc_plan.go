package daemon

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// thing is something on a disk, and what gc makes of it.
type thing struct {
	api.GCItem
	goes bool
	rel  string             // below the root that it is removed from
	save []forge.Checkpoint // that go with it
}

// attemptDir is of docs/run-directory.md.
func attemptDir(runDir string, n int) string {
	return filepath.Join(runDir, "attempts", attemptName(n))
}

// judgeOld says of everything that a run left what may go, and why. It is a function of values: what the tables say, and which
// checkpoints are there. The caller has made sure that the run ended long enough ago.
//
// What stays: all of a run that another one builds on; the newest verified checkpoint, from which people may branch, and whatever is newer and not
// yet read; checkpoints that were to stay for ever, and the best where it was asked for; the attempt that completed, whose output is the result; and
// every directory in which a registered artefact of any tenant lies.
func judgeOld(o store.OldRun, u store.Uses, there func(forge.Checkpoint) bool) []thing {
	r := o.Run
	runDir := ""
	for _, a := range o.Attempts {
		runDir = cmp.Or(a.RunDir, runDir)
	}
	why := "" // all of it stays
	if !r.State.Terminal() {
		why = "its run has not ended"
	}
	for _, a := range o.Attempts {
		if a.State != forge.AttemptEnded {
			why = "an attempt of its run has not ended"
		}
	}
	if by := u.Needed[r.ID]; by != "" {
		why = by + " builds on its run"
	}
	keep := keptSaves(r, o.Saves, there)
	var out []thing
	for _, a := range o.Attempts {
		dir := attemptDir(runDir, a.Number)
		whole := thing{GCItem: api.GCItem{Kind: api.GCAttempt, Path: dir, Run: r.Number, Attempt: a.Number}, goes: true}
		var saves []thing
		for _, c := range o.Saves {
			if c.Attempt != a.Number || !inside(c.Path, dir) {
				continue
			}
			t := thing{GCItem: api.GCItem{Kind: api.GCCheckpoint, Path: c.Path, Run: r.Number, Attempt: a.Number, Step: c.Step, Bytes: c.Bytes}, save: []forge.Checkpoint{c}}
			if reason := cmp.Or(why, keep[key(c)], rooted(u, r.ID, c.Path)); reason != "" {
				t.Why, whole.goes, whole.Why = reason, false, "a checkpoint in it stays"
			} else {
				t.goes, t.Why = true, goneWhy(c)
			}
			saves = append(saves, t)
			whole.save = append(whole.save, c)
		}
		output := thing{GCItem: api.GCItem{Kind: api.GCOutput, Path: filepath.Join(dir, "output"), Run: r.Number, Attempt: a.Number}}
		if a.Reason == forge.EndCompleted {
			whole.goes, whole.Why = false, "it completed: its logs and metrics"
			output.goes, output.Why = judgeOutput(r, output.Path, u)
		}
		if root := rooted(u, r.ID, dir); root != "" && whole.goes {
			whole.goes, whole.Why = false, root
			output.Why = root
		}
		if why != "" {
			whole.goes, whole.Why, output.goes, output.Why = false, why, false, why
		}
		if whole.goes {
			whole.Why = "its run has ended (" + string(r.State) + "); its logs go with it"
			out = append(out, whole)
			continue
		}
		whole.save = nil
		out = append(append(out, whole), saves...)
		if output.Why != "" {
			out = append(out, output)
		}
	}
	return out
}

// judgeOutput is about the output of an attempt that completed.
func judgeOutput(r forge.Run, path string, u store.Uses) (goes bool, why string) {
	if root := rooted(u, r.ID, path); root != "" {
		return false, root
	}
	if len(u.Versions[r.ID]) > 0 {
		return true, "its version has its bytes elsewhere"
	}
	if r.Spec.Eval || r.Spec.Scan != nil {
		return false, "what the run found"
	}
	return false, "nobody has registered it: forgectl model register NAME RUN, or remove it by hand"
}

// rooted says which registered artefact lies in a directory, or holds it.
func rooted(u store.Uses, run forge.RunID, dir string) string {
	for _, root := range u.RootsOf[run] {
		if below(root, dir) || below(dir, root) {
			return "a registered version lies there"
		}
	}
	return ""
}

func inside(path, dir string) bool {
	return path != dir && below(path, dir) && filepath.Clean(path) == path
}

type saveKey struct {
	attempt int
	step    int64
}

func key(c forge.Checkpoint) saveKey { return saveKey{c.Attempt, c.Step} }

// keptSaves says which checkpoints of a run stay, and why.
func keptSaves(r forge.Run, saves []forge.Checkpoint, there func(forge.Checkpoint) bool) map[saveKey]string {
	keep := map[saveKey]string{}
	saves = slices.Clone(saves)
	slices.SortStableFunc(saves, func(a, b forge.Checkpoint) int {
		return cmp.Or(cmp.Compare(b.Step, a.Step), cmp.Compare(b.Attempt, a.Attempt))
	})
	newest := slices.IndexFunc(saves, func(c forge.Checkpoint) bool { return c.Verdict == forge.VerdictVerified && there(c) })
	for i, c := range saves {
		if c.Verdict == forge.VerdictWritten && (newest < 0 || i < newest) {
			keep[key(c)] = "nobody has read it whole yet, and none above it is verified"
		}
	}
	if newest >= 0 {
		keep[key(saves[newest])] = "the newest verified one of its run"
	}
	if every, ok := r.Spec.Whole("checkpoint.keep_every"); ok && every >= 1 {
		for _, c := range saves {
			if c.Usable() && c.Step > 0 && c.Step%every == 0 {
				keep[key(c)] = cmp.Or(keep[key(c)], "checkpoint.keep_every: to stay for ever")
			}
		}
	}
	if best, _ := r.Spec.Params["checkpoint.keep_best"].(string); best != "" && best != "none" {
		marked := slices.Clone(saves)
		forge.MarkBest(marked)
		for _, c := range marked {
			if c.Best {
				keep[key(c)] = cmp.Or(keep[key(c)], "checkpoint.keep_best: the best one")
			}
		}
	}
	return keep
}

func goneWhy(c forge.Checkpoint) string {
	switch c.Verdict {
	case forge.VerdictTorn, forge.VerdictForeign:
		return "no run can begin from it (" + string(c.Verdict) + ")"
	}
	return "a newer one of its run is verified"
}

// place is where things of a run may be removed from; an error says why none may.
func (d *Daemon) place(o store.OldRun) (c *Cluster, err error) {
	for _, a := range o.Attempts {
		at, ok := d.live().clusters[a.Cluster]
		if !ok {
			return nil, fmt.Errorf("cluster %s is not configured any more", a.Cluster)
		}
		if c != nil && c.RunRoot != at.RunRoot {
			return nil, fmt.Errorf("its attempts lie on several clusters: %s and %s", c.Name, at.Name)
		}
		if c = at; c.AsUser {
			continue
		}
		if filepath.Dir(a.RunDir) != filepath.Clean(c.RunRoot) || filepath.Base(a.RunDir) != string(o.Run.ID) || strings.Contains(a.RunDir, "..") {
			return nil, fmt.Errorf("%s does not lie in run_root %s", a.RunDir, c.RunRoot)
		}
	}
	if c == nil {
		return nil, fmt.Errorf("it had no attempt")
	}
	return c, nil
}
