package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

func (a *app) datasetImpactCommand() *cli.Command {
	return &cli.Command{Name: "impact", Usage: "say which models were trained on a row", ArgsUsage: "[NAME@VERSION]",
		Description: "The row is one of a version (--row), whose digest is computed here, or a digest (--digest), as dataset sample --digest prints it.\n\n" +
			"Exit code 0: a version holds the row, and what came of it was said. 5: no version holds it. 7: none that can be looked into holds it, and there are others.",
		Flags: []cli.Flag{
			&cli.Int64Flag{Name: "row", Usage: "of the version, counted from 1 over all files"},
			&cli.StringFlag{Name: "digest", Usage: "SHA-256 of the row's texts, 64 hexadecimal digits"},
		},
		Action: func(c *cli.Context) error {
			ref, row, digest := c.Args().First(), c.Int64("row"), strings.ToLower(strings.TrimSpace(c.String("digest")))
			usage := "usage: forgectl dataset impact NAME@VERSION --row N, or forgectl dataset impact --digest H"
			switch {
			case c.NArg() > 1:
				return forge.Invalidf("", "%q is one argument too many", c.Args().Get(1)).WithHint("%s", usage)
			case c.IsSet("row") == (digest != ""):
				return forge.Invalidf("", "want one of --row and --digest").WithHint("%s", usage)
			case digest != "" && ref != "":
				return forge.Invalidf("", "a digest is looked for in all versions; %q is one argument too many", ref).WithHint("%s", usage)
			case digest != "" && !isDigest(digest):
				return forge.Invalidf("digest", "%q is no SHA-256; want 64 hexadecimal digits", digest).WithHint("forgectl dataset sample NAME@VERSION --row N --digest prints one")
			case digest == "" && ref == "":
				return forge.Invalidf("", "NAME@VERSION is missing").WithHint("%s", usage)
			case digest == "" && row < 1:
				return forge.Invalidf("row", "%d: rows are counted from 1", row)
			}
			return a.datasetImpact(c.Context, ref, row, digest)
		}}
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (a *app) datasetImpact(ctx context.Context, ref string, row int64, digest string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	what := "a row with the digest " + short(digest)
	if ref != "" {
		if digest, what, err = a.digestOf(ctx, cl, ref, row); err != nil {
			return err
		}
	}
	i, err := cl.DatasetImpact(ctx, digest)
	if err != nil {
		return err
	}
	if err := a.printImpact(i, what); err != nil {
		return err
	}
	switch {
	case len(i.Versions) > 0:
		return nil
	case len(i.Unknown) > 0:
		return forge.Errorf(forge.KindPrecondition, "", "no version that can be looked into holds it; %s cannot be", plural(len(i.Unknown), "other")).
			WithHint("their rows are indexed where their data is registered again: forgectl dataset add NAME PATH")
	}
	return forge.Errorf(forge.KindNotFound, "", "no version holds it")
}

func (a *app) digestOf(ctx context.Context, cl *client.Client, ref string, row int64) (digest, what string, err error) {
	v, err := a.version(ctx, cl, ref)
	if err != nil {
		return "", "", err
	}
	if row > v.Rows {
		return "", "", noSuchRow(v, row)
	}
	err = a.rows(ctx, v, "reading", func(n int64, r dataset.Row) error {
		if n < row {
			return nil
		}
		digest, what = digestText(r.Digest), fmt.Sprintf("row %d of %s (%s)", row, versionName(v), rowPlace(v, r))
		return errEnough
	})
	if err == nil && digest == "" {
		err = noSuchRow(v, row)
	}
	return digest, what, err
}

func (a *app) printImpact(i forge.Impact, what string) error {
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(i))
	}
	if len(i.Unknown) > 0 {
		fmt.Fprintf(a.Err, "warning: it is not known whether these hold it, their rows were not indexed: %s\n", someOf(i.Unknown))
	}
	if !p.people() {
		t := p.table()
		for _, v := range i.Versions {
			t.row("dataset", v.Name, strconv.FormatInt(v.Times, 10))
		}
		for _, m := range i.Models {
			t.row("model", m, "")
		}
		return p.done(nil)
	}
	if len(i.Versions) == 0 {
		return p.done(nil)
	}
	p.line("%s, sha256 %s", clean(what), clean(short(i.Digest)))
	for _, v := range i.Versions {
		p.line("  in %s, %s", clean(v.Name), plural(int(v.Times), "time"))
	}
	if len(i.Models) == 0 {
		p.line("no model was trained on it")
	} else {
		p.line("%s trained on it: %s", plural(len(i.Models), "model")+map[bool]string{true: " was", false: " were"}[len(i.Models) == 1], clean(strings.Join(i.Models, ", ")))
	}
	p.ways(i)
	return p.done(nil)
}

// ways draws how the row went to the models: from each version that holds it and was not made from another one that does.
func (p *printer) ways(i forge.Impact) {
	v := viewLineage(i.Graph)
	for _, n := range i.Graph.Nodes {
		if len(v.from[n.ID]) > 0 || len(v.made[n.ID]) == 0 {
			continue
		}
		p.line("")
		p.line("%s", p.cut(v.label(n.ID)))
		for _, l := range v.tree(n.ID, v.made) {
			p.line("%s", p.cut(l))
		}
	}
	if i.Graph.More {
		p.line("and more; all that was given with -o json")
	}
}
