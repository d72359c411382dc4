package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/slurm"
)

// Drainer is what an executor may add whose batch system drains nodes by itself, and whose configuration says that forge may ask it to.
// kept is what somebody else said of the node in that system: it is not touched then.
type Drainer interface {
	DrainNode(ctx context.Context, node forge.NodeName, reason string) (kept string, err error)
	UndrainNode(ctx context.Context, node forge.NodeName) (kept string, err error)
}

// maxDrainReason is what fits a table.
const maxDrainReason = 200

// nodes implements api.Nodes.
type nodes struct{ d *Daemon }

// find names a node by itself where that is clear.
func (s nodes) find(ctx context.Context, p forge.Principal, op, cluster, node string) (api.NodeView, error) {
	all, err := site(s).Nodes(ctx, p)
	if err != nil {
		return api.NodeView{}, err
	}
	var found []api.NodeView
	var in []string
	for _, n := range all {
		if string(n.Name) == node && (cluster == "" || string(n.Cluster) == cluster) {
			found, in = append(found, n), append(in, string(n.Cluster))
		}
	}
	switch len(found) {
	case 0:
		return api.NodeView{}, forge.Errorf(forge.KindNotFound, op, "there is no node %.100q", node).WithHint("forgectl node list")
	case 1:
		return found[0], nil
	}
	return api.NodeView{}, forge.Invalidf("cluster", "node %.100q is in the clusters %s; say which", node, strings.Join(in, ", ")).WithHint("--cluster NAME")
}

// Node shows one with its history.
func (s nodes) Node(ctx context.Context, p forge.Principal, cluster, node string) (api.NodeDetail, error) {
	n, err := s.find(ctx, p, "node.show", cluster, node)
	if err != nil {
		return api.NodeDetail{}, err
	}
	list, err := s.d.db.NodeFailures(ctx, n.Cluster, time.Now().Add(-faultsKept))
	if err != nil {
		return api.NodeDetail{}, err
	}
	out := api.NodeDetail{NodeView: n, NVML: s.d.board.nvml(nodeKey{n.Cluster, n.Name}), Failures: []api.NodeFailures{}}
	if n.Drain == nil {
		out.KeptOut = n.Suspect
	}
	if out.Health, out.Use, err = s.health(ctx, n); err != nil {
		return api.NodeDetail{}, err
	}
	runs := map[forge.EndReason]map[forge.RunID]bool{}
	for _, f := range list {
		if f.Node != n.Name {
			continue
		}
		i := slices.IndexFunc(out.Failures, func(x api.NodeFailures) bool { return x.Reason == f.Reason })
		if i < 0 {
			i, out.Failures = len(out.Failures), append(out.Failures, api.NodeFailures{Reason: f.Reason, LastAt: f.At})
			runs[f.Reason] = map[forge.RunID]bool{}
		}
		x := &out.Failures[i]
		x.Count++
		if f.Certain {
			x.Certain++
		}
		runs[f.Reason][f.Run] = true
		x.Runs = len(runs[f.Reason])
	}
	return out, nil
}

// faultsKept is how far back faults are counted against a node.
const faultsKept = 30 * 24 * time.Hour

// faults counts by node. That they cannot be read is no reason to show no nodes.
func (s site) faults(ctx context.Context, nodes []forge.Node) map[nodeKey]int {
	count := map[nodeKey]int{}
	var last forge.ClusterName
	for _, n := range nodes { // by cluster
		if n.Cluster == last {
			continue
		}
		last = n.Cluster
		list, err := s.d.db.NodeFailures(ctx, n.Cluster, time.Now().Add(-faultsKept))
		if err != nil {
			s.d.log.Warn().Err(err).Msg("failures of nodes not read")
		}
		for _, f := range list {
			count[nodeKey{n.Cluster, f.Node}]++
		}
	}
	return count
}

// eager says that the cluster's own queue chooses nodes.
func (s site) eager(cluster forge.ClusterName) bool {
	c := s.d.live().clusters[cluster]
	return c != nil && c.Binding == forge.BindEager
}

