package daemon

import (
	"context"
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// clusters implements api.Clusters.
type clusters struct{ d *Daemon }

// Clusters shows those that are configured, in the order of the configuration, then those that
// are not any more and still have nodes on record: what they hold stays allocated.
func (s clusters) Clusters(ctx context.Context, p forge.Principal) ([]api.ClusterView, error) {
	known, err := s.d.db.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	var out []api.ClusterView
	add := func(c forge.Cluster) *api.ClusterView {
		i := slices.IndexFunc(out, func(v api.ClusterView) bool { return v.Name == c.Name })
		if i < 0 {
			i, out = len(out), append(out, api.ClusterView{Cluster: c})
		}
		return &out[i]
	}
	live := s.d.live()
	for _, name := range live.order {
		add(forge.Cluster{Name: name, Kind: live.clusters[name].Kind})
	}
	for _, c := range known {
		add(c).Paused = c.Paused
	}
	nodes, err := site(s).Nodes(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		v := add(forge.Cluster{Name: n.Cluster})
		v.Nodes++
		v.GPUs += len(n.GPUs)
		v.FreeGPUs += n.FreeGPUs
	}
	return out, nil
}

// ResumeCluster answers members before it looks: whether there is such a cluster is no reason.
func (s clusters) ResumeCluster(ctx context.Context, p forge.Principal, name string) (api.ClusterView, error) {
	const op = "cluster.resume"
	if err := least(p, op, forge.RoleOperator, "resuming a cluster"); err != nil {
		return api.ClusterView{}, err
	}
	if err := s.d.db.For(p).ResumeCluster(ctx, forge.ClusterName(name)); err != nil {
		return api.ClusterView{}, err
	}
	list, err := s.Clusters(ctx, p)
	if err != nil {
		return api.ClusterView{}, err
	}
	for _, c := range list {
		if string(c.Name) == name {
			return c, nil
		}
	}
	return api.ClusterView{}, forge.Errorf(forge.KindInternal, op, "cluster %q was resumed and is not listed", name)
}
