package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// HoldRun implements api.Holds.
func (f *Fake) HoldRun(_ context.Context, p forge.Principal, run, reason string) (forge.Run, error) {
	leave, err := f.enter("HoldRun")
	if err != nil {
		return forge.Run{}, err
	}
	defer leave()
	r, err := f.findOwn(p, "run.hold", run)
	switch {
	case err != nil:
		return forge.Run{}, err
	case r.Hold != nil:
		return forge.Run{}, forge.Errorf(forge.KindPrecondition, "run.hold", "run %d is on hold already, by %s", r.Number, r.Hold.By).
			WithHint("forgectl run release %d lets it go on", r.Number)
	case r.State != forge.RunPending:
		return forge.Run{}, forge.Errorf(forge.KindPrecondition, "run.hold", "run %d is %s; only a run that waits can be put on hold", r.Number, r.State).
			WithHint("forgectl run cancel %d stops it", r.Number)
	}
	r.Hold = &forge.Hold{By: p.Actor(), Reason: reason, At: f.now}
	f.remember(p, string(r.ID))
	return r.Run, nil
}

// ReleaseRun implements api.Holds.
func (f *Fake) ReleaseRun(_ context.Context, p forge.Principal, run string) (forge.Run, error) {
	leave, err := f.enter("ReleaseRun")
	if err != nil {
		return forge.Run{}, err
	}
	defer leave()
	r, err := f.findOwn(p, "run.release", run)
	if err != nil {
		return forge.Run{}, err
	}
	if r.Hold == nil {
		return forge.Run{}, forge.Errorf(forge.KindPrecondition, "run.release", "run %d is not on hold", r.Number).
			WithHint("forgectl run why %d says what it waits for", r.Number)
	}
	r.Hold, r.Fruitless, r.Avoid = nil, 0, nil
	f.remember(p, string(r.ID))
	return r.Run, nil
}

// SetClusters says which clusters there are.
func (f *Fake) SetClusters(clusters ...api.ClusterView) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clusters = clusters
}

// Clusters implements api.Clusters.
func (f *Fake) Clusters(context.Context, forge.Principal) ([]api.ClusterView, error) {
	leave, err := f.enter("Clusters")
	if err != nil {
		return nil, err
	}
	defer leave()
	return append([]api.ClusterView(nil), f.clusters...), nil
}

// ResumeCluster implements api.Clusters.
func (f *Fake) ResumeCluster(_ context.Context, p forge.Principal, name string) (api.ClusterView, error) {
	leave, err := f.enter("ResumeCluster")
	if err != nil {
		return api.ClusterView{}, err
	}
	defer leave()
	if err := least(p, "cluster.resume", forge.RoleOperator); err != nil {
		return api.ClusterView{}, err
	}
	for i := range f.clusters {
		c := &f.clusters[i]
		switch {
		case string(c.Name) != name:
		case c.Paused == nil:
			return api.ClusterView{}, forge.Errorf(forge.KindPrecondition, "cluster.resume", "cluster %s is not paused", name).WithHint("forgectl cluster list")
		default:
			c.Paused = nil
			f.remember(p, name)
			return *c, nil
		}
	}
	return api.ClusterView{}, notFound("cluster", name)
}
