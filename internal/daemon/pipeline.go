package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// pipelines implements api.Pipelines.
type pipelines struct{ d *Daemon }

func (s pipelines) SubmitPipeline(ctx context.Context, p forge.Principal, q api.PipelineRequest) (api.SubmittedPipeline, error) {
	out := api.SubmittedPipeline{Name: q.Name}
	if err := least(p, "run.submit", forge.RoleMember, "submitting a run"); err != nil {
		return out, err
	}
	if err := forge.CheckName(q.Name); err != nil {
		return out, forge.Invalidf("name", "%v", err)
	}
	ordered, err := inOrder(q)
	if err != nil {
		return out, err
	}
	s.d.using.RLock()
	defer s.d.using.RUnlock()
	s.registers(q.Name, ordered)
	n := store.NewPipeline{Name: q.Name}
	among := steps{}
	for _, x := range ordered {
		x.Run.DryRun = q.DryRun
		spec, notes, err := s.d.resolveAmong(ctx, p, x.Run, among)
		if err != nil {
			return out, atStep(x.Step, err)
		}
		among[x.Step] = &forge.Run{ID: forge.RunID(store.StepRef + x.Step), Spec: spec, State: forge.RunPending}
		n.Steps = append(n.Steps, store.NewStep{Name: x.Step, Spec: spec})
		out.Steps = append(out.Steps, api.SubmittedStep{Step: x.Step, Warnings: notes, Run: forge.Run{Spec: spec, User: p.Actor(), State: forge.RunPending}})
	}
	if q.DryRun {
		return out, nil
	}
	for _, x := range n.Steps {
		if src := x.Spec.Source; src != nil {
			if err := (snapshots(s)).keep(p.Tenant, src.SHA256); err != nil {
				return out, atStep(x.Name, err)
			}
		}
	}
	runs, err := s.d.db.For(p).SubmitPipeline(ctx, n)
	if err != nil {
		return out, err
	}
	again := submittedPipeline(runs)
	for i := range again.Steps {
		if i < len(out.Steps) && out.Steps[i].Step == again.Steps[i].Step {
			again.Steps[i].Warnings = out.Steps[i].Warnings
		}
	}
	return again, nil
}

func (s pipelines) Pipeline(ctx context.Context, p forge.Principal, id string) (api.SubmittedPipeline, error) {
	runs, err := s.d.db.For(p).PipelineRuns(ctx, id)
	return submittedPipeline(runs), err
}

func submittedPipeline(runs []forge.Run) (out api.SubmittedPipeline) {
	for _, r := range runs {
		ref := r.Spec.Pipeline
		out.ID, out.Name = ref.ID, ref.Name
		out.Steps = append(out.Steps, api.SubmittedStep{Step: ref.Step, Run: r})
	}
	return out
}

// atStep says which step an error is about.
func atStep(step string, err error) error {
	var e *forge.Error
	if !errors.As(err, &e) || e.Field == "" {
		return fmt.Errorf("step %s: %w", step, err)
	}
	of := *e
	of.Field = "steps." + step + "." + e.Field
	return &of
}

// named are the steps that a step names, by the field that does.
func named(x api.StepRequest) (fields, names []string) {
	add := func(field, value string) {
		if step, is := strings.CutPrefix(value, store.StepRef); is {
			fields, names = append(fields, field), append(names, step)
		}
	}
	add("base", x.Run.Base)
	add("reward_model", x.Run.RewardModel)
	add("model", x.Run.Model)
	for _, a := range x.Run.After {
		add("after", a)
	}
	return fields, names
}

