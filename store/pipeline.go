package store

import (
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// NewPipeline is what the submission of several runs stores, in an order in which none comes before one that it waits for.
type NewPipeline struct {
	Name  string
	Steps []NewStep
}

// NewStep is a run of it. In After, and in the Run of inputs, another step is named as StepRef and its name.
type NewStep struct {
	Name string
	Spec forge.RunSpec
}

// SubmitPipeline stores all of its runs or none, in one write. A repeated request (Principal.Once) is answered with the runs of the first.
// Errors are those of SubmitRun.
func (t *Tenant) SubmitPipeline(ctx context.Context, n NewPipeline) ([]forge.Run, error) {
	const op = "pipeline.submit"
	var rows []*runRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			rows = nil
			id := tx.id()
			if _, err := tx.exec(`INSERT INTO pipelines (id, tenant, name, user_name, submitted_at) VALUES (?, ?, ?, ?, ?)`,
				id, string(t.p.Tenant), clean(n.Name), clean(t.p.Actor()), int64(stampOf(tx.now))); err != nil {
				return "", err
			}
			made := madeRuns{}
			for _, s := range n.Steps {
				s.Spec.Pipeline = &forge.PipelineRef{ID: id, Name: n.Name, Step: s.Name}
				row, err := tx.submitStep(t.p, made.named(s.Spec), "")
				if err != nil {
					return "", err
				}
				made[forge.RunID(StepRef+s.Name)] = row
				rows = append(rows, row)
			}
			return id, nil
		}, func(ref string) (err error) {
			rows, err = tx.pipelineRuns(ref)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	runs, err := nouns(rows, func(r **runRow) (forge.Run, error) { return (*r).forge(&t.db.specs) })
	return runs, classify(op, err)
}

func (t *tx) submitStep(p forge.Principal, spec forge.RunSpec, parent forge.RunID) (*runRow, error) {
	row, err := newRunRow(spec)
	if err != nil {
		return nil, err
	}
	row.Tenant, row.User, row.Parent, row.SubmittedAt = p.Tenant, clean(p.Actor()), parent, stampOf(t.now)
	return row, t.submit(row, NewRun{Spec: spec, Parent: parent})
}

// madeRuns are runs by what others of the same write call them: a step's name, or the run that they take the place of.
type madeRuns map[forge.RunID]*runRow

// named is a spec that names them by their ids. Specs are shared: it is a copy wherever it differs.
func (m madeRuns) named(s forge.RunSpec) forge.RunSpec {
	s.After = slices.Clone(s.After)
	for i, id := range s.After {
		if r := m[id]; r != nil {
			s.After[i] = r.ID
		}
	}
	for _, in := range []**forge.InputRef{&s.Base, &s.Start, &s.RewardModel, &s.Model} {
		if !(*in).Pending() {
			continue
		}
		if r := m[(*in).Run]; r != nil {
			c := **in
			c.Name, c.Run = "run:"+strings.TrimPrefix(r.name(), "run "), r.ID
			*in = &c
		}
	}
	return s
}

// joinPipeline notes a run as a step of its pipeline: a new one, or one that is submitted again.
func (t *tx) joinPipeline(r *runRow, p *forge.PipelineRef) error {
	if p == nil {
		return nil
	}
	_, err := t.exec(`INSERT INTO pipeline_steps (run, pipeline, position, step)
		SELECT ?, ?, coalesce((SELECT min(position) FROM pipeline_steps WHERE pipeline = ? AND step = ?), (SELECT count(*) FROM pipeline_steps WHERE pipeline = ?)), ?`,
		string(r.ID), p.ID, p.ID, p.Step, p.ID, p.Step)
	return err
}

// followAgain submits again what waited for a step in vain, now for the run that takes its place. The runs that waited are cancelled:
// what a spec names never changes.
func (t *tx) followAgain(parent, row *runRow, p forge.Principal, pipeline *forge.PipelineRef) error {
	if pipeline == nil || parent.State == forge.RunCompleted {
		return nil
	}
	rows, err := t.pipelineRuns(pipeline.ID)
	if err != nil {
		return err
	}
	made := madeRuns{parent.ID: row}
	for _, r := range rows {
		if r.State != forge.RunPending || r.Attempt > 0 || r.Cancel != forge.CancelNone || r.ID == row.ID {
			continue
		}
		run, err := r.forge(&t.w.db.specs)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(run.Spec.After, func(id forge.RunID) bool { return made[id] != nil }) {
			continue
		}
		if err := t.cancel(r, forge.CancelTerm, row.User); err != nil {
			return err
		}
		again, err := t.submitStep(p, made.named(run.Spec), r.ID)
		if err != nil {
			return err
		}
		made[r.ID] = again
	}
	return nil
}

// pipelineRuns are the runs of a pipeline in the order of its steps, the newest of a step last.
func (t *tx) pipelineRuns(id string) ([]*runRow, error) {
	var rows []runRow
	if err := inPipeline(selectRuns(t.NewSelect(), &rows), id).Scan(t.ctx); err != nil {
		return nil, err
	}
	out := make([]*runRow, len(rows))
	for i := range rows {
		out[i] = &rows[i]
	}
	return out, nil
}

func inPipeline(q *bun.SelectQuery, id string) *bun.SelectQuery {
	return q.Join("JOIN pipeline_steps AS p ON p.run = r.id").Where("p.pipeline = ?", clean(id)).Order("p.position", "r.number")
}

// PipelineRuns are the runs of a pipeline of the tenant, in the order of its steps and the newest of a step last. KindNotFound when there is none.
func (t *Tenant) PipelineRuns(ctx context.Context, id string) ([]forge.Run, error) {
	const op = "pipeline.show"
	var rows []runRow
	if err := inPipeline(selectRuns(t.db.read.NewSelect(), &rows), id).Where("r.tenant = ?", t.p.Tenant).Scan(ctx); err != nil {
		return nil, classify(op, err)
	}
	if len(rows) == 0 {
		return nil, notFound(op, "there is no pipeline %q", id).WithHint("forgectl run list --pipeline NAME")
	}
	runs, err := nouns(rows, func(r *runRow) (forge.Run, error) { return r.forge(&t.db.specs) })
	return runs, classify(op, err)
}
