package store

import (
	"context"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type clusterRow struct {
	bun.BaseModel `bun:"table:clusters,alias:c"`

	Name         forge.ClusterName `bun:"name,pk"`
	PausedReason string            `bun:"paused_reason"`
	PausedAt     stamp             `bun:"paused_at"`
}

func (t *tx) ensureCluster(name forge.ClusterName) error {
	_, err := t.exec(`INSERT INTO clusters (name) VALUES (?) ON CONFLICT DO NOTHING`, string(name))
	return err
}

// PauseCluster keeps new work away from a cluster until it is resumed; what runs goes on. Pausing
// a paused cluster keeps the first reason.
func (db *DB) PauseCluster(ctx context.Context, cluster forge.ClusterName, reason string) error {
	return db.write(ctx, "cluster.pause", func(t *tx) error {
		if err := t.ensureCluster(cluster); err != nil {
			return err
		}
		n, err := t.exec(`UPDATE clusters SET paused_reason = ?, paused_at = ? WHERE name = ? AND paused_at = 0`,
			clean(reason), int64(stampOf(t.now)), string(cluster))
		if err != nil || n == 0 {
			return err
		}
		t.emit(forge.Delta{Paused: &forge.PausedChange{PausedCluster: forge.PausedCluster{Cluster: cluster, Reason: clean(reason)}}})
		return t.event(forge.Event{Type: forge.EventClusterPaused, Message: "cluster " + string(cluster) + " takes no new work: " + reason,
			Data: map[string]any{"cluster": string(cluster)}})
	})
}

// ResumeCluster lets a paused cluster take work again; one that is not paused stays as it is.
func (db *DB) ResumeCluster(ctx context.Context, cluster forge.ClusterName) error {
	return db.write(ctx, "cluster.resume", func(t *tx) error {
		n, err := t.exec(`UPDATE clusters SET paused_reason = '', paused_at = 0 WHERE name = ? AND paused_at <> 0`, string(cluster))
		if err != nil || n == 0 {
			return err
		}
		t.emit(forge.Delta{Paused: &forge.PausedChange{PausedCluster: forge.PausedCluster{Cluster: cluster}, Gone: true}})
		return nil
	})
}
