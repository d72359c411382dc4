package daemon

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

const maxPath = 4096

// mayRead says whether a tenant's user may have the daemon read a path. The daemon can read more than the user: the database,
// the keys and what other tenants' runs leave, and on a shared host perhaps everything. So its own directories are
// refused, what lies in them and what they lie in, and with data_roots all that is not below one of those. Symbolic
// links are followed first; the answer is the same for a path that is refused and one that is not there.
func (d *Daemon) mayRead(path string) error {
	switch {
	case path == "":
		return forge.Invalidf("path", "no path given")
	case len(path) > maxPath:
		return forge.Invalidf("path", "has %d bytes; want at most %d", len(path), maxPath)
	case !filepath.IsAbs(path):
		return forge.Invalidf("path", "%q is not an absolute path", path).
			WithHint("it is read on the server's host, which has another working directory")
	}
	if err := checkText("path", path, maxPath); err != nil {
		return err
	}
	return d.readable(path)
}

// mayReadAll looks at each file of what was read: a directory of one tenant may hold links to anything.
func (d *Daemon) mayReadAll(m forge.Manifest) error {
	for _, f := range m.Files {
		if err := d.readable(filepath.Join(m.Root, f.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) readable(path string) error {
	path = filepath.Clean(path) // as whoever reads it does: x/.. of a linked x would be another place for the two
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		// What is there and cannot be resolved is judged by its name; whoever opens it says what is wrong with it.
		real = path
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return forge.Invalidf("path", "%q cannot be resolved", path)
		}
	}
	for _, own := range d.ownDirs() {
		if below(real, own) || below(own, real) {
			return forge.Invalidf("path", "%q is, or holds, a directory of forged itself", path).
				WithHint("put data where only data is")
		}
	}
	for _, c := range d.live().clusters {
		if c.AsUser && c.ArtifactRoot != "" && (forEach(c.ArtifactRoot, real) || forEach(c.ArtifactRoot, path)) {
			return forge.Invalidf("path", "%q is, or holds, a directory of what runs of people left", path).
				WithHint("what a run left is registered by the run: forgectl model register NAME RUN")
		}
	}
	if len(d.live().cfg.DataRoots) == 0 {
		return nil
	}
	for _, root := range d.live().cfg.DataRoots {
		if below(real, resolved(root)) {
			return nil
		}
	}
	return forge.Invalidf("path", "%q is not below a directory that this site takes data from", path).
		WithHint("those are: %s", strings.Join(d.live().cfg.DataRoots, ", "))
}

// ownDirs is where the daemon keeps its state and what runs leave, with links resolved.
func (d *Daemon) ownDirs() []string {
	dirs := []string{resolved(d.live().cfg.StateDir), resolved(d.live().cfg.DatasetRoot)}
	for _, c := range d.live().clusters {
		dirs = append(dirs, resolved(c.RunRoot))
		if c.ArtifactRoot != "" && !c.AsUser {
			dirs = append(dirs, resolved(c.ArtifactRoot))
		}
	}
	return dirs
}

// forEach says whether a path lies in, or holds, one of the directories that people have under a path with {account} in it.
func forEach(template, path string) bool {
	if !strings.Contains(template, accountPart) {
		return false
	}
	is, want := strings.Split(path, "/"), strings.Split(template, "/")
	for i := range min(len(is), len(want)) {
		before, after, any := strings.Cut(want[i], accountPart)
		if is[i] != want[i] && !(any && len(is[i]) > len(before)+len(after) && strings.HasPrefix(is[i], before) && strings.HasSuffix(is[i], after)) {
			return false
		}
	}
	return true
}

func resolved(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return filepath.Clean(dir)
}

func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
