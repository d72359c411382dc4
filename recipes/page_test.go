package recipes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/recipes"
)

// TestPagesOfRecipes holds docs/training.md to the recipes: UPDATE=1 writes what is new.
func TestPagesOfRecipes(t *testing.T) {
	const page, begin, end = "../docs/training.md", "<!-- from recipes/*.yaml by make docs -->\n", "<!-- end -->\n"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s does not have the lines %q and %q", page, begin, end)
	}
	want := head + begin + "\n" + trainers(t) + end + tail
	if string(b) == want {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s does not say what the recipes say; run make docs", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// trainers has each recipe that trains a model, and then the parameters that all of them have.
func trainers(t *testing.T) string {
	l := library(t)
	var all []recipes.Recipe
	for _, name := range l.Names() {
		r, err := l.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if r.NeedsBase && r.Kind == recipes.KindTrain {
			all = append(all, r)
		}
	}
	shared := slices.DeleteFunc(slices.Clone(all[0].Params), func(p recipes.Param) bool {
		return slices.ContainsFunc(all, func(r recipes.Recipe) bool { return !declares(r.Params, p) })
	})
	var out bytes.Buffer
	for _, r := range all {
		fmt.Fprintf(&out, "### `%s`\n\n%s.\n\n", r.Name, r.Doc)
		if own := slices.DeleteFunc(slices.Clone(r.Params), func(p recipes.Param) bool { return declares(shared, p) }); len(own) > 0 {
			parameters(&out, own)
		}
		out.WriteString("| metric | unit | what it is |\n|---|---|---|\n")
		for _, m := range r.Metrics {
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", m.Name, m.Unit, m.Doc)
		}
		out.WriteByte('\n')
	}
	out.WriteString("### Parameters of all of them\n\n")
	parameters(&out, shared)
	return out.String()
}

func declares(params []recipes.Param, p recipes.Param) bool {
	return slices.ContainsFunc(params, func(o recipes.Param) bool { return text(o) == text(p) })
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func parameters(out *bytes.Buffer, params []recipes.Param) {
	out.WriteString("| parameter | default | allowed | what it does |\n|---|---|---|---|\n")
	for _, p := range params {
		fmt.Fprintf(out, "| `%s` | `%s` | %s | %s |\n", p.Name, strings.Trim(text(p.Default), `"`), allowed(p), p.Doc)
	}
	out.WriteByte('\n')
}

func allowed(p recipes.Param) string {
	switch {
	case len(p.Enum) > 0:
		return "`" + strings.Join(p.Enum, "`, `") + "`"
	case p.Min != nil && p.Max != nil:
		return strings.TrimSpace(text(*p.Min) + " to " + text(*p.Max) + " " + p.Unit)
	case p.Type == recipes.TypeBool:
		return "`true`, `false`"
	}
	return p.Type
}
