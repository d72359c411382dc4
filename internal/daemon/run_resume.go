package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// newestStep in the place of a step is the newest checkpoint that is good.
const newestStep = "latest"

// resolveBranch pins the checkpoint of another run that this one is to begin from. What can be told apart from a checkpoint that does not
// suit is refused here; what turns up later ends the attempt as bad input. Nothing makes such a run begin from nothing.
func (d *Daemon) resolveBranch(ctx context.Context, p forge.Principal, q api.SubmitRunRequest, spec *forge.RunSpec) (notes []string, err error) {
	if q.ResumeFrom == "" {
		return nil, nil
	}
	i := strings.LastIndexByte(q.ResumeFrom, '@')
	if i <= 0 || i == len(q.ResumeFrom)-1 {
		return nil, forge.Invalidf("resume_from", "%.80q: want RUN@STEP, or RUN@%s", q.ResumeFrom, newestStep).WithHint("forgectl run checkpoints RUN lists the steps")
	}
	name, step := q.ResumeFrom[:i], q.ResumeFrom[i+1:]
	t := d.db.For(p)
	r, err := t.Run(ctx, name)
	if err != nil {
		return nil, asField(err, "resume_from")
	}
	// What it waited for is known by now, and named as this one's inputs are.
	if pinned, err := d.pinSpec(ctx, r.Spec); err == nil {
		r.Spec = pinned
	}
	if err := branchable(r, *spec); err != nil {
		return nil, err
	}
	saves, err := t.Checkpoints(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if saves, err = ofStep(r, saves, step); err != nil {
		return nil, err
	}
	var why string
	for _, c := range saves {
		err := fits(r, c, *spec)
		if err == nil {
			var note string
			if c, note, err = d.readBranch(ctx, t, r, c, spec, !q.DryRun); note != "" {
				notes = append(notes, note)
			}
		}
		if err == nil {
			err = usable(r, c)
		}
		if err != nil {
			if step != newestStep || forge.KindOf(err) == forge.KindUnavailable {
				return nil, err
			}
			notes = append(notes, fmt.Sprintf("step %d of run %d is passed over: %v", c.Step, r.Number, err))
			why = err.Error()
			continue
		}
		spec.ResumeFrom = &forge.BranchPoint{Run: r.ID, Number: r.Number, Attempt: c.Attempt, Step: c.Step, Path: c.Path, SHA256: c.SHA256}
		if c.Verdict == forge.VerdictWritten {
			notes = append(notes, fmt.Sprintf("step %d of run %d was not read whole yet; it is before the run starts, and if it is torn the run ends with bad_input", c.Step, r.Number))
		}
		return append(notes, differences(r, c, *spec)...), nil
	}
	return nil, forge.Invalidf("resume_from", "run %d has no checkpoint that is good: %s", r.Number, why).WithHint("forgectl run checkpoints %d", r.Number)
}

// branchable: the same recipe on the same base model, or the bytes mean something else.
func branchable(r forge.Run, s forge.RunSpec) error {
	bad := func(format string, args ...any) error {
		return forge.Invalidf("resume_from", "run %d %s", r.Number, fmt.Sprintf(format, args...)).WithHint("forgectl run show %d", r.Number)
	}
	digest := func(in *forge.InputRef) string {
		if in == nil {
			return ""
		}
		if in.Pending() {
			return runRef + string(in.Run)
		}
		return in.SHA256
	}
	switch {
	case r.Spec.Recipe != s.Recipe:
		return bad("is of recipe %s, not %s", r.Spec.Recipe, s.Recipe)
	case !sameWork(r.Spec, s):
		return bad("is of recipe %s as it was then (sha256 %.12s…); it is another version now (%.12s…) with another program, other parameters or other defaults, and what a checkpoint holds may mean something else in it",
			s.Recipe, r.Spec.RecipeSHA256, s.RecipeSHA256)
	case digest(r.Spec.Base) != digest(s.Base):
		return bad("trains base model %s, this one %s", inputName(r.Spec.Base), inputName(s.Base))
	case digest(r.Spec.Start) != digest(s.Start):
		return bad("went on from adapter %s, this one from %s", inputName(r.Spec.Start), inputName(s.Start))
	case digest(r.Spec.Model) != digest(s.Model):
		return bad("is of model %s, this one of %s", inputName(r.Spec.Model), inputName(s.Model))
	case r.Spec.Launch != s.Launch:
		return bad("is launched per %s, this one per %s", r.Spec.Launch, s.Launch)
	}
	return nil
}

// sameWork: by what gives checkpoints their meaning. Of runs of before that was noted by the whole recipe, its words included.
func sameWork(a, b forge.RunSpec) bool {
	if a.RecipeWork == "" || b.RecipeWork == "" {
		return a.RecipeSHA256 == b.RecipeSHA256
	}
	return a.RecipeWork == b.RecipeWork
}

func inputName(in *forge.InputRef) string {
	if in == nil {
		return "none"
	}
	return in.Name
}

// ofStep narrows checkpoints down to those that were asked for, in the order in which they are to be tried.
func ofStep(r forge.Run, saves []forge.Checkpoint, step string) ([]forge.Checkpoint, error) {
	there := slices.DeleteFunc(slices.Clone(saves), func(c forge.Checkpoint) bool { return !c.Removed.IsZero() })
	steps := func() string {
		var out []string
		for _, c := range there {
			if s := strconv.FormatInt(c.Step, 10); !slices.Contains(out, s) && len(out) < 10 {
				out = append(out, s)
			}
		}
		if len(out) == 0 {
			return "it has none"
		}
		return "it has " + strings.Join(out, ", ")
	}
	bad := func(format string, args ...any) ([]forge.Checkpoint, error) {
		return nil, forge.Invalidf("resume_from", format, args...).WithHint("forgectl run checkpoints %d", r.Number)
	}
	if step == newestStep {
		if len(there) == 0 {
			return bad("run %d has no checkpoint", r.Number)
		}
		return there, nil
	}
	n, err := strconv.ParseInt(step, 10, 64)
	if err != nil || n < 0 {
		return bad("%.40q is no step; want a number, or %s", step, newestStep)
	}
	of := func(c forge.Checkpoint) bool { return c.Step != n }
	if here := slices.DeleteFunc(slices.Clone(there), of); len(here) > 0 {
		slices.SortStableFunc(here, func(a, b forge.Checkpoint) int { return rank(b) - rank(a) })
		return here[:1], nil
	}
	if len(slices.DeleteFunc(slices.Clone(saves), of)) > 0 {
		return bad("run %d has removed its checkpoint of step %d; %s", r.Number, n, steps())
	}
	return bad("run %d has no checkpoint of step %d; %s", r.Number, n, steps())
}

// rank of two saves of one step: a good one first, the newer attempt's among equals.
func rank(c forge.Checkpoint) int {
	if c.Usable() {
		return 1
	}
	return 0
}

// fits: as many ranks, or a format that others can read too.
func fits(r forge.Run, c forge.Checkpoint, s forge.RunSpec) error {
	if err := usable(r, c); err != nil {
		return err
	}
	if s.Launch == forge.LaunchNode || c.World == s.Gang.GPUs() || c.AnyWorld {
		return nil
	}
	return forge.Invalidf("resume_from", "step %d of run %d was saved by %d ranks and this run has %d; its format cannot be read by another number", c.Step, r.Number, c.World, s.Gang.GPUs()).
		WithHint("submit it with %d GPUs", c.World)
}

func usable(r forge.Run, c forge.Checkpoint) error {
	if c.Usable() {
		return nil
	}
	return forge.Invalidf("resume_from", "step %d of run %d is %s: %s", c.Step, r.Number, c.Verdict, c.Why).WithHint("forgectl run checkpoints %d", r.Number)
}

// readBranch has the checkpoint verified where it lies, and kept from the retention of its run if that goes on. The new run has to
// be where the files are.
func (d *Daemon) readBranch(ctx context.Context, t tenantReads, r forge.Run, c forge.Checkpoint, spec *forge.RunSpec, keep bool) (seen forge.Checkpoint, note string, err error) {
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return c, "", err
	}
	i := slices.IndexFunc(attempts, func(a forge.Attempt) bool { return a.Number == c.Attempt })
	if i < 0 {
		return c, "", forge.Errorf(forge.KindInternal, "run.submit", "run %d has a checkpoint of attempt %d and no such attempt", r.Number, c.Attempt)
	}
	a, live := attempts[i], d.live()
	at, ok := live.clusters[a.Cluster]
	if !ok {
		return c, "", forge.Invalidf("resume_from", "run %d was on cluster %s, which is not configured any more", r.Number, a.Cluster)
	}
	if spec.Cluster != "" && spec.Cluster != a.Cluster {
		if to, ok := live.clusters[spec.Cluster]; ok && to.RunRoot != at.RunRoot {
			return c, "", forge.Invalidf("resume_from", "run %d's checkpoints lie on cluster %s, and this run is for %s, which has run directories of its own", r.Number, a.Cluster, spec.Cluster).
				WithHint("submit it with --cluster %s", a.Cluster)
		}
	}
	if spec.Cluster == "" && len(live.order) > 1 {
		spec.Cluster = a.Cluster
	}
	files, ok := at.Files.(Brancher)
	if !ok {
		return c, "", nil
	}
	keep = keep && !r.State.Terminal()
	seen, err = files.Branch(ctx, r.ID, a.RunDir, c.Attempt, c.Step, keep)
	if forge.KindOf(err) == forge.KindPrecondition && keep { // no hard links there
		note = fmt.Sprintf("run %d goes on and may remove step %d before this run starts, which then ends with bad_input: %v", r.Number, c.Step, err)
		seen, err = files.Branch(ctx, r.ID, a.RunDir, c.Attempt, c.Step, false)
	}
	if forge.KindOf(err) == forge.KindNotFound {
		err = forge.Invalidf("resume_from", "step %d of run %d is not there any more: its run has removed it", c.Step, r.Number).WithHint("forgectl run checkpoints %d", r.Number)
	}
	if err != nil {
		return c, "", err
	}
	return seen, note, nil
}

