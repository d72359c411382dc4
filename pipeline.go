package forge

// MaxSteps bounds a pipeline.
const MaxSteps = 64

// PipelineStep is a run as a step of its pipeline. A step that was submitted again has several, the newest last.
type PipelineStep struct {
	Step   string   `json:"step"`
	Run    int64    `json:"run" doc:"Number of the run"`
	Recipe string   `json:"recipe"`
	State  RunState `json:"state"`
	Held   bool     `json:"held,omitempty"`
	After  []string `json:"after,omitempty" doc:"Steps that must complete first"`
	Model  string   `json:"model,omitempty" doc:"NAME@VERSION once registered"`
}
