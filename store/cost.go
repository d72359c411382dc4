package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// SetPrices says what GPUs cost that are allocated from now on.
func (db *DB) SetPrices(p *forge.Prices) { db.prices.Store(p) }

// priceOf is the price in force of what a plan gives; nil where it is not known, or where a cluster's own queue chooses the nodes later.
func (a *applying) priceOf(r *runRow, p forge.Place) (*float64, error) {
	if p.HandOver {
		return nil, nil
	}
	l, err := a.load(p.Cluster)
	if err != nil {
		return nil, err
	}
	var words forge.BatchOptions
	if err := decode(r.Batch, &words); err != nil {
		return nil, err
	}
	return a.w.db.prices.Load().OfGPUs(p.Cluster, words.Partition, p.Shares, l.nodes), nil
}

// reprice keeps the price of the nodes that a cluster's own queue has given.
func (t *tx) reprice(a *attemptRow, partition string, placement []forge.Share) error {
	var names []forge.NodeName
	for _, s := range placement {
		names = append(names, s.Node)
	}
	nodes, err := loadNodes(t.ctx, t.Conn, a.Cluster, names...)
	if err != nil {
		return err
	}
	byName := make(map[forge.NodeName]forge.Node, len(nodes))
	for _, n := range nodes {
		byName[n.Name] = n
	}
	a.GPUs, a.Price = gpusOf(placement), t.w.db.prices.Load().OfGPUs(a.Cluster, partition, placement, byName)
	return nil
}

func gpusOf(shares []forge.Share) int { return forge.Attempt{Placement: shares}.GPUs() }

// stepped notes when an attempt's first and last steps were reported.
func (a *attemptRow) stepped(rows []point, now time.Time) {
	for i := range rows {
		at := rows[i].time
		if at == 0 {
			at = stampOf(now)
		}
		if a.FirstStep == 0 {
			a.FirstStep = at
		}
		a.LastStepAt = max(a.LastStepAt, at)
	}
}

// takeBack has earlier attempts of a run keep only what the start of this one left of them: the steps behind the checkpoint that it resumed from
// are done again, and if it began anew all of them are.
func (t *tx) takeBack(r *runRow, a *attemptRow, resume *forge.Resume) error {
	last := 0 // the attempt that saved the checkpoint
	if resume.Path != "" && resume.Run == "" {
		if last = resume.Attempt; last == 0 {
			return nil // whose it was is not known
		}
		var saved stamp
		err := t.one(`SELECT saved_at FROM checkpoints WHERE run = ? AND step = ? AND attempt = ?`, []any{string(r.ID), resume.Step, last}, (*int64)(&saved))
		if err != nil && !absent(err) {
			return err
		}
		if saved > 0 { // else nobody has told of that save yet: what is known of the attempt stands
			if _, err := t.exec(`UPDATE attempts SET kept_at = ?, version = version + 1 WHERE run = ? AND number = ? AND kept_at <> ?`,
				int64(saved), string(r.ID), last, int64(saved)); err != nil {
				return err
			}
		}
	}
	_, err := t.exec(`UPDATE attempts SET kept_at = 0, version = version + 1 WHERE run = ? AND number > ? AND number < ? AND kept_at > 0`, string(r.ID), last, a.Number)
	return err
}

// mostCostRows bounds an answer.
const mostCostRows = 1000

// costKeys are the columns that costs are added up by. An eval's model is that which it was of.
var costKeys = map[forge.CostBy]string{
	forge.CostByTenant:  `(SELECT t.name FROM tenants AS t WHERE t.id = r.tenant)`,
	forge.CostByUser:    `r.user_name`,
	forge.CostByModel:   `coalesce(nullif(r.register, ''), (SELECT e.model FROM eval_results AS e WHERE e.run = r.id), '')`,
	forge.CostByRecipe:  `r.recipe`,
	forge.CostByRun:     `r.number`,
	forge.CostByCluster: `a.cluster`,
}

// costQuery has attempts lead: the index of their exits finds a period, and their key those of a run. It reads what a cost is made of and no more:
// a period has a hundred thousand of them.
func costQuery(key, where string) string {
	return `SELECT ` + key + `, r.name, a.run, a.state, a.reason, a.gpus, a.price, a.placed_at, a.started_at, a.exited_at, a.unknown_since, a.unheard_at,
		a.first_step_at, a.last_step_at, a.kept_at, a.batch FROM attempts AS a CROSS JOIN runs AS r ON r.id = a.run WHERE a.gpus > 0 AND ` + where
}

// RunCosts adds up what each of some runs had up to now; those of others, and those that had nothing, are left out.
func (t *Tenant) RunCosts(ctx context.Context, runs []forge.RunID, now time.Time) (map[forge.RunID]forge.Cost, error) {
	const op = "cost.runs"
	out := map[forge.RunID]forge.Cost{}
	if len(runs) == 0 {
		return out, nil
	}
	ids := make([]string, len(runs))
	for i, id := range runs {
		ids[i] = string(id)
	}
	list, err := encode(len(ids), ids)
	if err != nil {
		return out, classify(op, err)
	}
	sums := newCostSums(forge.CostByRun, time.Time{}, now, now)
	err = sums.read(ctx, t.db.sqlRead, costQuery(`a.run`, `a.run IN (SELECT value FROM json_each(?)) AND r.tenant = ?`), list, string(t.p.Tenant))
	for id, s := range sums.keys {
		out[forge.RunID(id)] = s.Cost(1)
	}
	return out, classify(op, err)
}

