package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	forge "github.com/forge-ml/forge-ml"
)

// maxFile bounds a site's file of changes.
const maxFile = 1 << 20

// rulesDoc is the file. Durations are text there.
type rulesDoc struct {
	Rules    []ruleDoc          `yaml:"rules"`
	Patterns []forge.LogPattern `yaml:"patterns"`
	Settle   *string            `yaml:"return_after"`
}

type ruleDoc struct {
	forge.HealthRule `yaml:",inline"`
	For              *string `yaml:"for"`
	ClearFor         *string `yaml:"clear_for"`
}

// Parse reads a site's changes from YAML, and checks that New takes them. Unknown keys are errors, and errors name the line.
func Parse(data []byte) (forge.HealthRules, error) {
	var none forge.HealthRules
	if len(data) > maxFile {
		return none, forge.Invalidf("rules_file", "is %d bytes long; want at most %d", len(data), maxFile)
	}
	const hint = "docs/gpu-health.md has every rule, field and value"
	tree, err := parser.ParseBytes(data, 0)
	if err == nil {
		err = plain(tree)
	}
	var doc rulesDoc
	if err == nil {
		err = yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&doc)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return none, forge.Invalidf("rules_file", "%s", yaml.FormatError(err, false, true)).WithHint(hint)
	}
	at := func(field string, err error) error {
		return forge.Invalidf(field, "line %d: %w", line(tree, field), err).WithHint(hint)
	}
	out := forge.HealthRules{Patterns: doc.Patterns}
	if out.Settle, err = duration(doc.Settle); err != nil {
		return none, at("return_after", err)
	}
	for i, r := range doc.Rules {
		where := fmt.Sprintf("rules[%d]", i)
		rule := r.HealthRule
		if rule.For, err = duration(r.For); err != nil {
			return none, at(where+".for", err)
		}
		if rule.ClearFor, err = duration(r.ClearFor); err != nil {
			return none, at(where+".clear_for", err)
		}
		out.Rules = append(out.Rules, rule)
	}
	if _, err := New(out); err != nil {
		var e *forge.Error
		if errors.As(err, &e) {
			return none, at(e.Field, e.Err)
		}
		return none, err
	}
	return out, nil
}

func duration(text *string) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	d, err := forge.ParseDuration(*text)
	if err != nil {
		return 0, err
	}
	if d <= 0 {
		return 0, fmt.Errorf("%s: want more than 0; 1ns is at once", *text)
	}
	return d, nil
}

// line is where a field stands, or the nearest thing above it that is there.
func line(tree *ast.File, field string) int {
	for field != "" {
		if p, err := yaml.PathString("$." + field); err == nil {
			if n, err := p.FilterFile(tree); err == nil && n != nil && n.GetToken() != nil {
				return n.GetToken().Position.Line
			}
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
	return 1
}

// plain refuses what can make much of little: aliases that multiply. A second document would be read by nobody.
func plain(tree *ast.File) error {
	n := 0
	for _, d := range tree.Docs {
		if d.Body == nil {
			continue
		}
		if n++; n > 1 {
			return errors.New("holds more than one YAML document")
		}
		v := aliases{}
		ast.Walk(&v, d.Body)
		if v.line > 0 {
			return fmt.Errorf("line %d: anchors, aliases and tags are not allowed; write the value out", v.line)
		}
	}
	return nil
}

type aliases struct{ line int }

func (v *aliases) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		if v.line == 0 {
			v.line = n.GetToken().Position.Line
		}
		return nil
	}
	return v
}
