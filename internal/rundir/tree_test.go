package rundir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestHashTree(t *testing.T) {
	t.Run("digests every file and says what it saw of it", func(t *testing.T) {
		dir := t.TempDir()
		mustWrite(t, filepath.Join(dir, "a.bin"), "abc")
		mustWrite(t, filepath.Join(dir, "sub/b.bin"), "")
		if err := os.Symlink("a.bin", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		m, err := rundir.HashTree(t.Context(), dir)
		if err != nil || len(m.Files) != 3 || m.Root != dir {
			t.Fatalf("%+v, %v", m, err)
		}
		const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
		f := m.Files[0]
		if f.Path != "a.bin" || f.Size != 3 || f.SHA256 != abc || f.Inode == 0 || f.ModTime.IsZero() {
			t.Errorf("%+v", f)
		}
		if m.Files[1].Path != "link" || m.Files[1].SHA256 != abc || m.Files[2].Path != "sub/b.bin" {
			t.Errorf("%+v", m.Files)
		}
	})
	t.Run("takes a single file as the artefact itself", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "chat.jsonl")
		mustWrite(t, path, "{}\n")
		m, err := rundir.HashTree(t.Context(), path)
		if err != nil || m.Root != path || len(m.Files) != 1 || m.Files[0].Path != "." || m.Files[0].Size != 3 {
			t.Fatalf("%+v, %v", m, err)
		}
		if err := rundir.CheckInputs(m); err != nil {
			t.Error(err)
		}
	})
	for name, plant := range map[string]func(dir string) error{
		"link that leaves the tree": func(dir string) error { return os.Symlink("/etc/hostname", filepath.Join(dir, "x")) },
		"link that climbs out":      func(dir string) error { return os.Symlink("../../etc/hostname", filepath.Join(dir, "x")) },
		"dangling link":             func(dir string) error { return os.Symlink("nothing", filepath.Join(dir, "x")) },
		"link to a directory":       func(dir string) error { return os.Symlink(".", filepath.Join(dir, "x")) },
		"FIFO":                      func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "x"), 0o600) },
	} {
		t.Run("refuses a "+name+" and names it", func(t *testing.T) {
			dir := t.TempDir()
			mustWrite(t, filepath.Join(dir, "a.bin"), "abc")
			if err := plant(dir); err != nil {
				t.Fatal(err)
			}
			if m, err := rundir.HashTree(t.Context(), dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "x")) {
				t.Errorf("%+v, %v; want an error that names x", m, err)
			}
		})
	}
	t.Run("can be given up", func(t *testing.T) {
		dir := t.TempDir()
		mustWrite(t, filepath.Join(dir, "a.bin"), "abc")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := rundir.HashTree(ctx, dir); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestCheckInputs(t *testing.T) {
	setup := func(t *testing.T) (forge.Manifest, string) {
		dir := t.TempDir()
		path := filepath.Join(dir, "chat.jsonl")
		mustWrite(t, path, "first content")
		m, err := rundir.HashTree(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return m, path
	}
	t.Run("trusts a file that was not touched", func(t *testing.T) {
		m, _ := setup(t)
		m.Files[0].SHA256 = "not looked at"
		if err := rundir.CheckInputs(m); err != nil {
			t.Error(err)
		}
	})
	t.Run("hashes again what was touched, and accepts equal content", func(t *testing.T) {
		m, path := setup(t)
		if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := rundir.CheckInputs(m); err != nil {
			t.Error(err)
		}
		m.Files[0].SHA256 = strings.Repeat("0", 64)
		if err := rundir.CheckInputs(m); err == nil {
			t.Error("it was not hashed again")
		}
	})
	for name, change := range map[string]func(path string) error{
		"other content of the same size": func(path string) error { return os.WriteFile(path, []byte("other content"), 0o640) },
		"a file that is gone":            os.Remove,
		"a file that grew":               func(path string) error { return os.WriteFile(path, []byte("first content and more"), 0o640) },
		"a directory in its place": func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o750))
		},
	} {
		t.Run("names "+name, func(t *testing.T) {
			m, path := setup(t)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			err := rundir.CheckInputs(m)
			if err == nil || !strings.Contains(err.Error(), path+" changed since registration") || forge.HintOf(err) == "" {
				t.Errorf("%v (hint %q)", err, forge.HintOf(err))
			}
			if forge.KindOf(err) != forge.KindInvalid {
				t.Errorf("kind %s", forge.KindOf(err))
			}
		})
	}
}
