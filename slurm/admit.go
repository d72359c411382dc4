package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// admit holds a run against what Slurm says of its partition, so that what Slurm would refuse, or keep for ever without a
// word, is said at submit. notes are what is worth knowing and no obstacle. Where Slurm does not answer nothing is refused.
func (r *rules) admit(ctx context.Context, o Options, spec forge.RunSpec) (notes []string, err error) {
	known, ok := r.partitions(ctx, o.Tools)
	if !ok {
		return nil, nil
	}
	asked := wanted(spec, o, known)
	if asked.name == "" {
		return nil, nil
	}
	var first error
	for _, name := range strings.Split(asked.name, ",") { // Slurm takes several and uses the first that suits
		i := slices.IndexFunc(known, func(l Limits) bool { return l.Name == name })
		if i < 0 {
			first = cmp.Or(first, error(forge.Invalidf("batch.partition", "cluster %s has no partition %.100q; there is %s", o.Cluster, name, listNames(known))))
			continue
		}
		n, fault := known[i].refuses(spec, asked, o.Binding == BindLate)
		if fault == nil {
			return append(notes, n...), nil
		}
		if first == nil {
			first = fault
		}
	}
	var fault *forge.Error
	if asked.qos != "" && errors.As(first, &fault) && (fault.Field == "time_limit" || fault.Field == "nodes") && overrides(ctx, o.Tools, asked.qos) {
		return append(notes, fmt.Sprintf("QOS %s may go beyond the partition's limits: %v", asked.qos, first)), nil
	}
	return nil, first
}

// request is what a run asks of Slurm, after the site's configuration has filled in what it left open.
type request struct{ name, account, qos string }

func wanted(spec forge.RunSpec, o Options, known []Limits) request {
	var q request
	if b := spec.Batch; b != nil {
		q = request{b.Partition, b.Account, b.QOS}
	}
	if q.name == "" && len(o.With.Partitions) > 0 {
		q.name = o.With.Partitions[0].Name
	}
	if q.name == "" {
		for _, l := range known {
			if l.Default {
				q.name = l.Name
			}
		}
	}
	for _, p := range o.With.Partitions {
		if p.Name == q.name {
			q.account, q.qos = cmp.Or(q.account, p.Account), cmp.Or(q.qos, p.QOS)
		}
	}
	return q
}

func listNames(known []Limits) string {
	names := make([]string, len(known))
	for i, l := range known {
		names[i] = l.Name
	}
	return strings.Join(names, ", ")
}

