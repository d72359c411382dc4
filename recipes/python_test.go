package recipes_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/forge-ml/forge-ml/recipes"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func pyFiles(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		ofSuite := strings.Contains(p, "/forge_train/suites/") && !strings.HasPrefix(d.Name(), ".")
		if err == nil && !d.IsDir() && (strings.HasSuffix(p, ".py") || ofSuite) {
			rel, _ := filepath.Rel(root, p)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func extract(t *testing.T, dir string) string {
	t.Helper()
	p, err := recipes.ExtractPython(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExtractPython(t *testing.T) {
	t.Run("gives every Python file and suite of the package and nothing else", func(t *testing.T) {
		dir := t.TempDir()
		p := extract(t, dir)
		if want := filepath.Join(dir, "forge_train-"+recipes.PythonDigest()[:12]); p != want {
			t.Errorf("path %s, want %s", p, want)
		}
		want := pyFiles(t, "python/src")
		if got := pyFiles(t, p); len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if _, err := os.Stat(filepath.Join(p, "forge_train", "__init__.py")); err != nil {
			t.Error(err)
		}
		if m, _ := filepath.Glob(filepath.Join(dir, ".forge_train-*")); len(m) > 0 {
			t.Errorf("left behind: %v", m)
		}
	})
	t.Run("job users can read it whatever the umask", func(t *testing.T) {
		p := extract(t, t.TempDir())
		err := filepath.WalkDir(p, func(f string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			want := fs.FileMode(0o644)
			if d.IsDir() {
				want = 0o755
			}
			if err == nil && st.Mode().Perm() != want {
				t.Errorf("%s has mode %o", f, st.Mode().Perm())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("keeps a whole tree, with the bytecode that Python left in it", func(t *testing.T) {
		dir := t.TempDir()
		p := extract(t, dir)
		cache := filepath.Join(p, "forge_train", "__pycache__")
		if err := os.Mkdir(cache, 0o755); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Stat(p)
		extract(t, dir)
		after, _ := os.Stat(p)
		if !os.SameFile(before, after) {
			t.Error("was replaced")
		}
	})
	for name, harm := range map[string]func(p string) error{
		"edited": func(p string) error {
			return os.WriteFile(filepath.Join(p, "forge_train/__init__.py"), []byte("import evil\n"), 0o644)
		},
		"emptied":       func(p string) error { return os.Truncate(filepath.Join(p, "forge_train/__init__.py"), 0) },
		"incomplete":    func(p string) error { return os.Remove(filepath.Join(p, "forge_train/__init__.py")) },
		"with an extra": func(p string) error { return os.WriteFile(filepath.Join(p, "torch.py"), []byte("x"), 0o644) },
		"with a link in place of a file": func(p string) error {
			f := filepath.Join(p, "forge_train/__init__.py")
			if err := os.Rename(f, f+".real"); err != nil {
				return err
			}
			return os.Symlink(f+".real", f)
		},
	} {
		t.Run("replaces a tree that is "+name, func(t *testing.T) {
			dir := t.TempDir()
			p := extract(t, dir)
			want, _ := os.ReadFile(filepath.Join(p, "forge_train/__init__.py"))
			if err := harm(p); err != nil {
				t.Fatal(err)
			}
			extract(t, dir)
			if got, err := os.ReadFile(filepath.Join(p, "forge_train/__init__.py")); err != nil || string(got) != string(want) {
				t.Errorf("got %q, %v", got, err)
			}
			if got := pyFiles(t, p); !slices.Equal(got, pyFiles(t, "python/src")) {
				t.Errorf("files %v", got)
			}
		})
	}
	t.Run("may be called by many at once", func(t *testing.T) {
		dir := t.TempDir()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				p, err := recipes.ExtractPython(dir)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(filepath.Join(p, "forge_train/__init__.py")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("says where it failed", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := recipes.ExtractPython(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v", err)
		}
	})
}
