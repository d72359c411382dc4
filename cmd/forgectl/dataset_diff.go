package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

const showMost = 100

func (a *app) datasetDiffCommand() *cli.Command {
	return &cli.Command{Name: "diff", Usage: "compare two versions: their rows, columns and what is said about them; they are read here", ArgsUsage: "NAME@VERSION NAME@VERSION",
		Description: "Rows are the same when their texts are, in whatever order and format. Exit code 0, whether they differ or not.",
		Flags:       []cli.Flag{&cli.IntFlag{Name: "show", Usage: "print so many of the rows that one of them alone has, with personal data masked"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME@VERSION", "NAME@VERSION")
			if err != nil {
				return err
			}
			if n := c.Int("show"); n < 0 || n > showMost {
				return forge.Invalidf("show", "%d: want 0 to %d", n, showMost)
			}
			return a.datasetDiff(c.Context, args[0], args[1], c.Int("show"))
		}}
}

// datasetDiffOut is what -o json prints.
type datasetDiffOut struct {
	A       string       `json:"a" doc:"NAME@VERSION"`
	B       string       `json:"b" doc:"NAME@VERSION"`
	Same    bool         `json:"same" doc:"Byte for byte the same files"`
	Rows    rowsCompared `json:"rows"`
	Changes []changeOut  `json:"changes" doc:"What is said about them, and differs"`
	ShownA  []rowOut     `json:"shown_a,omitempty" doc:"The first rows that A alone has"`
	ShownB  []rowOut     `json:"shown_b,omitempty"`
}

type changeOut struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
}

func (a *app) datasetDiff(ctx context.Context, left, right string, show int) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	var vs [2]forge.DatasetVersion
	for i, ref := range []string{left, right} {
		if vs[i], err = a.version(ctx, cl, ref); err != nil {
			return err
		}
	}
	out := datasetDiffOut{A: versionName(vs[0]), B: versionName(vs[1]), Same: vs[0].SHA256 == vs[1].SHA256, Changes: changesOf(vs[0], vs[1])}
	if out.Same {
		out.Rows.Both = vs[0].Rows
	} else if err := a.diffRows(ctx, vs, show, &out); err != nil {
		return err
	}
	return a.printDiff(out)
}

func (a *app) diffRows(ctx context.Context, vs [2]forge.DatasetVersion, show int, out *datasetDiffOut) error {
	var sides [2]*digests
	for i, v := range vs {
		d := newDigests()
		defer d.drop()
		if err := a.rows(ctx, v, "reading", func(n int64, r dataset.Row) error { return d.add(r.Digest, n) }); err != nil {
			return err
		}
		sides[i] = d
	}
	var err error
	if out.Rows, err = compareDigests(sides[0], sides[1], show); err != nil {
		return err
	}
	if out.ShownA, err = a.numbered(ctx, vs[0], out.Rows.inA.rows); err != nil {
		return err
	}
	out.ShownB, err = a.numbered(ctx, vs[1], out.Rows.inB.rows)
	return err
}

// numbered reads rows of known numbers, ascending.
func (a *app) numbered(ctx context.Context, v forge.DatasetVersion, want []int64) ([]rowOut, error) {
	if len(want) == 0 {
		return nil, nil
	}
	m := newMasker()
	var out []rowOut
	err := a.rows(ctx, v, "reading", func(n int64, r dataset.Row) error {
		if n != want[len(out)] {
			return nil
		}
		row, err := m.row(v, n, r)
		if err != nil {
			return err
		}
		if out = append(out, row); len(out) == len(want) {
			return errEnough
		}
		return nil
	})
	return out, err
}

func changesOf(a, b forge.DatasetVersion) []changeOut {
	out := []changeOut{}
	add := func(field, x, y string) {
		if x != y {
			out = append(out, changeOut{field, x, y})
		}
	}
	add("kind", string(a.Kind), string(b.Kind))
	add("columns", strings.Join(a.Columns, ", "), strings.Join(b.Columns, ", "))
	add("rows", strconv.FormatInt(a.Rows, 10), strconv.FormatInt(b.Rows, 10))
	add("bytes", strconv.FormatInt(a.Bytes, 10), strconv.FormatInt(b.Bytes, 10))
	add("format", string(a.Layout.Format), string(b.Layout.Format))
	add("license", a.License, b.License)
	add("pii", string(a.PII), string(b.PII))
	add("findings", foundIn(a), foundIn(b))
	add("duplicates", duplicatesIn(a), duplicatesIn(b))
	return out
}

func foundIn(v forge.DatasetVersion) string {
	if v.Scan == nil || v.Scan.PII == nil {
		return ""
	}
	return piiLine(v.Scan.PII)
}

func duplicatesIn(v forge.DatasetVersion) string {
	if v.Scan == nil {
		return ""
	}
	return strconv.FormatInt(v.Scan.Duplicates.Rows, 10)
}

func (a *app) printDiff(d datasetDiffOut) error {
	p := a.printer()
	switch {
	case p.mode == modeJSON:
		return p.done(p.json(d))
	case !p.people():
		t := p.table()
		t.row("rows", strconv.FormatInt(d.Rows.OnlyA, 10), strconv.FormatInt(d.Rows.OnlyB, 10), strconv.FormatInt(d.Rows.Both, 10))
		for _, c := range d.Changes {
			t.row(c.Field, c.A, c.B)
		}
		for mark, rows := range [][]rowOut{d.ShownA, d.ShownB} {
			for _, r := range rows {
				p.line("%s\t%s\t%d\t%s\t%s", []string{"<", ">"}[mark], clean(r.Place), r.Number, r.Digest, r.Row)
			}
		}
		return p.done(nil)
	case d.Same:
		p.line("%s and %s are the same files, byte for byte: %s rows", clean(d.A), clean(d.B), thousands(d.Rows.Both))
	default:
		for _, l := range []struct {
			what string
			n    int64
		}{{"only in " + d.A, d.Rows.OnlyA}, {"only in " + d.B, d.Rows.OnlyB}, {"in both", d.Rows.Both}} {
			p.line("rows %-*s  %s", max(len(d.A), len(d.B))+len("only in "), clean(l.what), thousands(l.n))
		}
	}
	if len(d.Changes) > 0 {
		t := p.table("FIELD", strings.ToUpper(d.A), strings.ToUpper(d.B))
		for _, c := range d.Changes {
			if c.Field == "bytes" {
				c = changeOut{"size", p.sizeText(c.A), p.sizeText(c.B)}
			}
			t.row(c.Field, p.orDash(c.A), p.orDash(c.B))
		}
		t.flush()
	}
	for i, rows := range [][]rowOut{d.ShownA, d.ShownB} {
		for _, r := range rows {
			p.line("")
			p.line("only in %s:", clean([]string{d.A, d.B}[i]))
			p.conversation(r)
		}
	}
	return p.done(nil)
}

func (p *printer) sizeText(bytes string) string {
	n, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil {
		return bytes
	}
	return size(n)
}
