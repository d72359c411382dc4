package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// The forms of output that lineages alone have.
const (
	formTree = "tree"
	formDot  = "dot"
)

func (a *app) datasetLineageCommand() *cli.Command {
	return &cli.Command{Name: "lineage", Usage: "draw what a version was made from, and what came of it", ArgsUsage: "NAME[@VERSION]",
		Description: "Through datasets, runs, models and evals. -o tree draws it, -o dot writes it for Graphviz, -o json has the whole graph; in a pipe it is a line an edge.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "up", Usage: "only what it was made from"},
			&cli.BoolFlag{Name: "down", Usage: "only what came of it"},
			&cli.IntFlag{Name: "limit", Usage: "nodes at most, the nearest first", Value: api.DefaultLineage},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			up, down, limit := c.Bool("up"), c.Bool("down"), c.Int("limit")
			if limit < 1 || limit > api.MaxLineage {
				return forge.Invalidf("limit", "%d: want 1 to %d", limit, api.MaxLineage)
			}
			return a.datasetLineage(c.Context, args[0], up || !down, down || !up, limit)
		}}
}

func (a *app) datasetLineage(ctx context.Context, ref string, up, down bool, limit int) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	g, err := lineageOf(ctx, cl, ref, up, down, limit)
	if err != nil {
		return err
	}
	if g.More {
		fmt.Fprintf(a.Err, "there is more than the nearest %d; --limit takes up to %d\n", limit, api.MaxLineage)
	}
	p := a.printer()
	switch {
	case a.output == formDot:
		p.w.WriteString(dot(g))
	case p.mode == modeJSON:
		return p.done(p.json(g))
	case a.output != formTree && !p.people():
		p.edges(g)
	default:
		v := viewLineage(g)
		p.line("%s", v.label(g.Root))
		if up {
			p.branches("made from:", "made from nothing that forge knows", v.tree(g.Root, v.from))
		}
		if down {
			p.branches("went into:", "nothing came of it yet", v.tree(g.Root, v.made))
		}
	}
	return p.done(nil)
}

func lineageOf(ctx context.Context, cl *client.Client, ref string, up, down bool, limit int) (forge.LineageGraph, error) {
	if up && down {
		// The newest of a name may be another one by the second request.
		v, err := cl.DatasetVersion(ctx, ref)
		if err != nil {
			return forge.LineageGraph{}, err
		}
		ref = versionName(v)
	}
	var graphs []forge.LineageGraph
	for _, d := range []bool{false, true} {
		if d && !down || !d && !up {
			continue
		}
		g, err := cl.DatasetLineage(ctx, ref, api.LineageQuery{Down: d, Limit: limit})
		if err != nil {
			return g, err
		}
		graphs = append(graphs, g)
	}
	if len(graphs) == 1 {
		return graphs[0], nil
	}
	return both(graphs[0], graphs[1]), nil
}

func (p *printer) branches(head, none string, lines []string) {
	if len(lines) == 0 {
		p.line("%s", none)
		return
	}
	p.line("%s", head)
	for _, l := range lines {
		p.line("%s", p.cut(l))
	}
}

// cut keeps a line of a drawing one line.
func (p *printer) cut(s string) string {
	if p.width == 0 || p.wide {
		return s
	}
	return fitWidth(s, p.width)
}

// edges writes a line an edge: kind and name on both sides, and as what one went into the other.
func (p *printer) edges(g forge.LineageGraph) {
	v := viewLineage(g)
	t := p.table()
	for _, e := range g.Edges {
		from, to := v.nodes[e.From], v.nodes[e.To]
		t.row(string(from.Kind), from.Name, e.As, string(to.Kind), to.Name, to.State)
	}
}

// lineageForm says whether a form of output is one that this command alone has.
func lineageForm(form string, args []string) bool {
	return (form == formTree || form == formDot) && strings.HasPrefix(strings.Join(args, " "), "dataset lineage")
}
