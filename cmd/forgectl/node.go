package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) nodeCommand() *cli.Command {
	return &cli.Command{Name: "node", Usage: "show where runs can run", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list nodes with what is free", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.nodeList(c.Context)
		}},
	}}
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
	t := p.table("NODE", "CLUSTER", "STATE", ">FREE", ">GPUS", "TYPE", ">FREE_CPUS", ">CPUS", ">FREE_MEM", ">MEM", "SEEN", "REASON")
	for _, n := range nodes {
		t.row(string(n.Name), string(n.Cluster), string(n.State), strconv.Itoa(n.FreeGPUs), strconv.Itoa(len(n.GPUs)), gpuTypes(n),
			strconv.Itoa(n.FreeCPUs), strconv.Itoa(n.CPUs), p.memory(n.FreeMemoryMiB), p.memory(n.MemoryMiB), p.time(n.SeenAt), nodeReason(n))
	}
	t.flush()
	a.nothing(p, len(nodes), "no nodes", "GPUs are found by themselves; to try without one, set cpu_slots in forged's configuration")
	return p.done(nil)
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
