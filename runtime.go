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

// Empty says that nothing was asked for.
func (r Runtime) Empty() bool {
	return r.Kind == "" && r.Path == "" && r.Image == "" && len(r.Mounts) == 0 && len(r.Modules) == 0 && len(r.Setup) == 0
}

// RuntimeLayer is one of the places that a runtime is merged from.
type RuntimeLayer struct {
	Origin string // "cluster hpc", "recipe", "run"
	Runtime
}

// MergeRuntime lays later layers over earlier ones and says which field came from where ("runtime.kind"). A layer that
// names another kind takes nothing of the path and the image below it: they belong to the kind that they were written for.
func MergeRuntime(layers ...RuntimeLayer) (Runtime, map[string]string) {
	var out Runtime
	from := map[string]string{}
	for _, l := range layers {
		if l.Kind != "" && l.Kind != out.Kind {
			out.Path, out.Image = "", ""
			delete(from, "runtime.path")
			delete(from, "runtime.image")
		}
		word := func(field string, to *string, v string) {
			if v != "" {
				*to, from["runtime."+field] = v, l.Origin
			}
		}
		list := func(field string, to *[]string, v []string) {
			if len(v) > 0 {
				*to, from["runtime."+field] = v, l.Origin
			}
		}
		word("kind", (*string)(&out.Kind), string(l.Kind))
		word("path", &out.Path, l.Path)
		word("image", &out.Image, l.Image)
		list("mounts", &out.Mounts, l.Mounts)
		list("modules", &out.Modules, l.Modules)
		list("setup", &out.Setup, l.Setup)
	}
	return out, from
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
