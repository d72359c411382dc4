package recipes

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	forge "github.com/forge-ml/forge-ml"
)

// document is the YAML form of a recipe. Pointers tell "not given" from zero.
type document struct {
	Name         string        `yaml:"name"`
	Doc          string        `yaml:"doc"`
	Kind         string        `yaml:"kind"`
	Launch       string        `yaml:"launch"`
	Entry        entryDoc      `yaml:"entry"`
	Datasets     []string      `yaml:"datasets"`
	NeedsDataset bool          `yaml:"needs_dataset"`
	NeedsBase    bool          `yaml:"needs_base"`
	NeedsCommand bool          `yaml:"needs_command"`
	RewardModel  bool          `yaml:"reward_model"`
	NeedsModel   bool          `yaml:"needs_model"`
	NeedsSuite   bool          `yaml:"needs_suite"`
	Workdir      bool          `yaml:"workdir"`
	Output       bool          `yaml:"output"`
	Gang         gangDoc       `yaml:"gang"`
	Limits       limitsDoc     `yaml:"limits"`
	Include      []string      `yaml:"include"`
	Params       []paramDoc    `yaml:"params"`
	Metrics      []metricDoc   `yaml:"metrics"`
	Runtime      forge.Runtime `yaml:"runtime"`
	source       string        // file name, for errors
	tree         *ast.File     // for line numbers
}

type entryDoc struct {
	Module  string   `yaml:"module"`
	Command []string `yaml:"command"`
}

type gangDoc struct {
	Nodes           *int   `yaml:"nodes"`
	GPUsPerNode     *int   `yaml:"gpus_per_node"`
	CPUsPerGPU      *int   `yaml:"cpus_per_gpu"`
	MemoryMiBPerGPU *int64 `yaml:"memory_mib_per_gpu"`
}

// limitsDoc holds durations as text: forge.ParseDuration gives the better error.
type limitsDoc struct {
	TimeLimit    *string `yaml:"time_limit"`
	StartTimeout *string `yaml:"start_timeout"`
	StallTimeout *string `yaml:"stall_timeout"`
	Grace        *string `yaml:"grace"`
}

type paramDoc struct {
	Name    string   `yaml:"name"`
	Type    string   `yaml:"type"`
	Default any      `yaml:"default"`
	Min     *float64 `yaml:"min"`
	Max     *float64 `yaml:"max"`
	Enum    []string `yaml:"enum"`
	Unit    string   `yaml:"unit"`
	Doc     string   `yaml:"doc"`
}

type metricDoc struct {
	Name string `yaml:"name"`
	Unit string `yaml:"unit"`
	Doc  string `yaml:"doc"`
}

// parse reads one recipe file. Errors name the file, the line and the field.
func parse(source string, b []byte) (Recipe, error) {
	_, r, err := read(source, b)
	return r, err
}

func read(source string, b []byte) (document, Recipe, error) {
	doc := document{source: source}
	if err := doc.decode(b, &doc); err != nil {
		return doc, Recipe{}, err
	}
	r, err := doc.recipe()
	return doc, r, err
}

// decode reads the one YAML document of a file into what is given, and keeps the tree for line numbers.
func (d *document) decode(b []byte, into any) error {
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		return yamlError(d.source, nil, err)
	}
	if n := documents(tree); n != 1 {
		return invalid("recipe", "%s: holds %d YAML documents; want one recipe", d.source, n)
	}
	if err := refuseAnchors(d.source, tree); err != nil {
		return err
	}
	d.tree = tree
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return yamlError(d.source, tree, err)
	}
	return nil
}

func documents(tree *ast.File) int {
	n := 0
	for _, d := range tree.Docs {
		if d.Body != nil {
			n++
		}
	}
	return n
}

// yamlError keeps the decoder's message and position, and drops its excerpt of the source and
// its Go names. tree is nil when the text did not parse.
func yamlError(source string, tree *ast.File, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		return invalid("recipe", "%s: %w", source, err)
	}
	tok := ye.GetToken()
	at := fmt.Sprintf("%s:%d", source, tok.Position.Line)
	msg := strings.ReplaceAll(ye.GetMessage(), "\n", " ")
	var unknown *yaml.UnknownFieldError
	var wrong *yaml.TypeError
	switch {
	case errors.As(err, &unknown), strings.HasPrefix(msg, "mapping key"):
		return invalid(strings.TrimSpace(tok.Value), "%s: %s", at, msg)
	case errors.As(err, &wrong):
		return invalid(fieldAt(tree, tok), "%s: %.80q has the wrong type; want %s", at, tok.Value, yamlKind(wrong.DstType))
	}
	if tree != nil {
		return invalid(fieldAt(tree, tok), "%s: %s", at, msg)
	}
	return invalid("recipe", "%s: %s", at, msg)
}

func yamlKind(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a map"
	}
	return "text"
}

// fieldAt finds the path of the value that a token begins.
func fieldAt(tree *ast.File, tok *token.Token) string {
	f := tokenFinder{offset: tok.Position.Offset}
	for _, d := range tree.Docs {
		if d.Body != nil {
			ast.Walk(&f, d.Body)
		}
	}
	return cmp.Or(strings.TrimPrefix(f.path, "$."), "recipe")
}

type tokenFinder struct {
	offset int
	path   string
}

func (f *tokenFinder) Visit(n ast.Node) ast.Visitor {
	if t := n.GetToken(); t != nil && t.Position.Offset == f.offset {
		f.path = n.GetPath() // the innermost node that begins here comes last
	}
	return f
}

// refuseAnchors guards against aliases that multiply: a kilobyte of YAML can decode to gigabytes.
func refuseAnchors(source string, tree *ast.File) error {
	v := anchorFinder{}
	for _, d := range tree.Docs {
		if d.Body != nil {
			ast.Walk(&v, d.Body)
		}
	}
	if v.found == nil {
		return nil
	}
	return invalid("recipe", "%s:%d: anchors, aliases and tags are not allowed in recipes; write the value out",
		source, v.found.GetToken().Position.Line)
}

type anchorFinder struct{ found ast.Node }

func (v *anchorFinder) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		if v.found == nil {
			v.found = n
		}
		return nil
	}
	return v
}

// fault makes an error about a field, with the line that it stands on, or that its nearest
// existing parent stands on when the field is missing.
func (d *document) fault(field, format string, args ...any) error {
	at := d.source
	if line := d.line(field); line > 0 {
		at = fmt.Sprintf("%s:%d", d.source, line)
	}
	return invalid(field, "%s: %w", at, fmt.Errorf(format, args...))
}

func (d *document) line(field string) int {
	for field != "" {
		if p, err := yaml.PathString("$." + field); err == nil {
			if n, err := p.FilterFile(d.tree); err == nil && n != nil && n.GetToken() != nil {
				return n.GetToken().Position.Line
			}
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			break
		}
		field = field[:i]
	}
	return 0
}

func (d *document) duration(field string, given *string, fallback forge.Duration) (forge.Duration, error) {
	if given == nil {
		return fallback, nil
	}
	v, err := forge.ParseDuration(*given)
	if err != nil {
		return 0, d.fault(field, "%w", err)
	}
	return forge.Duration(v), nil
}
