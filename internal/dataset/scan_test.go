package dataset_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

const chatRow = `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}` + "\n"

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// file writes a dataset of one file.
func file(t *testing.T, content string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "data.jsonl"), content)
}

func scan(t *testing.T, path string) dataset.Result {
	t.Helper()
	r, err := dataset.Scan(t.Context(), []string{path}, dataset.Options{})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return r
}

// refused checks an error's kind, that it is about the path, and what it says; words that start
// with "hint:" are looked for in the hint.
func refused(t *testing.T, err error, kind forge.Kind, words ...string) {
	t.Helper()
	var e *forge.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a forge.Error that says %q", err, words)
	}
	if e.Kind != kind || e.Field != "path" {
		t.Errorf("got kind %s, field %q (%v), want %s, path", e.Kind, e.Field, err, kind)
	}
	for _, w := range words {
		in := err.Error()
		if h, ok := strings.CutPrefix(w, "hint:"); ok {
			w, in = h, forge.HintOf(err)
		}
		if !strings.Contains(in, w) {
			t.Errorf("%q does not say %q", in, w)
		}
	}
}

func refusedPath(t *testing.T, path string, words ...string) {
	t.Helper()
	_, err := dataset.Scan(t.Context(), []string{path}, dataset.Options{})
	refused(t, err, forge.KindInvalid, words...)
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestScanReportsWhatIsThere(t *testing.T) {
	t.Run("a file: digest, size, times, kind, columns and rows", func(t *testing.T) {
		content := `{"text": "a", "source": "x"}` + "\n" + `{"text": "b", "id": 7}` + "\n"
		path := file(t, content)
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		r := scan(t, path)
		if r.Kind != forge.KindText || r.Rows != 2 || r.Manifest.Bytes() != int64(len(content)) || !slices.Equal(r.Columns, []string{"id", "source", "text"}) {
			t.Errorf("got %+v", r)
		}
		want := forge.File{Path: ".", Size: int64(len(content)), SHA256: digest(content), ModTime: fi.ModTime().UTC(), Inode: fi.Sys().(*syscall.Stat_t).Ino}
		if r.Manifest.Root != path || len(r.Manifest.Files) != 1 || r.Manifest.Files[0] != want {
			t.Errorf("got %+v, want root %s and %+v", r.Manifest, path, want)
		}
	})

	t.Run("a directory: all .jsonl files below it, as the trainer takes them, and what is no part of it", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/b.jsonl", chatRow+chatRow)
		write(t, dir+"/a.jsonl", chatRow)
		write(t, dir+"/README.md", "# hello")
		write(t, dir+"/.hidden.jsonl", "garbage")
		write(t, dir+"/train/c.jsonl", chatRow)
		write(t, dir+"/train/c.json", "garbage")
		write(t, dir+"/.cache/d.jsonl", "garbage")
		if err := os.Symlink("train", dir+"/linked.jsonl"); err != nil {
			t.Fatal(err)
		}
		r := scan(t, dir+"/")
		if r.Manifest.Root != dir || r.Rows != 4 || r.Manifest.Bytes() != int64(4*len(chatRow)) || r.Kind != forge.KindMessages {
			t.Errorf("got %+v", r)
		}
		if f := r.Manifest.Files; len(f) != 3 || f[0].Path != "a.jsonl" || f[1].Path != "b.jsonl" || f[2].Path != "train/c.jsonl" || f[0].SHA256 != digest(chatRow) || f[1].SHA256 != digest(chatRow+chatRow) {
			t.Errorf("files %+v", f)
		}
		if !slices.Equal(r.Ignored, []string{".cache", ".hidden.jsonl", "README.md", "linked.jsonl", "train/c.json"}) {
			t.Errorf("ignored %q", r.Ignored)
		}
	})

	t.Run("Windows line ends, blank lines and a last line without an end are rows as meant", func(t *testing.T) {
		content := "{\"text\": \"a\"}\r\n\r\n  \n\t{\"text\": \"b\"}  \n{\"text\": \"c\"}"
		r := scan(t, file(t, content))
		if r.Rows != 3 || r.Manifest.Files[0].SHA256 != digest(content) {
			t.Errorf("got %+v", r)
		}
	})

	t.Run("a link inside the directory and a link as the path itself are followed", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/real/v3", chatRow)
		if err := errors.Join(os.Symlink("real/v3", dir+"/a.jsonl"), os.Symlink(dir+"/real/v3", dir+"/b.jsonl")); err != nil {
			t.Fatal(err)
		}
		if r := scan(t, dir+"/b.jsonl"); r.Rows != 1 || r.Manifest.Root != dir+"/b.jsonl" {
			t.Errorf("got %+v", r)
		}
		if err := os.Remove(dir + "/b.jsonl"); err != nil {
			t.Fatal(err)
		}
		if r := scan(t, dir); r.Rows != 1 || r.Manifest.Files[0].SHA256 != digest(chatRow) {
			t.Errorf("got %+v", r)
		}
	})

	t.Run("progress grows to the total over all files", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/a.jsonl", strings.Repeat(chatRow, 20_000))
		write(t, dir+"/b.jsonl", strings.Repeat(chatRow, 20_000))
		var done, total, calls int64
		_, err := dataset.Scan(t.Context(), []string{dir}, dataset.Options{Progress: func(d, n, _ int64) {
			if d <= done {
				t.Errorf("progress %d after %d", d, done)
			}
			done, total, calls = d, n, calls+1
		}})
		if want := int64(40_000 * len(chatRow)); err != nil || done != want || total != want || calls < 4 {
			t.Errorf("ended with %d of %d after %d calls (%v), want %d", done, total, calls, err, want)
		}
	})
}

