package apitest

import (
	"context"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// SetChecks says what a check of any cluster finds.
func (f *Fake) SetChecks(checks ...api.Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks = checks
}

// CheckCluster implements api.Clusters.
func (f *Fake) CheckCluster(_ context.Context, p forge.Principal, name string, _ int) ([]api.Check, error) {
	leave, err := f.enter("CheckCluster")
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := least(p, "cluster.check", forge.RoleOperator); err != nil {
		return nil, err
	}
	for _, c := range f.clusters {
		if string(c.Name) == name {
			return append([]api.Check{}, f.checks...), nil
		}
	}
	return nil, notFound("cluster", name)
}

// Node implements api.Nodes.
func (f *Fake) Node(_ context.Context, _ forge.Principal, cluster, node string) (api.NodeDetail, error) {
	leave, err := f.enter("Node")
	if err != nil {
		return api.NodeDetail{}, err
	}
	defer leave()
	n, err := f.findNode(cluster, node)
	if err != nil {
		return api.NodeDetail{}, err
	}
	out := f.failures[node]
	d := api.NodeDetail{NodeView: *n, KeptOut: out.KeptOut, NVML: out.NVML, Failures: append([]api.NodeFailures{}, out.Failures...), Health: append([]api.GPUDetail{}, out.Health...), Use: out.Use}
	return d, nil
}

// SetNodeFailures says what went wrong on a node, and why it is kept out.
func (f *Fake) SetNodeFailures(node, keptOut string, list ...api.NodeFailures) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = map[string]api.NodeDetail{node: {KeptOut: keptOut, Failures: list}}
}

// DrainNode implements api.Nodes.
func (f *Fake) DrainNode(_ context.Context, p forge.Principal, cluster, node, reason string) (api.NodeChanged, error) {
	return f.changeNode("DrainNode", "node.drain", p, cluster, node, func(n *api.NodeView) error {
		if n.Drain != nil {
			return forge.Errorf(forge.KindPrecondition, "node.drain", "node %s is drained already, by %s: %s", node, n.Drain.By, n.Drain.Reason)
		}
		n.Node = n.Drained(&forge.Drain{By: p.Actor(), Reason: reason, At: f.now})
		n.FreeGPUs, n.FreeCPUs, n.FreeMemoryMiB = 0, 0, 0
		return nil
	})
}

// UndrainNode implements api.Nodes.
func (f *Fake) UndrainNode(_ context.Context, p forge.Principal, cluster, node string) (api.NodeChanged, error) {
	return f.changeNode("UndrainNode", "node.undrain", p, cluster, node, func(n *api.NodeView) error {
		if n.Drain == nil {
			return forge.Errorf(forge.KindPrecondition, "node.undrain", "node %s is not drained by forge", node).WithHint("forgectl node list")
		}
		n.Drain, n.State, n.Reason = nil, forge.NodeReady, ""
		return nil
	})
}

// SetNodeHealth says what is known of a node's GPUs, and what happened to it.
func (f *Fake) SetNodeHealth(node string, nvml *api.NodeNVML, gpus []api.GPUDetail, use *api.NodeUse, events ...forge.NodeEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures == nil {
		f.failures = map[string]api.NodeDetail{}
	}
	d := f.failures[node]
	d.NVML, d.Health, d.Use = nvml, gpus, use
	f.failures[node] = d
	f.nodeEvents = events
}

// DrainGPU implements api.NodeGPUs.
func (f *Fake) DrainGPU(_ context.Context, p forge.Principal, at api.NodeAt, reason string) (api.NodeChanged, error) {
	return f.changeNode("DrainGPU", "node.drain", p, at.Cluster, at.Node, func(n *api.NodeView) error {
		g, err := gpuOf(n, at.GPU)
		if err == nil {
			g.Sick = "drained by " + p.Actor() + ": " + reason
		}
		return err
	})
}

// UndrainGPU implements api.NodeGPUs.
func (f *Fake) UndrainGPU(_ context.Context, p forge.Principal, at api.NodeAt) (api.NodeChanged, error) {
	return f.changeNode("UndrainGPU", "node.undrain", p, at.Cluster, at.Node, func(n *api.NodeView) error {
		g, err := gpuOf(n, at.GPU)
		if err == nil {
			g.Sick = ""
		}
		return err
	})
}

func gpuOf(n *api.NodeView, gpu string) (*forge.GPU, error) {
	for i := range n.GPUs {
		if g := &n.GPUs[i]; g.UUID == gpu || strconv.Itoa(g.Slot) == gpu {
			return g, nil
		}
	}
	return nil, notFound("GPU", gpu)
}

// NodeEvents implements api.NodeGPUs.
func (f *Fake) NodeEvents(_ context.Context, _ forge.Principal, at api.NodeAt, q api.NodeEventQuery) ([]forge.NodeEvent, error) {
	leave, err := f.enter("NodeEvents")
	if err != nil {
		return nil, err
	}
	defer leave()
	if _, err := f.findNode(at.Cluster, at.Node); err != nil {
		return nil, err
	}
	var out []forge.NodeEvent
	for _, e := range f.nodeEvents {
		if e.Seq > q.After && !e.At.Before(q.Since) && (q.Limit == 0 || len(out) < q.Limit) {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *Fake) changeNode(method, op string, p forge.Principal, cluster, node string, do func(*api.NodeView) error) (api.NodeChanged, error) {
	leave, err := f.enter(method)
	if err != nil {
		return api.NodeChanged{}, err
	}
	defer leave()
	if err := least(p, op, forge.RoleOperator); err != nil {
		return api.NodeChanged{}, err
	}
	n, err := f.findNode(cluster, node)
	if err == nil {
		err = do(n)
	}
	if err != nil {
		return api.NodeChanged{}, err
	}
	f.remember(p, string(n.Cluster)+"/"+string(n.Name))
	return api.NodeChanged{NodeView: *n}, nil
}

func (f *Fake) findNode(cluster, node string) (*api.NodeView, error) {
	for i := range f.nodes {
		if n := &f.nodes[i]; string(n.Name) == node && (cluster == "" || string(n.Cluster) == cluster) {
			return n, nil
		}
	}
	return nil, notFound("node", node)
}
