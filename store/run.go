package store

import (
	"context"
	"math"
	"strconv"
	"sync"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// runRow is a run as its row holds it. The columns after version repeat what listings show of
// the spec; the spec never changes, so they cannot drift. Priority alone is the run's own: see SetPriority.
type runRow struct {
	bun.BaseModel `bun:"table:runs,alias:r"`

	ID          forge.RunID      `bun:"id,pk"`
	Tenant      forge.TenantID   `bun:"tenant"`
	Number      int64            `bun:"number"`
	User        string           `bun:"user_name"`
	State       forge.RunState   `bun:"state"`
	Reason      forge.EndReason  `bun:"reason"`
	HoldBy      string           `bun:"hold_by"`
	HoldReason  string           `bun:"hold_reason"`
	HoldAt      stamp            `bun:"hold_at"`
	Cancel      forge.CancelMode `bun:"cancel"`
	Attempt     int              `bun:"attempt"`
	Retries     int              `bun:"retries"`
	Fruitless   int              `bun:"fruitless"`
	NotBefore   stamp            `bun:"not_before"`
	Avoid       string           `bun:"avoid"`
	Step        int64            `bun:"step"`
	TotalSteps  int64            `bun:"total_steps"`
	SavedStep   int64            `bun:"saved_step"`
	Loss        *float64         `bun:"loss"`
	Model       string           `bun:"model"`
	Parent      forge.RunID      `bun:"parent,nullzero"`
	SubmittedAt stamp            `bun:"submitted_at"`
	StartedAt   stamp            `bun:"started_at"`
	EndedAt     stamp            `bun:"ended_at"`
	Version     int64            `bun:"version"`

	Name      string            `bun:"name"`
	Recipe    string            `bun:"recipe"`
	Dataset   string            `bun:"dataset"`
	Base      string            `bun:"base"`
	Priority  int               `bun:"priority"`
	Cluster   forge.ClusterName `bun:"cluster"`
	Register  string            `bun:"register"`
	Nodes     int               `bun:"nodes"`
	GPUs      int               `bun:"gpus_per_node"`
	CPUs      int               `bun:"cpus_per_gpu"`
	MemoryMiB int64             `bun:"memory_mib_per_gpu"`
	TimeLimit int64             `bun:"time_limit"`
	Batch     string            `bun:"batch"`
	Eval      bool              `bun:"eval"`
	Narrowed  string            `bun:"narrowed"`
	Pinned    bool              `bun:"pinned"`

	Spec    string `bun:"spec,scanonly"`
	Params  string `bun:"params,scanonly"`
	Origins string `bun:"origins,scanonly"`
}

// selectRuns selects whole runs, specs included, into rows.
func selectRuns(q *bun.SelectQuery, rows any) *bun.SelectQuery {
	return q.Model(rows).ColumnExpr("r.*, s.spec, s.params, s.origins").Join("JOIN run_specs AS s ON s.run = r.id")
}

// newRunRow spreads a spec over its columns.
func newRunRow(s forge.RunSpec) (*runRow, error) {
	r := &runRow{State: forge.RunPending, Version: 1, Name: clean(s.Name), Recipe: s.Recipe, Priority: s.Priority, Cluster: s.Cluster,
		Register: s.Register, Nodes: s.Gang.Nodes, GPUs: s.Gang.GPUsPerNode, CPUs: s.Gang.CPUsPerGPU,
		MemoryMiB: s.Gang.MemoryMiBPerGPU, TimeLimit: int64(s.TimeLimit), Eval: s.Eval, Pinned: s.Pinned}
	if s.Dataset != nil {
		r.Dataset = s.Dataset.Name
	}
	if s.Base != nil {
		r.Base = s.Base.Name
	}
	var err error
	if !s.Batch.Empty() {
		if r.Batch, err = encode(1, s.Batch); err != nil {
			return nil, err
		}
	}
	if !s.Where.Empty() {
		if r.Narrowed, err = encode(1, s.Where); err != nil {
			return nil, err
		}
	}
	if r.Params, err = encode(len(s.Params), s.Params); err != nil {
		return nil, forge.Invalidf("params", "cannot be stored: %w", err)
	}
	if r.Origins, err = encode(len(s.Origins), s.Origins); err != nil {
		return nil, err
	}
	s.Params, s.Origins = nil, nil
	r.Spec, err = encode(1, s)
	return r, err
}

// forge makes the noun of a row. Params and Origins come from the cache: see specCache.
func (r *runRow) forge(c *specCache) (forge.Run, error) {
	run := r.brief()
	if err := decode(r.Avoid, &run.Avoid); err != nil {
		return forge.Run{}, err
	}
	var err error
	if run.Spec, err = c.specs.get(r.Spec); err != nil {
		return forge.Run{}, err
	}
	if run.Spec.Params, err = c.params.get(r.Params); err != nil {
		return forge.Run{}, err
	}
	run.Spec.Priority = r.Priority // what was asked for at submit is in the row of the spec
	run.Spec.Origins, err = c.origins.get(r.Origins)
	return run, err
}

// brief makes the noun with the part of the spec that listings show, and decodes no JSON but the few words for a batch system and of where it may go.
func (r *runRow) brief() forge.Run {
	run := forge.Run{ID: r.ID, Tenant: r.Tenant, Number: r.Number, User: r.User, State: r.State, Reason: r.Reason, Cancel: r.Cancel,
		Attempt: r.Attempt, Retries: r.Retries, Fruitless: r.Fruitless, NotBefore: r.NotBefore.time(), Step: r.Step,
		TotalSteps: r.TotalSteps, SavedStep: r.SavedStep, Model: r.Model, Parent: r.Parent, SubmittedAt: r.SubmittedAt.time(),
		StartedAt: r.StartedAt.time(), EndedAt: r.EndedAt.time(), Version: r.Version,
		Spec: forge.RunSpec{Name: r.Name, Recipe: r.Recipe, Priority: r.Priority, Cluster: r.Cluster, Register: r.Register, Eval: r.Eval,
			TimeLimit: forge.Duration(r.TimeLimit), Pinned: r.Pinned, Gang: forge.Gang{Nodes: r.Nodes, GPUsPerNode: r.GPUs, CPUsPerGPU: r.CPUs, MemoryMiBPerGPU: r.MemoryMiB}}}
	if r.Loss != nil {
		loss := *r.Loss // the row may be changed again in the same closure
		run.Loss = &loss
	}
	if r.HoldBy != "" {
		run.Hold = &forge.Hold{By: r.HoldBy, Reason: r.HoldReason, At: r.HoldAt.time()}
	}
	_ = decode(r.Batch, &run.Spec.Batch) // what encode wrote
	_ = decode(r.Narrowed, &run.Spec.Where)
	if r.Dataset != "" {
		run.Spec.Dataset = &forge.InputRef{Name: r.Dataset}
	}
	if r.Base != "" {
		run.Spec.Base = &forge.InputRef{Name: r.Base}
	}
	return run
}

// specCache shares decoded specs between runs, which nobody changes: thousands of pending runs of one
// recipe mostly say the same, and each decoded copy costs kilobytes and a JSON parse per delta.
type specCache struct {
	specs   interned[forge.RunSpec] // without the two below
	params  interned[map[string]any]
	origins interned[map[string]string]
}

const maxInterned = 512

type interned[M any] struct {
	mu   sync.Mutex
	seen map[string]M
}

func (c *interned[M]) get(text string) (M, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.seen[text]; ok {
		return m, nil
	}
	var m M
	if err := decode(text, &m); err != nil {
		return m, err
	}
	if c.seen == nil || len(c.seen) >= maxInterned {
		c.seen = map[string]M{}
	}
	c.seen[text] = m
	return m, nil
}

// saveRun writes what changed, raises the version and tells the world.
func (t *tx) saveRun(r *runRow) error {
	r.Version++
	if r.Loss != nil && (math.IsNaN(*r.Loss) || math.IsInf(*r.Loss, 0)) {
		r.Loss = nil // SQLite has no such numbers, JSON neither
	}
	if _, err := t.exec(updateRun, append(r.mutable(), string(r.ID))...); err != nil {
		return err
	}
	return t.emitRun(r)
}

func (t *tx) emitRun(r *runRow) error {
	if err := t.specOf(r); err != nil {
		return err
	}
	run, err := r.forge(&t.w.db.specs)
	if err != nil {
		return err
	}
	t.emit(forge.Delta{Run: &run})
	return nil
}

func (r *runRow) hold(h forge.Hold) {
	r.HoldBy, r.HoldReason, r.HoldAt = clean(h.By), clean(h.Reason), stampOf(h.At)
}

// name is how messages speak of a run.
func (r *runRow) name() string { return "run " + strconv.FormatInt(r.Number, 10) }

func noRun(what string) *forge.Error {
	return notFound("run.show", "there is no run %q", what).WithHint("forgectl run list")
}

// byNumberOrID narrows a query to the run that a person or program named.
func byNumberOrID(q *bun.SelectQuery, s string) *bun.SelectQuery {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil { // an id has 26 characters: no int64 is that long
		return q.Where("r.number = ?", n)
	}
	return q.Where("r.id = ?", clean(s))
}

// Run finds a run by its number or id. KindNotFound when the tenant has none.
func (t *Tenant) Run(ctx context.Context, numberOrID string) (forge.Run, error) {
	return t.db.findRun(ctx, numberOrID, func(q *bun.SelectQuery) *bun.SelectQuery {
		return byNumberOrID(q, numberOrID).Where("r.tenant = ?", t.p.Tenant)
	})
}

// RunByID finds any tenant's run, for the daemon's loops. KindNotFound when there is none.
func (db *DB) RunByID(ctx context.Context, id forge.RunID) (forge.Run, error) {
	return db.findRun(ctx, string(id), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("r.id = ?", clean(string(id))) })
}

