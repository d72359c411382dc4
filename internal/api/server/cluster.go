package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) clusters() {
	operation(s, spec{
		id: "list-clusters", method: http.MethodGet, path: "/v1/clusters", tag: "clusters", role: forge.RoleViewer,
		summary: "List clusters", doc: "With how many of their GPUs are free, and since when and why they take no new work if they are paused. A CPU slot counts as a GPU.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.ClusterView], error) {
		items, err := s.Clusters.Clusters(ctx, p)
		return whole(items), err
	})
	acting(s, spec{
		id: "resume-cluster", method: http.MethodPost, path: "/v1/clusters/{cluster}/resume", tag: "clusters", role: forge.RoleOperator,
		summary: "Let a paused cluster take work again", doc: "For operators. Runs that were put on hold stay there until each is released.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Cluster string `path:"cluster" maxLength:"64" doc:"Cluster name" example:"local"`
	}) (api.ClusterView, error) {
		return s.Clusters.ResumeCluster(ctx, p, in.Cluster)
	}, s.clusterAgain)
	operation(s, spec{
		id: "check-cluster", method: http.MethodGet, path: "/v1/clusters/{cluster}/check", tag: "clusters", role: forge.RoleOperator,
		summary: "Look at a cluster with jobs on it",
		doc: "For operators. Runs short jobs of its own on a cluster with a batch system, and removes them: whether the shared directory is shared, forged's shim runs there, the training environment imports, " +
			"clocks agree; and says what each of the batch system's settings means for runs. Compares GPU-hours with the accounting where there is one. Takes up to some minutes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Cluster string `path:"cluster" maxLength:"64" doc:"Cluster name" example:"local"`
		Days    int    `query:"days" default:"7" minimum:"1" maximum:"90" doc:"How far back GPU-hours are compared with the accounting"`
	}) (api.List[api.Check], error) {
		items, err := s.Clusters.CheckCluster(ctx, p, in.Cluster, in.Days)
		return whole(items), err
	})
}

func (s *server) clusterAgain(ctx context.Context, p forge.Principal, ref string) (api.ClusterView, error) {
	all, err := s.Clusters.Clusters(ctx, p)
	for _, c := range all {
		if string(c.Name) == ref {
			return c, nil
		}
	}
	if err == nil {
		err = forge.Errorf(forge.KindNotFound, "cluster.resume", "there is no cluster %q any more", ref)
	}
	return api.ClusterView{}, err
}