func TestScanRefusesPaths(t *testing.T) {
	t.Run("not given, not absolute", func(t *testing.T) {
		refusedPath(t, "", "no path given")
		refusedPath(t, "data/chat.jsonl", "data/chat.jsonl is not an absolute path", `hint:realpath data/chat.jsonl`)
		refusedPath(t, "/tmp/\x00.jsonl", "NUL")
	})
	t.Run("missing, with the part that does exist", func(t *testing.T) {
		dir := t.TempDir()
		refusedPath(t, dir+"/no/such/chat.jsonl", "no/such/chat.jsonl does not exist", "hint:"+dir+" exists")
	})
	t.Run("an empty file, and one of blank lines, also inside a directory", func(t *testing.T) {
		refusedPath(t, file(t, ""), "data.jsonl is empty")
		refusedPath(t, file(t, "\n \r\n"), "data.jsonl has no rows")
		dir := t.TempDir()
		write(t, dir+"/a.jsonl", chatRow)
		write(t, dir+"/b.jsonl", "")
		refusedPath(t, dir, "b.jsonl is empty")
	})
	t.Run("an empty directory, and one without .jsonl files, naming what it has", func(t *testing.T) {
		dir := t.TempDir()
		refusedPath(t, dir, "is empty")
		write(t, dir+"/chat.jsonl.gz", "x")
		refusedPath(t, dir, "chat.jsonl.gz is named .gz and not compressed like that")
		dir = t.TempDir()
		write(t, dir+"/chat.txt", "x")
		refusedPath(t, dir, "has no files of data", "chat.txt", "hint:Hidden")
	})
	t.Run("a file of another kind", func(t *testing.T) {
		refusedPath(t, write(t, t.TempDir()+"/data.xlsx", "PK"), "is not a file of data", "*.jsonl", "hint:JSON Lines")
		refusedPath(t, write(t, t.TempDir()+"/data.zip", "PK"), "is an archive (.zip)", "hint:Unpack")
		refusedPath(t, write(t, t.TempDir()+"/data.jsonl", "PK\x03\x04"), "is a zip archive", "hint:unzip")
	})
	t.Run("a pipe and a device in a file's place, at once and without opening them", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mkfifo(dir+"/a.jsonl", 0o600); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, func() {
			refusedPath(t, dir+"/a.jsonl", "is a named pipe")
			refusedPath(t, dir, "a.jsonl is a named pipe")
			refusedPath(t, "/dev/zero", "/dev/zero is a device")
		})
	})
	t.Run("links that leave the directory, lead nowhere or in a circle", func(t *testing.T) {
		outside := file(t, chatRow)
		for target, says := range map[string]string{outside: "leaves the directory", "../../etc/passwd": "leaves the directory", "/dev/zero": "leaves the directory", "gone": "does not exist"} {
			dir := t.TempDir()
			if err := os.Symlink(target, dir+"/a.jsonl"); err != nil {
				t.Fatal(err)
			}
			refusedPath(t, dir, "a.jsonl is a symbolic link to", target, says)
		}
		dir := t.TempDir()
		if err := os.Symlink("a.jsonl", dir+"/a.jsonl"); err != nil {
			t.Fatal(err)
		}
		refusedPath(t, dir+"/a.jsonl", "loop of symbolic links")
		refusedPath(t, dir, "a.jsonl")
	})
	t.Run("what the account may not read", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/a.jsonl", chatRow)
		if err := os.Chmod(dir+"/a.jsonl", 0o000); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			refusedPath(t, dir+"/a.jsonl", "cannot be read", "permission denied", "hint:account that forged runs as")
			refusedPath(t, dir, "a.jsonl cannot be read", "permission denied")
		})
	})
}