func (db *DB) findRun(ctx context.Context, name string, where func(*bun.SelectQuery) *bun.SelectQuery) (forge.Run, error) {
	const op = "run.show"
	r := &runRow{}
	err := where(selectRuns(db.read.NewSelect(), r)).Scan(ctx)
	if absent(err) {
		return forge.Run{}, noRun(name)
	}
	if err != nil {
		return forge.Run{}, classify(op, err)
	}
	run, err := r.forge(&db.specs)
	return run, classify(op, err)
}

// owned says whether the run is the tenant's, before anything about it is read.
func (t *Tenant) owned(ctx context.Context, run forge.RunID) error {
	n, err := t.db.read.NewSelect().Model((*runRow)(nil)).Where("r.id = ?", clean(string(run))).Where("r.tenant = ?", t.p.Tenant).Count(ctx)
	if err == nil && n == 0 {
		return noRun(string(run))
	}
	return classify("run.show", err)
}

// change is a write to one run of the tenant, which answers with the run as it then is.
func (t *Tenant) change(ctx context.Context, op, numberOrID string, do func(tx *tx, op string, r *runRow) error) (forge.Run, error) {
	var r *runRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		load := func(name string) error {
			r = &runRow{}
			err := byNumberOrID(selectRuns(tx.NewSelect(), r), name).Where("r.tenant = ?", t.p.Tenant).Scan(tx.ctx)
			if absent(err) {
				return noRun(name)
			}
			return err
		}
		return tx.once(t.p, func() (string, error) {
			if err := load(numberOrID); err != nil {
				return "", err
			}
			return string(r.ID), do(tx, op, r)
		}, load)
	})
	if err != nil {
		return forge.Run{}, err
	}
	run, err := r.forge(&t.db.specs)
	return run, classify(op, err)
}
