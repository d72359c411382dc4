package recipes

import (
	"embed"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	forge "github.com/forge-ml/forge-ml"
)

//go:embed *.yaml
var builtin embed.FS

// The bounds of a site's recipe directory; a wrong path (a home directory, a dataset) must not be
// read whole before it is refused.
const (
	MaxRecipeBytes = 256 << 10
	MaxRecipes     = 1000
)

// Library is an immutable set of recipes by name.
type Library struct {
	recipes map[string]Recipe
	site    map[string]string // file that a recipe came from, where it is not built in
}

// Builtin returns the recipes that are part of the program. They are parsed once: a Library gives out copies.
var Builtin = sync.OnceValues(parseBuiltin)

func parseBuiltin() (Library, error) {
	entries, err := builtin.ReadDir(".")
	if err != nil {
		return Library{}, fmt.Errorf("built-in recipes: %w", err)
	}
	l := Library{recipes: map[string]Recipe{}}
	for _, e := range entries {
		b, err := builtin.ReadFile(e.Name())
		if err != nil {
			return Library{}, fmt.Errorf("built-in recipes: %w", err)
		}
		r, err := parse("built-in "+e.Name(), b)
		if err != nil {
			return Library{}, err
		}
		l.recipes[r.Name] = r
	}
	return l, nil
}

// With returns the library with the *.yaml recipes of a directory over its own: a site's recipe
// replaces a built-in one of the same name. Two files of the directory may not share a name.
func (l Library) With(dir string) (Library, error) {
	out := Library{recipes: maps.Clone(l.recipes)}
	if out.recipes == nil {
		out.recipes = map[string]Recipe{}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Library{}, invalid("recipes", "directory %s cannot be read: %w", dir, err)
	}
	if len(entries) > MaxRecipes {
		return Library{}, invalid("recipes", "directory %s has %d entries; at most %d are read", dir, len(entries), MaxRecipes)
	}
	from := map[string]string{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".yml") {
			return Library{}, invalid("recipes", "%s: recipes end in .yaml", filepath.Join(dir, name)).
				WithHint("mv %s %s.yaml", filepath.Join(dir, name), filepath.Join(dir, strings.TrimSuffix(name, ".yml")))
		}
		if !strings.HasSuffix(name, ".yaml") || strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(dir, name)
		b, err := readBounded(path)
		if err != nil {
			return Library{}, err
		}
		r, err := parse(path, b)
		if err != nil {
			return Library{}, err
		}
		if other, ok := from[r.Name]; ok {
			return Library{}, invalid("name", "%s: recipe %q is also in %s; each name may be given once", path, r.Name, other)
		}
		from[r.Name] = path
		out.recipes[r.Name] = r
	}
	out.site = from
	return out, nil
}

// Site says whether a recipe is the site's own.
func (l Library) Site(name string) bool { return l.site[name] != "" }

// Get returns a recipe. KindNotFound names those that exist and the nearest.
func (l Library) Get(name string) (Recipe, error) {
	if r, ok := l.recipes[name]; ok {
		return r.clone(), nil
	}
	names := l.Names()
	err := &forge.Error{Kind: forge.KindNotFound, Field: "recipe",
		Err: fmt.Errorf("there is no recipe %.80q; there are: %s", name, orNone(names))}
	if near := nearest(name, names, 1); len(near) > 0 {
		err = err.WithHint("did you mean %s?", near[0])
	}
	return Recipe{}, err
}

// Names lists the recipes in alphabetical order.
func (l Library) Names() []string { return slices.Sorted(maps.Keys(l.recipes)) }

func readBounded(path string) ([]byte, error) {
	// Stat before open: opening a FIFO would wait for a writer for ever.
	if st, err := os.Stat(path); err != nil {
		return nil, invalid("recipes", "%s cannot be read: %w", path, err)
	} else if !st.Mode().IsRegular() {
		return nil, invalid("recipes", "%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, invalid("recipes", "%s cannot be read: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxRecipeBytes+1))
	if err != nil {
		return nil, invalid("recipes", "%s cannot be read: %w", path, err)
	}
	if len(b) > MaxRecipeBytes {
		return nil, invalid("recipes", "%s is larger than %d KiB", path, MaxRecipeBytes>>10)
	}
	return b, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func invalid(field, format string, args ...any) *forge.Error {
	return forge.Invalidf(field, format, args...).WithOp("recipe.load")
}
