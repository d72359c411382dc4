package recipes

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Recipe says what can be trained, with which knobs, and what runs.
type Recipe struct {
	Name         string              `json:"name"`
	Doc          string              `json:"doc"`
	Kind         Kind                `json:"kind,omitempty" doc:"eval: its runs count in the quota class of evals; scan: they read a dataset; absent: train"`
	Launch       forge.LaunchMode    `json:"launch"`
	Entry        forge.Entry         `json:"entry"`
	NeedsCommand bool                `json:"needs_command,omitempty" doc:"Its runs bring the program themselves; entry is empty"`
	Datasets     []forge.DatasetKind `json:"datasets,omitempty" doc:"Kinds of dataset that it accepts"`
	NeedsDataset bool                `json:"needs_dataset"`
	NeedsBase    bool                `json:"needs_base"`
	RewardModel  bool                `json:"reward_model,omitempty" doc:"Its runs may bring a reward model"`
	NeedsModel   bool                `json:"needs_model,omitempty" doc:"Its runs are of a model version, and of no base model"`
	NeedsSuite   bool                `json:"needs_suite,omitempty"`
	Workdir      bool                `json:"workdir,omitempty" doc:"Its runs may bring a directory of their own code, though the entry is the recipe's"`
	Output       bool                `json:"output" doc:"A completed run must leave something in output/"`
	Gang         forge.Gang          `json:"gang" doc:"Default resources"`
	Limits       Limits              `json:"limits" doc:"Default limits"`
	Params       []Param             `json:"params" doc:"In the order of the file"`
	Metrics      []Metric            `json:"metrics,omitempty" doc:"What its runs report"`
	Runtime      forge.Runtime       `json:"runtime,omitzero" doc:"Software to start in, over the cluster's; clusters of kind slurm only"`
	SHA256       string              `json:"sha256" doc:"Digest of everything above"`
}

// Kind is what a recipe is for.
type Kind string

// The kinds. Training is the one that goes without saying, so that recipes of before there were kinds keep their digests.
const (
	KindTrain Kind = ""
	KindEval  Kind = "eval"
	KindScan  Kind = "scan"
)

// Limits are the default limits of a recipe's runs; 0 means none.
type Limits struct {
	TimeLimit    forge.Duration `json:"time_limit"`
	StartTimeout forge.Duration `json:"start_timeout"`
	StallTimeout forge.Duration `json:"stall_timeout"`
	Grace        forge.Duration `json:"grace"`
}

// Param is one knob of a recipe.
type Param struct {
	Name    string   `json:"name" doc:"Dotted: lora.r"`
	Type    string   `json:"type" doc:"int, float, bool, string, enum, list"`
	Default any      `json:"default"`
	Min     *float64 `json:"min,omitempty"`
	Max     *float64 `json:"max,omitempty"`
	Enum    []string `json:"enum,omitempty"`
	Unit    string   `json:"unit,omitempty"`
	Doc     string   `json:"doc"`
}

// The parameter types.
const (
	TypeInt    = "int"
	TypeFloat  = "float"
	TypeBool   = "bool"
	TypeString = "string"
	TypeEnum   = "enum"
	TypeList   = "list"
)

// ParamTypes lists every parameter type.
var ParamTypes = []string{TypeInt, TypeFloat, TypeBool, TypeString, TypeEnum, TypeList}

// Accepts says whether the recipe reads datasets of this kind.
func (r Recipe) Accepts(kind forge.DatasetKind) bool { return slices.Contains(r.Datasets, kind) }

// Param returns a parameter by its dotted name.
func (r Recipe) Param(name string) (Param, bool) {
	i := slices.IndexFunc(r.Params, func(p Param) bool { return p.Name == name })
	if i < 0 {
		return Param{}, false
	}
	return r.Params[i], true
}

// digest covers the meaning of a recipe and not its spelling: comments and the order of keys in
// the file do not change it.
func (r Recipe) digest() string {
	r.SHA256 = ""
	b, err := json.Marshal(r)
	if err != nil {
		panic("recipes: a checked recipe does not encode: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// WorkSHA256 is the digest of what makes a checkpoint mean what it means: the program, its parameters and what it is given. Words for people, default
// limits and resources, and the software to start in are left out: they may change between a run and one that goes on from it.
func (r Recipe) WorkSHA256() string {
	params := slices.Clone(r.Params)
	for i := range params {
		params[i].Doc, params[i].Unit = "", ""
	}
	slices.SortFunc(params, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	return Recipe{Name: r.Name, Kind: r.Kind, Launch: r.Launch, Entry: r.Entry, NeedsCommand: r.NeedsCommand, Datasets: slices.Sorted(slices.Values(r.Datasets)),
		NeedsDataset: r.NeedsDataset, NeedsBase: r.NeedsBase, RewardModel: r.RewardModel, NeedsModel: r.NeedsModel, NeedsSuite: r.NeedsSuite, Workdir: r.Workdir, Output: r.Output, Params: params}.digest()
}

// clone keeps a caller's change to a slice from reaching the library.
func (r Recipe) clone() Recipe {
	r.Entry.Command = slices.Clone(r.Entry.Command)
	r.Datasets = slices.Clone(r.Datasets)
	r.Params, r.Metrics = slices.Clone(r.Params), slices.Clone(r.Metrics)
	r.Runtime.Mounts, r.Runtime.Modules, r.Runtime.Setup = slices.Clone(r.Runtime.Mounts), slices.Clone(r.Runtime.Modules), slices.Clone(r.Runtime.Setup)
	for i := range r.Params {
		r.Params[i].Enum = slices.Clone(r.Params[i].Enum)
	}
	return r
}
