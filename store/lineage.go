package store

import (
	"context"
	"slices"
	"sync"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// family is which dataset version was made from which, by seq, in memory: a walk over a hundred thousand versions in SQL takes a statement or
// a step of a recursion for each, and here a few milliseconds for all. It cannot be out of date: what is in the table never changes, and
// what has come since is read before each use, from where the last reading ended.
type family struct {
	mu       sync.RWMutex
	newest   int64 // the newest child that was read
	parents  [][]int32
	children [][]int32
}

// catchUp reads what has come since.
func (f *family) catchUp(ctx context.Context, q querier) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows, err := q.QueryContext(ctx, `SELECT child, parent FROM dataset_parents WHERE child > ? ORDER BY child, parent`, f.newest)
	if err != nil {
		return err
	}
	defer rows.Close()
	// Noted only once all is read: the parents of one child come together, and a reading that is cut off is done again.
	var all [][2]int32
	for rows.Next() {
		var e [2]int32
		if err := rows.Scan(&e[0], &e[1]); err != nil {
			return err
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil || len(all) == 0 {
		return err
	}
	n := int(all[len(all)-1][0]) + 1
	f.parents = append(f.parents, make([][]int32, max(0, n-len(f.parents)))...)
	f.children = append(f.children, make([][]int32, max(0, n-len(f.children)))...)
	for _, e := range all {
		f.parents[e[0]] = append(f.parents[e[0]], e[1])
		f.children[e[1]] = append(f.children[e[1]], e[0])
	}
	f.newest = int64(n - 1)
	return nil
}

func (f *family) of(seq int64, up bool) []int32 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := f.children
	if up {
		all = f.parents
	}
	if seq >= int64(len(all)) {
		return nil
	}
	return all[seq]
}

// near is what is up or down of seq, the nearest first, up to limit of them, and how many there are in all.
func (f *family) near(seq int64, up bool, limit int) (found []int64, all int) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	next := f.children
	if up {
		next = f.parents
	}
	seen := make([]bool, max(len(next), int(seq)+1))
	seen[seq] = true
	queue := []int32{int32(seq)}
	for i := 0; i < len(queue); i++ {
		if int(queue[i]) >= len(next) {
			continue
		}
		for _, n := range next[queue[i]] {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	queue = queue[1:]
	for _, n := range queue[:min(limit, len(queue))] {
		found = append(found, int64(n))
	}
	return found, len(queue)
}

// walking says which way a walk goes.
type walking int

const (
	alongModels   walking = iota // down through runs, models and evals, not to versions made from these
	alongChildren                // and to those as well
)

// DatasetLineage is what a version came from, or what came of it: limit nodes at most, the nearest first. KindNotFound.
func (t *Tenant) DatasetLineage(ctx context.Context, id forge.DatasetVersionID, down bool, limit int) (forge.LineageGraph, error) {
	const op = "dataset.lineage"
	var seq int64
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT seq FROM dataset_versions WHERE tenant = ? AND id = ?`, string(t.p.Tenant), clean(string(id))).Scan(&seq)
	if absent(err) {
		return forge.LineageGraph{}, noDataset(string(id))
	}
	if err != nil {
		return forge.LineageGraph{}, classify(op, err)
	}
	if down {
		return t.lineage(ctx, op, []int64{seq}, alongChildren, limit)
	}
	if err := t.db.family.catchUp(ctx, t.db.sqlRead); err != nil {
		return forge.LineageGraph{}, classify(op, err)
	}
	found, all := t.db.family.near(seq, true, limit-1)
	w := &walk{t: t, limit: limit, seen: map[string]bool{}, ids: map[int64]string{}}
	err = t.db.snapshot(ctx, op, func(tx bun.Tx) error {
		w.tx = tx
		return w.datasets(ctx, append([]int64{seq}, found...))
	})
	w.more = all > len(found)
	return w.graph(), err
}

// AncestorsOf counts all that a version came from, however far up.
func (t *Tenant) AncestorsOf(ctx context.Context, id forge.DatasetVersionID) (int, error) {
	const op = "dataset.lineage"
	var seq int64
	if err := t.db.sqlRead.QueryRowContext(ctx, `SELECT seq FROM dataset_versions WHERE tenant = ? AND id = ?`, string(t.p.Tenant), clean(string(id))).Scan(&seq); err != nil {
		return 0, classify(op, err)
	}
	if err := t.db.family.catchUp(ctx, t.db.sqlRead); err != nil {
		return 0, classify(op, err)
	}
	_, all := t.db.family.near(seq, true, 0)
	return all, nil
}

// lineage walks down from versions.
func (t *Tenant) lineage(ctx context.Context, op string, from []int64, way walking, limit int) (forge.LineageGraph, error) {
	if err := t.db.family.catchUp(ctx, t.db.sqlRead); err != nil {
		return forge.LineageGraph{}, classify(op, err)
	}
	w := &walk{t: t, limit: limit, seen: map[string]bool{}, ids: map[int64]string{}}
	err := t.db.snapshot(ctx, op, func(tx bun.Tx) error {
		w.tx = tx
		return w.down(ctx, from, way)
	})
	return w.graph(), err
}

// walk collects a graph, level by level.
type walk struct {
	t     *Tenant
	tx    bun.Tx
	limit int
	more  bool
	nodes []forge.LineageNode
	edges []forge.LineageEdge
	seen  map[string]bool  // ids of nodes
	ids   map[int64]string // of versions
}

// kinRow is a node as a query finds it, and what it hangs on.
type kinRow struct {
	Seq    int64  `bun:"seq"`
	ID     string `bun:"id"`
	Name   string `bun:"name"`
	State  string `bun:"state"`
	Detail string `bun:"detail"`
	SHA256 string `bun:"sha256"`
	From   string `bun:"from_id"`
	As     string `bun:"as_what"`
}

// chunk bounds the names of one IN.
const chunk = 500

// add takes a node in; false where it was there, or there is no room for it.
func (w *walk) add(kind forge.LineageKind, r kinRow) bool {
	if w.seen[r.ID] {
		return false
	}
	if len(w.nodes) >= w.limit {
		w.more = true
		return false
	}
	w.seen[r.ID] = true
	w.nodes = append(w.nodes, forge.LineageNode{ID: r.ID, Kind: kind, Name: r.Name, State: r.State, Detail: r.Detail, SHA256: r.SHA256})
	return true
}

// find runs a query over the names in pieces; each row is a node that hangs on one of them.
func find[T any](ctx context.Context, w *walk, kind forge.LineageKind, names []T, query string, args ...any) (fresh []kinRow, _ error) {
	for some := range slices.Chunk(names, chunk) {
		var rows []kinRow
		if err := w.tx.NewRaw(query, append([]any{bun.List(some)}, args...)...).Scan(ctx, &rows); err != nil {
			return nil, err
		}
		for _, r := range rows {
			if w.add(kind, r) {
				fresh = append(fresh, r)
			}
			if r.From != "" {
				w.edges = append(w.edges, forge.LineageEdge{From: r.From, To: r.ID, As: r.As})
			}
		}
	}
	return fresh, nil
}

const versionNodes = `SELECT v.seq, v.id, d.name || '@' || v.number AS name, iif(v.deleted_at <> 0, 'deleted', v.pii) AS state, v.license AS detail, v.sha256
	FROM dataset_versions AS v JOIN datasets AS d ON d.id = v.dataset WHERE v.seq IN (?)`

// datasets takes versions in, in the order given, and the edges between them.
func (w *walk) datasets(ctx context.Context, seqs []int64) error {
	for some := range slices.Chunk(seqs, chunk) {
		var rows []kinRow
		if err := w.tx.NewRaw(versionNodes, bun.List(some)).Scan(ctx, &rows); err != nil {
			return err
		}
		by := make(map[int64]kinRow, len(rows))
		for _, r := range rows {
			by[r.Seq] = r
		}
		for _, seq := range some {
			if r, ok := by[seq]; ok && w.add(forge.LineageDataset, r) {
				w.ids[seq] = r.ID
			}
		}
	}
	return nil
}

func (w *walk) down(ctx context.Context, from []int64, way walking) error {
	if err := w.datasets(ctx, from); err != nil {
		return err
	}
	versions, runs, models := from, []string(nil), []string(nil)
	for len(versions)+len(runs)+len(models) > 0 && !w.more {
		var nextRuns, nextModels []string
		var nextVersions []int64
		byVersion, err := find(ctx, w, forge.LineageRun, versions, `SELECT r.id, CAST(r.number AS TEXT) AS name, r.state, r.recipe AS detail, v.id AS from_id, 'data' AS as_what
			FROM dataset_versions AS v JOIN datasets AS d ON d.id = v.dataset JOIN runs AS r ON r.tenant = v.tenant AND r.dataset <> '' AND r.dataset = d.name || '@' || v.number
			WHERE v.seq IN (?) ORDER BY r.number`)
		if err != nil {
			return err
		}
		byModel, err := find(ctx, w, forge.LineageRun, models, `SELECT r.id, CAST(r.number AS TEXT) AS name, r.state, r.recipe AS detail, x.model AS from_id, x.role AS as_what
			FROM run_models AS x JOIN runs AS r ON r.id = x.run WHERE x.model IN (?) ORDER BY r.number`)
		if err != nil {
			return err
		}
		for _, r := range append(byVersion, byModel...) {
			nextRuns = append(nextRuns, r.ID)
		}
		made, err := find(ctx, w, forge.LineageModel, runs, `SELECT v.id, m.name || '@' || v.number AS name, v.stage AS state, v.license AS detail, v.sha256, v.run AS from_id, 'output' AS as_what
			FROM model_versions AS v JOIN models AS m ON m.id = v.model WHERE v.run IN (?) ORDER BY v.id`)
		if err != nil {
			return err
		}
		for _, r := range made {
			nextModels = append(nextModels, r.ID)
		}
		// An eval has the id of its run, which may be a node itself.
		if _, err := find(ctx, w, forge.LineageEval, models, `SELECT 'eval:' || e.run AS id, CAST(r.number AS TEXT) AS name, e.suite AS state, e.model_id AS from_id, 'evaluated' AS as_what
			FROM eval_results AS e JOIN runs AS r ON r.id = e.run WHERE e.model_id IN (?) AND e.tenant = ? ORDER BY e.run`, string(w.t.p.Tenant)); err != nil {
			return err
		}
		if way == alongChildren {
			coming := map[int64]bool{}
			for _, v := range versions {
				for _, c := range w.t.db.family.of(v, false) {
					if _, had := w.ids[int64(c)]; !had && !coming[int64(c)] {
						coming[int64(c)] = true
						nextVersions = append(nextVersions, int64(c))
					}
				}
			}
			if err := w.datasets(ctx, nextVersions); err != nil {
				return err
			}
		}
		versions, runs, models = nextVersions, nextRuns, nextModels
	}
	return nil
}

// graph is what was collected, with the edges whose ends are in it.
func (w *walk) graph() forge.LineageGraph {
	g := forge.LineageGraph{Nodes: w.nodes, Edges: []forge.LineageEdge{}, More: w.more}
	if len(g.Nodes) == 0 {
		g.Nodes = []forge.LineageNode{}
	} else {
		g.Root = g.Nodes[0].ID
	}
	seqs := make([]int64, 0, len(w.ids))
	for seq := range w.ids {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		for _, p := range w.t.db.family.of(seq, true) {
			if id, ok := w.ids[int64(p)]; ok {
				g.Edges = append(g.Edges, forge.LineageEdge{From: id, To: w.ids[seq], As: "parent"})
			}
		}
	}
	for _, e := range w.edges {
		if w.seen[e.From] && w.seen[e.To] {
			g.Edges = append(g.Edges, e)
		}
	}
	return g
}
