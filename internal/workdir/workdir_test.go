package workdir

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

var scriptTime = time.Unix(1_000_000_000, 0)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// plain is a directory that lies in no repository.
func plain(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	return dir
}

func repo(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := plain(t, files)
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"}} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

func take(t *testing.T, o Options) (Taken, []byte) {
	t.Helper()
	var b bytes.Buffer
	got, err := Take(t.Context(), o, &b)
	if err != nil {
		t.Fatal(err)
	}
	return got, b.Bytes()
}

// names unpacks and lists what is there.
func unpacked(t *testing.T, archive []byte) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	if err := Unpack(t.Context(), bytes.NewReader(archive), dir, DefaultLimit); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return dir, names
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatGitTracksIsTakenWithItsChanges(t *testing.T) {
	dir := repo(t, map[string]string{"train.py": "a\n", "lib/x.py": "b\n", "data/big.bin": "c\n", ".gitignore": "*.log\n", ".forgeignore": "data/\n", "gone.py": "d\n"})
	clean, _ := take(t, Options{Dir: dir})
	if clean.Dirty || len(clean.Commit) != 40 || clean.Root != dir {
		t.Errorf("%+v", clean)
	}
	write(t, dir, map[string]string{"train.py": "changed\n", "new.py": "n\n", "run.log": "l\n", "data/more.bin": "m\n"})
	if err := os.Remove(filepath.Join(dir, "gone.py")); err != nil {
		t.Fatal(err)
	}
	got, archive := take(t, Options{Dir: dir})
	equal(t, got.Left, "new.py")
	if !got.Dirty || got.Commit != clean.Commit || got.SHA256 == clean.SHA256 || !got.Has("./lib/x.py") || got.Has("new.py") {
		t.Errorf("%+v", got)
	}
	to, names := unpacked(t, archive)
	equal(t, names, DiffFile, ".forgeignore", ".gitignore", "lib/x.py", "train.py")
	if diff, err := os.ReadFile(filepath.Join(to, DiffFile)); err != nil || !strings.Contains(string(diff), "+changed") || !strings.Contains(string(diff), "deleted file") {
		t.Errorf("%s, %v", diff, err)
	}
	_, archive = take(t, Options{Dir: dir, Untracked: true})
	_, names = unpacked(t, archive)
	equal(t, names, DiffFile, ".forgeignore", ".gitignore", "lib/x.py", "new.py", "train.py")

	t.Run("a directory inside it is taken alone", func(t *testing.T) {
		_, archive := take(t, Options{Dir: filepath.Join(dir, "lib")})
		_, names := unpacked(t, archive)
		equal(t, names, "x.py")
	})
	t.Run("one of which it tracks nothing is refused", func(t *testing.T) {
		write(t, dir, map[string]string{"free/y.py": "y"})
		_, err := Take(t.Context(), Options{Dir: filepath.Join(dir, "free")}, &bytes.Buffer{})
		if forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(forge.HintOf(err), "--include-untracked") {
			t.Errorf("%v", err)
		}
	})
}

func TestWithoutARepositoryAllIsTakenButWhatIsIgnored(t *testing.T) {
	files := map[string]string{"a.py": "a", "sub/b.py": "b", "sub/c.pyc": "c", ".forgeignore": "*.pyc\n!keep.pyc\n/top/\n", "keep.pyc": "k", "top/x": "x", "sub/top/y": "y"}
	_, archive := take(t, Options{Dir: plain(t, files)})
	_, names := unpacked(t, archive)
	equal(t, names, ".forgeignore", "a.py", "keep.pyc", "sub/b.py", "sub/top/y")
	delete(files, ".forgeignore")
	files["sub/.forgeignore"] = "b.*\n"
	_, archive = take(t, Options{Dir: plain(t, files)})
	_, names = unpacked(t, archive)
	equal(t, names, "a.py", "keep.pyc", "sub/.forgeignore", "sub/c.pyc", "sub/top/y", "top/x")
	delete(files, "sub/.forgeignore")
	got, archive := take(t, Options{Dir: plain(t, files)})
	_, names = unpacked(t, archive)
	if len(names) != 6 || got.Commit != "" || got.Dirty {
		t.Errorf("%q, %+v", names, got)
	}
}

func TestEqualTreesAreEqualBytes(t *testing.T) {
	files := map[string]string{"b": "2", "a/x": "1", "a.txt": "3"}
	one, two := plain(t, files), plain(t, files)
	if err := os.Chtimes(filepath.Join(two, "b"), scriptTime, scriptTime); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(two, "b"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := take(t, Options{Dir: one})
	b, bytes := take(t, Options{Dir: two})
	if a.SHA256 != b.SHA256 {
		t.Error("two equal directories have two digests")
	}
	if n, files, err := Inspect(t.Context(), strings.NewReader(string(bytes)), DefaultLimit); err != nil || n != 3 || files != 3 || a.Bytes != 3 || a.Files != 3 {
		t.Errorf("%d bytes in %d files, %v; %+v", n, files, err, a)
	}
	if err := os.Chmod(filepath.Join(two, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if c, _ := take(t, Options{Dir: two}); c.SHA256 == a.SHA256 {
		t.Error("what may be run is part of a tree")
	}
}

func TestTooMuchIsRefusedWithTheLargestFiles(t *testing.T) {
	dir := plain(t, map[string]string{"small.py": "x", "model.bin": strings.Repeat("x", 3<<20), "other.bin": strings.Repeat("x", 2<<20)})
	_, err := Take(t.Context(), Options{Dir: dir, Limit: 4 << 20}, &bytes.Buffer{})
	if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "The largest: model.bin (3.0 MiB), other.bin (2.0 MiB)") || !strings.Contains(forge.HintOf(err), IgnoreFile) {
		t.Errorf("%v", err)
	}
}

func TestLinksStayInside(t *testing.T) {
	dir := plain(t, map[string]string{"a/real": "x"})
	for link, target := range map[string]string{"a/near": "real", "far": "a/real"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, archive := take(t, Options{Dir: dir})
	to, names := unpacked(t, archive)
	equal(t, names, "a/near", "a/real", "far")
	if b, err := os.ReadFile(filepath.Join(to, "far")); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "pipe is left out") {
		t.Errorf("%q", got.Notes)
	}
	for _, target := range []string{"/etc/passwd", "../outside", "a/../../outside"} {
		link := filepath.Join(dir, "out")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if _, err := Take(t.Context(), Options{Dir: dir}, &bytes.Buffer{}); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "out is a link to "+target) {
			t.Errorf("%s: %v", target, err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}

// hostile makes an archive as Take never would.
func hostile(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAHostileArchiveIsRefusedBeforeAnythingLeavesTheDirectory(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	for name, archive := range map[string][]byte{
		"absolute":             hostile(t, file("/etc/x")),
		"above":                hostile(t, file("../x")),
		"hidden above":         hostile(t, file("a/../../x")),
		"not clean":            hostile(t, file("a//x")),
		"twice":                hostile(t, file("a"), file("a")),
		"a link out":           hostile(t, link("a", "../..")),
		"an absolute link":     hostile(t, link("a", "/etc")),
		"below a link":         hostile(t, link("a", "b"), file("a/x")),
		"a link below a link":  hostile(t, link("a/b", ".."), link("a/b/c", "../../x")),
		"a device":             hostile(t, tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}),
		"a hard link":          hostile(t, file("a"), tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}),
		"a directory":          hostile(t, tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o4777}),
		"git's own":            hostile(t, file(".git/hooks/x")),
		"more than it may be":  hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 2 << 20}),
		"nothing":              hostile(t),
		"no archive":           []byte("hello"),
		"an archive cut short": hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 1000})[:40],
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Inspect(t.Context(), bytes.NewReader(archive), 1<<20); forge.KindOf(err) != forge.KindInvalid {
				t.Errorf("inspected: %v", err)
			}
			over := t.TempDir()
			dir := filepath.Join(over, "in", "work")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := Unpack(t.Context(), bytes.NewReader(archive), dir, 1<<20); err == nil {
				t.Error("unpacked")
			}
			if left, _ := filepath.Glob(filepath.Join(over, "*")); len(left) != 1 {
				t.Errorf("outside: %q", left)
			}
		})
	}
}

func TestModesAreThoseOfThePlace(t *testing.T) {
	archive := hostile(t, tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6777}, tar.Header{Typeflag: tar.TypeReg, Name: "sub/plain", Mode: 0o666})
	for _, c := range []struct{ dir, run, plain, sub os.FileMode }{{0o700, 0o700, 0o600, 0o700}, {0o750, 0o750, 0o640, 0o750}} {
		dir := filepath.Join(t.TempDir(), "work")
		if err := os.Mkdir(dir, c.dir); err != nil {
			t.Fatal(err)
		}
		if err := Unpack(t.Context(), bytes.NewReader(archive), dir, 1<<20); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{"suid": c.run, "sub/plain": c.plain, "sub": c.sub} {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode()&^os.ModeDir != want {
				t.Errorf("in %04o, %s: %v, %v", c.dir, name, st.Mode(), err)
			}
		}
	}
}

func TestAStoppedSnapshotSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := plain(t, map[string]string{"a": "x"})
	cancel()
	if _, err := Take(ctx, Options{Dir: dir}, &bytes.Buffer{}); err == nil {
		t.Error("it went on")
	}
}