// asNobody runs fn without root's right to read everything: the filesystem uid is a thread's
// own, and the thread ends with fn.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is not to be used again
		if os.Geteuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				t.Error(err)
				return
			}
		}
		fn()
	}()
	<-done
}

func within(t *testing.T, limit time.Duration, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not done after %s", limit)
	}
}

func TestScanRefusesBytesThatAreNoText(t *testing.T) {
	cases := []struct {
		name, content string
		says          []string
	}{
		{"Latin-1", chatRow + "{\"text\": \"caf\xe9\"}\n", []string{"line 2 is not UTF-8", "byte 0xe9", fmt.Sprintf("byte offset %d", len(chatRow)+len(`{"text": "caf`)), "hint:iconv"}},
		{"a bad byte after a good U+FFFD", "{\"text\": \"\ufffd\xff\"}\n", []string{"byte 0xff at byte offset 13"}},
		{"a character cut in two", chatRow + "{\"text\": \"\xe2\x82\"}\n", []string{"line 2 is not UTF-8", "0xe2"}},
		{"a surrogate in UTF-8's clothes", "{\"text\": \"\xed\xa0\x80\"}\n", []string{"line 1 is not UTF-8"}},
		{"a byte order mark", "\xef\xbb\xbf" + chatRow, []string{"line 1 starts with a byte order mark", "hint:sed"}},
		{"UTF-16", "\xff\xfe{\x00}\x00\n\x00", []string{"UTF-16", "hint:iconv"}},
		{"NUL bytes", chatRow + chatRow + "\x00\x00\x00", []string{"line 3 holds a NUL byte", fmt.Sprintf("offset %d", 2*len(chatRow)), "torn"}},
		{"gzip", "\x1f\x8b\x08\x00junk", []string{"gzip"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refusedPath(t, file(t, c.content), append(c.says, "data.jsonl")...) })
	}
}

