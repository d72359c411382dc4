package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

func (a *app) recipeCommand() *cli.Command {
	return &cli.Command{Name: "recipe", Usage: "list recipes, show what they take, write one's own", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list the recipes that runs can be made of", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.recipeList(c.Context)
		}},
		{Name: "show", Usage: "show a recipe with its parameters, metrics, default resources and limits", ArgsUsage: "RECIPE", Action: func(c *cli.Context) error {
			args, err := positionals(c, "RECIPE")
			if err != nil {
				return err
			}
			return a.recipeShow(c.Context, args[0])
		}},
		{Name: "lint", Usage: "check a recipe file as forged would at its start, without one", ArgsUsage: "PATH",
			Description: "Exit code 0 and what the file means, or an error that names file, line and field.",
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "PATH")
				if err != nil {
					return err
				}
				return a.recipeLint(args[0])
			}},
		{Name: "init", Usage: "write a recipe to begin one's own with, every key explained", ArgsUsage: "NAME",
			Description: "Writes NAME.yaml into the current directory, and never over a file. forged reads recipes from the directory\nthat recipes_dir in its configuration names.",
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME")
				if err != nil {
					return err
				}
				return a.recipeInit(args[0])
			}},
	}}
}

func (a *app) recipeList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	items, err := cl.Recipes(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(items)))
	}
	t := p.table("RECIPE", "KIND:3", "DATASETS:2", "SHAPE:1", ">PARAMS:4", "FROM:5", "WHAT")
	for _, r := range items {
		t.row(r.Name, recipeKind(r.Kind), p.orDash(joinAny(r.Datasets)), shape(r.Gang), strconv.Itoa(r.Params), recipeFrom(r.Site), r.Doc)
	}
	t.flush()
	return p.done(nil)
}

func recipeKind(k recipes.Kind) string {
	if k == recipes.KindTrain {
		return "train"
	}
	return string(k)
}

func recipeFrom(site bool) string {
	if site {
		return "site"
	}
	return "built in"
}

func (a *app) recipeShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	r, err := cl.Recipe(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(r))
	}
	p.recipe(r.Recipe, recipeFrom(r.Site))
	if p.people() {
		p.line("")
		p.line("next: %s", clean(submitLine(r)))
	}
	return p.done(nil)
}

// submitLine is how a run of the recipe is made.
func submitLine(r api.Recipe) string {
	line := "forgectl run submit " + r.Name
	if r.NeedsDataset {
		line += " --dataset NAME"
	}
	if r.NeedsBase {
		line += " --base NAME"
	}
	if r.NeedsModel {
		line += " --model NAME@VERSION"
	}
	if r.NeedsSuite {
		line += " --suite NAME"
	}
	if r.NeedsCommand {
		return line + " --workdir . -- python train.py"
	}
	return line
}

func (p *printer) recipe(r recipes.Recipe, from string) {
	runs := "the run's own command"
	if r.Entry.Module != "" {
		runs = "python -m " + r.Entry.Module
	} else if len(r.Entry.Command) > 0 {
		runs = strings.Join(r.Entry.Command, " ")
	}
	l := forge.RunSpec{TimeLimit: r.Limits.TimeLimit, StartTimeout: r.Limits.StartTimeout, StallTimeout: r.Limits.StallTimeout, Grace: r.Limits.Grace}
	p.fields("recipe", r.Name, "what", r.Doc, "kind", recipeKind(r.Kind), "from", from, "runs", runs, "launch", string(r.Launch), "datasets", joinAny(r.Datasets),
		"needs", recipeNeeds(r), "shape", shape(r.Gang), "limits", limits(&l), "sha256", r.SHA256)
	if len(r.Params) > 0 {
		p.section("parameters")
		t := p.table("PARAMETER", "TYPE", "DEFAULT", "ALLOWED:3", "UNIT:2", "WHAT")
		for _, x := range r.Params {
			p.tagged(t, "parameter", x.Name, x.Type, fmt.Sprint(x.Default), p.orDash(allowed(x)), p.orDash(x.Unit), x.Doc)
		}
		t.flush()
	}
	if len(r.Metrics) > 0 {
		p.section("metrics")
		t := p.table("METRIC", "UNIT", "WHAT")
		for _, m := range r.Metrics {
			p.tagged(t, "metric", m.Name, p.orDash(m.Unit), m.Doc)
		}
		t.flush()
	}
}

// section parts tables for people; rows for programs say themselves what they are.
func (p *printer) section(string) {
	if p.people() {
		p.line("")
	}
}

func (p *printer) tagged(t *table, tag string, cells ...string) {
	if !p.people() {
		cells = append([]string{tag}, cells...)
	}
	t.row(cells...)
}

func recipeNeeds(r recipes.Recipe) string {
	var out []string
	for _, n := range []struct {
		needs bool
		what  string
	}{{r.NeedsDataset, "a dataset"}, {r.NeedsBase, "a base model"}, {r.NeedsModel, "a model version"}, {r.NeedsSuite, "a suite"}, {r.NeedsCommand, "a command"}} {
		if n.needs {
			out = append(out, n.what)
		}
	}
	return strings.Join(out, ", ")
}

// allowed is the range of a parameter, or the words that it takes.
func allowed(x recipes.Param) string {
	bound := func(v *float64) string {
		if *v == math.Trunc(*v) && math.Abs(*v) < 1<<53 { // 100000000, not 1e+08
			return strconv.FormatFloat(*v, 'f', -1, 64)
		}
		return strconv.FormatFloat(*v, 'g', -1, 64)
	}
	switch {
	case len(x.Enum) > 0:
		return strings.Join(x.Enum, "|")
	case x.Min != nil && x.Max != nil:
		return bound(x.Min) + " to " + bound(x.Max)
	case x.Min != nil:
		return bound(x.Min) + " or more"
	case x.Max != nil:
		return bound(x.Max) + " or less"
	}
	return ""
}

func (a *app) recipeLint(path string) error {
	c, err := recipes.Check(path)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(c))
	}
	p.recipe(c.Recipe, path)
	for _, in := range c.Included {
		p.fields("includes", in.Fragment+": "+strings.Join(in.Params, ", "))
	}
	if c.Replaces {
		fmt.Fprintf(a.Err, "note: %s has the name of a built-in recipe, and replaces it where it is installed\n", clean(c.Name))
	}
	return p.done(nil)
}

func (a *app) recipeInit(name string) error {
	text, err := recipes.Own(name)
	if err != nil {
		return err
	}
	path := name + ".yaml"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return forge.Errorf(forge.KindConflict, "recipe.init", "%s is there already, and is not written over", path).WithHint("forgectl recipe lint %s checks it", path)
	}
	if err != nil {
		return forge.Invalidf("name", "%s cannot be written: %w", path, err)
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(path))
	}
	p := a.printer()
	if p.people() {
		p.line("wrote %s", path)
		p.line("next: forgectl recipe lint %s", path)
	} else {
		p.line("%s", path)
	}
	return p.done(nil)
}
