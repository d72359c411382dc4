package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) nodeCommand() *cli.Command {
	in := &cli.StringFlag{Name: "cluster", Usage: "its cluster; needed only where several have a node of that name"}
	gpu := &cli.StringFlag{Name: "gpu", Usage: "only this GPU of it: its UUID, or the number of its slot"}
	return &cli.Command{Name: "node", Usage: "show where runs can run, keep new work away from a node", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list nodes with what is free", Flags: append(watchFlags(), &cli.StringSliceFlag{Name: "label", Usage: "KEY=VALUE, only nodes with this label; may be given more than once"}), Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			labels, err := labelFlags(c)
			if err != nil {
				return err
			}
			w, err := parseWatch(c, watchEvery)
			if err != nil {
				return err
			}
			if w.on {
				return a.watch(c.Context, w, func(ctx context.Context, cl *client.Client) (view, error) { return nodeView(ctx, cl, labels) })
			}
			return a.nodeList(c.Context, labels)
		}},
		{Name: "show", Usage: "show a node, its GPUs and what went wrong on it", ArgsUsage: "NODE", Flags: []cli.Flag{in}, Action: func(c *cli.Context) error {
			args, err := positionals(c, "NODE")
			if err != nil {
				return err
			}
			return a.nodeShow(c.Context, c.String("cluster"), args[0])
		}},
		{Name: "drain", Usage: "keep new work away from a node, or from one of its GPUs; what runs there goes on; for operators", ArgsUsage: "NODE",
			Flags: []cli.Flag{in, gpu, &cli.StringFlag{Name: "reason", Usage: "why, in one line, for those who look at the node later"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NODE")
				if err != nil {
					return err
				}
				if strings.TrimSpace(c.String("reason")) == "" {
					return forge.Invalidf("--reason", "say in one line why, for those who look at the node later").WithHint(`forgectl node drain %s --reason "a fan is loud"`, args[0])
				}
				if c.IsSet("gpu") {
					at := nodeAt(c, args[0])
					return a.gpuChange(c.Context, at, "drained: nothing new goes there, what runs goes on", func(ctx context.Context, cl *client.Client) (api.NodeChanged, error) {
						return cl.DrainGPU(ctx, at, c.String("reason"))
					})
				}
				return a.nodeChange(c.Context, "drained: nothing new goes there, what runs goes on", func(ctx context.Context, cl *client.Client) (api.NodeChanged, error) {
					return cl.DrainNode(ctx, c.String("cluster"), args[0], c.String("reason"))
				})
			}},
		{Name: "undrain", Usage: "let a node, or one of its GPUs, take work again; for operators", ArgsUsage: "NODE", Flags: []cli.Flag{in, gpu}, Action: func(c *cli.Context) error {
			args, err := positionals(c, "NODE")
			if err != nil {
				return err
			}
			if c.IsSet("gpu") {
				at := nodeAt(c, args[0])
				return a.gpuChange(c.Context, at, "no longer held back by forge", func(ctx context.Context, cl *client.Client) (api.NodeChanged, error) {
					return cl.UndrainGPU(ctx, at)
				})
			}
			return a.nodeChange(c.Context, "no longer drained by forge", func(ctx context.Context, cl *client.Client) (api.NodeChanged, error) {
				return cl.UndrainNode(ctx, c.String("cluster"), args[0])
			})
		}},
		a.nodeEventsCommand(in),
	}}
}

// labelled are the nodes that have all of the labels.
func labelled(ctx context.Context, cl *client.Client, labels map[string]string) ([]api.NodeView, error) {
	nodes, err := cl.Nodes(ctx)
	want := forge.Constraints{Labels: labels}
	return slices.DeleteFunc(nodes, func(n api.NodeView) bool { return !want.Node(&n.Node) }), err
}

func nodeView(ctx context.Context, cl *client.Client, labels map[string]string) (view, error) {
	nodes, err := labelled(ctx, cl, labels)
	return view{value: nodes, print: func(p *printer) { p.nodes(nodes) }, key: func() any {
		still := slices.Clone(nodes)
		for i := range still {
			still[i].SeenAt = time.Time{} // that it was looked at again is no change
		}
		return still
	}}, err
}

