package main

import (
	"context"
	"fmt"
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
	return &cli.Command{Name: "node", Usage: "show where runs can run", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list nodes with what is free", Flags: watchFlags(), Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			w, err := parseWatch(c, watchEvery)
			if err != nil {
				return err
			}
			if w.on {
				return a.watch(c.Context, w, nodeView)
			}
			return a.nodeList(c.Context)
		}},
	}}
}

func nodeView(ctx context.Context, cl *client.Client) (view, error) {
	nodes, err := cl.Nodes(ctx)
	return view{value: nodes, print: func(p *printer) { p.nodes(nodes) }, key: func() any {
		still := slices.Clone(nodes)
		for i := range still {
			still[i].SeenAt = time.Time{} // that it was looked at again is no change
		}
		return still
	}}, err
}

func (a *app) nodeList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	nodes, err := cl.Nodes(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(nodes)))
	}
	p.nodes(nodes)
	a.nothing(p, len(nodes), "no nodes", "GPUs are found by themselves; to try without one, set cpu_slots in forged's configuration")
	return p.done(nil)
}

func (p *printer) nodes(nodes []api.NodeView) {
	t := p.table("NODE", "CLUSTER:5", "STATE", ">FREE", ">GPUS", "TYPE", ">FREE_CPUS:2", ">CPUS:1", ">FREE_MEM:4", ">MEM:3", "SEEN:6", "REASON")
	for _, n := range nodes {
		t.row(string(n.Name), string(n.Cluster), string(n.State), strconv.Itoa(n.FreeGPUs), strconv.Itoa(len(n.GPUs)), gpuTypes(n),
			strconv.Itoa(n.FreeCPUs), strconv.Itoa(n.CPUs), p.memory(n.FreeMemoryMiB), p.memory(n.MemoryMiB), p.time(n.SeenAt), nodeReason(n))
	}
	t.flush()
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

func nodeReason(n api.NodeView) string {
	why := n.Reason
	for _, g := range n.GPUs {
		if g.Sick == "" {
			continue
		}
		if why != "" {
			why += "; "
		}
		why += fmt.Sprintf("slot %d: %s", g.Slot, g.Sick)
	}
	return why
}
