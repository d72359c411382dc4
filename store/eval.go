package store

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// EvalFound is what an eval leaves, read and verified before it comes here.
type EvalFound struct {
	forge.Eval
	Samples []EvalSamples
}

// EvalSamples are the samples of one task under one filter.
type EvalSamples struct {
	Task, Filter string
	N, Bytes     int64  // lines, and their length before they were packed
	Data         []byte // gzip of JSON lines
}

type evalRow struct {
	bun.BaseModel `bun:"table:eval_results,alias:e"`

	Run       forge.RunID          `bun:"run,pk"`
	Tenant    forge.TenantID       `bun:"tenant"`
	Model     string               `bun:"model"`
	ModelID   forge.ModelVersionID `bun:"model_id"`
	Suite     string               `bun:"suite"`
	SuiteSHA  string               `bun:"suite_sha256"`
	Limited   bool                 `bun:"limited"`
	Facts     string               `bun:"facts"`
	CreatedAt stamp                `bun:"created_at"`

	Number int64 `bun:"number,scanonly"`
}

func (r *evalRow) place(string) []any { return []any{r.CreatedAt, r.Run} }

func (r *evalRow) forge() (forge.Eval, error) {
	e := forge.Eval{Run: r.Run, RunNumber: r.Number, Model: r.Model, ModelID: r.ModelID, Suite: r.Suite, SuiteSHA256: r.SuiteSHA, Limited: r.Limited, CreatedAt: r.CreatedAt.time()}
	return e, decode(r.Facts, &e.Facts)
}

// addEval stores what an eval found with the end of its run.
func (t *tx) addEval(r *runRow, found *EvalFound) error {
	if found == nil {
		return nil
	}
	facts, err := encode(1, found.Facts)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO eval_results (run, tenant, model, model_id, suite, suite_sha256, limited, facts, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		string(r.ID), string(r.Tenant), clean(found.Model), string(found.ModelID), clean(found.Suite), found.SuiteSHA256, found.Limited, clean(facts), int64(stampOf(t.now))); err != nil {
		return err
	}
	for i, s := range found.Scores {
		if _, err := t.exec(`INSERT INTO eval_scores (run, place, task, filter, metric, value, stderr, n, higher, aggregation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			string(r.ID), i, clean(s.Task), clean(s.Filter), clean(s.Metric), s.Value, s.StdErr, s.N, s.Higher, clean(s.Aggregation)); err != nil {
			return err
		}
	}
	for _, s := range found.Samples {
		if _, err := t.exec(`INSERT INTO eval_samples (run, task, filter, n, bytes, data) VALUES (?, ?, ?, ?, ?, ?)`,
			string(r.ID), clean(s.Task), clean(s.Filter), s.N, s.Bytes, s.Data); err != nil {
			return err
		}
	}
	return nil
}

// EvalFilter says which evals a listing shows; what is empty does not choose.
type EvalFilter struct {
	Model string // NAME, or NAME@VERSION
	Suite string
}

// Evals lists the tenant's evals, newest first, without their scores, and the cursor of the next page.
func (t *Tenant) Evals(ctx context.Context, f EvalFilter, l Listing) ([]forge.Eval, string, error) {
	const op = "eval.list"
	var rows []evalRow
	q := t.db.read.NewSelect().Model(&rows).ColumnExpr("e.*").ColumnExpr("r.number").Join("JOIN runs AS r ON r.id = e.run").Where("e.tenant = ?", t.p.Tenant)
	if f.Model != "" {
		ref, err := forge.ParseRef(f.Model)
		if err != nil {
			return nil, "", forge.Invalidf("model", "%v", err)
		}
		if ref.Number > 0 {
			q = q.Where("e.model = ?", clean(ref.String()))
		} else {
			q = q.Where("substr(e.model, 1, ?) = ?", len([]rune(ref.Name))+1, clean(ref.Name)+"@")
		}
	}
	if f.Suite != "" {
		q = q.Where("e.suite = ?", clean(f.Suite))
	}
	orders := []order{{name: "created_at", columns: []string{"e.created_at", "e.run"}, desc: true}}
	next, err := pageOf(ctx, t, op, l, orders, q, &rows, f.Model, f.Suite)
	if err != nil {
		return nil, "", err
	}
	all := make([]forge.Eval, len(rows))
	for i := range rows {
		if all[i], err = rows[i].forge(); err != nil {
			return nil, "", classify(op, err)
		}
	}
	return all, next, nil
}

// Eval shows what one run found, with its scores. KindNotFound also for a run that found nothing.
func (t *Tenant) Eval(ctx context.Context, numberOrID string) (forge.Eval, error) {
	const op = "eval.show"
	row := evalRow{}
	r, err := t.Run(ctx, numberOrID)
	if err != nil {
		return forge.Eval{}, err
	}
	err = t.db.read.NewSelect().Model(&row).ColumnExpr("e.*").Where("e.run = ?", r.ID).Where("e.tenant = ?", t.p.Tenant).Scan(ctx)
	if absent(err) {
		return forge.Eval{}, noEval(r)
	}
	if err != nil {
		return forge.Eval{}, classify(op, err)
	}
	row.Number = r.Number
	e, err := row.forge()
	if err != nil {
		return e, classify(op, err)
	}
	rows, err := t.db.read.QueryContext(ctx, `SELECT task, filter, metric, value, stderr, n, higher, aggregation FROM eval_scores WHERE run = ? ORDER BY place`, string(r.ID))
	if err != nil {
		return e, classify(op, err)
	}
	defer rows.Close()
	for rows.Next() {
		s := forge.EvalScore{}
		if err := rows.Scan(&s.Task, &s.Filter, &s.Metric, &s.Value, &s.StdErr, &s.N, &s.Higher, &s.Aggregation); err != nil {
			return e, classify(op, err)
		}
		e.Scores = append(e.Scores, s)
	}
	return e, classify(op, rows.Err())
}

func noEval(r forge.Run) error {
	err := forge.Errorf(forge.KindNotFound, "eval.show", "run %d has no scores: it is %s", r.Number, r.State)
	if r.State == forge.RunCompleted {
		err = forge.Errorf(forge.KindNotFound, "eval.show", "run %d is of recipe %s, and no eval", r.Number, r.Spec.Recipe)
	}
	return err.WithHint("forgectl eval list")
}

// EvalSamples reads the samples of one task under one filter, still packed. KindNotFound names what there is.
func (t *Tenant) EvalSamples(ctx context.Context, numberOrID, task, filter string) (EvalSamples, error) {
	const op = "eval.samples"
	e, err := t.Eval(ctx, numberOrID)
	if err != nil {
		return EvalSamples{}, err
	}
	s := EvalSamples{Task: task, Filter: filter}
	err = t.db.read.QueryRowContext(ctx, `SELECT n, bytes, data FROM eval_samples WHERE run = ? AND task = ? AND filter = ?`, string(e.Run), clean(task), clean(filter)).
		Scan(&s.N, &s.Bytes, &s.Data)
	if err == sql.ErrNoRows {
		return s, forge.Errorf(forge.KindNotFound, op, "run %d has no samples of task %.80q with filter %.80q", e.RunNumber, task, filter).
			WithHint("forgectl eval show %d lists its tasks and filters", e.RunNumber)
	}
	return s, classify(op, err)
}
