package api

import forge "github.com/forge-ml/forge-ml"

// BundleFormat is the form of bundle.json that this version writes.
const BundleFormat = 1

// Bundle is what a run is made from, in words that hold at any site: bundle.json of `forgectl run export`.
type Bundle struct {
	Format   int                  `json:"format" doc:"Of this object; 1"`
	Run      int64                `json:"run" doc:"Number of the run where it was made"`
	State    forge.RunState       `json:"state"`
	Steps    int64                `json:"steps" doc:"Optimizer steps that were done"`
	Spec     forge.RunSpec        `json:"spec" doc:"As resolved at submit; without what means something at its own site only: paths and ids of inputs, the secrets file"`
	Kind     forge.DatasetKind    `json:"dataset_kind,omitempty" doc:"Of its dataset"`
	Layout   *forge.DatasetLayout `json:"dataset_layout,omitempty" doc:"How its dataset is to be read; absent: JSON Lines with the columns of the kind"`
	Recipe   *Recipe              `json:"recipe,omitempty" doc:"As it was at submit; absent where the site has another of that name by now"`
	Code     map[string]string    `json:"code,omitempty" doc:"Of the attempt that completed, where it said so: digest of the training package (sha256), versions of the packages beside it"`
	Card     string               `json:"card,omitempty" doc:"Model card of the output, where there is one"`
	Snapshot bool                 `json:"snapshot,omitempty" doc:"It has a working directory: GET /v1/runs/{run}/source"`
}