// DrainNode keeps new work away, here first: from then on nothing of forge's goes there, whatever becomes of telling the batch system.
func (s nodes) DrainNode(ctx context.Context, p forge.Principal, cluster, node, reason string) (api.NodeChanged, error) {
	const op = "node.drain"
	if err := least(p, op, forge.RoleOperator, "draining a node"); err != nil {
		return api.NodeChanged{}, err
	}
	if reason = strings.TrimSpace(reason); reason == "" {
		return api.NodeChanged{}, forge.Invalidf("reason", "it is empty; say in one line why, for those who look at the node later")
	}
	if err := checkText("reason", reason, maxDrainReason); err != nil {
		return api.NodeChanged{}, err
	}
	n, err := s.find(ctx, p, op, cluster, node)
	if err != nil {
		return api.NodeChanged{}, err
	}
	if _, err := s.d.db.For(p).DrainNode(ctx, n.Cluster, n.Name, reason); err != nil {
		return api.NodeChanged{}, err
	}
	var notes []string
	if x := s.drainer(n.Cluster); x != nil {
		cctx, cancel := context.WithTimeout(ctx, execTimeout)
		defer cancel()
		kept, err := x.DrainNode(cctx, n.Name, fmt.Sprintf("%s (%s)", reason, p.Actor()))
		switch {
		case err != nil:
			notes = append(notes, "the batch system was not told: "+err.Error()+"; nothing of forge's goes there all the same")
		case kept != "":
			notes = append(notes, "it is drained in the batch system already, by somebody else, which stays: "+kept)
		default:
			if err := s.d.db.DrainedOutside(ctx, n.Cluster, n.Name, true); err != nil {
				return api.NodeChanged{}, err
			}
			notes = append(notes, "the batch system drains it as well")
		}
	}
	return s.changed(ctx, p, n, notes)
}

// UndrainNode undoes what forge did, and no more. The batch system is asked first: if it does not answer, the drain stays, to be taken back later.
func (s nodes) UndrainNode(ctx context.Context, p forge.Principal, cluster, node string) (api.NodeChanged, error) {
	const op = "node.undrain"
	if err := least(p, op, forge.RoleOperator, "undraining a node"); err != nil {
		return api.NodeChanged{}, err
	}
	n, err := s.find(ctx, p, op, cluster, node)
	if err != nil {
		return api.NodeChanged{}, err
	}
	var notes []string
	outside := n.Drain != nil || slices.ContainsFunc(n.Holds, func(h forge.NodeHold) bool { return h.Outside && n.HoldsNode(h) })
	if x := s.drainer(n.Cluster); x != nil && outside {
		cctx, cancel := context.WithTimeout(ctx, execTimeout)
		defer cancel()
		kept, err := x.UndrainNode(cctx, n.Name)
		switch {
		case err != nil:
			return api.NodeChanged{}, forge.Errorf(forge.KindUnavailable, op, "the batch system did not take the drain of %s back: %w", n.Name, err).WithHint("it stays drained; try again later")
		case kept != "":
			notes = append(notes, "it stays drained in the batch system, by somebody else: "+kept)
		}
	} else if n.Drain != nil && n.Drain.Outside {
		notes = append(notes, "the batch system was told of the drain and the configuration no longer lets forge take it back there: look at it by hand")
	}
	if _, err := s.d.db.For(p).UndrainNode(ctx, n.Cluster, n.Name); err != nil {
		return api.NodeChanged{}, err
	}
	for _, g := range n.GPUs {
		if slices.ContainsFunc(n.Holds, func(h forge.NodeHold) bool { return !n.HoldsNode(h) && (h.UUID == g.UUID || h.UUID == g.Parent) }) {
			notes = append(notes, fmt.Sprintf("slot %d is %s: forgectl node undrain %s --gpu %d", g.Slot, g.Sick, n.Name, g.Slot))
		}
	}
	return s.changed(ctx, p, n, notes)
}

func (s nodes) drainer(cluster forge.ClusterName) Drainer {
	c := s.d.live().clusters[cluster]
	if c == nil || c.Slurm == nil || c.Slurm.Drain != slurm.DrainScontrol {
		return nil
	}
	x, _ := c.Executor.(Drainer)
	return x
}

func (s nodes) changed(ctx context.Context, p forge.Principal, n api.NodeView, notes []string) (api.NodeChanged, error) {
	now, err := s.find(ctx, p, "node.show", string(n.Cluster), string(n.Name))
	return api.NodeChanged{NodeView: now, Notes: notes}, err
}
