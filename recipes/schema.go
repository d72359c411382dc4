package recipes

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

var (
	moduleName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	paramName  = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)
)

// The bounds of a recipe.
const (
	maxParams     = 500
	maxParamName  = 128
	maxGangNodes  = 10000
	maxGPUsOnNode = 1024
)

var datasetKinds = forge.DatasetKinds

// recipe checks the document and turns it into a Recipe; the first fault is returned, since a
// later one often follows from it.
func (d *document) recipe() (Recipe, error) {
	r := Recipe{Name: d.Name, Doc: strings.TrimSpace(d.Doc), NeedsDataset: d.NeedsDataset, NeedsBase: d.NeedsBase, NeedsCommand: d.NeedsCommand, RewardModel: d.RewardModel, NeedsModel: d.NeedsModel, NeedsSuite: d.NeedsSuite, Workdir: d.Workdir, Output: d.Output, Runtime: d.Runtime}
	if err := forge.CheckName(d.Name); err != nil {
		return Recipe{}, d.fault("name", "%w", err)
	}
	if r.Doc == "" {
		return Recipe{}, d.fault("doc", "is empty; say in a line what the recipe does")
	}
	for _, step := range []func(*Recipe) error{d.kind, d.entry, d.datasets, d.gang, d.limits, d.runtime, d.params, d.metrics} {
		if err := step(&r); err != nil {
			return Recipe{}, err
		}
	}
	r.SHA256 = r.digest()
	return r, nil
}

func (d *document) kind(r *Recipe) error {
	switch d.Kind {
	case "", "train":
		r.Kind = KindTrain
	case string(KindEval), string(KindScan):
		r.Kind = Kind(d.Kind)
	default:
		return d.fault("kind", "%q is not a kind of recipe; want train, eval or scan", d.Kind)
	}
	return nil
}

func (d *document) entry(r *Recipe) error {
	r.Launch = forge.LaunchMode(cmp.Or(d.Launch, string(forge.LaunchRank)))
	if r.Launch != forge.LaunchRank && r.Launch != forge.LaunchNode {
		return d.fault("launch", "%q is not allowed; want rank (one process per GPU) or node (one per node)", d.Launch)
	}
	e := d.Entry
	switch {
	case d.NeedsCommand && (e.Module != "" || len(e.Command) > 0):
		return d.fault("entry", "is given, and needs_command says that each run brings the program; give one of them")
	case d.NeedsCommand:
	case e.Module == "" && len(e.Command) == 0:
		return d.fault("entry", "is missing; give a module or a command, or needs_command: true")
	case e.Module != "" && len(e.Command) > 0:
		return d.fault("entry", "gives both a module and a command; give one")
	case e.Module != "" && !moduleName.MatchString(e.Module):
		return d.fault("entry.module", "%q is not the dotted name of a Python module", e.Module)
	case len(e.Command) > 0 && e.Command[0] == "":
		return d.fault("entry.command", "starts with an empty word; want the program first")
	case r.Kind == KindScan && (len(e.Command) < 2 || r.Launch != forge.LaunchNode):
		return d.fault("entry.command", "of a scan is [forged, scan], with launch: node: what reads is forged's own program, and one process of it")
	}
	r.Entry = forge.Entry{Module: e.Module, Command: e.Command}
	return nil
}

func (d *document) datasets(r *Recipe) error {
	for i, k := range d.Datasets {
		kind := forge.DatasetKind(k)
		if !slices.Contains(datasetKinds, kind) {
			return d.fault(fmt.Sprintf("datasets[%d]", i), "%q is not a kind of dataset; want one of %v", k, datasetKinds)
		}
		r.Datasets = append(r.Datasets, kind)
	}
	if d.NeedsDataset && len(r.Datasets) == 0 {
		return d.fault("datasets", "is empty and needs_dataset is true; list the kinds that the recipe reads")
	}
	return nil
}

func (d *document) gang(r *Recipe) error {
	g := forge.Gang{Nodes: orInt(d.Gang.Nodes, 1), GPUsPerNode: orInt(d.Gang.GPUsPerNode, 1), CPUsPerGPU: orInt(d.Gang.CPUsPerGPU, 1)}
	if m := d.Gang.MemoryMiBPerGPU; m != nil {
		g.MemoryMiBPerGPU = *m
	}
	switch {
	case g.Nodes < 1 || g.Nodes > maxGangNodes:
		return d.fault("gang.nodes", "%d is out of range; want 1 to %d", g.Nodes, maxGangNodes)
	case g.GPUsPerNode < 1 || g.GPUsPerNode > maxGPUsOnNode:
		return d.fault("gang.gpus_per_node", "%d is out of range; want 1 to %d", g.GPUsPerNode, maxGPUsOnNode)
	case g.CPUsPerGPU < 0 || g.CPUsPerGPU > 1<<16:
		return d.fault("gang.cpus_per_gpu", "%d is out of range; want 0 to %d", g.CPUsPerGPU, 1<<16)
	case g.MemoryMiBPerGPU < 0 || g.MemoryMiBPerGPU > 1<<40:
		return d.fault("gang.memory_mib_per_gpu", "%d is out of range; want 0 to %d MiB", g.MemoryMiBPerGPU, 1<<40)
	}
	r.Gang = g
	return nil
}

