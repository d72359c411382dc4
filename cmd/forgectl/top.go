package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) topCommand() *cli.Command {
	return &cli.Command{Name: "top", Usage: "show what GPUs are doing, live on a terminal; with --history what they did", ArgsUsage: "[NODE|NODE/SLOT|UUID]",
		Description: "forgectl top --node gpu-1\nforgectl top --run 12 --once\nforgectl top --history 24h gpu-1/3\n\n" +
			"THR: what holds the clocks down: T heat, S the hardware, B the power supply, p the power limit (usual under load). ECC: uncorrected errors. XID: the driver's last error and its age. " +
			"A GPU that no run has and somebody uses has ? in RUN. Readings older than three looks are not shown.",
		Flags: append(watchFlags(),
			&cli.BoolFlag{Name: "once", Usage: "look once, on a terminal too"},
			&cli.StringFlag{Name: "cluster", Usage: "only this cluster"},
			&cli.StringFlag{Name: "node", Usage: "only this node"},
			&cli.StringFlag{Name: "run", Usage: "only the GPUs of this run"},
			&cli.StringFlag{Name: "history", Usage: "draw what the GPUs were like for so long until now: 90m, 24h, 30-0"}),
		Action: func(c *cli.Context) error {
			of := ""
			if c.Args().Present() {
				args, err := positionals(c, "NODE|NODE/SLOT|UUID")
				if err != nil {
					return err
				}
				of = args[0]
			}
			q := api.GPUQuery{Cluster: c.String("cluster"), Node: c.String("node"), Run: c.String("run")}
			w, err := parseWatch(c, watchEvery)
			if err != nil {
				return err
			}
			if c.IsSet("history") {
				back, err := forge.ParseDuration(c.String("history"))
				switch {
				case err != nil:
					return forge.Invalidf("history", "%w", err)
				case back <= 0:
					return forge.Invalidf("history", "%s: want a time until now, like 24h", back)
				}
				return a.topHistory(c.Context, q, of, back)
			}
			if c.Bool("once") && w.on {
				return forge.Invalidf("--once", "looks once, and --watch again and again")
			}
			w.on = w.on || !c.Bool("once") && a.OutTTY && a.printer().people()
			if w.on {
				return a.watch(c.Context, w, func(ctx context.Context, cl *client.Client) (view, error) { return topView(ctx, cl, q, of) })
			}
			return a.topOnce(c.Context, q, of)
		}}
}

// gpusOf are the GPUs that a word names: a node, NODE/SLOT, or a UUID or its beginning.
func gpusOf(ctx context.Context, cl *client.Client, q api.GPUQuery, of string) ([]api.NodeGPUs, error) {
	nodes, err := cl.GPUs(ctx, q)
	if err != nil || of == "" {
		return nodes, err
	}
	name, slot, one := strings.Cut(of, "/")
	var out []api.NodeGPUs
	for _, n := range nodes {
		if string(n.Node) == of {
			out = append(out, n)
			continue
		}
		n.GPUs = slices.DeleteFunc(slices.Clone(n.GPUs), func(g api.GPUView) bool {
			return !(one && string(n.Node) == name && slotOf(g) == slot) && !(len(of) > 4 && strings.HasPrefix(g.UUID, of))
		})
		if len(n.GPUs) > 0 {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, forge.Errorf(forge.KindNotFound, "", "no node and no GPU is called %q", of).WithHint("forgectl top --once names nodes and slots; forgectl top -o tsv the UUIDs")
	}
	return out, nil
}

func slotOf(g api.GPUView) string {
	if g.Slot == nil {
		return ""
	}
	return strconv.Itoa(*g.Slot)
}

func topView(ctx context.Context, cl *client.Client, q api.GPUQuery, of string) (view, error) {
	nodes, err := gpusOf(ctx, cl, q, of)
	if nodes == nil {
		nodes = []api.NodeGPUs{}
	}
	return view{value: nodes, print: func(p *printer) { p.top(nodes) }}, err
}

func (a *app) topOnce(ctx context.Context, q api.GPUQuery, of string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	nodes, err := gpusOf(ctx, cl, q, of)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(nodes)))
	}
	p.top(nodes)
	a.nothing(p, len(nodes), "no GPUs", "forgectl node list shows where runs can run")
	return p.done(nil)
}

