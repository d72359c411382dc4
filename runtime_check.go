package forge

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bounds of a runtime.
const (
	maxRuntimeList = 64
	maxSetupLine   = 8 << 10
)

// made says that s is of at most max letters, digits, underscores and what else is allowed first and after that. A regular
// expression with such a count is compiled to half a megabyte, at every start of a shim.
func made(s string, max int, first, then string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case i == 0 && strings.IndexByte(first, c) < 0, i > 0 && strings.IndexByte(then, c) < 0:
			return false
		}
	}
	return s != "" && len(s) <= max
}

func isModule(s string) bool { return made(s, 256, "", ".+/:@=-") }
func isEnvDir(s string) bool { return made(s, 128, "", ".+-") }

// isImage allows nothing that pyxis or apptainer would read as a second option or a second mount.
func isImage(s string) bool { return made(s, 512, "/", "./:@#+~-") }

// Check holds one layer of a runtime to its form: what is there must mean something, what is missing may be another's.
func (r Runtime) Check() error {
	bad := func(field, format string, args ...any) error {
		return Invalidf("runtime."+field, format, args...)
	}
	if r.Kind != "" && !slices.Contains(RuntimeKinds, r.Kind) {
		return bad("kind", "%q is not allowed; want one of %s", r.Kind, kindWords())
	}
	if strings.ContainsFunc(r.Path, control) || len(r.Path) > 1024 {
		return bad("path", "%.80q: want at most 1024 bytes without control characters", r.Path)
	}
	if r.Image != "" && !isImage(r.Image) {
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
		if _, err := ParseMount(m); err != nil {
			return bad(fmt.Sprintf("mounts[%d]", i), "%w", err)
		}
	}
	for i, m := range r.Modules {
		if !isModule(m) {
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

// CheckWhole holds a whole one, merged from all layers, to what its kind needs.
func (r Runtime) CheckWhole() error {
	if err := r.Check(); err != nil {
		return err
	}
	bad := func(field, format string, args ...any) error {
		return Invalidf("runtime."+field, format, args...)
	}
	absolute := func(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }
	container := r.Kind == RuntimeApptainer || r.Kind == RuntimePyxis
	switch {
	case container && r.Image == "":
		return bad("image", "is missing; kind %s needs one", r.Kind)
	case !container && r.Image != "":
		return bad("image", "%q is for kinds apptainer and pyxis; the kind is %s", r.Image, orNotGiven(string(r.Kind)))
	case !container && len(r.Mounts) > 0:
		return bad("mounts", "are for kinds apptainer and pyxis; the kind is %s", orNotGiven(string(r.Kind)))
	case r.Kind == RuntimeModule && len(r.Modules) == 0:
		return bad("modules", "are missing; kind module loads some")
	}
	switch r.Kind {
	case RuntimeVenv, RuntimeScript:
		if !absolute(r.Path) {
			return bad("path", "%q: kind %s needs an absolute path without . and ..", r.Path, r.Kind)
		}
	case RuntimeConda:
		if !absolute(r.Path) && !isEnvDir(r.Path) {
			return bad("path", "%q: kind conda needs the name of an environment or its absolute path", r.Path)
		}
	default:
		if r.Path != "" {
			return bad("path", "%q is for kinds venv, conda and script; the kind is %s", r.Path, orNotGiven(string(r.Kind)))
		}
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func orNotGiven(s string) string {
	if s == "" {
		return "not given"
	}
	return s
}

func kindWords() string {
	out := make([]string, len(RuntimeKinds))
	for i, k := range RuntimeKinds {
		out[i] = string(k)
	}
	return strings.Join(out, ", ")
}

// Mount is one directory or file of the host inside a container.
type Mount struct {
	Host, Inside string
	ReadOnly     bool
}

// ParseMount reads HOST[:CONTAINER[:ro]]. Commas would begin a second mount in what apptainer and pyxis get.
func ParseMount(s string) (Mount, error) {
	parts := strings.Split(s, ":")
	m := Mount{Host: parts[0], Inside: parts[0]}
	if len(parts) > 1 {
		m.Inside = parts[1]
	}
	if len(parts) == 3 && parts[2] != "rw" {
		m.ReadOnly = true
	}
	if len(parts) > 3 || len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw" || strings.ContainsFunc(s, control) || strings.ContainsAny(s, ",\\\"") || len(s) > 2048 {
		return m, fmt.Errorf("%.80q: want HOST[:CONTAINER[:ro]] without commas", s)
	}
	for _, p := range []string{m.Host, m.Inside} {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return m, fmt.Errorf("%.80q: %q is no absolute path, or has . or .. in it", s, p)
		}
	}
	return m, nil
}
