package daemon

import (
	"context"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// DrainGPU implements api.NodeHolds.
func (s nodes) DrainGPU(ctx context.Context, p forge.Principal, at api.NodeAt, reason string) (api.NodeChanged, error) {
	const op = "node.drain"
	if err := least(p, op, forge.RoleOperator, "draining a GPU"); err != nil {
		return api.NodeChanged{}, err
	}
	if reason = strings.TrimSpace(reason); reason == "" {
		return api.NodeChanged{}, forge.Invalidf("reason", "it is empty; say in one line why, for those who look at the GPU later")
	}
	if err := checkText("reason", reason, maxDrainReason); err != nil {
		return api.NodeChanged{}, err
	}
	n, err := s.find(ctx, p, op, at.Cluster, at.Node)
	if err != nil {
		return api.NodeChanged{}, err
	}
	if _, err := s.d.db.For(p).DrainGPU(ctx, n.Cluster, n.Name, at.GPU, reason); err != nil {
		return api.NodeChanged{}, err
	}
	return s.changed(ctx, p, n, nil)
}

// UndrainGPU implements api.NodeHolds.
func (s nodes) UndrainGPU(ctx context.Context, p forge.Principal, at api.NodeAt) (api.NodeChanged, error) {
	const op = "node.undrain"
	if err := least(p, op, forge.RoleOperator, "undraining a GPU"); err != nil {
		return api.NodeChanged{}, err
	}
	n, err := s.find(ctx, p, op, at.Cluster, at.Node)
	if err != nil {
		return api.NodeChanged{}, err
	}
	if _, err := s.d.db.For(p).UndrainGPU(ctx, n.Cluster, n.Name, at.GPU); err != nil {
		return api.NodeChanged{}, err
	}
	return s.changed(ctx, p, n, nil)
}

// NodeEvents implements api.NodeHolds.
func (s nodes) NodeEvents(ctx context.Context, p forge.Principal, at api.NodeAt, q api.NodeEventQuery) ([]forge.NodeEvent, error) {
	n, err := s.find(ctx, p, "node.events", at.Cluster, at.Node)
	if err != nil {
		return nil, err
	}
	return s.d.db.For(p).NodeEvents(ctx, n.Cluster, n.Name, store.NodeEventFilter{Since: q.Since, After: q.After, Limit: q.Limit})
}

// health tells of a node's GPUs one by one, and of what ran on it.
func (s nodes) health(ctx context.Context, n api.NodeView) ([]api.GPUDetail, *api.NodeUse, error) {
	now := time.Now()
	since := now.Add(-faultsKept)
	counts, err := s.d.db.XIDCounts(ctx, n.Cluster, n.Name, since)
	if err != nil {
		return nil, nil, err
	}
	uses, err := s.d.db.NodeUses(ctx, n.Cluster, since, now)
	if err != nil {
		return nil, nil, err
	}
	out := []api.GPUDetail{}
	for _, g := range n.GPUs {
		if g.Kind != forge.GPUDevice {
			continue
		}
		d := api.GPUDetail{Slot: g.Slot, UUID: g.UUID, Type: g.Type, Island: g.Island, NUMA: g.NUMA, Why: g.Sick, Health: api.GPUWell}
		for _, h := range n.Holds {
			if h.UUID != "" && (h.UUID == g.UUID || h.UUID == g.Parent) {
				d.Holds = append(d.Holds, api.GPUHold{NodeHold: h, Waits: s.d.gpus.whyHeld(nodeKey{n.Cluster, n.Name}, h, now)})
			}
		}
		switch {
		case g.Missing():
			d.Health = api.GPUMissing
		case len(d.Holds) > 0:
			d.Health = api.GPUHeld
			if d.Why == "" {
				d.Why = d.Holds[0].Words()
			}
		case g.Sick != "":
			d.Health = api.GPUSick
		}
		for _, c := range counts {
			if c.UUID != "" && (c.UUID == g.UUID || c.UUID == g.Parent) {
				d.XIDs = append(d.XIDs, api.XIDCount{XID: c.XID, Count: c.Count, LastAt: c.Last, Words: c.Words})
			}
		}
		out = append(out, d)
	}
	return out, useOf(uses[n.Name]), nil
}

func useOf(u store.NodeUse) *api.NodeUse {
	v := &api.NodeUse{GPUHours: u.GPUHours, Failures: u.Failures, Lost: u.Lost}
	if u.Failures > 0 {
		v.MTBFHours = new(u.GPUHours / float64(u.Failures))
	}
	if u.GPUHours > 0 {
		v.Goodput = new(1 - min(1, u.Lost/u.GPUHours))
	}
	return v
}
