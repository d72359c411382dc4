package dataset

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// The presets.
const (
	presetAlpaca   = "alpaca"
	presetShareGPT = "sharegpt"
)

// plan says how rows are looked at; it is the same for all rows of a pass.
type plan struct {
	layout forge.DatasetLayout
	kind   forge.DatasetKind // that was asked for; empty: whatever the first row has
	mask   columnSet         // which columns may make it
	byName map[string]columnSet
}

func newPlan(layout forge.DatasetLayout, kind forge.DatasetKind) (*plan, error) {
	p := &plan{layout: layout, kind: kind, mask: 1<<len(columnNames) - 1}
	if kind != "" && !slices.Contains(forge.DatasetKinds, kind) {
		return nil, forge.Invalidf("kind", "%.40q is no kind; want one of %s", kind, words(forge.DatasetKinds))
	}
	made := map[string]forge.DatasetKind{presetAlpaca: forge.KindPromptCompletion, presetShareGPT: forge.KindMessages}
	if layout.Preset != "" {
		of, ok := made[layout.Preset]
		switch {
		case !ok:
			return nil, forge.Invalidf("preset", "%.40q is no preset; want alpaca or sharegpt", layout.Preset)
		case len(layout.Map) > 0:
			return nil, forge.Invalidf("preset", "a preset and a map exclude each other")
		case kind != "" && kind != of:
			return nil, forge.Invalidf("kind", "preset %s makes %s, not %s", layout.Preset, of, kind)
		}
		p.kind = of
	}
	if p.kind != "" {
		p.mask = columnsFor(p.kind)
	}
	from := map[string]string{}
	for _, col := range slices.Sorted(maps.Keys(layout.Map)) {
		file := layout.Map[col]
		switch {
		case columnOf([]byte(col)) == 0:
			return nil, forge.Invalidf("map", "%.40q is no column of a kind; want one of %s on the left of =", col, strings.Join(columnNames[:], ", "))
		case file == "" || len(file) > maxColumnName:
			return nil, forge.Invalidf("map", "the column for %s has %d bytes; want 1 to %d", col, len(file), maxColumnName)
		case from[file] != "":
			return nil, forge.Invalidf("map", "column %s is wanted as %s and as %s", columnName([]byte(file)), from[file], col)
		}
		from[file] = col
	}
	if len(layout.Map) > 0 {
		p.byName = map[string]columnSet{}
		for col := range layout.Map {
			p.byName[col] = 0 // one of the files' own with this name is another thing
		}
		for file, col := range from {
			p.byName[file] = columnOf([]byte(col))
		}
	}
	return p, nil
}

func words[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}

// column says which column of the kind one of the files is.
func (p *plan) column(key []byte) columnSet {
	if p.byName != nil {
		if c, ok := p.byName[string(key)]; ok {
			return c & p.mask
		}
	}
	return columnOf(key) & p.mask
}

// named is the name of a column of the files in the row of the kind; empty: it is not in it.
func (p *plan) named(file string) string {
	c, ok := p.byName[file]
	switch {
	case !ok:
		return file
	case c == 0:
		return ""
	}
	return c.String()
}

// mapped says, for errors, what the map makes of which columns.
func (p *plan) mapped() string {
	if p.byName == nil {
		return ""
	}
	var pairs []string
	for _, col := range slices.Sorted(maps.Keys(p.layout.Map)) {
		pairs = append(pairs, fmt.Sprintf("%s=%s", col, columnName([]byte(p.layout.Map[col]))))
	}
	return " under the map " + strings.Join(pairs, ",")
}

// texts says that the values of the files are all text, a label, too.
func (p *plan) texts() bool { return p.layout.Format == forge.FormatCSV }
