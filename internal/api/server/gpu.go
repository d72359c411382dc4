package server

import (
	"context"
	"net/http"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type gpusInput struct {
	Cluster string `query:"cluster" maxLength:"64" doc:"Only this cluster"`
	Node    string `query:"node" maxLength:"253" doc:"Only this node"`
	Run     string `query:"run" maxLength:"64" doc:"Only the GPUs of this run: number or id"`
}

type gpuHistoryInput struct {
	UUID  string    `path:"uuid" maxLength:"96" doc:"As the driver names it" example:"GPU-5a2bb1b3-7d8b-4d5c-9d65-1d3f8a9b0c11"`
	Since time.Time `query:"since" doc:"Only steps that end after this time, RFC 3339; default a day ago"`
}

func (s *server) gpus() {
	operation(s, spec{
		id: "list-gpus", method: http.MethodGet, path: "/v1/gpus", tag: "nodes", role: forge.RoleViewer,
		summary: "List GPUs with what they are doing",
		doc: "By node: who has each GPU, its newest reading, its last XID. Readings come from forged on its own host and from the shims of runs elsewhere; one that is older than three looks is marked as old. " +
			"Of other tenants' runs nothing is said but that there is one. CPU slots are no GPUs.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *gpusInput) (api.List[api.NodeGPUs], error) {
		items, err := s.GPUs.GPUs(ctx, p, api.GPUQuery{Cluster: in.Cluster, Node: in.Node, Run: in.Run})
		return whole(items), err
	})
	operation(s, spec{
		id: "get-gpu-history", method: http.MethodGet, path: "/v1/gpus/{uuid}/history", tag: "nodes", role: forge.RoleViewer,
		summary: "What a GPU was like", doc: "Utilisation in percent, memory in MiB and power in watts as means, temperature in °C as the highest of each step.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *gpuHistoryInput) (api.GPUHistory, error) {
		h, err := s.GPUs.GPUHistory(ctx, p, in.UUID, in.Since)
		if h.Steps == nil {
			h.Steps = []forge.GPUSample{}
		}
		return h, err
	})
}