func TestScanHoldsOneLine(t *testing.T) {
	row := func(n int) string { return `{"text": "` + strings.Repeat("x", n-len(`{"text": ""}`)) + `"}` }
	t.Run("a line of the greatest length is read, alone and before others", func(t *testing.T) {
		content := row(dataset.MaxLine) + "\n" + row(100) + "\n" + row(dataset.MaxLine)
		r := scan(t, file(t, content))
		if r.Rows != 3 || r.Manifest.Files[0].SHA256 != digest(content) {
			t.Errorf("got %d rows, digest %s", r.Rows, r.Manifest.Files[0].SHA256)
		}
	})
	t.Run("a longer one is refused by number", func(t *testing.T) {
		refusedPath(t, file(t, row(100)+"\n"+row(dataset.MaxLine+1)+"\n"), "line 2 is longer than 16 MiB", "hint:jq -c")
		refusedPath(t, file(t, row(100)+"\n"+row(dataset.MaxLine+2)), "line 2 is longer than 16 MiB")
	})
	t.Run("line numbers and offsets stay right after a long line", func(t *testing.T) {
		long := row(3<<20) + "\n"
		refusedPath(t, file(t, long+"{\"text\": \"\xff\"}\n"), "line 2 is not UTF-8", fmt.Sprintf("byte offset %d", len(long)+10))
	})
	t.Run("a line of 200 MiB is refused and not held, and the lines behind it are looked at", func(t *testing.T) {
		path := file(t, row(100)+"\n")
		if err := os.Truncate(path, 200<<20); err != nil { // sparse: NUL bytes
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.WriteString("\n" + row(100) + "\n{\n"); errors.Join(err, f.Close()) != nil {
			t.Fatal(err)
		}
		if got := allocated(func() {
			_, err := dataset.Scan(t.Context(), []string{path}, dataset.Options{})
			refused(t, err, forge.KindInvalid, "2 problems", "line 2 is longer than 16 MiB", "line 4, column 2: malformed JSON")
		}); got > 8*dataset.MaxLine {
			t.Errorf("allocated %d bytes", got)
		}
	})
	t.Run("memory does not grow with the file", func(t *testing.T) {
		path := file(t, strings.Repeat(chatRow, 200_000)) // 18 MB
		scan(t, path)
		if got := allocated(func() { scan(t, path) }); got > 14<<20 { // the fingerprints: 16 bytes a row, doubled up to there
			t.Errorf("allocated %d bytes for one scan", got)
		}
	})
}

func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestScanNoticesChange(t *testing.T) {
	// The progress callback runs in the middle of reading: what it does is another process's doing.
	big := strings.Repeat(chatRow, 10_000)
	during := func(t *testing.T, path string, do func() error) error {
		t.Helper()
		once := false
		_, err := dataset.Scan(t.Context(), []string{path}, dataset.Options{Progress: func(_, _, _ int64) {
			if !once {
				once = true
				if err := do(); err != nil {
					t.Error(err)
				}
			}
		}})
		return err
	}
	appendTo := func(path, s string) error {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(s)
		return errors.Join(err, f.Close())
	}
	t.Run("a file that grows", func(t *testing.T) {
		path := file(t, big)
		refused(t, during(t, path, func() error { return appendTo(path, chatRow) }), forge.KindConflict, path+" changed while it was read", "hint:finished")
	})
	t.Run("a writer in the middle of a row is a change, not malformed JSON", func(t *testing.T) {
		path := file(t, big)
		refused(t, during(t, path, func() error { return appendTo(path, `{"messages": [`) }), forge.KindConflict, "changed")
	})
	t.Run("a file that is cut short", func(t *testing.T) {
		path := file(t, big)
		refused(t, during(t, path, func() error { return os.Truncate(path, int64(len(big)/2)) }), forge.KindConflict, "changed")
	})
	t.Run("a file that is rewritten in place with the same size", func(t *testing.T) {
		path := file(t, big)
		refused(t, during(t, path, func() error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)) }), forge.KindConflict, "changed")
	})
	t.Run("a file that is replaced by another of the same size and time", func(t *testing.T) {
		path := file(t, big)
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, during(t, path, func() error {
			write(t, path+".new", big)
			return errors.Join(os.Chtimes(path+".new", time.Time{}, fi.ModTime()), os.Rename(path+".new", path))
		}), forge.KindConflict, "changed")
	})
	t.Run("a file that joins the directory", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/b.jsonl", big)
		refused(t, during(t, dir, func() error { write(t, dir+"/a.jsonl", chatRow); return nil }), forge.KindConflict, dir+" changed")
	})
	t.Run("a file that goes is named", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/a.jsonl", big)
		write(t, dir+"/b.jsonl", big)
		refused(t, during(t, dir, func() error { return os.Remove(dir + "/b.jsonl") }), forge.KindInvalid, "b.jsonl does not exist")
	})
	t.Run("the end of the context ends the scan and is its error", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := dataset.Scan(ctx, []string{file(t, strings.Repeat(big, 4))}, dataset.Options{Progress: func(_, _, _ int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
