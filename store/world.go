package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// World is all that the daemon plans and watches by, of one moment. Runs are sorted by id, attempts
// by run and number, nodes and claims by cluster and name.
type World struct {
	Revision  int64           // commits so far that changed something
	Runs      []forge.Run     // not terminal, and those that pending runs wait for
	Attempts  []forge.Attempt // not ended
	Nodes     []forge.Node
	Claims    []forge.Claim
	Paused    []forge.PausedCluster
	Preempted []Preempted // of the runs that have not ended, those that were preempted; by run
	LastSeq   int64       // of the newest event
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

// preempted goes by the live runs, which CROSS JOIN makes SQLite begin with: it would look through every attempt that ever was.
func preempted(ctx context.Context, t bun.Tx) ([]Preempted, error) {
	var rows []struct {
		Run   forge.RunID
		Times int
		Last  stamp
	}
	err := t.NewRaw(`SELECT r.id AS run, count(*) AS times, max(a.ended_at) AS last FROM runs AS r CROSS JOIN attempts AS a ON a.run = r.id
		WHERE r.state IN ('pending', 'provisioning', 'running') AND r.attempt > 0 AND a.reason = ? GROUP BY r.id ORDER BY r.id`,
		forge.EndCheckpointedPreempt).Scan(ctx, &rows)
	var out []Preempted
	for _, r := range rows {
		out = append(out, Preempted{r.Run, r.Times, r.Last.time()})
	}
	return out, err
}

func (db *DB) liveRuns(ctx context.Context, t bun.Tx) ([]forge.Run, error) {
	var rows []runRow
	err := selectRuns(t.NewSelect(), &rows).
		Where("r.state IN ('pending', 'provisioning', 'running')").
		WhereOr("r.id IN (SELECT a.needs FROM run_after AS a JOIN runs AS p ON p.id = a.run WHERE p.state = 'pending')").
		Order("r.id").Scan(ctx)
	if err != nil {
		return nil, err
	}
	return nouns(rows, func(r *runRow) (forge.Run, error) { return r.forge(&db.specs) })
}
