package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

//go:embed gates.yaml
var builtinGates []byte

const maxGatesSize = 1 << 20

// gateBook is what a site asks of models before they enter a stage.
type gateBook struct {
	def    stageGates
	models map[string]stageGates // by TENANT/NAME, or by NAME in every tenant
}

// stageGates are the gates of a model; nil: those of all others.
type stageGates struct {
	Candidate  *gate.Policy `yaml:"candidate"`
	Production *gate.Policy `yaml:"production"`
}

func (g stageGates) over(def stageGates) stageGates {
	if g.Candidate == nil {
		g.Candidate = def.Candidate
	}
	if g.Production == nil {
		g.Production = def.Production
	}
	return g
}

// of is what is asked of a model of a tenant. What is said of TENANT/NAME goes before what is said of NAME.
func (b gateBook) of(tenant, model string) stageGates {
	return b.models[tenant+"/"+model].over(b.models[model].over(b.def))
}

// to is the gate before a stage.
func (g stageGates) to(s forge.Stage) gate.Policy {
	if s == forge.StageProduction {
		return *g.Production
	}
	return *g.Candidate
}

// readGates reads a site's gates over the built-in ones. Suites that they name have to be there.
func readGates(path string, suites recipes.Suites) (gateBook, error) {
	out, err := parseGates("built-in gates", builtinGates, suites)
	if err != nil || path == "" {
		return out, err
	}
	b, err := readBounded(path, maxGatesSize)
	if err != nil {
		return out, forge.Invalidf("gates_file", "%s cannot be read: %w", path, err)
	}
	site, err := parseGates(filepath.Base(path), b, suites)
	if err != nil {
		return out, err
	}
	site.def = site.def.over(out.def)
	return site, nil
}

// gatesDoc is the file. What goes wrong in it is told with its line and its field.
type gatesDoc struct {
	Default stageGates            `yaml:"default"`
	Models  map[string]stageGates `yaml:"models"`

	source string
	tree   *ast.File
	suites recipes.Suites
}

