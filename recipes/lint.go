package recipes

import (
	_ "embed"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Checked is a recipe file that a daemon would take, and what it draws in from elsewhere.
type Checked struct {
	Recipe
	Included []Included `json:"included" doc:"Fragments that it includes"`
	Replaces bool       `json:"replaces" doc:"A built-in recipe has its name"`
}

// Included is a fragment and what a recipe gets from it; what the recipe declares itself is left out.
type Included struct {
	Fragment string   `json:"fragment"`
	Params   []string `json:"params"`
}

// Check reads one file as a daemon does at its start, alone: that no other file has its name is for the directory to show.
func Check(path string) (Checked, error) {
	b, err := readBounded(path)
	if err != nil {
		return Checked{}, err
	}
	doc, r, err := read(path, b)
	if err != nil {
		return Checked{}, err
	}
	known, err := Builtin()
	if err != nil {
		return Checked{}, err
	}
	out := Checked{Recipe: r, Included: []Included{}, Replaces: slices.Contains(known.Names(), r.Name)}
	for _, name := range doc.Include {
		one := document{source: doc.source, tree: doc.tree, Include: []string{name}}
		params, _, err := one.included()
		if err != nil {
			return Checked{}, err
		}
		in := Included{Fragment: name, Params: []string{}}
		for _, p := range params {
			if !slices.ContainsFunc(doc.Params, func(own paramDoc) bool { return own.Name == p.Name }) {
				in.Params = append(in.Params, p.Name)
			}
		}
		out.Included = append(out.Included, in)
	}
	return out, nil
}

//go:embed own/recipe.yaml
var own string

// Own is a file to begin a recipe of one's own with, every key explained.
func Own(name string) (string, error) {
	if err := forge.CheckName(name); err != nil {
		return "", invalid("name", "%w", err)
	}
	return strings.ReplaceAll(own, "NAME", name), nil
}
