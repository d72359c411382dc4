package apitest

import (
	"context"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// SubmitPipeline implements api.Pipelines: of steps in an order in which each is behind those that it names.
func (f *Fake) SubmitPipeline(ctx context.Context, p forge.Principal, q api.PipelineRequest) (api.SubmittedPipeline, error) {
	out := api.SubmittedPipeline{Name: q.Name}
	if !q.DryRun {
		out.ID = "P-" + q.Name
	}
	ids := map[string]string{}
	var chain []forge.PipelineStep
	for _, x := range q.Steps {
		r := x.Run
		r.DryRun, r.After = q.DryRun, nil
		var after []string
		for _, field := range append([]string{r.Base, r.RewardModel, r.Model}, x.Run.After...) {
			step, is := strings.CutPrefix(field, "step:")
			if !is {
				continue
			}
			if ids[step] == "" {
				return out, forge.Invalidf("steps."+x.Step+".after", "there is no step %q in this pipeline", step)
			}
			after = append(after, step)
			if !q.DryRun {
				r.After = append(r.After, ids[step])
			}
		}
		s, err := f.SubmitRun(ctx, p, r)
		if err != nil {
			return out, err
		}
		ids[x.Step] = x.Step
		if !q.DryRun {
			ids[x.Step] = string(s.Run.ID)
			ref := &forge.PipelineRef{ID: out.ID, Name: q.Name, Step: x.Step}
			s.Run.Spec.Pipeline = ref
			f.ChangeRun(s.Run.Number, func(d *api.RunDetail) { d.Spec.Pipeline = ref })
		}
		chain = append(chain, forge.PipelineStep{Step: x.Step, Run: s.Run.Number, Recipe: s.Run.Spec.Recipe, State: s.Run.State, After: after})
		out.Steps = append(out.Steps, api.SubmittedStep{Step: x.Step, Run: s.Run, Warnings: s.Warnings})
	}
	for _, s := range out.Steps {
		f.ChangeRun(s.Run.Number, func(d *api.RunDetail) { d.Chain = chain })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remember(p, out.ID)
	return out, nil
}

// Pipeline implements api.Pipelines.
func (f *Fake) Pipeline(_ context.Context, p forge.Principal, id string) (api.SubmittedPipeline, error) {
	leave, err := f.enter("Pipeline")
	if err != nil {
		return api.SubmittedPipeline{}, err
	}
	defer leave()
	out := api.SubmittedPipeline{ID: id}
	for _, r := range f.runs {
		if r.Tenant == p.Tenant && r.Spec.Pipeline != nil && r.Spec.Pipeline.ID == id {
			out.Name = r.Spec.Pipeline.Name
			out.Steps = append(out.Steps, api.SubmittedStep{Step: r.Spec.Pipeline.Step, Run: r.Run})
		}
	}
	return out, nil
}