func (p *printer) top(nodes []api.NodeGPUs) {
	if !p.people() {
		p.topRows(nodes)
		return
	}
	t := p.table(">GPU", ">RUN", "USER", ">UTIL", "TREND:1", ">MEM", ">TEMP:3", ">POWER:2", "THR", ">ECC", ">XID", "PIDS")
	for _, n := range nodes {
		t.title(p.topNode(n), nodeColor(n))
		for _, g := range n.GPUs {
			t.row(p.topCells(g)...)
			for _, note := range p.topNotes(n, g) {
				t.title("     "+note.text, note.color)
			}
		}
	}
	t.flush()
}

// topNode is the line over a node's GPUs.
func (p *printer) topNode(n api.NodeGPUs) string {
	words := []string{fmt.Sprintf("%s (%s)", n.Node, n.Cluster), string(n.State)}
	if strings.HasPrefix(n.Reason, string(n.State)) {
		words[1] = n.Reason
	} else if n.Reason != "" {
		words[1] += ": " + n.Reason
	}
	switch n.NVML {
	case "":
		words = append(words, "no readings: no run of forge is there")
	case forge.NVMLOK:
		if n.Driver != "" {
			words = append(words, "driver "+n.Driver)
		}
	case forge.NVMLNoDriver:
		words = append(words, "no NVML: "+cmp.Or(n.Detail, "no driver"))
	default:
		words = append(words, "NVML "+string(n.NVML)+": "+n.Detail)
	}
	if !n.At.IsZero() {
		words = append(words, "as of "+p.time(n.At))
	}
	return strings.Join(words, "  ")
}

func nodeColor(n api.NodeGPUs) string {
	if n.State == forge.NodeReady && (n.NVML == "" || n.NVML == forge.NVMLOK) && !n.Old {
		return bold
	}
	return yellow
}

// topRow is a GPU in words. What is not known, or old, is empty.
type topRow struct {
	run, user                   string
	util, temp, ecc, xid        string
	used, total, power, limited string
	pids                        []string
}

func rowOf(g api.GPUView) topRow {
	var r topRow
	switch x := g.Run; {
	case x == nil && len(g.Foreign) > 0:
		r.run, r.user = "?", "?"
		if g.Foreign[0].User != "" {
			r.user = g.Foreign[0].User
		}
	case x == nil:
	case x.Number == 0:
		r.run = "other"
	default:
		r.run, r.user = strconv.FormatInt(x.Number, 10), x.User
		if x.Tenant != "" {
			r.user += "@" + x.Tenant
		}
	}
	if g.XID != nil {
		r.xid = strconv.Itoa(g.XID.Number)
	}
	m := g.Reading
	if m == nil || g.Old {
		return r
	}
	r.util, r.temp, r.ecc = whole(m.UtilPercent), whole(m.TemperatureC), whole(m.ECCUncorrected)
	r.used, r.power, r.limited = whole(m.MemoryUsedMiB), watts(m.PowerWatts), watts(m.PowerLimitWatts)
	if m.MemoryMiB > 0 {
		r.total = strconv.FormatInt(m.MemoryMiB, 10)
	}
	for _, x := range m.Processes {
		r.pids = append(r.pids, strconv.Itoa(x.PID))
	}
	return r
}

func whole[T int | int64](v *T) string {
	if v == nil {
		return ""
	}
	return strconv.FormatInt(int64(*v), 10)
}

func watts(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(math.Round(*v), 'f', -1, 64)
}

func (p *printer) topCells(g api.GPUView) []string {
	r := rowOf(g)
	unit := func(v, unit string) string {
		if v == "" {
			return "-"
		}
		return v + unit
	}
	of := func(v, most, unit string) string {
		switch {
		case v == "" && most == "":
			return "-"
		case most == "":
			return v + unit
		}
		return cmp.Or(v, "-") + "/" + most + unit
	}
	xid, throttle := p.orDash(r.xid), ""
	if g.XID != nil {
		xid += " " + span(max(0, p.now.Sub(g.XID.At)))
	}
	if g.Reading != nil && !g.Old {
		throttle = throttleFlags(g.Reading.Throttle)
	}
	pids := strings.Join(r.pids[:min(len(r.pids), shownPIDs)], " ")
	if len(g.Foreign) > 0 {
		pids = "? " + pids
	}
	if more := len(r.pids) - shownPIDs; more > 0 {
		pids += fmt.Sprintf(" +%d", more)
	}
	return []string{p.orDash(slotOf(g)), p.orDash(r.run), p.orDash(r.user), unit(r.util, "%"), spark(recentOf(g)), of(gib(r.used), gib(r.total), "G"), unit(r.temp, "°C"),
		of(r.power, r.limited, "W"), p.orDash(throttle), p.orDash(r.ecc), xid, pids}
}

