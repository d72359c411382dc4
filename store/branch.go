package store

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// BranchPoint is a checkpoint that runs have begun from.
type BranchPoint struct {
	Path    string
	Cluster forge.ClusterName // where it lies
	RunDir  string            // of the run that wrote it
	Needed  bool              // by a run that has not ended, or ended after since: a retry begins there again
}

// BranchPoints lists what all runs have begun from.
func (db *DB) BranchPoints(ctx context.Context, since time.Time) ([]BranchPoint, error) {
	const op = "branch.list"
	rows, err := db.read.QueryContext(ctx, `SELECT b.path, a.cluster, a.run_dir, max(b.open) FROM (
			SELECT json_extract(s.spec, '$.resume_from.path') AS path, json_extract(s.spec, '$.resume_from.run') AS run, json_extract(s.spec, '$.resume_from.attempt') AS attempt,
				r.state IN ('pending', 'provisioning', 'running') OR r.ended_at >= ? AS open
			FROM runs AS r JOIN run_specs AS s ON s.run = r.id WHERE path IS NOT NULL) AS b
		JOIN attempts AS a ON a.run = b.run AND a.number = b.attempt GROUP BY b.path, a.cluster, a.run_dir ORDER BY b.path`, int64(stampOf(since)))
	if err != nil {
		return nil, classify(op, err)
	}
	defer func() { _ = rows.Close() }()
	var out []BranchPoint
	for rows.Next() {
		var b BranchPoint
		if err := rows.Scan(&b.Path, &b.Cluster, &b.RunDir, &b.Needed); err != nil {
			return nil, classify(op, err)
		}
		out = append(out, b)
	}
	return out, classify(op, rows.Err())
}
