package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) modelCommand() *cli.Command {
	return &cli.Command{Name: "model", Usage: "import base models, register trained ones, bring them to production", Subcommands: append([]*cli.Command{
		{Name: "import", Usage: "register a directory of weights as a base model; it stays where it is", ArgsUsage: "NAME PATH",
			Flags: []cli.Flag{&cli.StringFlag{Name: "license", Usage: "SPDX expression, like Apache-2.0"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME", "PATH")
				if err != nil {
					return err
				}
				path, err := absolute(args[1])
				if err != nil {
					return err
				}
				return a.modelImport(c.Context, api.ImportModelRequest{Name: args[0], Path: path, License: c.String("license")})
			}},
		a.modelRegisterCommand(),
		a.modelVerifyCommand(),
		{Name: "list", Usage: "list models, a line a version", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.modelList(c.Context)
		}},
		{Name: "show", Usage: "show a model, its versions and their lineage", ArgsUsage: "NAME[@VERSION]", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.modelShow(c.Context, args[0])
		}},
	}, a.modelStageCommands()...)}
}

func (a *app) modelImport(ctx context.Context, r api.ImportModelRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	once := client.NewOnce()
	stop := a.spin(ctx, "hashing", r.Path, progressOf(cl, once))
	v, err := cl.ImportModel(ctx, r, once)
	stop()
	if err != nil {
		return err
	}
	return a.modelDone(v, "imported", "forgectl run submit lora_sft --dataset NAME --base "+v.Name)
}

func (a *app) modelDone(v forge.ModelVersion, what, next string) error {
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(v))
	case modeTSV:
		p.table().row(v.Name, strconv.Itoa(v.Number), v.SHA256)
	default:
		p.line("model %s@%d %s: %s, sha256 %s", clean(v.Name), v.Number, clean(what), size(v.Bytes), clean(short(v.SHA256)))
		p.line("next: %s", clean(next))
	}
	return p.done(nil)
}

func (a *app) modelList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, cl.Models)
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("MODEL", ">VERSION", "KIND:4", "STAGE", ">SIZE:3", "LICENSE:2", ">RUN", "CREATED:1", "SHA256", "SINCE:5", "BY:6", "ALIASES", "FORCED:7")
	n := 0
	for m, err := range all {
		if err != nil {
			return p.done(err)
		}
		for _, v := range m.Versions {
			n++
			run := ""
			if v.Lineage != nil && !v.Lineage.Unverified {
				run = strconv.FormatInt(v.Lineage.RunNumber, 10)
			}
			t.row(m.Name, strconv.Itoa(v.Number), string(v.Kind), p.stage(v), p.bytes(v.Bytes), v.License, p.orDash(run), p.time(v.CreatedAt), v.SHA256,
				p.time(v.StageSince), p.orDash(v.StageBy), p.orDash(strings.Join(v.Aliases, ",")), p.orDash(forcedWord(v)))
		}
	}
	t.flush()
	a.nothing(p, n, "no models yet", "forgectl model import NAME PATH")
	return p.done(nil)
}

func (a *app) modelShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	ref, err := forge.ParseRef(name)
	if err != nil {
		return forge.Invalidf("name", "%w", err)
	}
	m, err := cl.Model(ctx, ref.Name)
	if err != nil {
		return err
	}
	if ref.Number > 0 || ref.Label != "" {
		var only []forge.ModelVersion
		for _, v := range m.Versions {
			if v.Number == ref.Number || string(v.Stage) == ref.Label || slices.Contains(v.Aliases, ref.Label) {
				only = append(only, v)
			}
		}
		if only == nil {
			return forge.Errorf(forge.KindNotFound, "", "model %s has no version %s; it has %d", ref.Name, name[len(ref.Name)+1:], len(m.Versions))
		}
		m.Versions = only
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(m))
	}
	for _, v := range m.Versions {
		p.modelVersion(m.Name, v)
	}
	return p.done(nil)
}

// stage is the stage; for people with the mark of a version that once went past its gate.
func (p *printer) stage(v forge.ModelVersion) string {
	if v.Forced && p.people() {
		return string(v.Stage) + " (forced)"
	}
	return string(v.Stage)
}

func forcedWord(v forge.ModelVersion) string {
	if v.Forced {
		return "forced"
	}
	return ""
}

func (p *printer) modelVersion(name string, v forge.ModelVersion) {
	if p.people() {
		p.line("%s@%d", clean(name), v.Number)
	} else {
		p.fields("model", name, "version", strconv.Itoa(v.Number))
	}
	pairs := []string{"kind", string(v.Kind), "stage", p.stage(v), "since", p.time(v.StageSince), "brought by", v.StageBy, "aliases", strings.Join(v.Aliases, ", "), "past its gate", forcedWord(v), "size", p.bytes(v.Bytes), "sha256", v.SHA256,
		"path", v.Manifest.Root, "files", strconv.Itoa(len(v.Manifest.Files)), "license", v.License, "created", p.time(v.CreatedAt), "by", v.CreatedBy}
	if l := v.Lineage; l != nil {
		pairs = append(pairs, "run", strconv.FormatInt(l.RunNumber, 10), "attempt", strconv.Itoa(l.Attempt),
			"dataset", l.Dataset, "dataset sha256", l.DatasetSHA256, "base", l.Base, "base sha256", l.BaseSHA256,
			"recipe", l.Recipe, "recipe sha256", l.RecipeSHA256, "code", l.CodeVersion, "code sha256", l.CodeSHA256,
			"params sha256", l.ParamsSHA256, "trained", p.time(l.TrainedAt))
	}
	p.fields(pairs...)
}
