package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// EvalFound is what an eval leaves, read and verified before it comes here.
type EvalFound struct {
	forge.Eval
	Samples []EvalSamples
	Columns []EvalColumns // beside Samples, one for each
	Lines   []EvalLines   // likewise
}

// EvalSamples are the samples of one task under one filter.
type EvalSamples struct {
	Task, Filter string
	N, Bytes     int64  // lines, and their length before they were packed
	Data         []byte // gzip of JSON lines
}

type evalRow struct {
	bun.BaseModel `bun:"table:eval_results,alias:e"`

	ID         string               `bun:"id,pk"`
	Tenant     forge.TenantID       `bun:"tenant"`
	Run        forge.RunID          `bun:"run,nullzero"`
	Import     int64                `bun:"number,nullzero"`
	Model      string               `bun:"model"`
	ModelID    forge.ModelVersionID `bun:"model_id"`
	Suite      string               `bun:"suite"`
	SuiteSHA   string               `bun:"suite_sha256"`
	Limited    bool                 `bun:"limited"`
	Facts      string               `bun:"facts"`
	Imported   string               `bun:"imported"`
	Comparison string               `bun:"comparison"`
	CreatedAt  stamp                `bun:"created_at"`

	RunNumber int64 `bun:"run_number,scanonly"`
}

// evalColumns is what a listing reads; comparisons are large, and left where they are.
const evalColumns = "e.id, e.tenant, e.run, e.number, e.model, e.model_id, e.suite, e.suite_sha256, e.limited, e.facts, e.imported, e.created_at, r.number AS run_number"

func (r *evalRow) place(string) []any { return []any{r.CreatedAt, r.ID} }

func (r *evalRow) forge() (forge.Eval, error) {
	e := forge.Eval{ID: r.ID, Name: strconv.FormatInt(r.RunNumber, 10), Run: r.Run, RunNumber: r.RunNumber, Model: r.Model, ModelID: r.ModelID,
		Suite: r.Suite, SuiteSHA256: r.SuiteSHA, Limited: r.Limited, CreatedAt: r.CreatedAt.time()}
	if r.Import > 0 {
		e.Name, e.Imported = importName(r.Import), &forge.EvalImport{}
		if err := decode(r.Imported, e.Imported); err != nil {
			return e, err
		}
	}
	if r.Comparison != "" {
		e.Comparison = &forge.Comparison{}
		if err := decode(r.Comparison, e.Comparison); err != nil {
			return e, err
		}
	}
	return e, decode(r.Facts, &e.Facts)
}

// importName is what people call the Nth eval that a tenant has imported.
func importName(n int64) string { return fmt.Sprintf("i%d", n) }

// importNumber is N of iN; 0: it is no such name.
func importNumber(name string) int64 {
	digits, is := strings.CutPrefix(name, "i")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !is || err != nil || n < 1 || importName(n) != name {
		return 0
	}
	return n
}

// addEval stores what an eval found with the end of its run. One that is worse than what it was compared with leaves an event.
func (t *tx) addEval(r *runRow, found *EvalFound) error {
	if found == nil {
		return nil
	}
	if err := t.storeEval(r.Tenant, string(r.ID), r.ID, 0, found); err != nil {
		return err
	}
	if c := found.Comparison; c != nil && c.Verdict == forge.CompareRegressed {
		return t.runEvent(r, forge.Event{Type: forge.EventEvalRegressed, Reason: string(c.Verdict),
			Message: fmt.Sprintf("eval %d: %s is worse than %s (eval %s) in suite %s: %s", r.Number, c.Candidate.Model, c.Baseline.Model, c.Baseline.Eval, c.Suite, c.Worse()),
			Data:    map[string]any{"baseline": c.Baseline.Eval, "suite": c.Suite, "model": c.Candidate.Model, "benchmarks": c.Worse()}})
	}
	return nil
}

