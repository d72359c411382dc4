package store

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// GPUUses lists what the attempts of a cluster had of it that let go of it since then, by run and number.
func (db *DB) GPUUses(ctx context.Context, cluster forge.ClusterName, since time.Time) ([]forge.GPUUse, error) {
	var rows []attemptRow
	err := selectAttempts(db.read.NewSelect(), &rows).Where("a.cluster = ?", cluster).Where("a.exited_at >= ?", stampOf(since)).
		Order("a.run", "a.number").Scan(ctx)
	if err != nil {
		return nil, classify("cluster.hours", err)
	}
	var out []forge.GPUUse
	for i := range rows {
		a, err := rows[i].forge()
		if err != nil {
			return nil, classify("cluster.hours", err)
		}
		if u, ok := a.GPUUse(); ok {
			out = append(out, u)
		}
	}
	return out, nil
}