func (a *app) nodeList(ctx context.Context, labels map[string]string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	nodes, err := labelled(ctx, cl, labels)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(nodes)))
	}
	p.nodes(nodes)
	if len(labels) > 0 {
		a.nothing(p, len(nodes), "no nodes with "+labelText(labels), "forgectl node list; node show NODE prints the labels of one")
		return p.done(nil)
	}
	a.nothing(p, len(nodes), "no nodes", "GPUs are found by themselves; to try without one, set cpu_slots in forged's configuration")
	return p.done(nil)
}

func (p *printer) nodes(nodes []api.NodeView) {
	heads := []string{"NODE", "CLUSTER:5", "STATE", ">FREE", ">GPUS", "TYPE", ">FREE_CPUS:2", ">CPUS:1", ">FREE_MEM:4", ">MEM:3", "SEEN:6", "REASON"}
	more := p.moreOf(nodes)
	last := len(heads) - 1
	if !p.people() {
		last = len(heads) // programs count columns: new ones stand behind the old
	}
	for i, m := range more {
		heads = slices.Insert(heads, last+i, m.head)
	}
	t := p.table(heads...)
	for _, n := range nodes {
		cells := []string{string(n.Name), string(n.Cluster), string(n.State), strconv.Itoa(n.FreeGPUs), strconv.Itoa(len(n.GPUs)), gpuTypes(n),
			strconv.Itoa(n.FreeCPUs), strconv.Itoa(n.CPUs), p.memory(n.FreeMemoryMiB), p.memory(n.MemoryMiB), p.time(n.SeenAt), nodeReason(n)}
		for i, m := range more {
			cells = slices.Insert(cells, last+i, m.cell(n))
		}
		t.row(cells...)
	}
	t.flush()
}

// nodeColumn is one that says nothing on many sites.
type nodeColumn struct {
	head string
	cell func(api.NodeView) string
}

// moreOf are those columns that say something of one of the nodes; all of them for programs.
func (p *printer) moreOf(nodes []api.NodeView) []nodeColumn {
	number := func(n int) string {
		if n == 0 && p.people() {
			return ""
		}
		return strconv.Itoa(n)
	}
	all := []nodeColumn{
		{">USED:7", func(n api.NodeView) string {
			if n.Batch == nil {
				return ""
			}
			return number(n.Batch.GPUsUsed)
		}},
		{">FOREIGN:8", func(n api.NodeView) string {
			if n.Batch == nil {
				return ""
			}
			return number(n.Batch.Foreign)
		}},
		{">FAULTS:9", func(n api.NodeView) string { return number(n.Faults) }},
		{"DRAINED_BY:10", func(n api.NodeView) string {
			if n.Drain == nil {
				return ""
			}
			return n.Drain.By
		}},
		{">SCORE:11", func(n api.NodeView) string { return number(n.Failures) }},
		{"LABELS:12", func(n api.NodeView) string { return labelText(n.Labels) }},
	}
	if !p.people() {
		return all
	}
	return slices.DeleteFunc(all, func(c nodeColumn) bool {
		return !slices.ContainsFunc(nodes, func(n api.NodeView) bool { return c.cell(n) != "" })
	})
}

func (a *app) nodeShow(ctx context.Context, cluster, node string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	n, err := cl.Node(ctx, cluster, node)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(n))
	}
	p.node(n.NodeView)
	if n.NVML != nil {
		p.fields("nvml", nvmlText(*n.NVML))
	}
	if n.KeptOut != "" {
		p.fields("kept_out", fmt.Sprintf("left out of new jobs since %s: forgectl node undrain %s lets it take work again", n.KeptOut, n.Name))
	}
	p.nodeUse(n.Use)
	for _, f := range n.Failures {
		what := fmt.Sprintf("%d× %s, by %s", f.Count, f.Reason, plural(f.Runs, "run"))
		if f.Certain > 0 {
			what += fmt.Sprintf(", %d certainly its own", f.Certain)
		}
		p.fields("fault", what+", last "+p.time(f.LastAt))
	}
	p.nodeGPUs(n.Health)
	return p.done(nil)
}

