package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// errOperator is the answer to members, before it is said whether there is such a cluster.
var errOperator = forge.Errorf(forge.KindForbidden, "", "only an operator may resume a cluster").
	WithHint("ask an operator; forgectl cluster list says which clusters are paused, and why")

func (s *server) clusters() {
	operation(s, spec{
		id: "list-clusters", method: http.MethodGet, path: "/v1/clusters", tag: "clusters",
		summary: "List clusters", doc: "With how many of their GPUs are free, and since when and why they take no new work if they are paused. A CPU slot counts as a GPU.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.ClusterView], error) {
		items, err := s.Clusters.Clusters(ctx, p)
		return list(items, 0, func(api.ClusterView) string { return "" }), err
	})
	operation(s, spec{
		id: "resume-cluster", method: http.MethodPost, path: "/v1/clusters/{cluster}/resume", tag: "clusters",
		summary: "Let a paused cluster take work again", doc: "For operators. Runs that were put on hold stay there until each is released.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Cluster string `path:"cluster" maxLength:"64" doc:"Cluster name" example:"local"`
	}) (api.ClusterView, error) {
		if p.Role != forge.RoleOperator {
			return api.ClusterView{}, errOperator
		}
		return s.Clusters.ResumeCluster(ctx, p, in.Cluster)
	})
}