func (t *tx) storeEval(tenant forge.TenantID, id string, run forge.RunID, number int64, found *EvalFound) error {
	facts, err := encode(1, found.Facts)
	if err != nil {
		return err
	}
	var imported, comparison string
	if found.Imported != nil {
		if imported, err = encode(1, found.Imported); err != nil {
			return err
		}
	}
	if found.Comparison != nil {
		if comparison, err = encode(1, found.Comparison); err != nil {
			return err
		}
	}
	if _, err := t.exec(`INSERT INTO eval_results (id, tenant, run, number, model, model_id, suite, suite_sha256, limited, facts, imported, comparison, created_at)
		VALUES (?, ?, nullif(?, ''), nullif(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id, string(tenant), string(run), number, clean(found.Model), string(found.ModelID),
		clean(found.Suite), found.SuiteSHA256, found.Limited, clean(facts), clean(imported), clean(comparison), int64(stampOf(t.now))); err != nil {
		return err
	}
	for i, s := range found.Scores {
		if _, err := t.exec(`INSERT INTO eval_scores (eval, place, task, filter, metric, value, stderr, n, higher, aggregation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, i, clean(s.Task), clean(s.Filter), clean(s.Metric), s.Value, s.StdErr, s.N, s.Higher, clean(s.Aggregation)); err != nil {
			return err
		}
	}
	for _, s := range found.Samples {
		if _, err := t.exec(`INSERT INTO eval_samples (eval, task, filter, n, bytes, data) VALUES (?, ?, ?, ?, ?, ?)`,
			id, clean(s.Task), clean(s.Filter), s.N, s.Bytes, s.Data); err != nil {
			return err
		}
	}
	for i, c := range found.Columns {
		if err := t.addColumns(id, c, found.Lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// ImportEval stores an eval that was made elsewhere, under the tenant's next iN. KindNotFound for a version that is not the tenant's.
func (t *Tenant) ImportEval(ctx context.Context, found *EvalFound) (forge.Eval, error) {
	const op = "eval.import"
	var id string
	err := t.db.write(ctx, op, func(x *tx) error {
		return x.once(t.p, func() (string, error) {
			var n int64
			if err := x.one(`SELECT coalesce(max(number), 0) + 1 FROM eval_results WHERE tenant = ?`, []any{string(t.p.Tenant)}, &n); err != nil {
				return "", err
			}
			id = x.id()
			found.Imported.By = t.p.Actor()
			if err := x.storeEval(t.p.Tenant, id, "", n, found); err != nil {
				return "", err
			}
			return id, x.event(forge.Event{Type: forge.EventEvalImported, Tenant: t.p.Tenant, Actor: t.p.Actor(), Reason: string(forge.WhyRequested),
				Message: fmt.Sprintf("eval %s: results of suite %s for %s were imported from %d files", importName(n), found.Suite, found.Model, len(found.Imported.Files)),
				Data:    map[string]any{"eval": importName(n), "suite": found.Suite, "model": found.Model}})
		}, func(ref string) error { id = ref; return nil })
	})
	if err != nil {
		return forge.Eval{}, classify(op, err)
	}
	return t.Eval(ctx, id)
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
	q := t.db.read.NewSelect().Model(&rows).ColumnExpr(evalColumns).Join("LEFT JOIN runs AS r ON r.id = e.run").Where("e.tenant = ?", t.p.Tenant)
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
	orders := []order{{name: "created_at", columns: []string{"e.created_at", "e.id"}, desc: true}}
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

// Eval shows an eval with its scores: by the number or id of its run, or iN. KindNotFound also for a run that found nothing.
func (t *Tenant) Eval(ctx context.Context, name string) (forge.Eval, error) {
	const op = "eval.show"
	row, err := t.evalRow(ctx, name)
	if err != nil {
		return forge.Eval{}, classify(op, err)
	}
	e, err := row.forge()
	if err != nil {
		return e, classify(op, err)
	}
	rows, err := t.db.read.QueryContext(ctx, `SELECT task, filter, metric, value, stderr, n, higher, aggregation FROM eval_scores WHERE eval = ? ORDER BY place`, row.ID)
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

func (t *Tenant) evalRow(ctx context.Context, name string) (evalRow, error) {
	row := evalRow{}
	q := t.db.read.NewSelect().Model(&row).ColumnExpr("e.*").ColumnExpr("r.number AS run_number").Join("LEFT JOIN runs AS r ON r.id = e.run").Where("e.tenant = ?", t.p.Tenant)
	if n := importNumber(name); n > 0 {
		err := q.Where("e.number = ?", n).Scan(ctx)
		if absent(err) {
			err = forge.Errorf(forge.KindNotFound, "eval.show", "no eval %.40s was imported", name).WithHint("forgectl eval list")
		}
		return row, err
	}
	err := q.Where("e.id = ?", clean(name)).Scan(ctx)
	if !absent(err) {
		return row, err
	}
	r, err := t.Run(ctx, name)
	if err != nil {
		return row, err
	}
	row = evalRow{}
	err = t.db.read.NewSelect().Model(&row).ColumnExpr("e.*").Where("e.run = ?", r.ID).Where("e.tenant = ?", t.p.Tenant).Scan(ctx)
	if absent(err) {
		return row, noEval(r)
	}
	row.RunNumber = r.Number
	return row, err
}

// NewestEval is the newest eval of a version by a suite of that digest that a run has made and that has seen every sample. KindNotFound.
func (t *Tenant) NewestEval(ctx context.Context, model forge.ModelVersionID, suite, suiteSHA string) (forge.Eval, error) {
	const op = "eval.newest"
	var id string
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT id FROM eval_results WHERE tenant = ? AND model_id = ? AND suite = ? AND suite_sha256 = ? AND limited = 0 AND run IS NOT NULL
		ORDER BY created_at DESC, id DESC LIMIT 1`, string(t.p.Tenant), string(model), clean(suite), suiteSHA).Scan(&id)
	if absent(err) {
		return forge.Eval{}, forge.Errorf(forge.KindNotFound, op, "there is no whole eval of it by suite %.64s as it is now", suite)
	}
	if err != nil {
		return forge.Eval{}, classify(op, err)
	}
	return t.Eval(ctx, id)
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
	err = t.db.read.QueryRowContext(ctx, `SELECT n, bytes, data FROM eval_samples WHERE eval = ? AND task = ? AND filter = ?`, e.ID, clean(task), clean(filter)).
		Scan(&s.N, &s.Bytes, &s.Data)
	if err == sql.ErrNoRows {
		return s, forge.Errorf(forge.KindNotFound, op, "eval %s has no samples of task %.80q with filter %.80q", e.Name, task, filter).
			WithHint("forgectl eval show %s lists its tasks and filters", e.Name)
	}
	return s, classify(op, err)
}