func (d *document) limits(r *Recipe) (err error) {
	for _, l := range []struct {
		field    string
		given    *string
		fallback forge.Duration
		to       *forge.Duration
	}{
		{"limits.time_limit", d.Limits.TimeLimit, 0, &r.Limits.TimeLimit},
		{"limits.start_timeout", d.Limits.StartTimeout, forge.Duration(forge.DefaultStartTimeout), &r.Limits.StartTimeout},
		{"limits.stall_timeout", d.Limits.StallTimeout, forge.Duration(forge.DefaultStallTimeout), &r.Limits.StallTimeout},
		{"limits.grace", d.Limits.Grace, forge.Duration(forge.DefaultGrace), &r.Limits.Grace},
	} {
		if *l.to, err = d.duration(l.field, l.given, l.fallback); err != nil {
			return err
		}
	}
	return nil
}

// runtime holds a recipe's part to its form; clusters and runs may add to it, so that only they know whether it is whole.
func (d *document) runtime(*Recipe) error {
	var e *forge.Error
	if err := d.Runtime.Check(); errors.As(err, &e) {
		return d.fault(e.Field, "%w", e.Err)
	}
	return nil
}

func (d *document) params(r *Recipe) error {
	included, metrics, err := d.included()
	if err != nil {
		return err
	}
	r.Params, d.Metrics = slices.Clone(included), append(d.Metrics, metrics...)
	if len(d.Params) > maxParams {
		return d.fault("params", "has %d entries; at most %d are allowed", len(d.Params), maxParams)
	}
	spoken := map[string]bool{}
	for i, in := range d.Params {
		p, err := d.param(fmt.Sprintf("params[%d]", i), in)
		if err != nil {
			return err
		}
		if j := slices.IndexFunc(included, func(x Param) bool { return x.Name == p.Name }); j >= 0 && !spoken[p.Name] { // its own word over a fragment's
			r.Params[j], spoken[p.Name] = p, true
			continue
		}
		for _, other := range r.Params {
			switch {
			case other.Name == p.Name:
				return d.fault(fmt.Sprintf("params[%d].name", i), "%q is declared twice", p.Name)
			case strings.HasPrefix(other.Name, p.Name+"."), strings.HasPrefix(p.Name, other.Name+"."):
				// A nested run file could not tell the value from the group.
				return d.fault(fmt.Sprintf("params[%d].name", i), "%q and %q exclude each other: one is a group of the other", p.Name, other.Name)
			}
		}
		r.Params = append(r.Params, p)
	}
	return nil
}

func (d *document) param(at string, in paramDoc) (Param, error) {
	p := Param{Name: in.Name, Type: in.Type, Min: in.Min, Max: in.Max, Enum: in.Enum, Unit: in.Unit, Doc: strings.TrimSpace(in.Doc)}
	numeric := p.Type == TypeInt || p.Type == TypeFloat
	switch {
	case len(p.Name) > maxParamName || !paramName.MatchString(p.Name):
		return Param{}, d.fault(at+".name", "%.80q is not a parameter name; want dotted words of a-z, 0-9, _, such as lora.r", p.Name)
	case !slices.Contains(ParamTypes, p.Type):
		return Param{}, d.fault(at+".type", "%q of %s is not a type; want one of %s", p.Type, p.Name, strings.Join(ParamTypes, ", "))
	case p.Doc == "":
		return Param{}, d.fault(at+".doc", "of %s is empty; say in a line what it does", p.Name)
	case !numeric && (p.Min != nil || p.Max != nil):
		return Param{}, d.fault(at, "%s is of type %s, which has no min and max", p.Name, p.Type)
	case notFinite(p.Min) || notFinite(p.Max):
		return Param{}, d.fault(at, "the bounds of %s must be finite; leave out the one that is not there", p.Name)
	case p.Min != nil && p.Max != nil && *p.Min > *p.Max:
		return Param{}, d.fault(at+".min", "of %s is %s, above its max %s", p.Name, show(*p.Min), show(*p.Max))
	case p.Type == TypeEnum && len(p.Enum) == 0:
		return Param{}, d.fault(at+".enum", "of %s is empty; list the values that are allowed", p.Name)
	case p.Type != TypeEnum && len(p.Enum) > 0:
		return Param{}, d.fault(at+".enum", "of %s is given, and its type is %s; want type enum", p.Name, p.Type)
	case in.Default == nil:
		return Param{}, d.fault(at+".default", "of %s is missing; every parameter has one", p.Name)
	}
	v, err := p.check(in.Default)
	if err != nil {
		return Param{}, d.fault(at+".default", "of %s: %w", p.Name, err)
	}
	p.Default = v
	return p, nil
}

func notFinite(f *float64) bool { return f != nil && (math.IsNaN(*f) || math.IsInf(*f, 0)) }

func orInt(v *int, fallback int) int {
	if v == nil {
		return fallback
	}
	return *v
}
