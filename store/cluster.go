package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type clusterRow struct {
	bun.BaseModel `bun:"table:clusters,alias:c"`

	Name         forge.ClusterName `bun:"name,pk"`
	PausedReason string            `bun:"paused_reason"`
	PausedAt     stamp             `bun:"paused_at"`
	ResumedAt    stamp             `bun:"resumed_at"`
}

// Clusters lists every cluster that there ever was a node of, by name. Their kinds are not the
// store's to know.
func (db *DB) Clusters(ctx context.Context) ([]forge.Cluster, error) {
	var rows []clusterRow
	if err := db.read.NewSelect().Model(&rows).Order("c.name").Scan(ctx); err != nil {
		return nil, classify("cluster.list", err)
	}
	clusters := make([]forge.Cluster, len(rows))
	for i, r := range rows {
		clusters[i].Name = r.Name
		if r.PausedAt != 0 {
			clusters[i].Paused = &forge.Pause{Reason: r.PausedReason, Since: r.PausedAt.time()}
		}
	}
	return clusters, nil
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
		return t.event(forge.Event{Type: forge.EventClusterPaused, Data: map[string]any{"cluster": string(cluster)},
			Message: fmt.Sprintf("cluster %s takes no new work: %s; next: forgectl cluster resume %[1]s", cluster, reason)})
	})
}

// ResumeCluster lets a paused cluster take work again, because the daemon itself or a test says so.
// KindNotFound when there is no such cluster, KindPrecondition when it is not paused.
func (db *DB) ResumeCluster(ctx context.Context, cluster forge.ClusterName, actor string) error {
	return db.For(forge.Principal{User: actor}).ResumeCluster(ctx, cluster)
}

// ResumeCluster does the same for an operator who asked.
func (t *Tenant) ResumeCluster(ctx context.Context, cluster forge.ClusterName) error {
	const op = "cluster.resume"
	return t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) { return string(cluster), tx.resumeCluster(cluster, t.p.User) },
			func(string) error { return nil })
	})
}

func (t *tx) resumeCluster(cluster forge.ClusterName, actor string) error {
	const op = "cluster.resume"
	var row clusterRow
	err := t.NewSelect().Model(&row).Where("c.name = ?", clean(string(cluster))).Scan(t.ctx)
	if absent(err) {
		return notFound(op, "there is no cluster %q", cluster).WithHint("forgectl cluster list")
	}
	if err != nil {
		return err
	}
	if row.PausedAt == 0 {
		return forge.Errorf(forge.KindPrecondition, op, "cluster %s is not paused", cluster).WithHint("forgectl cluster list")
	}
	if _, err := t.exec(`UPDATE clusters SET paused_reason = '', paused_at = 0, resumed_at = ? WHERE name = ?`,
		int64(stampOf(t.now)), string(cluster)); err != nil {
		return err
	}
	t.emit(forge.Delta{Paused: &forge.PausedChange{PausedCluster: forge.PausedCluster{Cluster: cluster}, Gone: true}})
	return t.event(forge.Event{Actor: actor, Type: forge.EventClusterResumed, Data: map[string]any{"cluster": string(cluster)},
		Message: fmt.Sprintf("cluster %s takes new work again; it was paused: %s", cluster, row.PausedReason)})
}