// refuses says why a run does not fit, naming the limit as Slurm calls it.
func (l Limits) refuses(spec forge.RunSpec, q request, late bool) (notes []string, err error) {
	g := spec.Gang
	limit := spec.TimeLimit.D()
	cpus := g.GPUsPerNode * g.CPUsPerGPU
	memory := int64(g.GPUsPerNode) * g.MemoryMiBPerGPU
	no := func(field, format string, args ...any) error {
		return forge.Invalidf(field, "partition %s: %s", l.Name, fmt.Sprintf(format, args...)).WithHint("forgectl cluster check shows the limits; another partition: --partition NAME")
	}
	switch {
	case l.State == "DRAIN" || l.State == "INACTIVE":
		return nil, no("batch.partition", "it takes no new jobs (State=%s)", l.State)
	case l.MaxTime > 0 && limit > l.MaxTime:
		return nil, no("time_limit", "%s is longer than its MaxTime=%s", spec.TimeLimit, forge.Duration(l.MaxTime))
	case l.MaxNodes > 0 && g.Nodes > l.MaxNodes:
		return nil, no("nodes", "%d nodes are more than its MaxNodes=%d", g.Nodes, l.MaxNodes)
	case l.MinNodes > 0 && g.Nodes < l.MinNodes:
		return nil, no("nodes", "%d nodes are fewer than its MinNodes=%d", g.Nodes, l.MinNodes)
	case l.TotalNodes > 0 && g.Nodes > l.TotalNodes:
		return nil, no("nodes", "%d nodes are more than the %d that it has (TotalNodes)", g.Nodes, l.TotalNodes)
	case l.MaxCPUsPerNode > 0 && cpus > l.MaxCPUsPerNode:
		return nil, no("cpus_per_gpu", "%d CPUs on a node (%d GPUs × %d) are more than its MaxCPUsPerNode=%d", cpus, g.GPUsPerNode, g.CPUsPerGPU, l.MaxCPUsPerNode)
	case l.MaxMemPerNode > 0 && memory > l.MaxMemPerNode:
		return nil, no("memory_mib_per_gpu", "%s on a node are more than its MaxMemPerNode=%s", forge.FormatMiB(memory), forge.FormatMiB(l.MaxMemPerNode))
	case q.account != "" && l.AllowAccounts != nil && !among(l.AllowAccounts, q.account):
		return nil, no("batch.account", "account %s is not among its AllowAccounts=%s", q.account, strings.Join(l.AllowAccounts, ","))
	case q.account != "" && l.AllowAccounts == nil && among(l.DenyAccounts, q.account):
		return nil, no("batch.account", "account %s is among its DenyAccounts=%s", q.account, strings.Join(l.DenyAccounts, ","))
	case q.qos != "" && l.AllowQOS != nil && !among(l.AllowQOS, q.qos):
		return nil, no("batch.qos", "QOS %s is not among its AllowQos=%s", q.qos, strings.Join(l.AllowQOS, ","))
	case q.qos != "" && l.AllowQOS == nil && among(l.DenyQOS, q.qos):
		return nil, no("batch.qos", "QOS %s is among its DenyQos=%s", q.qos, strings.Join(l.DenyQOS, ","))
	}
	whole := l.gpusOfNode()
	if l.Exclusive && late && whole > 0 && g.GPUsPerNode < whole {
		// The plan would put another run beside it, which Slurm would keep waiting until it is taken back, again and again.
		return nil, no("gpus_per_node", "%d GPUs are a part of a node; it gives whole ones (OverSubscribe=EXCLUSIVE) of %d, and forge's plan counts GPUs: want %d", g.GPUsPerNode, whole, whole)
	}
	if l.State == "DOWN" {
		notes = append(notes, fmt.Sprintf("partition %s is down: the run waits in Slurm until an administrator sets it up", l.Name))
	}
	if limit == 0 && (l.DefaultTime > 0 || l.MaxTime > 0) {
		which := l.DefaultTime
		if which == 0 {
			which = l.MaxTime
		}
		notes = append(notes, fmt.Sprintf("no --time was given: partition %s ends an attempt after %s", l.Name, forge.Duration(which)))
	}
	if l.Exclusive && g.GPUsPerNode != whole {
		gpus := "all"
		if whole > 0 {
			gpus = fmt.Sprintf("all %d", whole)
		}
		notes = append(notes, fmt.Sprintf("partition %s gives whole nodes (OverSubscribe=EXCLUSIVE): %s GPUs of each node are taken and count in Slurm's accounting, whatever the run asks for", l.Name, gpus))
	}
	return notes, nil
}

// gpusOfNode is how many GPUs each of its nodes has; 0 where Slurm does not count them, or not each node has as many.
func (l Limits) gpusOfNode() int {
	n, err := strconv.Atoi(l.TRES["gres/gpu"])
	if err != nil || l.TotalNodes < 1 || n%l.TotalNodes != 0 {
		return 0
	}
	return n / l.TotalNodes
}

// beyond are the flags of a QOS with which its jobs may exceed a partition's limits.
var beyond = []string{"PartitionTimeLimit", "PartitionMaxNodes", "PartitionMinNodes", "OverPartQOS"}

// overrides asks the accounting whether a QOS may go beyond a partition's limits. No answer is a yes: Slurm will say.
func overrides(ctx context.Context, t Tools, qos string) bool {
	t.Timeout = rulesWait
	out, err := t.Run(ctx, "", "sacctmgr", "-n", "-P", "show", "qos", "where", "name="+qos, "format=flags")
	if err != nil {
		return true
	}
	return slices.ContainsFunc(beyond, func(flag string) bool { return strings.Contains(out, flag) })
}

// among: names of accounts and QOS are the same in capitals and not.
func among(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}
