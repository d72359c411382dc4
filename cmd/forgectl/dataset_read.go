package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// nearFrom is the similarity from which on --near-duplicates counts rows as nearly the same.
const nearFrom = 0.8

// passFlags are how data is read here.
type passFlags struct {
	kind     forge.DatasetKind // empty: by the columns
	columns  map[string]string
	preset   string
	format   forge.DatasetFormat // empty: by the names of the files
	threads  int
	near     bool
	national bool
}

// pass is what was found here, with the index of the rows in a file that has no name any more: it goes with the process, however that ends.
type pass struct {
	forge.Scanned
	ignored []string
	index   *os.File
	sum     string // of the index
	size    int64  // bytes of the index
}

func (p *pass) drop() { _ = p.index.Close() }

// rows is the index from its beginning.
func (p *pass) rows() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(p.index, 0, p.size)), nil
}

// read makes the one pass over data that is here. Whoever gets a pass drops it.
func (a *app) read(ctx context.Context, paths []string, o passFlags) (*pass, error) {
	if a.Nice != nil {
		a.Nice()
	}
	f, err := os.CreateTemp("", "forgectl-rows-*")
	if err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "dataset.add", "no room for the index of the rows: %w", err).WithHint("set TMPDIR to a directory with 8 bytes for each row")
	}
	_ = os.Remove(f.Name())
	p := &pass{index: f}
	sum, out := sha256.New(), bufio.NewWriterSize(f, 1<<20)
	count := &counter{w: io.MultiWriter(out, sum)}
	far, ask := meter()
	stop := a.spin(ctx, "reading", shownPaths(paths), ask)
	opts := dataset.Options{Kind: o.kind, Map: o.columns, Preset: o.preset, Format: o.format, Threads: o.threads, PII: &pii.Options{National: o.national},
		By: forge.ScannedByForgectl, Scanner: "forgectl " + version, Fingerprints: count, Progress: far}
	if o.near {
		opts.Near = nearFrom
	}
	res, err := dataset.Scan(ctx, paths, opts)
	stop()
	err = errors.Join(err, out.Flush())
	if err != nil {
		p.drop()
		return nil, err
	}
	p.Scanned, p.ignored, p.sum, p.size = res.Scanned, res.Ignored, hex.EncodeToString(sum.Sum(nil)), count.n
	return p, nil
}

// meter joins a loop that says how far it is with a bar that asks.
func meter() (far func(done, total, rows int64), ask howFar) {
	var done, total, rows atomic.Int64
	return func(d, t, r int64) { done.Store(d); total.Store(t); rows.Store(r) },
		func(context.Context) (reach, error) { return reach{done.Load(), total.Load(), rows.Load()}, nil }
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func shownPaths(paths []string) string {
	s := filepath.Base(paths[0])
	if n := len(paths) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// here tells the paths that this host has from those that it does not. A glob is here when it matches.
func here(paths []string) (there, missing []string) {
	for _, p := range paths {
		_, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(p, "*?[") {
			if found, gerr := filepath.Glob(p); gerr == nil && len(found) > 0 {
				err = nil
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p)
		} else {
			there = append(there, p)
		}
	}
	return there, missing
}

// version asks for one version, with the report of its scan.
func (a *app) version(ctx context.Context, cl *client.Client, ref string) (forge.DatasetVersion, error) {
	v, err := cl.DatasetVersion(ctx, ref)
	if err == nil && v.Layout == nil {
		v.Layout = &forge.DatasetLayout{Format: forge.FormatJSONL}
	}
	return v, err
}

func versionName(v forge.DatasetVersion) string { return fmt.Sprintf("%s@%d", v.Name, v.Number) }

// readable says in words why the rows of a version cannot be read here.
func readable(v forge.DatasetVersion) error {
	if !v.PurgedAt.IsZero() {
		return forge.Errorf(forge.KindPrecondition, "", "the bytes of %s are erased; its digest and lineage are left", versionName(v))
	}
	f, err := os.Open(v.Manifest.Root)
	if err != nil {
		e := forge.Errorf(forge.KindUnavailable, "", "the data of %s cannot be read here: %w", versionName(v), err)
		return e.WithHint("run this on a host that has %s", v.Manifest.Root)
	}
	return f.Close()
}

// errEnough ends a reading before its end.
var errEnough = errors.New("enough rows")

// rows reads the rows of a version again, with a bar, until fn has enough. n counts from 1.
func (a *app) rows(ctx context.Context, v forge.DatasetVersion, what string, fn func(n int64, r dataset.Row) error) error {
	at, err := a.files(ctx, v)
	if err != nil {
		return err
	}
	if a.Nice != nil {
		a.Nice()
	}
	far, ask := meter()
	stop := a.spin(ctx, what, versionName(v), ask)
	defer stop()
	var n int64
	err = dataset.Read(ctx, at, *v.Layout, v.Kind, func(r dataset.Row) error {
		n++
		if n%512 == 0 { // how many bytes that were is known to the reader alone; the rows are as good
			far(int64(float64(v.Bytes)*min(1, float64(n)/float64(max(1, v.Rows)))), v.Bytes, n)
		}
		return fn(n, r)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	err = placedError(err, at, v.Manifest)
	if forge.KindOf(err) == forge.KindConflict && forge.HintOf(err) == "" {
		return forge.Errorf(forge.KindConflict, "", "%w", err).WithHint("forgectl dataset verify %s", versionName(v))
	}
	return err
}
