package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// The part of OpenAPI 3.1 that the page shows.
type description struct {
	Info       struct{ Description string }
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

type operation struct {
	OperationID string
	Summary     string
	Description string
	Tags        []string
	Role        string `json:"x-forge-role"`
	Parameters  []parameter
	RequestBody struct{ Content map[string]media }
	Responses   map[string]struct {
		Description string
		Content     map[string]media
	}
	method, path string
}

type media struct{ Schema *schema }

type parameter struct {
	Name, In, Description string
	Required              bool
	Schema                *schema
}

type schema struct {
	Ref         string `json:"$ref"`
	Type        types
	Format      string
	Description string
	Properties  map[string]*schema
	Required    []string
	Items       *schema
	Additional  json.RawMessage `json:"additionalProperties"`
	Enum        []any
	Default     any
	Minimum     *float64
	Maximum     *float64
	MaxLength   *int
}

// types is a name or a list of names.
type types []string

func (t *types) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = types{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// served is the description as a client of forged gets it.
func served() (*description, error) {
	h := server.New(apitest.New(time.Unix(0, 0)).Services(), server.Options{Version: "docs"})
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	if rec.Code != http.StatusOK {
		return nil, fmt.Errorf("/openapi.json answered %d", rec.Code)
	}
	var d description
	err := json.Unmarshal(rec.Body.Bytes(), &d)
	return &d, err
}

func render() (string, error) {
	d, err := served()
	if err != nil {
		return "", err
	}
	p := &printer{d: d}
	p.line("<!-- Made by `make docs` from the OpenAPI that forged serves. Changes belong into internal/api. -->")
	p.line("# The HTTP API\n")
	p.line("%s\n", d.Info.Description)
	p.line("forged serves this description itself: `GET /openapi.json` (OpenAPI 3.1) and `/openapi.yaml`. An operation names the least")
	p.line("[role](vocabulary.md#who) that may call it; another tenant's ids answer exactly like ids that do not exist.\n")
	byTag := map[string][]operation{}
	for path, methods := range d.Paths {
		for method, op := range methods {
			op.method, op.path = strings.ToUpper(method), path
			tag := "other"
			if len(op.Tags) > 0 {
				tag = op.Tags[0]
			}
			byTag[tag] = append(byTag[tag], op)
		}
	}
	tags := slices.Sorted(maps.Keys(byTag))
	for _, tag := range tags {
		ops := byTag[tag]
		slices.SortFunc(ops, func(a, b operation) int {
			return strings.Compare(a.path+" "+a.method, b.path+" "+b.method)
		})
		p.line("## %s\n", tag)
		for _, op := range ops {
			p.operation(op)
		}
	}
	p.line("## Shapes\n")
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		p.shape(name, d.Components.Schemas[name])
	}
	return strings.TrimRight(p.b.String(), "\n") + "\n", nil
}

type printer struct {
	b strings.Builder
	d *description
}

func (p *printer) line(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *printer) operation(op operation) {
	p.line("### `%s %s`\n", op.method, op.path)
	who := "no key needed"
	if op.Role != "" {
		who = op.Role
	}
	p.line("%s (`%s`, %s). %s\n", op.Summary, op.OperationID, who, oneLine(op.Description))
	if len(op.Parameters) > 0 {
		p.line("| parameter | in | type | |")
		p.line("|---|---|---|---|")
		for _, q := range op.Parameters {
			p.line("| `%s` | %s | %s | %s |", q.Name, q.In, typeOf(q.Schema), cell(q.Description, q.Schema, q.Required && q.In != "path"))
		}
		p.line("")
	}
	for _, m := range op.RequestBody.Content {
		if m.Schema != nil {
			p.line("Body: %s.", typeOf(m.Schema))
		}
	}
	var answers []string
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[status]
		text := "`" + status + "`"
		for _, ct := range slices.Sorted(maps.Keys(r.Content)) {
			if s := r.Content[ct].Schema; s != nil && !strings.HasPrefix(ct, "application/problem") {
				text += " " + typeOf(s)
			}
		}
		answers = append(answers, text)
	}
	p.line("Answers: %s.\n", strings.Join(answers, ", "))
}

func (p *printer) shape(name string, s *schema) {
	p.line("### %s\n", name)
	if s.Description != "" {
		p.line("%s\n", oneLine(s.Description))
	}
	if len(s.Properties) == 0 {
		p.line("%s\n", typeOf(s))
		return
	}
	p.line("| field | type | |")
	p.line("|---|---|---|")
	for _, f := range slices.Sorted(maps.Keys(s.Properties)) {
		if f == "$schema" {
			continue
		}
		q := s.Properties[f]
		p.line("| `%s` | %s | %s |", f, typeOf(q), cell(q.Description, q, slices.Contains(s.Required, f)))
	}
	p.line("")
}

// typeOf names a type; shapes are links to their table.
func typeOf(s *schema) string {
	if s == nil {
		return ""
	}
	if s.Ref != "" {
		name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	kinds := slices.DeleteFunc(slices.Clone(s.Type), func(t string) bool { return t == "null" })
	if len(kinds) == 0 {
		return "any"
	}
	switch kinds[0] {
	case "array":
		return "list of " + typeOf(s.Items)
	case "object":
		var of schema
		if len(s.Additional) > 0 && s.Additional[0] == '{' && json.Unmarshal(s.Additional, &of) == nil {
			return "map to " + typeOf(&of)
		}
	}
	if s.Format != "" {
		return kinds[0] + " (" + s.Format + ")"
	}
	return kinds[0]
}

func cell(text string, s *schema, required bool) string {
	parts := []string{}
	if text != "" {
		parts = append(parts, oneLine(text))
	}
	if required {
		parts = append(parts, "required")
	}
	if s != nil {
		if s.Items != nil && len(s.Items.Enum) > 0 {
			s = s.Items
		}
		if len(s.Enum) > 0 {
			var of []string
			for _, v := range s.Enum {
				of = append(of, fmt.Sprintf("`%v`", v))
			}
			parts = append(parts, "one of "+strings.Join(of, ", "))
		}
		switch {
		case s.Minimum != nil && s.Maximum != nil:
			parts = append(parts, fmt.Sprintf("%v to %v", *s.Minimum, *s.Maximum))
		case s.Minimum != nil:
			parts = append(parts, fmt.Sprintf("at least %v", *s.Minimum))
		}
		if s.MaxLength != nil {
			parts = append(parts, fmt.Sprintf("at most %d characters", *s.MaxLength))
		}
		if s.Default != nil {
			parts = append(parts, fmt.Sprintf("default `%v`", s.Default))
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "; "), "|", "\\|")
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
