package recipes

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	forge "github.com/forge-ml/forge-ml"
)

// MaxSuites bounds a site's directory of suites.
const MaxSuites = 200

// Suites is an immutable set of suites by name.
type Suites struct{ suites map[string]Suite }

// BuiltinSuites returns the suites that come with the training package. They are parsed once, and are not changed.
var BuiltinSuites = sync.OnceValues(parseBuiltinSuites)

func parseBuiltinSuites() (Suites, error) {
	dirs, err := pythonTree.ReadDir(suitesRoot)
	if err != nil {
		return Suites{}, fmt.Errorf("built-in suites: %w", err)
	}
	out := Suites{suites: map[string]Suite{}}
	for _, d := range dirs {
		sub, err := fs.Sub(pythonTree, suitesRoot+"/"+d.Name())
		if err != nil {
			return Suites{}, fmt.Errorf("built-in suites: %w", err)
		}
		s, err := parseSuite("built-in suite "+d.Name(), sub)
		if err != nil {
			return Suites{}, err
		}
		if s.Name != d.Name() { // its rank finds it by this name
			return Suites{}, fmt.Errorf("built-in suite %s is called %s", d.Name(), s.Name)
		}
		out.suites[s.Name] = s
	}
	return out, nil
}

// With returns the set with the suites of a directory over its own: each is a directory in it. A site's suite replaces a built-in one
// of its name.
func (l Suites) With(dir string) (Suites, error) {
	out := Suites{suites: maps.Clone(l.suites)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Suites{}, suiteInvalid("suites", "directory %s cannot be read: %w", dir, err)
	}
	if len(entries) > MaxSuites {
		return Suites{}, suiteInvalid("suites", "directory %s has %d entries; at most %d are read", dir, len(entries), MaxSuites)
	}
	from := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		s, err := ReadSuite(path)
		if err != nil {
			return Suites{}, err
		}
		if other, ok := from[s.Name]; ok {
			return Suites{}, suiteInvalid("name", "%s: suite %q is also in %s; each name may be given once", path, s.Name, other)
		}
		from[s.Name] = path
		out.suites[s.Name] = s
	}
	return out, nil
}

// ReadSuite reads one directory as a daemon does at its start.
func ReadSuite(dir string) (Suite, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Suite{}, suiteInvalid("suite", "%s: %w", dir, err)
	}
	if st, err := os.Stat(abs); err != nil || !st.IsDir() {
		return Suite{}, suiteInvalid("suite", "%s is not a directory", dir).WithHint("a suite is a directory with a file %s", SuiteFile)
	}
	s, err := parseSuite(dir, os.DirFS(abs))
	s.Path = abs
	return s, err
}

// Get returns a suite. KindNotFound names those that exist and the nearest.
func (l Suites) Get(name string) (Suite, error) {
	if s, ok := l.suites[name]; ok {
		s.Benchmarks = slices.Clone(s.Benchmarks)
		return s, nil
	}
	names := l.Names()
	err := &forge.Error{Kind: forge.KindNotFound, Field: "suite", Err: fmt.Errorf("there is no suite %.80q; there are: %s", name, orNone(names))}
	if near := nearest(name, names, 1); len(near) > 0 {
		err = err.WithHint("did you mean %s?", near[0])
	}
	return Suite{}, err
}

// Names lists the suites in alphabetical order.
func (l Suites) Names() []string { return slices.Sorted(maps.Keys(l.suites)) }