// shownPIDs is how many of a GPU's processes people are shown; -o tsv and json have all.
const shownPIDs = 1

func gib(mib string) string {
	n, err := strconv.ParseFloat(mib, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatFloat(n/1024, 'f', 1, 64)
}

// foreignText names processes that are nobody's whom forge knows.
func foreignText(all []api.GPUForeign) string {
	var out []string
	for _, x := range all {
		text := "process " + strconv.Itoa(x.PID)
		if x.User != "" {
			text += fmt.Sprintf(" (%s, %s)", cmp.Or(x.Command, "?"), x.User)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// throttleFlags are letters for what holds clocks down. An idle GPU has low clocks, too: that is none.
func throttleFlags(reasons []forge.ThrottleReason) string {
	var out string
	for _, f := range []struct {
		flag string
		of   []forge.ThrottleReason
	}{{"T", []forge.ThrottleReason{forge.ThrottleHWThermal, forge.ThrottleSWThermal}}, {"S", []forge.ThrottleReason{forge.ThrottleHWSlowdown}},
		{"B", []forge.ThrottleReason{forge.ThrottleBrake}}, {"p", []forge.ThrottleReason{forge.ThrottlePowerCap}}} {
		if slices.ContainsFunc(f.of, func(t forge.ThrottleReason) bool { return slices.Contains(reasons, t) }) {
			out += f.flag
		}
	}
	return out
}

const sparkWidth = 8

func recentOf(g api.GPUView) []int {
	if g.Old {
		return nil
	}
	return g.Recent[max(0, len(g.Recent)-sparkWidth):]
}

// spark draws percents as bars of one character; what is not known is a space.
func spark(percents []int) string {
	var b strings.Builder
	for _, v := range percents {
		switch {
		case v < 0:
			b.WriteRune(' ')
		default:
			b.WriteRune(eighths[1+min(7, v*8/101)])
		}
	}
	return b.String()
}

type topNote struct{ text, color string }

// topNotes are what a GPU's line has no column for, the worst first.
func (p *printer) topNotes(n api.NodeGPUs, g api.GPUView) (out []topNote) {
	if g.Sick != "" {
		out = append(out, topNote{"sick: " + g.Sick, red})
	}
	if m := g.Reading; m != nil && m.Problem != "" && m.Problem != g.Sick {
		out = append(out, topNote{m.Problem, red})
	}
	if g.Reading == nil && n.NVML == forge.NVMLOK && !n.Old && (g.UUID != "" || g.Run != nil) {
		out = append(out, topNote{"no reading", yellow})
	}
	if g.Old {
		out = append(out, topNote{"no news since " + p.time(g.At) + ": what it does now is not known", yellow})
	}
	if len(g.Foreign) > 0 {
		out = append(out, topNote{"not of forge: " + foreignText(g.Foreign), yellow})
	}
	if g.Stalled != nil {
		out = append(out, topNote{"stalled? memory is held and nothing computed for " + span(g.Stalled.D()), yellow})
	}
	if x := g.XID; x != nil && x.Words != "" && g.Sick == "" {
		out = append(out, topNote{fmt.Sprintf("XID %d: %s", x.Number, x.Words), yellow})
	}
	return out
}

// topRows is a line a GPU for programs, whose columns are only ever appended.
func (p *printer) topRows(nodes []api.NodeGPUs) {
	t := p.table()
	for _, n := range nodes {
		for _, g := range n.GPUs {
			r := rowOf(g)
			var throttle []string
			if g.Reading != nil && !g.Old {
				for _, x := range g.Reading.Throttle {
					throttle = append(throttle, string(x))
				}
			}
			xidAt, stalled := "", ""
			if g.XID != nil {
				xidAt = p.time(g.XID.At)
			}
			if g.Stalled != nil {
				stalled = strconv.FormatInt(int64(g.Stalled.D()/time.Second), 10)
			}
			t.row(string(n.Cluster), string(n.Node), slotOf(g), g.UUID, g.Type, r.run, r.user, r.util, r.used, r.total, r.temp, r.power, r.limited,
				strings.Join(throttle, ","), r.ecc, r.xid, xidAt, strings.Join(r.pids, ","), string(n.State), g.Sick, p.time(g.At), strconv.FormatBool(g.Old), stalled, string(n.NVML))
		}
	}
	t.flush()
}
