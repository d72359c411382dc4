package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func nodeAt(c *cli.Context, node string) api.NodeAt {
	return api.NodeAt{Cluster: c.String("cluster"), Node: node, GPU: c.String("gpu")}
}

func (a *app) gpuChange(ctx context.Context, at api.NodeAt, what string, do func(context.Context, *client.Client) (api.NodeChanged, error)) error {
	return a.nodeChangeOf(ctx, "GPU "+at.GPU+" of node "+at.Node, what, do)
}

// maxNodeReason bounds what a table says of a node: nobody reads 16 GPUs in one line.
const maxNodeReason = 160

// nodeReason says why a node, or a part of it, takes nothing. What is the same for several slots is said once.
func nodeReason(n api.NodeView) string {
	var parts []string
	if n.Reason != "" {
		parts = append(parts, n.Reason)
	}
	slots := map[string][]int{}
	var order []string
	for _, g := range n.GPUs {
		if g.Sick == "" {
			continue
		}
		if slots[g.Sick] == nil {
			order = append(order, g.Sick)
		}
		slots[g.Sick] = append(slots[g.Sick], g.Slot)
	}
	for _, sick := range order {
		word := "slot "
		if len(slots[sick]) > 1 {
			word = "slots "
		}
		parts = append(parts, word+ranges(slots[sick])+": "+sick)
	}
	text := strings.Join(parts, "; ")
	if r := []rune(text); len(r) > maxNodeReason {
		text = string(r[:maxNodeReason-1]) + "…"
	}
	return text
}

// ranges writes ascending numbers shortly: 0-3,6.
func ranges(list []int) string {
	var out []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if j > i+1 {
			out = append(out, fmt.Sprintf("%d-%d", list[i], list[j]))
		} else {
			for _, n := range list[i : j+1] {
				out = append(out, strconv.Itoa(n))
			}
		}
		i = j + 1
	}
	return strings.Join(out, ",")
}

// nodeUse prints how reliable a node was.
func (p *printer) nodeUse(u *api.NodeUse) {
	if u == nil || u.GPUHours == 0 && u.Failures == 0 {
		return
	}
	text := fmt.Sprintf("no failure in %.1f GPU-hours", u.GPUHours)
	if u.MTBFHours != nil {
		text = fmt.Sprintf("%.1f GPU-hours between %s in %.1f GPU-hours", *u.MTBFHours, plural(u.Failures, "failure"), u.GPUHours)
	}
	p.fields("mtbf_30d", text)
	if u.Goodput != nil && u.Failures > 0 {
		p.fields("goodput_30d", fmt.Sprintf("%.1f%% of them in attempts that it did not fail", *u.Goodput*100))
	}
}

// nodeGPUs prints GPUs one by one.
func (p *printer) nodeGPUs(gpus []api.GPUDetail) {
	if len(gpus) == 0 {
		return
	}
	t := p.table(">SLOT", "TYPE:5", "UUID", ">ISLAND:6", ">NUMA:7", "HEALTH", "XIDS_30D:3", "WHY:1", "WAITS_FOR:2")
	for _, g := range gpus {
		island := ""
		if g.Island > 0 {
			island = strconv.Itoa(g.Island)
		}
		var xids []string
		for _, x := range g.XIDs {
			xids = append(xids, fmt.Sprintf("%d×%d", x.Count, x.XID))
		}
		why, waits := g.Why, ""
		if len(g.Holds) > 0 {
			h := g.Holds[0]
			why, waits = h.Words()+", since "+p.time(h.At), h.Waits
			if len(g.Holds) > 1 {
				why += fmt.Sprintf(", and %d more", len(g.Holds)-1)
			}
			if g.Health == api.GPUMissing {
				why = g.Why
			}
		}
		t.row(strconv.Itoa(g.Slot), g.Type, g.UUID, p.orDash(island), p.orDash(g.NUMA), string(g.Health), p.orDash(strings.Join(xids, " ")), p.orDash(why), p.orDash(waits))
	}
	t.flush()
}

func (a *app) nodeEventsCommand(in cli.Flag) *cli.Command {
	return &cli.Command{Name: "events", Usage: "print what happened to a node and its GPUs, oldest first", ArgsUsage: "NODE",
		Flags: append([]cli.Flag{in, &cli.StringFlag{Name: "since", Usage: "only from then on: a time, or how long ago (2h, 7d)", DefaultText: "all that is kept"}}, watchFlags()...),
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NODE")
			if err != nil {
				return err
			}
			var q api.NodeEventQuery
			if q.Since, err = a.moment(c, "since"); err != nil {
				return err
			}
			w, err := parseWatch(c, watchEvery)
			if err != nil {
				return err
			}
			at := api.NodeAt{Cluster: c.String("cluster"), Node: args[0]}
			look := func(ctx context.Context, cl *client.Client) (view, error) {
				list, err := allNodeEvents(ctx, cl, at, q)
				return view{value: list, print: func(p *printer) { p.nodeEvents(list) }}, err
			}
			if w.on {
				return a.watch(c.Context, w, look)
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			list, err := allNodeEvents(c.Context, cl, at, q)
			if err != nil {
				return err
			}
			p := a.printer()
			if p.mode == modeJSON {
				return p.done(jsonList(p, each(list)))
			}
			p.nodeEvents(list)
			a.nothing(p, len(list), "nothing happened to "+at.Node, "forgectl node show "+at.Node)
			return p.done(nil)
		}}
}

func allNodeEvents(ctx context.Context, cl *client.Client, at api.NodeAt, q api.NodeEventQuery) (all []forge.NodeEvent, err error) {
	q.Limit = api.MaxLimit
	for {
		page, err := cl.NodeEvents(ctx, at, q)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < q.Limit {
			return all, nil
		}
		q.After = page[len(page)-1].Seq
	}
}

func (p *printer) nodeEvents(list []forge.NodeEvent) {
	t := p.table(">SEQ:5", "TIME", "KIND", "GPU:4", ">XID:2", ">COUNT:6", ">RUN:3", "RULE:7", "WORDS")
	for _, e := range list {
		number := func(n int64) string {
			if n == 0 {
				return ""
			}
			return strconv.FormatInt(n, 10)
		}
		t.row(strconv.FormatInt(e.Seq, 10), p.time(e.At), string(e.Kind), p.orDash(e.UUID), p.orDash(number(int64(e.XID))), strconv.Itoa(max(e.Count, 1)),
			p.orDash(number(e.Number)), p.orDash(e.Rule), e.Words)
	}
	t.flush()
}
