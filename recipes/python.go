package recipes

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

//go:embed all:python/src
var pythonTree embed.FS

const (
	pythonRoot = "python/src"
	suitesRoot = pythonRoot + "/forge_train/suites"
)

type pythonFile struct {
	path string // below pythonRoot, slash-separated
	body []byte
}

// pythonFiles is the package: its .py files and its suites, in the order of their paths. Whatever else lay in
// the tree at build time (bytecode, editor files) is not part of it.
var pythonFiles = sync.OnceValue(func() []pythonFile {
	var files []pythonFile
	err := fs.WalkDir(pythonTree, pythonRoot, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "__pycache__" {
			return fs.SkipDir
		}
		ofSuite := strings.HasPrefix(p, suitesRoot+"/") && !strings.HasPrefix(d.Name(), ".")
		if d.IsDir() || path.Ext(p) != ".py" && !ofSuite {
			return nil
		}
		b, err := pythonTree.ReadFile(p)
		files = append(files, pythonFile{strings.TrimPrefix(p, pythonRoot+"/"), b})
		return err
	})
	if err != nil {
		panic("recipes: the embedded Python package does not read: " + err.Error())
	}
	slices.SortFunc(files, func(a, b pythonFile) int { return strings.Compare(a.path, b.path) })
	return files
})

// PythonDigest is the SHA-256 over the sorted (path, content) of the package's files: the
// code that ran, in a model's lineage.
var PythonDigest = sync.OnceValue(func() string { return digestOf(pythonFiles()) })

func digestOf(files []pythonFile) string {
	h := sha256.New()
	for _, f := range files {
		// Quoted path and length first, so that no two trees spell the same bytes.
		h.Write([]byte(strconv.Quote(f.path) + " " + strconv.Itoa(len(f.body)) + "\n"))
		h.Write(f.body)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ExtractPython writes the package below dir as forge_train-DIGEST/ and returns that directory,
// for PYTHONPATH. It may be called any number of times, by any number of processes. A tree that
// is there and whole is kept; one that differs (a full disk, an edit) is replaced.
func ExtractPython(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("extract the training package: %w", err)
	}
	target := filepath.Join(dir, "forge_train-"+PythonDigest()[:12])
	if intact(target) {
		return target, nil
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return "", fmt.Errorf("extract the training package: %w", err)
	}
	defer unlock()
	if intact(target) { // another process was faster
		return target, nil
	}
	if err := replaceTree(dir, target); err != nil {
		return "", fmt.Errorf("extract the training package to %s: %w", target, err)
	}
	return target, nil
}

func replaceTree(dir, target string) error {
	tmp, err := os.MkdirTemp(dir, ".forge_train-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "new")
	if err := writeTree(fresh); err != nil {
		return err
	}
	// A directory cannot be renamed over one that is not empty: the broken one steps aside first.
	if err := os.Rename(target, filepath.Join(tmp, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(fresh, target); err != nil {
		return err
	}
	return syncPath(dir)
}

func writeTree(root string) error {
	if err := makeDir(root); err != nil {
		return err
	}
	dirs := []string{root}
	for _, f := range pythonFiles() {
		to := filepath.Join(root, filepath.FromSlash(f.path))
		for d := filepath.Dir(to); d != root; d = filepath.Dir(d) {
			if !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, f.body, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(to, 0o644); err != nil { // whatever the umask: job users must read it
			return err
		}
		if err := syncPath(to); err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := os.Chmod(d, 0o755); err != nil {
			return err
		}
		if err := syncPath(d); err != nil {
			return err
		}
	}
	return nil
}

func makeDir(p string) error {
	if err := os.Mkdir(p, 0o755); err != nil {
		return err
	}
	return os.Chmod(p, 0o755)
}

// intact says that the tree holds exactly the package. Python may have left bytecode beside it.
func intact(root string) bool {
	want := map[string][]byte{}
	for _, f := range pythonFiles() {
		want[f.path] = f.body
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "__pycache__" {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		body, ok := want[filepath.ToSlash(rel)]
		if !ok || !d.Type().IsRegular() {
			return fmt.Errorf("%s is not of the package", p)
		}
		delete(want, filepath.ToSlash(rel))
		return sameFile(p, d, body)
	})
	return err == nil && len(want) == 0
}

func sameFile(p string, d fs.DirEntry, body []byte) error {
	st, err := d.Info()
	if err != nil {
		return err
	}
	if st.Size() != int64(len(body)) { // before reading: a file grown to gigabytes is not read
		return fmt.Errorf("%s has %d bytes, want %d", p, st.Size(), len(body))
	}
	got, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	if string(got) != string(body) {
		return fmt.Errorf("%s differs", p)
	}
	return nil
}

// lockDir keeps two processes that both found a broken tree from moving each other's new one
// away. The lock ends with the process.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".forge_train.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// syncPath makes a file or directory durable: a tree that survives power loss half-written
// would be taken for an edit and could have run meanwhile.
func syncPath(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