// nvmlText says how the last look at a node's GPUs went: "ok, driver 570.86.15", "no_driver: libnvidia-ml.so.1: cannot open …".
func nvmlText(n api.NodeNVML) string {
	text := string(n.State)
	if n.Driver != "" {
		text += ", driver " + n.Driver
	}
	if n.Detail != "" && n.State != forge.NVMLOK {
		text += ": " + n.Detail
	}
	return text
}

func (p *printer) node(n api.NodeView) {
	p.fields("node", string(n.Name), "cluster", string(n.Cluster), "state", string(n.State), "reason", nodeReason(n), "seen", p.time(n.SeenAt),
		"gpus", fmt.Sprintf("%d of %d free", n.FreeGPUs, len(n.GPUs)), "type", gpuTypes(n), "cpus", fmt.Sprintf("%d of %d free", n.FreeCPUs, n.CPUs),
		"memory", forge.FormatMiB(n.FreeMemoryMiB)+" of "+forge.FormatMiB(n.MemoryMiB)+" free")
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		p.fields("label", k+"="+n.Labels[k])
	}
	if n.Failures > 0 {
		p.fields("failure_score", strconv.Itoa(n.Failures))
	}
	if text := islands(n.GPUs); text != "" {
		p.fields("islands", text)
	}
	if b := n.Batch; b != nil {
		p.fields("batch_state", b.State, "partitions", strings.Join(b.Partitions, ","), "features", strings.Join(b.Features, ","), "gpus_used", strconv.Itoa(b.GPUsUsed), "foreign_gpus", strconv.Itoa(b.Foreign))
	}
	if d := n.Drain; d != nil {
		where := "in forge only"
		if d.Outside {
			where = "in forge and in the batch system"
		}
		p.fields("drained_by", d.By, "drain_reason", d.Reason, "drained_at", p.time(d.At), "drained", where)
	}
}

func labelText(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ",")
}

// islands lists the slots that reach each other over NVLink: "0,1,2,3 4,5,6,7".
func islands(gpus []forge.GPU) string {
	slots := map[int][]string{}
	for _, g := range gpus {
		if g.Island > 0 {
			slots[g.Island] = append(slots[g.Island], strconv.Itoa(g.Slot))
		}
	}
	var out []string
	for _, i := range slices.Sorted(maps.Keys(slots)) {
		out = append(out, strings.Join(slots[i], ","))
	}
	return strings.Join(out, " ")
}

func (a *app) nodeChange(ctx context.Context, what string, do func(context.Context, *client.Client) (api.NodeChanged, error)) error {
	return a.nodeChangeOf(ctx, "", what, do)
}

func (a *app) nodeChangeOf(ctx context.Context, name, what string, do func(context.Context, *client.Client) (api.NodeChanged, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	n, err := do(ctx, cl)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		err = p.json(n)
	case modeTSV:
		p.table().row(string(n.Name), string(n.State))
	default:
		if name == "" {
			name = "node " + string(n.Name)
		}
		p.line("%s is %s", clean(name), what)
	}
	for _, note := range n.Notes {
		fmt.Fprintf(a.Err, "note: %s\n", clean(note))
	}
	return p.done(err)
}

func (p *printer) memory(mib int64) string {
	if p.people() {
		return forge.FormatMiB(mib)
	}
	return strconv.FormatInt(mib, 10)
}

// gpuTypes names what the slots are. A CPU slot says so: nobody may take it for a GPU.
func gpuTypes(n api.NodeView) string {
	counts := map[string]int{}
	var types []string
	for _, g := range n.GPUs {
		name := g.Type
		if g.Kind == forge.GPUCPUSlot {
			name = "cpu slot"
		}
		if counts[name]++; counts[name] == 1 {
			types = append(types, name)
		}
	}
	slices.Sort(types)
	if len(types) == 1 {
		return types[0]
	}
	for i, name := range types {
		types[i] = fmt.Sprintf("%d×%s", counts[name], name)
	}
	return strings.Join(types, "+")
}