func parseGates(source string, b []byte, suites recipes.Suites) (gateBook, error) {
	d := gatesDoc{source: source, suites: suites}
	var err error
	if d.tree, err = parser.ParseBytes(b, 0); err == nil {
		err = yaml.NewDecoder(bytes.NewReader(b), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&d)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return gateBook{}, forge.Invalidf("gates_file", "%s: %s", source, yaml.FormatError(err, false, true)).WithHint("docs/gates.md has every key")
	}
	out := gateBook{models: map[string]stageGates{}}
	if out.def, err = d.gates("default", d.Default, "default"); err != nil {
		return out, err
	}
	for _, name := range slices.Sorted(maps.Keys(d.Models)) {
		for part := range strings.SplitSeq(name, "/") {
			if err := forge.CheckName(part); err != nil || strings.Count(name, "/") > 1 {
				return out, d.fault("%q is the name of no model; want NAME, or TENANT/NAME", []string{"models", name}, name)
			}
		}
		if out.models[name], err = d.gates(name, d.Models[name], "models", name); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (d *gatesDoc) gates(name string, g stageGates, at ...string) (stageGates, error) {
	for stage, p := range map[forge.Stage]*gate.Policy{forge.StageCandidate: g.Candidate, forge.StageProduction: g.Production} {
		if p == nil {
			continue
		}
		if err := d.settle(p, append(slices.Clone(at), string(stage))); err != nil {
			return g, err
		}
		p.Name, p.SHA256 = "", ""
		b, err := json.Marshal(p)
		if err != nil {
			return g, err
		}
		sum := sha256.Sum256(b)
		p.Name, p.SHA256 = name+"."+string(stage), hex.EncodeToString(sum[:])
	}
	return g, nil
}

// settle checks a policy and writes its defaults into it, so that its digest is of all that it asks.
func (d *gatesDoc) settle(p *gate.Policy, at []string) error {
	in := func(keys ...string) []string { return append(slices.Clone(at), keys...) }
	var names []string
	for i := range p.Suites {
		s := &p.Suites[i]
		here := fmt.Sprintf("[%d]", i)
		if s.Bound == "" {
			s.Bound = "lower"
		}
		switch _, err := d.suites.Get(s.Suite); {
		case s.Suite == "":
			return d.fault("is missing; which suite?", in("suites", here, "suite"))
		case err != nil:
			return d.fault("there is no suite %q; there are %s", in("suites", here, "suite"), s.Suite, strings.Join(d.suites.Names(), ", "))
		case slices.Contains(names, s.Suite):
			return d.fault("suite %q stands there twice", in("suites", here, "suite"), s.Suite)
		case s.Bound != "lower" && s.Bound != "point":
			return d.fault("%q: want lower (the bound of the 95 %% interval on the bad side) or point (the value itself)", in("suites", here, "bound"), s.Bound)
		}
		names = append(names, s.Suite)
	}
	if r := p.NoRegression; r != nil {
		if r.Inconclusive == "" {
			r.Inconclusive = "block"
		}
		if len(r.Suites) == 0 {
			r.Suites = names
		}
		switch {
		case r.Inconclusive != "block" && r.Inconclusive != "warn":
			return d.fault("%q: want block or warn", in("no_regression", "inconclusive"), r.Inconclusive)
		case len(r.Suites) == 0:
			return d.fault("names no suite, and there are none in suites: nothing would be compared", in("no_regression"))
		}
		for i, name := range r.Suites {
			if _, err := d.suites.Get(name); err != nil {
				return d.fault("there is no suite %q; there are %s", in("no_regression", "suites", fmt.Sprintf("[%d]", i)), name, strings.Join(d.suites.Names(), ", "))
			}
		}
	}
	for i, s := range p.PII {
		if !slices.Contains([]forge.PIIStatus{forge.PIIClean, forge.PIIRedacted, forge.PIIWaived}, s) {
			return d.fault("%q will not do; want some of clean, redacted, waived", in("pii", fmt.Sprintf("[%d]", i)), s)
		}
	}
	if p.Soak < 0 {
		return d.fault("%s is below 0", in("soak"), p.Soak)
	}
	if p.NoOverlap && len(p.Suites) == 0 {
		return d.fault("there are no suites whose questions could be looked for", in("no_overlap"))
	}
	if r := p.NoRegression; r != nil {
		names = append(slices.Clone(names), r.Suites...)
	}
	for _, name := range names {
		// Of what forged does not read the rule would be missing for ever, or answered for half of the tasks.
		if s, err := d.suites.Get(name); p.NoOverlap && err == nil && !s.Offline {
			return d.fault("the data of suite %s is not all its own, so nobody knows whether its questions were trained on; ask by suites like %s-offline, or not at all", in("no_overlap"), name, name)
		}
	}
	return nil
}

// fault names file, line and field.
func (d *gatesDoc) fault(format string, at []string, args ...any) error {
	path := (&yaml.PathBuilder{}).Root()
	field := ""
	line := 0
	for _, k := range at {
		var i uint
		if n, _ := fmt.Sscanf(k, "[%d]", &i); n == 1 {
			path, field = path.Index(i), field+k
		} else {
			path, field = path.Child(k), strings.TrimPrefix(field+"."+k, ".")
		}
		// What is missing is told where it should stand: at the line of what is around it.
		if node, err := path.Build().FilterFile(d.tree); err == nil && node != nil && node.GetToken() != nil {
			line = node.GetToken().Position.Line
		}
	}
	return forge.Invalidf("gates_file", "%s:%d: %s: %s", d.source, line, field, fmt.Sprintf(format, args...)).WithHint("docs/gates.md has every key")
}

// digests are those of all gates by name, so that a reload can say which have changed.
func (b gateBook) digests() map[string]string {
	out := map[string]string{}
	add := func(g stageGates) {
		for _, p := range []*gate.Policy{g.Candidate, g.Production} {
			if p != nil {
				out[p.Name] = p.SHA256
			}
		}
	}
	add(b.def)
	for _, g := range b.models {
		add(g)
	}
	return out
}

// gates implements api.Gates.
type gates struct{ d *Daemon }

// Gates lists the default, and the principal's own models that have others: names in the file may be those of other tenants' models.
func (s gates) Gates(ctx context.Context, p forge.Principal) ([]api.GateRow, error) {
	t := s.d.db.For(p)
	tenant, err := t.Tenant(ctx, string(p.Tenant))
	if err != nil {
		return nil, err
	}
	b := s.d.live().gates
	out := []api.GateRow{gateRow(api.DefaultGate, b.def)}
	for l := (store.Listing{Limit: api.MaxLimit}); ; {
		page, next, err := t.Models(ctx, l)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			_, own := b.models[tenant.Name+"/"+m.Name]
			if _, named := b.models[m.Name]; own || named {
				out = append(out, gateRow(m.Name, b.of(tenant.Name, m.Name)))
			}
		}
		if l.Cursor = next; next == "" {
			return out, nil
		}
	}
}

func gateRow(name string, g stageGates) api.GateRow {
	return api.GateRow{Name: name, Candidate: *g.Candidate, Production: *g.Production}
}

func (s gates) Gate(ctx context.Context, p forge.Principal, name string) (api.GateRow, error) {
	b := s.d.live().gates
	if name == api.DefaultGate {
		return gateRow(name, b.def), nil
	}
	t := s.d.db.For(p)
	if _, err := t.Model(ctx, name); err != nil {
		return api.GateRow{}, err
	}
	tenant, err := t.Tenant(ctx, string(p.Tenant))
	return gateRow(name, b.of(tenant.Name, name)), err
}