// tenantReads is what of a tenant's store is read here.
type tenantReads interface {
	Attempts(ctx context.Context, run forge.RunID) ([]forge.Attempt, error)
}

// differences are allowed, and worth a word.
func differences(r forge.Run, c forge.Checkpoint, s forge.RunSpec) (notes []string) {
	if r.Spec.Dataset != nil && s.Dataset != nil && r.Spec.Dataset.SHA256 != s.Dataset.SHA256 {
		notes = append(notes, fmt.Sprintf("run %d was trained on %s, this run is on %s: it goes on at step %d of another order of rows", r.Number, r.Spec.Dataset.Name, s.Dataset.Name, c.Step))
	}
	if a, b := r.Spec.RewardModel, s.RewardModel; inputName(a) != inputName(b) {
		notes = append(notes, fmt.Sprintf("run %d was scored by reward model %s, this run is by %s: what it has learnt so far is from another score", r.Number, inputName(a), inputName(b)))
	}
	if s.Launch != forge.LaunchNode && c.World != s.Gang.GPUs() {
		notes = append(notes, fmt.Sprintf("step %d of run %d was saved by %d ranks and is read by %d: the result is not the same, byte for byte, as with %d", c.Step, r.Number, c.World, s.Gang.GPUs(), c.World))
	}
	return notes
}