// inOrder puts steps behind those that they name, and otherwise as they were written.
func inOrder(q api.PipelineRequest) ([]api.StepRequest, error) {
	if len(q.Steps) == 0 || len(q.Steps) > forge.MaxSteps {
		return nil, forge.Invalidf("steps", "%d steps; want 1 to %d", len(q.Steps), forge.MaxSteps)
	}
	at := map[string]int{}
	var names []string
	for i, x := range q.Steps {
		if err := forge.CheckName(x.Step); err != nil {
			return nil, forge.Invalidf("steps", "step %d: %v", i+1, err)
		}
		if _, twice := at[x.Step]; twice {
			return nil, forge.Invalidf("steps", "there are two steps %q", x.Step)
		}
		at[x.Step] = i
		names = append(names, x.Step)
	}
	var out []api.StepRequest
	state := make([]int, len(q.Steps)) // 1: being looked at, 2: done
	var way []string
	var visit func(i int) error
	visit = func(i int) error {
		x := q.Steps[i]
		state[i] = 1
		way = append(way, x.Step)
		fields, needs := named(x)
		for k, need := range needs {
			j, ok := at[need]
			field := "steps." + x.Step + "." + fields[k]
			switch {
			case !ok:
				return forge.Invalidf(field, "there is no step %q in this pipeline; there are %s", need, strings.Join(names, ", "))
			case state[j] == 1:
				return forge.Invalidf(field, "the steps wait for each other: %s", strings.Join(append(way[slices.Index(way, need):], need), " → "))
			case state[j] == 0:
				if err := visit(j); err != nil {
					return err
				}
			}
		}
		state[i] = 2
		way = way[:len(way)-1]
		out = append(out, x)
		return nil
	}
	for i := range q.Steps {
		if state[i] == 0 {
			if err := visit(i); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// registers gives a name to what other steps take from one that has none. Its request is changed; a recipe that leaves nothing is found
// where it is named.
func (s pipelines) registers(pipeline string, all []api.StepRequest) {
	taken := map[string]bool{}
	for _, x := range all {
		fields, names := named(x)
		for i, f := range fields {
			if f != "after" {
				taken[names[i]] = true
			}
		}
	}
	for i, x := range all {
		if taken[x.Step] && x.Run.Register == "" {
			if rec, err := s.d.live().recipes.Get(x.Run.Recipe); err == nil && !rec.NeedsModel {
				all[i].Run.Register = automatic(pipeline, x.Step)
			}
		}
	}
}

// automatic is PIPELINE-STEP, or what of it fits.
func automatic(pipeline, step string) string {
	name := pipeline + "-" + step
	if over := len(name) - forge.MaxNameLength; over > 0 {
		name = strings.TrimRight(pipeline[:max(1, len(pipeline)-over)], "-._") + "-" + step
	}
	return name[:min(len(name), forge.MaxNameLength)]
}

// chain are the runs of a run's pipeline; none where it is of none.
func (d *Daemon) chain(ctx context.Context, t *store.Tenant, r forge.Run) ([]forge.Run, error) {
	if r.Spec.Pipeline == nil {
		return nil, nil
	}
	return t.PipelineRuns(ctx, r.Spec.Pipeline.ID)
}

// asSteps is a pipeline as its steps stand.
func asSteps(runs []forge.Run) (out []forge.PipelineStep) {
	stepOf := map[forge.RunID]string{}
	for _, x := range runs {
		stepOf[x.ID] = x.Spec.Pipeline.Step
	}
	for _, x := range runs {
		s := forge.PipelineStep{Step: x.Spec.Pipeline.Step, Run: x.Number, Recipe: x.Spec.Recipe, State: x.State, Held: x.Hold != nil, Model: x.Model}
		for _, a := range x.Spec.After {
			if name, of := stepOf[a]; of && !slices.Contains(s.After, name) {
				s.After = append(s.After, name)
			}
		}
		out = append(out, s)
	}
	return out
}

// stepWords says where in its chain a run waits, for which steps, and what lets it go on.
func stepWords(r forge.Run, runs []forge.Run) (words, next []string) {
	words = append(words, fmt.Sprintf("it is step %s of pipeline %s", r.Spec.Pipeline.Step, r.Spec.Pipeline.Name))
	for _, x := range runs {
		if !slices.Contains(r.Spec.After, x.ID) || x.State == forge.RunCompleted {
			continue
		}
		words = append(words, fmt.Sprintf("it needs step %s, run %d, which is %s", x.Spec.Pipeline.Step, x.Number, x.State))
		if x.State.Terminal() {
			next = append(next, fmt.Sprintf("forgectl run retry %d", x.Number))
		}
	}
	return words, next
}
