package main

import (
	"context"
	"strconv"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) datasetEditCommand() *cli.Command {
	return &cli.Command{Name: "edit", Usage: "change what is said about a version; its data never changes", ArgsUsage: "NAME[@VERSION]",
		Flags: []cli.Flag{&cli.StringFlag{Name: "license", Usage: "SPDX expression, like Apache-2.0"}, &cli.StringFlag{Name: "description", Usage: "what it is, for people"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			var r api.EditDatasetRequest
			if c.IsSet("license") {
				r.License = new(c.String("license"))
			}
			if c.IsSet("description") {
				r.Description = new(c.String("description"))
			}
			if r.License == nil && r.Description == nil {
				return forge.Invalidf("", "nothing to change is given").WithHint("forgectl dataset edit %s --license SPDX --description TEXT", args[0])
			}
			return a.datasetDone(c.Context, "changed", func(ctx context.Context, cl *client.Client) (forge.DatasetVersion, error) {
				return cl.EditDataset(ctx, args[0], r)
			})
		}}
}

func (a *app) datasetWaiveCommand() *cli.Command {
	return &cli.Command{Name: "waive", Usage: "take the findings of personal data in a version upon yourself, for ever", ArgsUsage: "NAME@VERSION",
		Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why; it stands in the version and in the events"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME@VERSION")
			if err != nil {
				return err
			}
			if err := oneVersion(args[0]); err != nil {
				return err
			}
			if c.String("reason") == "" {
				return forge.Invalidf("reason", "is missing: it says to auditors why the findings may stay").WithHint("forgectl dataset waive %s --reason 'addresses of our own test accounts'", args[0])
			}
			return a.datasetDone(c.Context, "waived", func(ctx context.Context, cl *client.Client) (forge.DatasetVersion, error) {
				return cl.WaiveDataset(ctx, args[0], c.String("reason"))
			})
		}}
}

func (a *app) datasetDeleteCommand() *cli.Command {
	return &cli.Command{Name: "delete", Usage: "take a version out of use; files that stay where they are are never touched", ArgsUsage: "NAME@VERSION",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "purge", Usage: "erase forge's own copy of the bytes, too; digest, lineage and the index of the rows stay"},
			&cli.BoolFlag{Name: "yes", Usage: "do it without asking"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME@VERSION")
			if err != nil {
				return err
			}
			if err := oneVersion(args[0]); err != nil {
				return err
			}
			return a.datasetDelete(c.Context, args[0], c.Bool("purge"), c.Bool("yes"))
		}}
}

// oneVersion refuses a name alone where it would mean whatever is newest by then.
func oneVersion(ref string) error {
	r, err := forge.ParseRef(ref)
	if err != nil {
		return forge.Invalidf("name", "%w", err)
	}
	if r.Number == 0 {
		return forge.Invalidf("name", "%q names no version; want %s@NUMBER", ref, r.Name).WithHint("forgectl dataset show %s", r.Name)
	}
	return nil
}

func (a *app) datasetDelete(ctx context.Context, ref string, purge, yes bool) error {
	if !yes {
		if err := a.mustAsk("--yes does it"); err != nil {
			return err
		}
		cl, err := a.connect()
		if err != nil {
			return err
		}
		v, err := cl.DatasetVersion(ctx, ref)
		if err != nil {
			return err
		}
		if !a.said(deleteText(v, purge), "nothing was deleted") {
			return nil
		}
	}
	done := "deleted"
	if purge {
		done = "purged"
	}
	return a.datasetDone(ctx, done, func(ctx context.Context, cl *client.Client) (forge.DatasetVersion, error) {
		return cl.DeleteDataset(ctx, ref, api.DeleteDatasetRequest{Purge: purge})
	})
}

func deleteText(v forge.DatasetVersion, purge bool) string {
	s := clean(versionName(v)) + " has " + thousands(v.Rows) + " rows, " + size(v.Bytes) + "; no run can use it any more"
	if purge && v.Owned { // any other purge is refused
		s += ", and forge's copy of its bytes is erased for ever"
	}
	return s + ".\ndelete it?"
}

// datasetDone carries a change of a version out and says what it is now.
func (a *app) datasetDone(ctx context.Context, done string, change func(context.Context, *client.Client) (forge.DatasetVersion, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	v, err := change(ctx, cl)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(v))
	case modeTSV:
		p.table().row(v.Name, strconv.Itoa(v.Number), done, v.License, string(v.PII), stateOf(v))
	default:
		p.line("dataset %s %s", clean(versionName(v)), done)
	}
	return p.done(nil)
}

// stateOf is a version in one word; empty: in use.
func stateOf(v forge.DatasetVersion) string {
	switch {
	case !v.PurgedAt.IsZero():
		return "purged"
	case !v.DeletedAt.IsZero():
		return "deleted"
	}
	return ""
}
