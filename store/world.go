package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// World is all that the daemon plans and watches by, of one moment. Runs are sorted by id, attempts
// by run and number, nodes and claims by cluster and name. A run is whole when it has an attempt or waits for
// another run; of every other one the spec has what listings show.
type World struct {
	Revision  int64           // commits so far that changed something
	Runs      []forge.Run     // not terminal, and those that pending runs wait for; see above
	Attempts  []forge.Attempt // not ended
	Nodes     []forge.Node
	Claims    []forge.Claim
	Paused    []forge.PausedCluster
	Preempted []Preempted // of the runs that have not ended, those that were preempted; by run
	Tenants   []forge.TenantAccount
	Users     []forge.UserAccount // that have a quota of their own, by tenant and name
	LastSeq   int64               // of the newest event
}

// Preempted says how often a run was preempted, and when it last was.
type Preempted struct {
	Run   forge.RunID
	Times int
	Last  time.Time
}

// World reads the world in one read transaction. The daemon calls it before it starts its loops
// and follows the deltas from there.
func (db *DB) World(ctx context.Context) (World, error) {
	var w World
	err := db.snapshot(ctx, "world.read", func(t bun.Tx) error {
		w = World{}
		if err := t.NewRaw(`SELECT revision, (SELECT coalesce(max(seq), 0) FROM events) FROM site`).Scan(ctx, &w.Revision, &w.LastSeq); err != nil {
			return err
		}
		var err error
		if w.Runs, err = db.liveRuns(ctx, t); err != nil {
			return err
		}
		var attempts []attemptRow
		if err := selectAttempts(t.NewSelect(), &attempts).Where("a.state <> 'ended'").Order("a.run", "a.number").Scan(ctx); err != nil {
			return err
		}
		if w.Attempts, err = nouns(attempts, func(r *attemptRow) (forge.Attempt, error) { return r.forge() }); err != nil {
			return err
		}
		if w.Nodes, err = loadNodes(ctx, t, ""); err != nil {
			return err
		}
		var claims []claimRow
		if err := t.NewSelect().Model(&claims).Order("c.cluster", "c.node", "c.slot").Scan(ctx); err != nil {
			return err
		}
		for i := range claims {
			w.Claims = append(w.Claims, claims[i].forge())
		}
		if w.Preempted, err = preempted(ctx, t); err != nil {
			return err
		}
		if err := accounts(ctx, t, &w); err != nil {
			return err
		}
		var paused []clusterRow
		if err := t.NewSelect().Model(&paused).Where("c.paused_at <> 0").Order("c.name").Scan(ctx); err != nil {
			return err
		}
		for _, c := range paused {
			w.Paused = append(w.Paused, forge.PausedCluster{Cluster: c.Name, Reason: c.PausedReason})
		}
		return nil
	})
	return w, err
}

// SQLite takes the index of live runs only where its condition is repeated to the letter, and CROSS JOIN
// keeps it from going through all that ever waited: a million ended runs must cost a start nothing.
const (
	live       = `state IN ('pending', 'provisioning', 'running')`
	waitingFor = `(SELECT id FROM runs WHERE ` + live + ` AND state = 'pending') AS p CROSS JOIN run_after AS a ON a.run = p.id`

	countQuery = `SELECT count(*) FROM runs WHERE ` + live
	liveQuery  = `SELECT ` + listed + `, tenant, avoid FROM runs WHERE ` + live + ` ORDER BY id`
	// What has ended and is waited for.
	neededQuery = `SELECT ` + listed + `, tenant, avoid FROM runs WHERE state IN ('completed', 'failed', 'cancelled') AND id IN (SELECT a.needs FROM ` + waitingFor + `)`
	// What has an attempt, or waits for others.
	wholeCondition = `r.id IN (SELECT id FROM runs WHERE ` + live + ` AND state <> 'pending'
		UNION SELECT run FROM attempts WHERE state <> 'ended' UNION SELECT a.run FROM ` + waitingFor + `)`
	preemptedQuery = `SELECT a.run, count(*) AS times, max(a.ended_at) AS last
		FROM (SELECT id FROM runs WHERE ` + live + ` AND attempt > 0) AS r CROSS JOIN attempts AS a ON a.run = r.id
		WHERE a.reason = '` + string(forge.EndCheckpointedPreempt) + `' AND a.rehearsal = 0 GROUP BY a.run ORDER BY a.run`
)

func preempted(ctx context.Context, t bun.Tx) ([]Preempted, error) {
	var rows []struct {
		Run   forge.RunID
		Times int
		Last  stamp
	}
	err := t.NewRaw(preemptedQuery).Scan(ctx, &rows)
	var out []Preempted
	for _, r := range rows {
		out = append(out, Preempted{r.Run, r.Times, r.Last.time()})
	}
	return out, err
}

// liveRuns reads the runs of the world. The queue may be 100,000 long and a daemon that was down has to be
// back in seconds: of a run that only waits, what is read is its row, by hand, and not its spec.
func (db *DB) liveRuns(ctx context.Context, t bun.Tx) ([]forge.Run, error) {
	whole, err := db.wholeRuns(ctx, t)
	if err != nil {
		return nil, err
	}
	var n int
	if err := t.QueryRowContext(ctx, countQuery).Scan(&n); err != nil {
		return nil, err
	}
	runs := make([]forge.Run, 0, n)
	add := func(query string) error {
		rows, err := t.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		var r runRow
		dest := append(r.listed(), (*string)(&r.Tenant), &r.Avoid)
		for rows.Next() {
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			run, ok := whole[r.ID]
			if !ok {
				run = r.brief()
				if err := decode(r.Avoid, &run.Avoid); err != nil {
					return err
				}
			}
			runs = append(runs, run)
		}
		return rows.Err()
	}
	if err := add(liveQuery); err != nil {
		return nil, err
	}
	if err := add(neededQuery); err != nil {
		return nil, err
	}
	slices.SortFunc(runs, func(a, b forge.Run) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return runs, nil
}

// wholeRuns reads, specs included, the live runs that have an attempt, and those that wait for others.
func (db *DB) wholeRuns(ctx context.Context, t bun.Tx) (map[forge.RunID]forge.Run, error) {
	var rows []runRow
	err := selectRuns(t.NewSelect(), &rows).Where(wholeCondition).Scan(ctx)
	if err != nil {
		return nil, err
	}
	whole := make(map[forge.RunID]forge.Run, len(rows))
	for i := range rows {
		run, err := rows[i].forge(&db.specs)
		if err != nil {
			return nil, err
		}
		whole[run.ID] = run
	}
	return whole, nil
}
