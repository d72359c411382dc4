package archtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	module = "github.com/forge-ml/forge-ml"
	root   = "../.."
)

// goPackage is what go list says of one package of ours.
type goPackage struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Error        *struct{ Err string }
}

// room is the path inside the module; "." is the root package.
func (p goPackage) room() string { return roomOf(p.ImportPath) }

func roomOf(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func ours(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// stdlib: the first element of a path from elsewhere has a dot.
func stdlib(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// goList runs go list -json; cgo is "0" or "1".
func goList(t *testing.T, cgo string, args ...string) []goPackage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args = append([]string{"list", "-e", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,Deps,Error"}, args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	var all []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatalf("go %s found no package", strings.Join(args, " "))
	}
	return all
}

// file is one text of the repository.
type file struct {
	path string // slash-separated, from the root
	text string
}

func (f file) lines() []string { return strings.Split(strings.TrimSuffix(f.text, "\n"), "\n") }

// sources are the files that people write: what git ignores, what is built and what tests
// record is not among them.
func sources(t *testing.T, want func(path string) bool) []file {
	t.Helper()
	skip := []string{".git", ".cache", ".pytest_cache", "bin", "node_modules", "dist", ".venv", "__pycache__", "testdata"}
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skip, d.Name()) || strings.HasSuffix(d.Name(), ".egg-info") {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !d.Type().IsRegular() || !want(rel) {
			return nil
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an editor's file that has gone meanwhile
		}
		files = append(files, file{path: rel, text: string(b)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no file to look at")
	}
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func hasExt(exts ...string) func(string) bool {
	return func(path string) bool { return slices.Contains(exts, filepath.Ext(path)) }
}

// report fails the test with every finding, one a line.
func report(t *testing.T, found []string) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

// want1 holds a rule to a planted violation: exactly one finding that names it.
func want1(t *testing.T, found []string, word string) {
	t.Helper()
	if len(found) != 1 || !strings.Contains(found[0], word) {
		t.Fatalf("want one finding about %q, got %q", word, found)
	}
}
