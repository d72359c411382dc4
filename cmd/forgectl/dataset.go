package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) datasetCommand() *cli.Command {
	return &cli.Command{Name: "dataset", Usage: "register datasets, and say what is in them and where they went", Subcommands: []*cli.Command{
		a.datasetAddCommand(),
		{Name: "list", Usage: "list datasets, a line a version", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.datasetList(c.Context)
		}},
		{Name: "show", Usage: "show a dataset and its versions; of one version, what the pass over its data found", ArgsUsage: "NAME[@VERSION]", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.datasetShow(c.Context, args[0])
		}},
		a.datasetSampleCommand(), a.datasetDiffCommand(), a.datasetVerifyCommand(), a.datasetRedactCommand(), a.datasetWaiveCommand(), a.datasetEditCommand(),
		a.datasetDeleteCommand(), a.datasetLineageCommand(), a.datasetImpactCommand(), a.datasetOverlapCommand(),
	}}
}

// findings says what registration found in rows that are well-formed.
func findings(v forge.DatasetVersion) []string {
	if v.Seen == nil {
		return nil
	}
	var out []string
	for _, f := range v.Seen.Findings {
		more := ""
		if int64(len(f.First)) < f.Rows {
			more = " …"
		}
		out = append(out, clean(fmt.Sprintf("%d of %d rows %s: %s%s", f.Rows, v.Rows, f.Fault.Words(), strings.Join(f.First, ", "), more)))
	}
	return out
}

func (a *app) datasetList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, cl.Datasets)
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("DATASET", ">VERSION", "KIND:4", ">ROWS", ">SIZE", "LICENSE:2", "PII:3", "CREATED:1", "SHA256:1", "STATE:4", "DESCRIPTION:5")
	n := 0
	for d, err := range all {
		if err != nil {
			return p.done(err)
		}
		for _, v := range d.Versions {
			n++
			t.row(d.Name, strconv.Itoa(v.Number), string(v.Kind), strconv.FormatInt(v.Rows, 10), p.bytes(v.Bytes), v.License, string(v.PII), p.time(v.CreatedAt), v.SHA256, stateOf(v), v.Description)
		}
	}
	t.flush()
	a.nothing(p, n, "no datasets yet", "forgectl dataset add NAME PATH")
	return p.done(nil)
}

// nothing tells people that a listing is empty, and how that changes.
func (a *app) nothing(p *printer, n int, what, hint string) {
	if n == 0 && p.people() {
		fmt.Fprintf(a.Err, "%s\nhint: %s\n", what, hint)
	}
}

func (a *app) datasetShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	ref, err := forge.ParseRef(name)
	if err != nil {
		return forge.Invalidf("name", "%w", err)
	}
	d, err := cl.Dataset(ctx, ref.Name)
	if err != nil {
		return err
	}
	if ref.Number > 0 || len(d.Versions) == 1 {
		at := slices.IndexFunc(d.Versions, func(v forge.DatasetVersion) bool { return v.Number == ref.Number || ref.Number == 0 })
		if at < 0 {
			return forge.Errorf(forge.KindNotFound, "", "dataset %s has no version %d; it has %d", ref.Name, ref.Number, len(d.Versions))
		}
		v, err := cl.DatasetVersion(ctx, versionName(d.Versions[at])) // with the report, which a listing leaves out
		if err != nil {
			return err
		}
		d.Versions = []forge.DatasetVersion{v}
	}
	p := a.printer()
	if p.mode == modeJSON {
		if ref.Number > 0 {
			return p.done(p.json(d.Versions[0]))
		}
		return p.done(p.json(d))
	}
	for _, v := range d.Versions {
		if p.people() {
			p.line("%s@%d", clean(d.Name), v.Number)
		} else {
			p.fields("dataset", d.Name, "version", strconv.Itoa(v.Number))
		}
		p.fields("kind", string(v.Kind), "columns", strings.Join(v.Columns, ", "), "rows", strconv.FormatInt(v.Rows, 10), "size", p.bytes(v.Bytes),
			"sha256", v.SHA256, "path", v.Manifest.Root, "files", strconv.Itoa(len(v.Manifest.Files)), "license", v.License, "pii", string(v.PII),
			"parents", parentNames(v), "created", p.time(v.CreatedAt), "by", v.CreatedBy, "findings", strings.Join(findings(v), "; "),
			"description", v.Description, "format", formatOf(v), "columns map", mapOf(v), "owned", yes(v.Owned), "indexed", yes(v.Indexed), "waived", p.waived(v.Waiver),
			"state", stateOf(v), "scanned", p.scanned(v.Scan), "duplicates", duplicatesIn(v), "personal data", foundIn(v))
		if p.people() && v.Scan != nil {
			p.report(v)
			p.rates(v)
		}
	}
	return p.done(nil)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func parentNames(v forge.DatasetVersion) string {
	out := make([]string, len(v.Parents))
	for i, p := range v.Parents {
		out[i] = p.Name + "@" + strconv.Itoa(p.Version)
	}
	return strings.Join(out, ", ")
}

func formatOf(v forge.DatasetVersion) string {
	if v.Layout == nil {
		return ""
	}
	return string(v.Layout.Format)
}

// mapOf is how columns of the files became those of the kind, as --map and --preset say it.
func mapOf(v forge.DatasetVersion) string {
	if v.Layout == nil || v.Layout.Plain() {
		return ""
	}
	if v.Layout.Preset != "" {
		return v.Layout.Preset
	}
	var out []string
	for _, of := range slices.Sorted(maps.Keys(v.Layout.Map)) {
		out = append(out, of+"="+v.Layout.Map[of])
	}
	return strings.Join(out, ",")
}

func (p *printer) waived(w *forge.Waiver) string {
	if w == nil {
		return ""
	}
	return "by " + w.By + ", " + p.time(w.At) + ": " + w.Reason
}

func (p *printer) scanned(r *forge.ScanReport) string {
	if r == nil {
		return ""
	}
	return "by " + string(r.By) + ", " + r.Scanner + ", " + p.time(r.At)
}
