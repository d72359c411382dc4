package forge

import (
	"fmt"
	"strings"
	"time"
)

// Eval is what a suite found of a model version: stored in the transaction that completed its run, or that imported it, and never changed.
type Eval struct {
	ID          string         `json:"id" doc:"Of its run; of an imported one its own"`
	Name        string         `json:"name" doc:"Number of its run; iN for the Nth that the tenant has imported"`
	Run         RunID          `json:"run,omitempty" doc:"Absent where it was imported"`
	RunNumber   int64          `json:"run_number,omitempty"`
	Model       string         `json:"model" doc:"NAME@VERSION"`
	ModelID     ModelVersionID `json:"model_id"`
	Suite       string         `json:"suite"`
	SuiteSHA256 string         `json:"suite_sha256" doc:"Of the suite as it was when the eval was submitted; the rank has found the same"`
	Limited     bool           `json:"limited" doc:"Not every sample was evaluated; no gate takes it"`
	Facts       EvalFacts      `json:"facts"`
	CreatedAt   time.Time      `json:"created_at"`
	Scores      []EvalScore    `json:"scores,omitempty" doc:"In the order of the suite's tasks; absent in listings"`
	Imported    *EvalImport    `json:"imported,omitempty" doc:"Where it came from, of one that no run has made: which model answered is its importer's word, and no gate takes it"`
	Comparison  *Comparison    `json:"comparison,omitempty" doc:"With the baseline that it was submitted with, as it was found when it ended; absent in listings"`
}

// Brief names it, and what it is of.
func (e Eval) Brief() EvalBrief {
	return EvalBrief{Eval: e.Name, Model: e.Model, ModelSHA256: e.Facts.ModelSHA256, CreatedAt: e.CreatedAt}
}

// EvalImport says where an eval came from that was made elsewhere.
type EvalImport struct {
	By     string     `json:"by" doc:"Who imported it"`
	Called string     `json:"called" doc:"What its files call the model"`
	MadeAt time.Time  `json:"made_at,omitzero" doc:"When it was made, by its files"`
	Files  []EvalFile `json:"files" doc:"That it was read from"`
	Lacks  []string   `json:"lacks,omitempty" doc:"Facts that its files do not tell"`
}

// EvalFile is a file that an eval was imported from.
type EvalFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// EvalRef pins an eval.
type EvalRef struct {
	Eval  string `json:"eval" doc:"Number of its run, or iN"`
	ID    string `json:"id"`
	Model string `json:"model" doc:"NAME@VERSION that it is of"`
}

// EvalFacts are what two evals must share to be compared, and what they may differ in.
type EvalFacts struct {
	SuiteVersion int               `json:"suite_version"`
	Harness      map[string]string `json:"harness" doc:"Versions of lm_eval and of what it stands on"`
	ModelSHA256  string            `json:"model_sha256"`
	BaseSHA256   string            `json:"base_sha256,omitempty" doc:"Of the base under an adapter"`
	DType        string            `json:"dtype" doc:"Number format of the weights"`
	Device       string            `json:"device"`
	BatchSize    int               `json:"batch_size" doc:"Requests that the model answered at once"`
	Seed         int64             `json:"seed"`
	MaxLength    int               `json:"max_length" doc:"Longest input, in tokens"`
	Limit        int64             `json:"limit" doc:"Samples of each task; 0 means all"`
	ChatTemplate string            `json:"chat_template_sha,omitempty" doc:"Digest of the chat template that prompts were written with; absent where none was used"`
	Tasks        []EvalTask        `json:"tasks"`
	Samples      int64             `json:"samples" doc:"Stored, over all tasks and filters"`
	SamplesSHA   string            `json:"samples_sha256"`
	Seconds      float64           `json:"seconds" doc:"That the last attempt took"`
	Leak         *EvalLeak         `json:"leak,omitempty" doc:"Whether the suite's questions were trained on; absent for base models, and where nobody looked: evals of before, and suites whose data is not their own"`
}

// EvalLeak says which questions of a suite stand in what the model was trained on, as far as its lineage is known: of a base model nobody
// knows what it has read.
type EvalLeak struct {
	Looked   []Overlap  `json:"looked" doc:"For each dataset that was read: A is the dataset, B the suite"`
	Unlooked []Unlooked `json:"unlooked,omitempty" doc:"Datasets of the lineage that were not read"`
}

// Unlooked is a dataset that was not read, and why.
type Unlooked struct {
	Dataset string `json:"dataset" doc:"NAME@VERSION"`
	Why     string `json:"why"`
}

// Words says it in one line.
func (l EvalLeak) Words() string {
	var leaks, clean []string
	for _, o := range l.Looked {
		if w := o.Worst(); w.Rows > 0 {
			leaks = append(leaks, fmt.Sprintf("%d of %d questions are in %s", w.Rows, o.RowsB, o.A))
		} else {
			clean = append(clean, o.A)
		}
	}
	if len(clean) > 0 {
		leaks = append(leaks, "none in "+strings.Join(clean, ", "))
	}
	for _, u := range l.Unlooked {
		leaks = append(leaks, u.Dataset+" was not looked at: "+u.Why)
	}
	return strings.Join(leaks, "; ")
}

// EvalTask is one task as the harness ran it.
type EvalTask struct {
	Task      string `json:"task"`
	Version   string `json:"version"`
	Hash      string `json:"hash,omitempty" doc:"Digest over the hashes of all documents, prompts and targets"`
	NShot     int    `json:"n_shot" doc:"Examples before each question"`
	Group     bool   `json:"group,omitempty" doc:"Sums up other tasks, and has no samples of its own"`
	Original  int64  `json:"original" doc:"Samples that the task has"`
	Effective int64  `json:"effective" doc:"Samples that were evaluated"`
}

// EvalScore is one number.
type EvalScore struct {
	Task        string   `json:"task"`
	Filter      string   `json:"filter"`
	Metric      string   `json:"metric"`
	Value       float64  `json:"value"`
	StdErr      *float64 `json:"stderr,omitempty" doc:"Absent where the harness gives none"`
	N           int64    `json:"n" doc:"Samples that it is over"`
	Higher      *bool    `json:"higher_is_better,omitempty"`
	Aggregation string   `json:"aggregation,omitempty" doc:"mean, where it is the mean of its samples"`
}
