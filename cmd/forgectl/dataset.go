package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) datasetCommand() *cli.Command {
	return &cli.Command{Name: "dataset", Usage: "register and show datasets", Subcommands: []*cli.Command{
		{Name: "add", Usage: "register a file or directory as the next version; it stays where it is", ArgsUsage: "NAME PATH",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "license", Usage: "SPDX expression, like Apache-2.0"},
				&cli.StringSliceFlag{Name: "parent", Usage: "NAME@VERSION that this one was made from; may be given again"},
			},
			Action: func(c *cli.Context) error {
				r, err := parseDatasetAdd(c)
				if err != nil {
					return err
				}
				return a.datasetAdd(c.Context, r)
			}},
		{Name: "list", Usage: "list datasets, a line a version", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.datasetList(c.Context)
		}},
		{Name: "show", Usage: "show a dataset and its versions", ArgsUsage: "NAME[@VERSION]", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.datasetShow(c.Context, args[0])
		}},
	}}
}

func parseDatasetAdd(c *cli.Context) (api.AddDatasetRequest, error) {
	args, err := positionals(c, "NAME", "PATH")
	if err != nil {
		return api.AddDatasetRequest{}, err
	}
	path, err := absolute(args[1])
	return api.AddDatasetRequest{Name: args[0], Paths: []string{path}, License: c.String("license"), Parents: c.StringSlice("parent")}, err
}

// absolute makes a path mean on the server what it means here. The server may be another host
// with the same filesystem, so the path is not looked at.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", forge.Invalidf("path", "%q cannot be made absolute: %w", path, err)
	}
	return abs, nil
}

func (a *app) datasetAdd(ctx context.Context, r api.AddDatasetRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	once := client.NewOnce()
	stop := a.spin(ctx, "reading", r.Paths[0], progressOf(cl, once))
	v, err := cl.AddDataset(ctx, r, once)
	stop()
	if err != nil {
		return err
	}
	for _, f := range findings(v.DatasetVersion) {
		fmt.Fprintf(a.Err, "warning: %s\n", f)
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(v))
	case modeTSV:
		p.table().row(v.Name, strconv.Itoa(v.Number), v.SHA256)
	default:
		what := "registered"
		if v.Existed {
			what = "is this data already"
		}
		p.line("dataset %s@%d %s: %s rows, %s, kind %s, sha256 %s", clean(v.Name), v.Number, what,
			strconv.FormatInt(v.Rows, 10), size(v.Bytes), clean(string(v.Kind)), clean(short(v.SHA256)))
		p.line("next: forgectl run submit lora_sft --dataset %s@%d --base MODEL", clean(v.Name), v.Number)
	}
	return p.done(nil)
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
	t := p.table("DATASET", ">VERSION", "KIND:4", ">ROWS", ">SIZE", "LICENSE:2", "PII:3", "CREATED:1", "SHA256")
	n := 0
	for d, err := range all {
		if err != nil {
			return p.done(err)
		}
		for _, v := range d.Versions {
			n++
			t.row(d.Name, strconv.Itoa(v.Number), string(v.Kind), strconv.FormatInt(v.Rows, 10), p.bytes(v.Bytes), v.License, string(v.PII), p.time(v.CreatedAt), v.SHA256)
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
	if ref.Number > 0 {
		var only []forge.DatasetVersion
		for _, v := range d.Versions {
			if v.Number == ref.Number {
				only = append(only, v)
			}
		}
		if only == nil {
			return forge.Errorf(forge.KindNotFound, "", "dataset %s has no version %d; it has %d", ref.Name, ref.Number, len(d.Versions))
		}
		d.Versions = only
	}
	p := a.printer()
	if p.mode == modeJSON {
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
			"parents", parentNames(v), "created", p.time(v.CreatedAt), "by", v.CreatedBy, "findings", strings.Join(findings(v), "; "))
	}
	return p.done(nil)
}

func parentNames(v forge.DatasetVersion) string {
	names := make([]string, len(v.Parents))
	for i, p := range v.Parents {
		names[i] = fmt.Sprintf("%s@%d", p.Name, p.Version)
	}
	return strings.Join(names, ", ")
}
