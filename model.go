package forge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ModelKind tells a base model (imported weights) from a trained one (an adapter or a merge).
type ModelKind string

// The kinds of model.
const (
	ModelBase    ModelKind = "base"
	ModelTrained ModelKind = "trained"
)

// Stage is where a model version stands on its way to production.
type Stage string

// The stages, in order.
const (
	StageStaging    Stage = "staging"
	StageCandidate  Stage = "candidate"
	StageProduction Stage = "production"
	StageArchived   Stage = "archived"
)

// Model is a name under which versions are registered. All versions have one kind.
type Model struct {
	ID        ModelID        `json:"id"`
	Tenant    TenantID       `json:"-"`
	Name      string         `json:"name"`
	Kind      ModelKind      `json:"kind"`
	CreatedAt time.Time      `json:"created_at"`
	Versions  []ModelVersion `json:"versions,omitempty" doc:"Oldest first"`
}

// ModelVersion is one registered set of weights and where it came from.
type ModelVersion struct {
	ID        ModelVersionID `json:"id"`
	Model     ModelID        `json:"-"`
	Tenant    TenantID       `json:"-"`
	Name      string         `json:"name" doc:"The model's name"`
	Number    int            `json:"version"`
	Kind      ModelKind      `json:"kind"`
	Stage     Stage          `json:"stage"`
	SHA256    string         `json:"sha256" doc:"Digest of the manifest"`
	Bytes     int64          `json:"bytes"`
	Manifest  Manifest       `json:"manifest"`
	License   string         `json:"license"`
	Seen      *WeightsSeen   `json:"seen,omitempty" doc:"Of base models: what import saw; absent where it was before import looked"`
	Lineage   *Lineage       `json:"lineage,omitempty" doc:"Present on trained versions"`
	CreatedBy string         `json:"created_by"`
	CreatedAt time.Time      `json:"created_at"`

	StageSince time.Time `json:"stage_since" doc:"Since when it stands in its stage"`
	StageBy    string    `json:"stage_by" doc:"Who brought it there"`
	Forced     bool      `json:"forced,omitempty" doc:"It was once brought into a stage whose gate had not passed; this stays for ever"`
	Aliases    []string  `json:"aliases,omitempty"`
}

// Lineage says what a trained version was made from, by digest and not only by name.
type Lineage struct {
	Unverified    bool      `json:"unverified,omitempty" doc:"Its weights were trained elsewhere: nobody here knows what on. For ever"`
	Reason        string    `json:"reason,omitempty" doc:"Of unverified weights: why they were taken in"`
	Run           RunID     `json:"run" doc:"Empty with unverified"`
	RunNumber     int64     `json:"run_number"`
	Attempt       int       `json:"attempt" doc:"The attempt whose output this is"`
	Dataset       string    `json:"dataset" doc:"NAME@VERSION"`
	DatasetSHA256 string    `json:"dataset_sha256"`
	Base          string    `json:"base" doc:"NAME@VERSION"`
	BaseSHA256    string    `json:"base_sha256"`
	Start         string    `json:"start,omitempty" doc:"NAME@VERSION of the adapter that it went on from"`
	StartSHA256   string    `json:"start_sha256,omitempty"`
	RewardModel   string    `json:"reward_model,omitempty" doc:"NAME@VERSION of what scored it"`
	RewardSHA256  string    `json:"reward_model_sha256,omitempty"`
	Recipe        string    `json:"recipe"`
	RecipeSHA256  string    `json:"recipe_sha256" doc:"Digest of the recipe as it was at submit"`
	CodeSHA256    string    `json:"code_sha256" doc:"Digest of the training package that ran"`
	CodeVersion   string    `json:"code_version" doc:"Version of forged and of the training package"`
	ParamsSHA256  string    `json:"params_sha256" doc:"Digest of the resolved parameters, canonical JSON"`
	TrainedAt     time.Time `json:"trained_at"`
	LoadTest      string    `json:"load_test,omitempty" doc:"SHA-256 of the report of the load test that it passed before it was hashed; absent where none was made, or before this was kept"`
}

// RewardRecipe is the recipe whose trained versions are reward models: they score, and write nothing.
const RewardRecipe = "reward"

// adapterFile is what tells an adapter from a whole model.
const adapterFile = "adapter_config.json"

// IsAdapter says whether these weights lie over a base model, which they need beside them.
func (v *ModelVersion) IsAdapter() bool {
	return slices.ContainsFunc(v.Manifest.Files, func(f File) bool { return f.Path == adapterFile })
}

// IsReward says whether a recipe of reward models trained it.
func (v *ModelVersion) IsReward() bool { return v.Lineage != nil && v.Lineage.Recipe == RewardRecipe }

// Input pins the version as an input of a run.
func (v *ModelVersion) Input() *InputRef {
	return &InputRef{Name: Ref{Name: v.Name, Number: v.Number}.String(), ID: string(v.ID), SHA256: v.SHA256, Path: v.Manifest.Root}
}

// Ref is NAME or NAME@X, where X is a version number, a stage, or an alias.
type Ref struct {
	Name   string
	Number int    // 0 when not given by number
	Label  string // stage or alias; empty when a number or nothing was given
}

func (r Ref) String() string {
	switch {
	case r.Number > 0:
		return r.Name + "@" + strconv.Itoa(r.Number)
	case r.Label != "":
		return r.Name + "@" + r.Label
	}
	return r.Name
}

// ParseRef reads NAME or NAME@X. NAME alone means the newest version.
func ParseRef(s string) (Ref, error) {
	name, x, has := strings.Cut(s, "@")
	if err := CheckName(name); err != nil {
		return Ref{}, err
	}
	if !has {
		return Ref{Name: name}, nil
	}
	if n, err := strconv.Atoi(x); err == nil {
		if n < 1 {
			return Ref{}, fmt.Errorf("%q: version numbers start at 1", s)
		}
		return Ref{Name: name, Number: n}, nil
	}
	if err := CheckName(x); err != nil {
		return Ref{}, fmt.Errorf("%q: after @ comes a version number, a stage or an alias", s)
	}
	return Ref{Name: name, Label: x}, nil
}

// MaxNameLength bounds every name that a person gives.
const MaxNameLength = 64

// CheckName accepts what may stand as a name everywhere, in paths, URLs and shells alike:
// a lower-case letter or digit first, then also dot, dash and underscore.
func CheckName(s string) error {
	const want = "want 1 to 64 characters of a-z, 0-9, '.', '-', '_', starting with a letter or digit"
	if s == "" || len(s) > MaxNameLength {
		return fmt.Errorf("name %.80q has %d characters; %s", s, len(s), want)
	}
	for i, c := range []byte(s) {
		ok := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '-' || c == '_')
		if !ok {
			return fmt.Errorf("name %q is not allowed; %s", s, want)
		}
	}
	return nil
}