// Costs adds up what attempts had in a period. What reaches beyond it is cut to it; what runs still is counted up to now. Of the own tenant; by
// tenant an operator is told of all.
func (t *Tenant) Costs(ctx context.Context, by forge.CostBy, since, until, now time.Time) (forge.Costs, error) {
	const op = "cost.list"
	out := forge.Costs{By: by, Since: since, Until: until, Rows: []forge.CostRow{}}
	if until.After(now) {
		until = now
	}
	key, ok := costKeys[by]
	if !ok {
		return out, forge.Invalidf("by", "%q: want one of %v", string(by), forge.CostBys).WithOp(op)
	}
	whose, tenant := ` AND r.tenant = ?`, []any{string(t.p.Tenant)}
	if by == forge.CostByTenant && t.p.Role == forge.RoleOperator {
		whose, tenant = ``, nil
	}
	before := int64(stampOf(until))
	// Two questions of the index in one statement, and not an OR: SQLite would gather the keys of both in a table first, to see that none is in both.
	query := costQuery(key, `a.exited_at >= ? AND a.placed_at < ?`+whose) + ` UNION ALL ` + costQuery(key, `a.exited_at = 0 AND a.placed_at < ?`+whose)
	args := append([]any{max(1, int64(stampOf(since))), before}, tenant...)
	args = append(append(args, before), tenant...)
	sums := newCostSums(by, since, until, now)
	if err := sums.read(ctx, t.db.sqlRead, query, args...); err != nil {
		return out, classify(op, err)
	}
	out.Rows, out.More = sums.rows()
	out.Total = sums.total.Cost(sums.total.runs)
	return out, nil
}

// costSums are sums by key, and that of all.
type costSums struct {
	by                forge.CostBy
	since, until, now time.Time
	total             keySum
	keys              map[string]*keySum
	seen              map[string]struct{}
}

type keySum struct {
	forge.CostSum
	key, name string
	runs      int
	// What they are sorted by, once it is known: a comparison must not add up anything.
	number int64 // of a run
	gpu    time.Duration
}

func newCostSums(by forge.CostBy, since, until, now time.Time) *costSums {
	return &costSums{by: by, since: since, until: until, now: now, keys: map[string]*keySum{}, seen: map[string]struct{}{}}
}

func (c *costSums) read(ctx context.Context, db *sql.DB, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var key, name, run, state, reason, batch string
	var gpus int64
	var price sql.NullFloat64
	var placed, started, exited, unknown, unheard, first, last, kept int64
	into := []any{&key, &name, &run, &state, &reason, &gpus, &price, &placed, &started, &exited, &unknown, &unheard, &first, &last, &kept, &batch}
	at := func(n int64) time.Time { return stamp(n).time() }
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		a := forge.Attempt{State: forge.AttemptState(state), Reason: forge.EndReason(reason), PlacedAt: at(placed), StartedAt: at(started), ExitedAt: at(exited),
			Unknown: at(unknown), UnheardAt: at(unheard), FirstStepAt: at(first), LastStepAt: at(last), KeptAt: at(kept)}
		if batch != "" {
			if a.Batch, err = batchTimes(batch); err != nil {
				return err
			}
		}
		if price.Valid {
			a.Price = &price.Float64
		}
		c.add(key, name, run, &a, int(gpus))
	}
	return rows.Err()
}

// batchTimes is of a batch system's job when it had its nodes.
func batchTimes(text string) (*forge.BatchJob, error) {
	var x struct {
		StartedAt time.Time `json:"started_at"`
		EndedAt   time.Time `json:"ended_at"`
	}
	err := decode(text, &x)
	return &forge.BatchJob{StartedAt: x.StartedAt, EndedAt: x.EndedAt}, err
}

func (c *costSums) add(key, name, run string, a *forge.Attempt, gpus int) {
	var one forge.CostSum
	if !one.Add(a, gpus, a.Price, c.since, c.until, c.now) {
		return // nothing in the period
	}
	if c.by == forge.CostByModel {
		key, _, _ = strings.Cut(key, "@")
	}
	s := c.keys[key]
	if s == nil {
		s = &keySum{key: key}
		if c.by == forge.CostByRun {
			s.name = name
		}
		c.keys[key] = s
	}
	for _, at := range []*keySum{&c.total, s} {
		at.Plus(&one)
	}
	first := c.first(run)
	if first {
		c.total.runs++
	}
	if c.by == forge.CostByCluster { // the one key of which a run may have several
		first = c.first(run + " " + key)
	}
	if first {
		s.runs++
	}
}

func (c *costSums) first(what string) bool {
	n := len(c.seen)
	c.seen[what] = struct{}{}
	return len(c.seen) > n
}

// rows lists the sums, what cost most first, and says how many are left out.
func (c *costSums) rows() (rows []forge.CostRow, more int) {
	all := make([]*keySum, 0, len(c.keys))
	for _, s := range c.keys {
		s.gpu = s.GPUTime()
		if c.by == forge.CostByRun {
			s.number, _ = strconv.ParseInt(s.key, 10, 64)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *keySum) int {
		if a.Known() != b.Known() {
			return cmp.Compare(b.Known(), a.Known())
		}
		if a.gpu != b.gpu {
			return cmp.Compare(b.gpu, a.gpu)
		}
		if a.number != b.number {
			return cmp.Compare(a.number, b.number)
		}
		return cmp.Compare(a.key, b.key)
	})
	more = max(0, len(all)-mostCostRows)
	rows = make([]forge.CostRow, 0, len(all)-more)
	for _, s := range all[:len(all)-more] {
		rows = append(rows, forge.CostRow{Key: s.key, Name: s.name, Cost: s.Cost(s.runs)})
	}
	return rows, more
}
