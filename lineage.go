package forge

// LineageKind is what a node of the lineage is.
type LineageKind string

// The kinds of nodes.
const (
	LineageDataset LineageKind = "dataset"
	LineageRun     LineageKind = "run"
	LineageModel   LineageKind = "model"
	LineageEval    LineageKind = "eval"
)

// LineageNode is a dataset version, a run, a model version or an eval.
type LineageNode struct {
	ID     string      `json:"id" doc:"Unique in the graph: the id of the noun"`
	Kind   LineageKind `json:"kind" enum:"dataset,run,model,eval"`
	Name   string      `json:"name" doc:"NAME@VERSION, or the number of a run"`
	State  string      `json:"state" doc:"PII status of a dataset, or deleted; state of a run, stage of a model, suite of an eval"`
	Detail string      `json:"detail,omitempty" doc:"Licence of a dataset or model, recipe of a run"`
	SHA256 string      `json:"sha256,omitempty"`
}

// LineageEdge says that To was made from From, or with it.
type LineageEdge struct {
	From string `json:"from"`
	To   string `json:"to"`
	As   string `json:"as" doc:"parent, data, base, start, reward_model, output, evaluated"`
}

// LineageGraph is what leads to a version, or what came of it. It has no cycles.
type LineageGraph struct {
	Root  string        `json:"root" doc:"Node that was asked about"`
	Nodes []LineageNode `json:"nodes" doc:"The root first, then by distance"`
	Edges []LineageEdge `json:"edges"`
	More  bool          `json:"more" doc:"There is more than was given"`
}

// Impact is where a row went.
type Impact struct {
	Digest   string       `json:"digest" doc:"SHA-256 of the row's texts"`
	Versions []RowInside  `json:"versions" doc:"Dataset versions that hold it"`
	Unknown  []string     `json:"unknown" doc:"NAME@VERSION of versions whose rows cannot be looked up; they may hold it"`
	Models   []string     `json:"models" doc:"NAME@VERSION of the models that were trained on it, however far down"`
	Graph    LineageGraph `json:"graph" doc:"How it went there"`
}

// RowInside is a version that holds the row.
type RowInside struct {
	Name  string `json:"name" doc:"NAME@VERSION"`
	Times int64  `json:"times" doc:"How often"`
}
