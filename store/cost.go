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

// costQuery has attempts lead: the index of their exits finds a period, and their key those of a run.
func costQuery(key string) string {
	return `SELECT ` + key + `, r.name, a.run, a.state, a.reason, a.gpus, a.price, a.placed_at, a.started_at, a.exited_at, a.unknown_since, a.unheard_at,
		a.first_step_at, a.last_step_at, a.kept_at, a.batch FROM attempts AS a CROSS JOIN runs AS r ON r.id = a.run`
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
	all, err := t.costs(ctx, costQuery(`a.run`)+` WHERE a.run IN (SELECT value FROM json_each(?)) AND a.gpus > 0 AND r.tenant = ?`, []any{list, string(t.p.Tenant)}, forge.CostByRun, time.Time{}, now, now)
	for k, s := range all {
		if id, ok := strings.CutPrefix(k, "k"); ok {
			out[forge.RunID(id)] = s.Cost(1)
		}
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
	query := costQuery(key) + ` WHERE (a.exited_at = 0 OR a.exited_at >= ?) AND a.gpus > 0 AND a.placed_at < ?`
	args := []any{int64(stampOf(since)), int64(stampOf(until))}
	if by != forge.CostByTenant || t.p.Role != forge.RoleOperator {
		query, args = query+` AND r.tenant = ?`, append(args, string(t.p.Tenant))
	}
	all, err := t.costs(ctx, query, args, by, since, until, now)
	if err != nil {
		return out, classify(op, err)
	}
	out.Rows, out.Total = all.told(by)
	if out.More = len(out.Rows) - mostCostRows; out.More > 0 {
		out.Rows = out.Rows[:mostCostRows]
	} else {
		out.More = 0
	}
	return out, nil
}

func (t *Tenant) costs(ctx context.Context, query string, args []any, by forge.CostBy, since, until, now time.Time) (costSums, error) {
	rows, err := t.db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	all := costSums{}
	for rows.Next() {
		if err := all.scan(rows, by, since, until, now); err != nil {
			return nil, err
		}
	}
	return all, rows.Err()
}

// costSums are sums by key.
type costSums map[string]*keySum

type keySum struct {
	forge.CostSum
	name string
	runs map[string]bool
}

func (c costSums) scan(rows *sql.Rows, by forge.CostBy, since, until, now time.Time) error {
	var key, name, run, batch string
	var a attemptRow
	if err := rows.Scan(&key, &name, &run, (*string)(&a.State), (*string)(&a.Reason), &a.GPUs, &a.Price, (*int64)(&a.PlacedAt), (*int64)(&a.StartedAt), (*int64)(&a.ExitedAt),
		(*int64)(&a.Unknown), (*int64)(&a.UnheardAt), (*int64)(&a.FirstStep), (*int64)(&a.LastStepAt), (*int64)(&a.KeptAt), &batch); err != nil {
		return err
	}
	a.Batch = batch
	n, err := a.forge()
	if err != nil {
		return err
	}
	if by == forge.CostByModel {
		key, _, _ = strings.Cut(key, "@")
	}
	if by != forge.CostByRun {
		name = ""
	}
	for _, k := range []string{"t", "k" + key} { // the total, and its own
		s := c[k]
		if s == nil {
			s = &keySum{name: name, runs: map[string]bool{}}
		}
		if s.Add(&n, a.GPUs, a.Price, since, until, now) {
			s.runs[run] = true
			c[k] = s
		}
	}
	return nil
}

// told lists the sums, what cost most first.
func (c costSums) told(by forge.CostBy) (rows []forge.CostRow, total forge.Cost) {
	if t := c["t"]; t != nil {
		total = t.Cost(len(t.runs))
	}
	rows = []forge.CostRow{}
	for k, s := range c {
		if key, ok := strings.CutPrefix(k, "k"); ok {
			rows = append(rows, forge.CostRow{Key: key, Name: s.name, Cost: s.Cost(len(s.runs))})
		}
	}
	money := func(r forge.CostRow) float64 {
		if r.Money == nil {
			return -1
		}
		return *r.Money
	}
	number := func(r forge.CostRow) int64 {
		if by != forge.CostByRun {
			return 0
		}
		n, _ := strconv.ParseInt(r.Key, 10, 64)
		return n
	}
	slices.SortFunc(rows, func(a, b forge.CostRow) int {
		return cmp.Or(cmp.Compare(money(b), money(a)), cmp.Compare(b.GPUHours, a.GPUHours), cmp.Compare(number(a), number(b)), cmp.Compare(a.Key, b.Key))
	})
	return rows, total
}
