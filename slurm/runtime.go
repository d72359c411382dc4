package slurm

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds of a runtime.
const (
	maxRuntimeList = 64
	maxSetupLine   = 8 << 10
)

var (
	moduleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+/:@=-]{0,255}$`)
	envDirName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}$`)
	// Nothing that pyxis or apptainer would read as a second option or a second mount.
	imageName = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9_./:@#+~-]{0,511}$`)
)

// CheckRuntimePart holds one layer of a runtime to its form: what is there must mean something, what is missing may be another's.
func CheckRuntimePart(r forge.Runtime) error {
	bad := func(field, format string, args ...any) error { return forge.Invalidf("runtime."+field, format, args...) }
	if r.Kind != "" && !slices.Contains(forge.RuntimeKinds, r.Kind) {
		return bad("kind", "%q is not allowed; want one of %s", r.Kind, kindWords())
	}
	if strings.ContainsFunc(r.Path, control) || len(r.Path) > 1024 {
		return bad("path", "%.80q: want at most 1024 bytes without control characters", r.Path)
	}
	if r.Image != "" && !imageName.MatchString(r.Image) {
		return bad("image", "%.80q is not the path of an image or a reference to one", r.Image)
	}
	for _, l := range []struct {
		field string
		list  []string
	}{{"mounts", r.Mounts}, {"modules", r.Modules}, {"setup", r.Setup}} {
		if len(l.list) > maxRuntimeList {
			return bad(l.field, "%d entries; want at most %d", len(l.list), maxRuntimeList)
		}
	}
	for i, m := range r.Mounts {
		if _, err := parseMount(m); err != nil {
			return bad(fmt.Sprintf("mounts[%d]", i), "%w", err)
		}
	}
	for i, m := range r.Modules {
		if !moduleName.MatchString(m) {
			return bad(fmt.Sprintf("modules[%d]", i), "%.80q is not the name of a module", m)
		}
	}
	for i, s := range r.Setup {
		if strings.ContainsRune(s, 0) || len(s) > maxSetupLine || strings.TrimSpace(s) == "" {
			return bad(fmt.Sprintf("setup[%d]", i), "want a command of at most %d bytes without NUL", maxSetupLine)
		}
	}
	return nil
}

// CheckRuntime holds a whole one, merged from all layers, to what its kind needs.
func CheckRuntime(r forge.Runtime) error {
	if err := CheckRuntimePart(r); err != nil {
		return err
	}
	bad := func(field, format string, args ...any) error { return forge.Invalidf("runtime."+field, format, args...) }
	absolute := func(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }
	container := r.Kind == forge.RuntimeApptainer || r.Kind == forge.RuntimePyxis
	switch {
	case container && r.Image == "":
		return bad("image", "is missing; kind %s needs one", r.Kind)
	case !container && r.Image != "":
		return bad("image", "%q is for kinds apptainer and pyxis; the kind is %s", r.Image, orNone(string(r.Kind)))
	case !container && len(r.Mounts) > 0:
		return bad("mounts", "are for kinds apptainer and pyxis; the kind is %s", orNone(string(r.Kind)))
	case r.Kind == forge.RuntimeModule && len(r.Modules) == 0:
		return bad("modules", "are missing; kind module loads some")
	}
	switch r.Kind {
	case forge.RuntimeVenv, forge.RuntimeScript:
		if !absolute(r.Path) {
			return bad("path", "%q: kind %s needs an absolute path without . and ..", r.Path, r.Kind)
		}
	case forge.RuntimeConda:
		if !absolute(r.Path) && !envDirName.MatchString(r.Path) {
			return bad("path", "%q: kind conda needs the name of an environment or its absolute path", r.Path)
		}
	default:
		if r.Path != "" {
			return bad("path", "%q is for kinds venv, conda and script; the kind is %s", r.Path, orNone(string(r.Kind)))
		}
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func orNone(s string) string {
	if s == "" {
		return "not given"
	}
	return s
}

func kindWords() string {
	out := make([]string, len(forge.RuntimeKinds))
	for i, k := range forge.RuntimeKinds {
		out[i] = string(k)
	}
	return strings.Join(out, ", ")
}

type mount struct {
	host, inside string
	ro           bool
}

// parseMount reads HOST[:CONTAINER[:ro]]. Commas would begin a second mount in what apptainer and pyxis get.
func parseMount(s string) (mount, error) {
	parts := strings.Split(s, ":")
	m := mount{host: parts[0], inside: parts[0]}
	if len(parts) > 1 {
		m.inside = parts[1]
	}
	if len(parts) == 3 && parts[2] != "rw" {
		m.ro = true
	}
	if len(parts) > 3 || len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw" || strings.ContainsFunc(s, control) || strings.ContainsAny(s, ",\\\"") || len(s) > 2048 {
		return m, fmt.Errorf("%.80q: want HOST[:CONTAINER[:ro]] without commas", s)
	}
	for _, p := range []string{m.host, m.inside} {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return m, fmt.Errorf("%.80q: %q is not an absolute path without . and ..", s, p)
		}
	}
	return m, nil
}

// software is how the ranks of one attempt are started, and what srun has to know of it.
type software struct {
	python string   // interpreter for entries that are modules
	source []string // lines of shell before the ranks, each of which has to succeed
	wrap   []string // command in front of the rank's own
	keep   []string // variables that ranks take over from the shim, because an image set them
	srun   []string // options of srun
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
			bind := m.host + ":" + m.inside
			if m.ro {
				bind += ":ro"
			}
			s.wrap = append(s.wrap, "--bind", bind)
		}
		s.wrap = append(s.wrap, r.Image)
	case forge.RuntimePyxis:
		s.python = "python3"
		s.keep = []string{"PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CUDA_HOME"}
		var list []string
		for _, m := range mountsOf(r, needs, reads) {
			one := m.host + ":" + m.inside
			if m.ro {
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
func mountsOf(r forge.Runtime, needs, reads []string) []mount {
	var out []mount
	have := map[string]bool{}
	add := func(m mount) {
		if !have[m.inside] {
			have[m.inside] = true
			out = append(out, m)
		}
	}
	for _, p := range needs {
		add(mount{host: p, inside: p})
	}
	for _, p := range reads {
		add(mount{host: p, inside: p, ro: true})
	}
	for _, s := range r.Mounts {
		if m, err := parseMount(s); err == nil {
			add(m)
		}
	}
	return out
}
