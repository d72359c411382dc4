package workdir

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Options say what to take.
type Options struct {
	Dir       string
	Untracked bool  // with what git neither tracks nor ignores
	Limit     int64 // bytes of all files; 0: DefaultLimit
}

// Taken is a snapshot that was written.
type Taken struct {
	forge.Source
	Left  []string // files that git does not track, left out
	Notes []string // for people: what was left out otherwise
	names map[string]bool
}

// Has says whether a path of the directory is in the snapshot.
func (t Taken) Has(name string) bool { return t.names[path.Clean(filepath.ToSlash(name))] }

// entry is one file of a snapshot.
type entry struct {
	name string
	size int64
	mode int64
	link string // target, for a link
	data []byte // of what lies in no file
}

// Take writes the snapshot of a directory. Files that change meanwhile are an error: half of one would run.
func Take(ctx context.Context, o Options, w io.Writer) (Taken, error) {
	dir, err := filepath.Abs(o.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return Taken{}, forge.Invalidf("workdir", "%w", err)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return Taken{}, forge.Invalidf("workdir", "%s is not a directory", o.Dir)
	}
	l, err := list(ctx, dir, o.Untracked)
	if err != nil {
		return Taken{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Taken{}, forge.Invalidf("workdir", "%w", err)
	}
	defer root.Close()
	t := Taken{Source: forge.Source{Root: dir, Commit: l.commit, Dirty: l.dirty}, Left: l.left, names: map[string]bool{}}
	entries, err := t.entries(root, l, cmp.Or(o.Limit, DefaultLimit))
	if err != nil {
		return Taken{}, err
	}
	sum := sha256.New()
	if err := pack(ctx, root, entries, io.MultiWriter(w, sum)); err != nil {
		return Taken{}, err
	}
	t.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return t, nil
}

func (t *Taken) entries(root *os.Root, l listing, limit int64) ([]entry, error) {
	var out []entry
	for _, name := range l.files {
		if skipped(name) {
			continue
		}
		e, why, err := look(root, name)
		switch {
		case isGone(err):
			continue
		case err != nil:
			return nil, err
		case why != "":
			t.Notes = append(t.Notes, name+" is left out: it is "+why)
			continue
		}
		out = append(out, e)
	}
	if len(l.diff) > 0 {
		out = append(out, entry{name: DiffFile, mode: 0o644, size: int64(len(l.diff)), data: l.diff})
	}
	if l.diffLost {
		t.Notes = append(t.Notes, fmt.Sprintf("the diff to commit %s is larger than %d MiB and is not kept; the files are", l.commit[:min(12, len(l.commit))], maxDiff>>20))
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for _, e := range out {
		t.Bytes += e.size
		t.names[e.name] = true
	}
	t.Files = len(out)
	switch {
	case t.Files == 0:
		return nil, forge.Errorf(forge.KindPrecondition, "snapshot", "%s has no files", t.Root)
	case t.Files > MaxFiles:
		return nil, tooMany(t.Root)
	case t.Bytes > limit:
		return nil, forge.Invalidf("workdir", "%s has %s in %d files; at most %s are taken. The largest: %s", t.Root, size(t.Bytes), t.Files, size(limit), largest(out)).
			WithHint("name in %s what the run does not need; data and weights are registered where they lie: forgectl dataset add, forgectl model import", IgnoreFile)
	}
	return out, nil
}

// skipped are what lies below a .git, whoever lists it, and what an earlier snapshot left.
func skipped(name string) bool {
	return name == DiffFile || slices.Contains(strings.Split(name, "/"), ".git")
}

// look says what a name is; why is what keeps it out.
func look(root *os.Root, name string) (e entry, why string, err error) {
	if len(name) > maxName || !filepath.IsLocal(name) {
		return e, "", forge.Invalidf("workdir", "%.100q is not a path below the directory, or longer than %d bytes", name, maxName)
	}
	st, err := root.Lstat(name)
	if err != nil {
		return e, "", err
	}
	e = entry{name: name, mode: 0o644}
	switch {
	case st.Mode().IsRegular():
		e.size = st.Size()
		if st.Mode()&0o111 != 0 {
			e.mode = 0o755
		}
	case st.Mode()&os.ModeSymlink != 0:
		e.mode = 0o777
		if e.link, err = root.Readlink(name); err != nil {
			return e, "", err
		}
		if !stays(name, e.link) {
			return e, "", forge.Invalidf("workdir", "%s is a link to %s, which is not in the directory", name, e.link).
				WithHint("copy what it leads to, or name it in %s", IgnoreFile)
		}
	case st.IsDir():
		return e, "a repository of its own", nil
	default:
		return e, "neither a file nor a link", nil
	}
	return e, "", nil
}

// maxName bounds a path, maxLink the target of a link.
const (
	maxName = 1024
	maxLink = 1024
)

// stays says that a link, as it is written, leads to something inside.
func stays(name, target string) bool {
	return target != "" && len(target) <= maxLink && !strings.ContainsRune(target, 0) && !path.IsAbs(target) && filepath.IsLocal(path.Join(path.Dir(name), target))
}

func largest(entries []entry) string {
	by := slices.SortedFunc(slices.Values(entries), func(a, b entry) int { return cmp.Or(cmp.Compare(b.size, a.size), strings.Compare(a.name, b.name)) })
	var out []string
	for _, e := range by[:min(5, len(by))] {
		out = append(out, fmt.Sprintf("%s (%s)", e.name, size(e.size)))
	}
	return strings.Join(out, ", ")
}

func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func pack(ctx context.Context, root *os.Root, entries []entry, w io.Writer) error {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	out := tar.NewWriter(zip)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: e.size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := out.WriteHeader(h); err != nil {
			return forge.Invalidf("workdir", "%s: %w", e.name, err)
		}
		if e.link != "" {
			continue
		}
		if e.data != nil {
			_, err = out.Write(e.data)
		} else {
			err = copyFile(root, e, out)
		}
		if err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return zip.Close()
}

func copyFile(root *os.Root, e entry, w io.Writer) error {
	f, err := root.OpenFile(e.name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return forge.Invalidf("workdir", "%s cannot be read: %w", e.name, err)
	}
	defer f.Close()
	n, err := io.Copy(w, io.LimitReader(f, e.size))
	if err != nil {
		return forge.Invalidf("workdir", "%s cannot be read: %w", e.name, err)
	}
	if more, _ := f.Read(make([]byte, 1)); n != e.size || more > 0 {
		return forge.Errorf(forge.KindPrecondition, "snapshot", "%s changed while it was read", e.name).WithHint("submit again when nothing writes to the directory, or name it in %s", IgnoreFile)
	}
	return nil
}
