package server

import (
	"context"
	"net/http"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// NodeInput names a node.
type NodeInput struct {
	Node    string `path:"node" maxLength:"253" doc:"Node name" example:"gpu-1"`
	Cluster string `query:"cluster" maxLength:"64" doc:"Its cluster; needed only where several have a node of that name"`
}

func (s *server) nodes() {
	operation(s, spec{
		id: "list-nodes", method: http.MethodGet, path: "/v1/nodes", tag: "nodes", role: forge.RoleViewer,
		summary: "List nodes", doc: "With their GPUs and what is free. Memory is MiB. A slot of kind cpu_slot is no GPU but CPUs standing in for one.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.NodeView], error) {
		items, err := s.Site.Nodes(ctx, p)
		return whole(items), err
	})
	operation(s, spec{
		id: "get-node", method: http.MethodGet, path: "/v1/nodes/{node}", tag: "nodes", role: forge.RoleViewer,
		summary: "Show a node", doc: "With what went wrong on it: attempts that ended by a fault that it may have had its part in, counted by reason. Whose they were is not said.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *NodeInput) (api.NodeDetail, error) {
		return s.Nodes.Node(ctx, p, in.Cluster, in.Node)
	})
	acting(s, spec{
		id: "drain-node", method: http.MethodPost, path: "/v1/nodes/{node}/drain", tag: "nodes", role: forge.RoleOperator,
		summary: "Keep new work away from a node",
		doc:     "For operators. What runs there goes on. The cluster's batch system is told only where the cluster's configuration says so, with forge's own prefix in the reason.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		NodeInput
		Body api.DrainRequest
	}) (api.NodeChanged, error) {
		return s.Nodes.DrainNode(ctx, p, in.Cluster, in.Node, in.Body.Reason)
	}, s.nodeAgain)
	acting(s, spec{
		id: "undrain-node", method: http.MethodPost, path: "/v1/nodes/{node}/undrain", tag: "nodes", role: forge.RoleOperator,
		summary: "Let a drained node take work again",
		doc:     "For operators. Only forge's own drain is undone: one that somebody made in the cluster's batch system stays, and the answer says so.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition, forge.KindUnavailable},
	}, func(ctx context.Context, p forge.Principal, in *NodeInput) (api.NodeChanged, error) {
		return s.Nodes.UndrainNode(ctx, p, in.Cluster, in.Node)
	}, s.nodeAgain)
}

// nodeAgain answers a repeated request; ref is CLUSTER/NODE.
func (s *server) nodeAgain(ctx context.Context, p forge.Principal, ref string) (api.NodeChanged, error) {
	cluster, node, _ := strings.Cut(ref, "/")
	n, err := s.Nodes.Node(ctx, p, cluster, node)
	return api.NodeChanged{NodeView: n.NodeView}, err
}
