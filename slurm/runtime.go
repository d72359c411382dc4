package slurm

import (
	"path"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// software is how the ranks of one attempt are started, and what srun has to know of it.
type software struct {
	python  string   // interpreter for entries that are modules
	source  []string // lines of shell before the ranks, each of which has to succeed
	wrap    []string // command in front of the rank's own
	inherit bool     // ranks take over the shim's environment: the image made it
	srun    []string // options of srun
}

// moduleInit looks for environment modules where they are usually installed: a shell that is no login shell has none.
const moduleInit = `command -v module >/dev/null || for f in /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh /usr/share/lmod/lmod/init/bash /usr/share/modules/init/bash /usr/share/Modules/init/bash; do if [ -r "$f" ]; then . "$f"; break; fi; done; command -v module >/dev/null`

// condaInit does the same for conda; a prefix brings its own when it lies in an installation's envs directory.
func condaInit(prefix string) string {
	places := `"$HOME/miniforge3" "$HOME/miniconda3" "$HOME/mambaforge" "$HOME/anaconda3" /opt/conda /opt/miniforge3 /opt/miniconda3 /opt/anaconda3`
	if path.IsAbs(prefix) {
		places = quote(prefix) + " " + quote(path.Dir(path.Dir(prefix))) + " " + places
	}
	return `if command -v conda >/dev/null; then eval "$(conda shell.bash hook)"; else for d in ` + places +
		`; do if [ -r "$d/etc/profile.d/conda.sh" ]; then . "$d/etc/profile.d/conda.sh"; break; fi; done; fi; command -v conda >/dev/null`
}

// softwareOf renders a runtime that has been checked. needs are directories of forge's own that ranks use, reads those that they only read.
func softwareOf(r forge.Runtime, python string, needs, reads []string) software {
	s := software{python: python}
	if len(r.Modules) > 0 {
		s.source = append(s.source, moduleInit, "module load "+quoteAll(r.Modules))
	}
	switch r.Kind {
	case forge.RuntimeVenv:
		s.python = path.Join(r.Path, "bin", "python3")
		s.source = append(s.source, ". "+quote(path.Join(r.Path, "bin", "activate")))
	case forge.RuntimeConda:
		s.python = "python3"
		s.source = append(s.source, condaInit(r.Path), "conda activate "+quote(r.Path))
	case forge.RuntimeModule:
		s.python = "python3"
	case forge.RuntimeScript:
		s.python = "python3"
		s.source = append(s.source, ". "+quote(r.Path))
	case forge.RuntimeApptainer:
		s.python = "python3"
		s.wrap = []string{"apptainer", "exec", "--nv", "--no-home"}
		for _, m := range mountsOf(r, needs, reads) {
			bind := m.Host + ":" + m.Inside
			if m.ReadOnly {
				bind += ":ro"
			}
			s.wrap = append(s.wrap, "--bind", bind)
		}
		s.wrap = append(s.wrap, r.Image)
	case forge.RuntimePyxis:
		s.python = "python3"
		s.inherit = true
		var list []string
		for _, m := range mountsOf(r, needs, reads) {
			one := m.Host + ":" + m.Inside
			if m.ReadOnly {
				one += ":ro"
			}
			list = append(list, one)
		}
		s.srun = []string{"--container-image=" + r.Image, "--container-mounts=" + strings.Join(list, ","), "--no-container-mount-home", "--no-container-remap-root"}
	}
	s.source = append(s.source, r.Setup...)
	return s
}

// mountsOf is what a container gets: the user's mounts, and forge's own at the paths that they have outside.
func mountsOf(r forge.Runtime, needs, reads []string) []forge.Mount {
	var out []forge.Mount
	have := map[string]bool{}
	add := func(m forge.Mount) {
		if !have[m.Inside] {
			have[m.Inside] = true
			out = append(out, m)
		}
	}
	for _, p := range needs {
		add(forge.Mount{Host: p, Inside: p})
	}
	for _, p := range reads {
		add(forge.Mount{Host: p, Inside: p, ReadOnly: true})
	}
	for _, s := range r.Mounts {
		if m, err := forge.ParseMount(s); err == nil {
			add(m)
		}
	}
	return out
}
