package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// NodeInput names a node.
type NodeInput struct {
	Node    string `path:"node" maxLength:"253" doc:"Node name" example:"gpu-1"`
	Cluster string `query:"cluster" maxLength:"64" doc:"Its cluster; needed only where several have a node of that name"`
}

// GPUInput names a node, or one of its GPUs.
type GPUInput struct {
	NodeInput
	GPU string `query:"gpu" maxLength:"96" doc:"Only this GPU of it: its UUID, or the number of its slot"`
}

func (in *GPUInput) at() api.NodeAt {
	return api.NodeAt{Cluster: in.Cluster, Node: in.Node, GPU: in.GPU}
}

type nodeEventsInput struct {
	NodeInput
	Since  time.Time `query:"since" doc:"Only what happened then or later"`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Events at most"`
	Cursor int64     `query:"cursor" minimum:"0" doc:"next of the page before: the seq of its last event"`
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
		summary: "Show a node", doc: "With its GPUs one by one, what holds them back and what the driver said of them, and with what went wrong on it: attempts that ended by a fault that it may have had its part in, counted by reason. Whose they were is not said.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *NodeInput) (api.NodeDetail, error) {
		return s.Nodes.Node(ctx, p, in.Cluster, in.Node)
	})
	operation(s, spec{
		id: "list-node-events", method: http.MethodGet, path: "/v1/nodes/{node}/events", tag: "nodes", role: forge.RoleViewer,
		summary: "List what happened to a node",
		doc:     "Oldest first: what the driver and the rules of GPU health said of its GPUs, what was held back and let back, by whom. Of a run that had a GPU only the own tenant hears, and operators.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nodeEventsInput) (api.List[forge.NodeEvent], error) {
		items, err := s.NodeHolds.NodeEvents(ctx, p, api.NodeAt{Cluster: in.Cluster, Node: in.Node}, api.NodeEventQuery{Since: in.Since, After: in.Cursor, Limit: in.Limit})
		l := whole(items)
		if n := len(items); n >= in.Limit {
			l.Next = strconv.FormatInt(items[n-1].Seq, 10)
		}
		return l, err
	})
	acting(s, spec{
		id: "drain-node", method: http.MethodPost, path: "/v1/nodes/{node}/drain", tag: "nodes", role: forge.RoleOperator,
		summary: "Keep new work away from a node, or from one of its GPUs",
		doc:     "For operators. What runs there goes on. The cluster's batch system is told only where the cluster's configuration says so, with forge's own prefix in the reason.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		GPUInput
		Body api.DrainRequest
	}) (api.NodeChanged, error) {
		if in.GPU != "" {
			return s.NodeHolds.DrainGPU(ctx, p, in.at(), in.Body.Reason)
		}
		return s.Nodes.DrainNode(ctx, p, in.Cluster, in.Node, in.Body.Reason)
	}, s.nodeAgain)
	acting(s, spec{
		id: "undrain-node", method: http.MethodPost, path: "/v1/nodes/{node}/undrain", tag: "nodes", role: forge.RoleOperator,
		summary: "Let a drained node, or one of its GPUs, take work again",
		doc:     "For operators. What rules of GPU health hold back is let back as well, and a GPU that is missing is forgotten. Only forge's own drain is undone: one that somebody made in the cluster's batch system stays, and the answer says so.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition, forge.KindUnavailable},
	}, func(ctx context.Context, p forge.Principal, in *GPUInput) (api.NodeChanged, error) {
		if in.GPU != "" {
			return s.NodeHolds.UndrainGPU(ctx, p, in.at())
		}
		return s.Nodes.UndrainNode(ctx, p, in.Cluster, in.Node)
	}, s.nodeAgain)
}

// nodeAgain answers a repeated request; ref is CLUSTER/NODE.
func (s *server) nodeAgain(ctx context.Context, p forge.Principal, ref string) (api.NodeChanged, error) {
	cluster, node, _ := strings.Cut(ref, "/")
	n, err := s.Nodes.Node(ctx, p, cluster, node)
	return api.NodeChanged{NodeView: n.NodeView}, err
}
