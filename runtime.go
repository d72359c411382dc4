package forge

// Runtime is the software that a rank starts in: merged from the cluster over the recipe to the run, field by field,
// a later one replacing an earlier one's.
type Runtime struct {
	Kind    RuntimeKind `json:"kind,omitempty" yaml:"kind"`
	Path    string      `json:"path,omitempty" yaml:"path" doc:"venv: its directory; conda: environment name or prefix; script: file to source"`
	Image   string      `json:"image,omitempty" yaml:"image" doc:"apptainer: .sif file or URI; pyxis: image reference"`
	Mounts  []string    `json:"mounts,omitempty" yaml:"mounts" doc:"HOST[:CONTAINER[:ro]], beside the run directory and the inputs"`
	Modules []string    `json:"modules,omitempty" yaml:"modules" doc:"Names for module load, in order"`
	Setup   []string    `json:"setup,omitempty" yaml:"setup" doc:"Lines of shell that run before the ranks, on each node"`
}

// RuntimeKind says how the software is reached.
type RuntimeKind string

// The kinds of runtime.
const (
	RuntimeVenv      RuntimeKind = "venv"
	RuntimeConda     RuntimeKind = "conda"
	RuntimeModule    RuntimeKind = "module"
	RuntimeApptainer RuntimeKind = "apptainer"
	RuntimePyxis     RuntimeKind = "pyxis"
	RuntimeScript    RuntimeKind = "script"
)

// RuntimeKinds lists the whole set.
var RuntimeKinds = []RuntimeKind{RuntimeVenv, RuntimeConda, RuntimeModule, RuntimeApptainer, RuntimePyxis, RuntimeScript}
