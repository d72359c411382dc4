package artefact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Seen is what a second look at an artefact found.
type Seen struct {
	Files   int
	Bytes   int64
	Differs []Differs // none: all is as it was registered
}

// Differs is one file that is not as it was registered, or that was not registered.
type Differs struct {
	File, Why string
	Found     string // its SHA-256 now, where it could be read
}

// Patience is how long a filesystem may give no byte and no answer before nobody waits for it any more.
const Patience = 2 * time.Minute

// Checker reads artefacts again. The zero value is what is used.
type Checker struct {
	Patience time.Duration // 0: Patience
	In       *os.Root      // the manifest's root, open: no link in it is followed then. nil: links lead where they lead
	open     func(path string) (file, error)
}

type file interface {
	io.ReadCloser
	Stat() (fs.FileInfo, error)
}

// Check reads every byte of an artefact and looks what lies beside it. It is an error where nobody could look, which says nothing of the bytes:
// KindPrecondition for files that may not be read, KindUnavailable for a filesystem that fails or does not answer.
func (k Checker) Check(ctx context.Context, m forge.Manifest, progress func(n int64)) (Seen, error) {
	if k.open == nil && k.In != nil {
		k.open = func(path string) (file, error) { return openPlain(k.In, m.Root, path) }
	}
	if k.open == nil {
		k.open = func(path string) (file, error) { return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) }
	}
	if k.Patience == 0 {
		k.Patience = Patience
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &walk{Checker: k, ctx: ctx, m: m, progress: progress}
	type result struct {
		seen Seen
		err  error
	}
	done := make(chan result, 1)
	go func() { // a read that never returns cannot be called off; it is left behind, and ends with the filesystem's answer
		s, err := w.all()
		done <- result{s, err}
	}()
	tick := time.NewTicker(max(k.Patience/4, time.Millisecond))
	defer tick.Stop()
	last, since := int64(-1), time.Now()
	for {
		select {
		case r := <-done:
			return r.seen, r.err
		case <-ctx.Done():
			return Seen{}, ctx.Err()
		case now := <-tick.C:
			if beat := w.beat.Load(); beat != last {
				last, since = beat, now
			} else if now.Sub(since) >= k.Patience {
				at, _ := w.at.Load().(string)
				return Seen{}, forge.Errorf(forge.KindUnavailable, "model.verify", "the filesystem has not answered for %s at %s", k.Patience, at).
					WithHint("this says nothing of the bytes; look at the filesystem, then ask again")
			}
		}
	}
}

// openPlain opens a file that lies below an open directory by a way without links: a copy has none.
func openPlain(in *os.Root, root, path string) (file, error) {
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(rel, "/")
	for i := range parts {
		st, err := in.Lstat(filepath.Join(parts[:i+1]...))
		if err != nil {
			return nil, err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
	}
	return in.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

type walk struct {
	Checker
	ctx      context.Context
	m        forge.Manifest
	progress func(n int64)
	beat     atomic.Int64 // grows with every answer of the filesystem
	at       atomic.Value
	bytes    int64
}

func (w *walk) all() (Seen, error) {
	var out Seen
	before := make([]fs.FileInfo, len(w.m.Files))
	for i, f := range w.m.Files {
		path := w.path(f.Path)
		w.at.Store(path)
		d, st, err := w.one(path, f)
		w.beat.Add(1)
		if err != nil {
			return out, err
		}
		before[i] = st
		if st != nil {
			out.Files++
		}
		if d.Why != "" {
			out.Differs = append(out.Differs, d)
		}
	}
	for i, f := range w.m.Files { // what was written to after it was read
		if before[i] == nil {
			continue
		}
		path := w.path(f.Path)
		w.at.Store(path)
		st, err := os.Stat(path)
		w.beat.Add(1)
		if err == nil && unmoved(before[i], st) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, refused(path, err)
		}
		if !slices.ContainsFunc(out.Differs, func(d Differs) bool { return d.File == path }) {
			out.Differs = append(out.Differs, Differs{File: path, Why: "it changed while it was read"})
		}
	}
	extra, err := w.beside()
	out.Differs, out.Bytes = append(out.Differs, extra...), w.bytes
	return out, err
}

func (w *walk) path(rel string) string { return filepath.Join(w.m.Root, filepath.FromSlash(rel)) }

// one reads a file to its end; st is nil where there is none to read.
func (w *walk) one(path string, want forge.File) (d Differs, st fs.FileInfo, err error) {
	d.File = path
	f, err := w.open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		d.Why = "it is gone"
		return d, nil, nil
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENXIO):
		d.Why = "it is no regular file any more"
		return d, nil, nil
	case err != nil:
		return d, nil, refused(path, err)
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return d, nil, refused(path, err)
	}
	if !st.Mode().IsRegular() {
		d.Why = "it is no regular file any more"
		return d, nil, nil
	}
	sum := sha256.New()
	buf := make([]byte, chunk)
	var n int64
	for {
		k, err := f.Read(buf)
		w.beat.Add(1)
		sum.Write(buf[:k])
		n, w.bytes = n+int64(k), w.bytes+int64(k)
		if w.progress != nil {
			w.progress(w.bytes)
		}
		if w.ctx.Err() != nil {
			return d, nil, w.ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, nil, refused(path, err)
		}
	}
	d.Found = hex.EncodeToString(sum.Sum(nil))
	switch {
	case n != want.Size:
		d.Why = fmt.Sprintf("it has %d bytes, it had %d", n, want.Size)
	case d.Found != want.SHA256:
		d.Why = "its content is different"
	}
	return d, st, nil
}

// beside lists what lies there, was not registered, and would be loaded.
func (w *walk) beside() (out []Differs, err error) {
	known := map[string]bool{}
	for _, f := range w.m.Files {
		if known[f.Path] = true; f.Path == "." {
			return nil, nil
		}
	}
	err = filepath.WalkDir(w.m.Root, func(path string, e fs.DirEntry, err error) error {
		w.beat.Add(1)
		w.at.Store(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return refused(path, err)
		case w.ctx.Err() != nil:
			return w.ctx.Err()
		}
		if path != w.m.Root && strings.HasPrefix(e.Name(), ".") { // of git and of caches; no library loads them
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(w.m.Root, path)
		if err == nil && !e.IsDir() && !known[filepath.ToSlash(rel)] && Loaded(e.Name()) {
			out = append(out, Differs{File: path, Why: "it was not registered, and would be loaded with it"})
		}
		return err
	})
	return out, err
}

// loaded are the ends of names that libraries look for in a directory of weights.
var loaded = []string{".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".pkl", ".pickle", ".onnx", ".py", ".so", ".json", ".jinja", ".model", ".tiktoken"}

// Loaded says whether a library that loads a model would take a file of that name.
func Loaded(name string) bool {
	return name == "vocab.txt" || name == "merges.txt" || slices.Contains(loaded, strings.ToLower(filepath.Ext(name)))
}

func unmoved(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && inode(a) == inode(b)
}

func refused(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return forge.Errorf(forge.KindPrecondition, "model.verify", "uid %d may not read %s", os.Getuid(), path).
			WithHint("this says nothing of the bytes: let that account read them, or register a copy that it can read")
	}
	return forge.Errorf(forge.KindUnavailable, "model.verify", "%s cannot be read: %w", path, err).WithHint("this says nothing of the bytes; look at the filesystem, then ask again")
}
