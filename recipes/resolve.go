package recipes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// The origins of a parameter's value.
const (
	OriginDefault = "default"
	OriginFile    = "file"
	OriginSet     = "set"
)

// Resolve merges defaults ← the run file's params (dotted or nested) ← KEY=VALUE sets into one
// value per parameter, and says where each came from. All faults are returned together.
func (r Recipe) Resolve(file map[string]any, set []string) (params map[string]any, origins map[string]string, err error) {
	params = make(map[string]any, len(r.Params))
	origins = make(map[string]string, len(r.Params))
	for _, p := range r.Params {
		params[p.Name], origins[p.Name] = freshen(p.Default), OriginDefault
	}
	m := merge{recipe: r, params: params, origins: origins}
	m.file(file)
	m.sets(set)
	if len(m.errs) > 0 {
		return nil, nil, errors.Join(m.errs...)
	}
	return params, origins, nil
}

type merge struct {
	recipe  Recipe
	params  map[string]any
	origins map[string]string
	errs    []error
}

func (m *merge) fail(name, format string, args ...any) {
	field := "params"
	if name != "" {
		field += "." + name
	}
	m.errs = append(m.errs, forge.Invalidf(field, format, args...).WithOp("recipe.resolve"))
}

func (m *merge) file(file map[string]any) {
	given := map[string]any{}
	m.flatten("", file, given)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p, ok := m.recipe.Param(name)
		if !ok {
			m.unknown(name)
			continue
		}
		v, err := p.check(given[name])
		if err != nil {
			m.fail(name, "%w", err)
			continue
		}
		m.params[name], m.origins[name] = v, OriginFile
	}
}

// flatten turns nested maps into dotted names. It goes down only where the recipe has names
// below, so that hostile nesting is an unknown parameter and not a deep recursion.
func (m *merge) flatten(prefix string, in, out map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(in)) {
		name, v := prefix+key, in[key]
		if sub, ok := v.(map[string]any); ok && m.groups(name) {
			m.flatten(name+".", sub, out)
			continue
		}
		if old, ok := out[name]; ok {
			m.fail(name, "is given twice in the run file, as %s and as %s; keep one", show(old), show(v))
			continue
		}
		out[name] = v
	}
}

func (m *merge) groups(name string) bool {
	return slices.ContainsFunc(m.recipe.Params, func(p Param) bool { return strings.HasPrefix(p.Name, name+".") })
}

func (m *merge) sets(set []string) {
	seen := map[string]string{}
	for _, kv := range set {
		name, text, ok := strings.Cut(kv, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			m.errs = append(m.errs, forge.Invalidf("set", "%.80q is not KEY=VALUE, as in --set %s", kv, m.example()).WithOp("recipe.resolve"))
			continue
		}
		if old, dup := seen[name]; dup {
			m.fail(name, "is set twice, to %.80q and to %.80q; keep one", old, text)
			continue
		}
		seen[name] = text
		p, ok := m.recipe.Param(name)
		if !ok {
			m.unknown(name)
			continue
		}
		v, err := p.parse(text)
		if err != nil {
			m.fail(name, "%w", err)
			continue
		}
		m.params[name], m.origins[name] = v, OriginSet
	}
}

func (m *merge) example() string {
	if len(m.recipe.Params) == 0 {
		return "lora.r=16"
	}
	p := m.recipe.Params[0]
	return fmt.Sprintf("%s=%v", p.Name, p.Default)
}

func (m *merge) unknown(name string) {
	var names []string
	for _, p := range m.recipe.Params {
		names = append(names, p.Name)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "recipe %s has no such parameter", m.recipe.Name)
	if near := nearest(name, names, 3); len(near) > 0 {
		fmt.Fprintf(&text, "; did you mean %s? It has: ", strings.Join(near, " or "))
	} else {
		text.WriteString("; it has: ")
	}
	slices.Sort(names)
	text.WriteString(orNone(names))
	m.fail(fmt.Sprintf("%.80s", name), "%s", text.String())
}

// freshen keeps a caller from changing a recipe's default list.
func freshen(v any) any {
	if l, ok := v.([]any); ok {
		return slices.Clone(l)
	}
	return v
}

// CanonicalDigest is the SHA-256 of the canonical JSON of resolved parameters: keys sorted, no
// white space, numbers in one spelling. It is equal before and after a trip through JSON.
func CanonicalDigest(params map[string]any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(canonical(params)); err != nil {
		// Only values that Resolve never returns (NaN, channels) get here; a digest that cannot
		// collide with a real one keeps the caller honest without a second return value.
		return "unencodable: " + err.Error()
	}
	sum := sha256.Sum256(bytes.TrimRight(b.Bytes(), "\n"))
	return hex.EncodeToString(sum[:])
}

// canonical spells whole numbers alike whether they come as int64, float64 or json.Number.
func canonical(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = canonical(e)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = canonical(e)
		}
		return out
	}
	if n, ok := toInt(v); ok {
		return n
	}
	if f, ok := toFloat(v); ok {
		return f
	}
	return v
}
