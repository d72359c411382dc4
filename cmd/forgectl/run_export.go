package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// The entries of a bundle's tar, in its order.
const (
	bundleCard   = "README.md"
	bundleJSON   = "bundle.json"
	bundleData   = "data/"
	bundleSource = "source.tar.gz"
)

const defaultDataLimit = "1G"

type exportOptions struct {
	run, to   string
	data      bool
	dataLimit int64
}

func (a *app) runExportCommand() *cli.Command {
	return &cli.Command{Name: "export", Usage: "write what a run is made from into a file, for another site to run it again", ArgsUsage: "RUN",
		Description: "forgectl run export 12 --to run-12.tar; there: forgectl run submit --from run-12.tar\n\n" +
			"The file has the resolved spec, the recipe, digests of dataset and models, the code that ran, the model card and the working directory.\n" +
			"Dataset and models are named by their digests and are not in it; --with-data takes the dataset's files, read where forgectl runs.\n" +
			"The same run gives the same bytes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "file to write; - is standard output", DefaultText: "run-NUMBER.tar"},
			&cli.BoolFlag{Name: "with-data", Usage: "take the dataset's files, too"},
			&cli.StringFlag{Name: "data-limit", Usage: "most that the dataset's files may have", Value: defaultDataLimit},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			o := exportOptions{run: args[0], to: c.String("to"), data: c.Bool("with-data")}
			m, err := forge.ParseMemoryMiB(c.String("data-limit"))
			if err != nil {
				return forge.Invalidf("data-limit", "%w", err)
			}
			o.dataLimit = m << 20
			return a.runExport(c.Context, o)
		}}
}

func (a *app) runExport(ctx context.Context, o exportOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	b, err := cl.Bundle(ctx, o.run)
	if err != nil {
		return err
	}
	entries, clean, err := a.bundleEntries(ctx, cl, b, o)
	defer clean()
	if err != nil {
		return err
	}
	if o.to == "-" {
		return writeBundle(ctx, a.Out, entries)
	}
	if o.to == "" {
		o.to = fmt.Sprintf("run-%d.tar", b.Run)
	}
	// A bundle is whole or not there: nobody finds half of one.
	f, err := os.CreateTemp(filepath.Dir(o.to), ".forge-export-*")
	if err != nil {
		return forge.Invalidf("to", "%v", err)
	}
	defer os.Remove(f.Name())
	err = writeBundle(ctx, f, entries)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), o.to)
	}
	if err != nil {
		return err
	}
	p := a.printer()
	p.line("run %d is in %s", b.Run, o.to)
	p.line("next, at the other site: forgectl run submit --from %s", filepath.Base(o.to))
	return p.done(nil)
}

// entry is a file of a bundle.
type entry struct {
	name   string
	size   int64
	sha256 string // "": not known before
	open   func() (io.ReadCloser, error)
}

func inMemory(name string, data []byte) entry {
	return entry{name: name, size: int64(len(data)), open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil }}
}

func (a *app) bundleEntries(ctx context.Context, cl *client.Client, b api.Bundle, o exportOptions) (entries []entry, clean func(), err error) {
	clean = func() {}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, clean, err
	}
	entries = append(entries, inMemory(bundleJSON, append(text, '\n')))
	if b.Card != "" {
		entries = append(entries, inMemory(bundleCard, []byte(b.Card)))
	}
	if b.Snapshot {
		f, err := os.CreateTemp("", "forge-source-*.tar.gz")
		if err != nil {
			return nil, clean, err
		}
		defer f.Close()
		clean = func() { _ = os.Remove(f.Name()) }
		if err := cl.RunSource(ctx, o.run, f); err != nil {
			return nil, clean, err
		}
		st, err := f.Stat()
		if err != nil {
			return nil, clean, err
		}
		entries = append(entries, entry{name: bundleSource, size: st.Size(), sha256: b.Spec.Source.SHA256, open: func() (io.ReadCloser, error) { return os.Open(f.Name()) }})
	}
	if o.data {
		data, err := dataEntries(ctx, cl, b, o.dataLimit)
		if err != nil {
			return nil, clean, err
		}
		entries = append(entries, data...)
	}
	slices.SortFunc(entries, func(x, y entry) int { return strings.Compare(x.name, y.name) })
	return entries, clean, nil
}

// dataEntries are the files of the run's dataset, where they lie: forgectl reads them itself, and holds them against what was registered.
func dataEntries(ctx context.Context, cl *client.Client, b api.Bundle, limit int64) ([]entry, error) {
	ref := b.Spec.Dataset
	if ref == nil {
		return nil, forge.Invalidf("with-data", "run %d has no dataset", b.Run)
	}
	name, _, _ := strings.Cut(ref.Name, "@")
	d, err := cl.Dataset(ctx, name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(d.Versions, func(v forge.DatasetVersion) bool { return v.SHA256 == ref.SHA256 })
	if i < 0 {
		return nil, forge.Errorf(forge.KindPrecondition, "run.export", "%s is not registered any more with the content that run %d had", ref.Name, b.Run)
	}
	m := d.Versions[i].Manifest
	if n := m.Bytes(); n > limit {
		return nil, forge.Invalidf("data-limit", "%s has %d bytes, more than the limit of %d", ref.Name, n, limit).WithHint("raise --data-limit, or bring the data there in another way and leave --with-data out")
	}
	var out []entry
	for _, f := range m.Files {
		// A file that was registered by itself has another digest than a directory with it: data/FILE is the one, data/DIRECTORY/… the other.
		at, rel := filepath.Join(m.Root, filepath.FromSlash(f.Path)), path.Join(filepath.Base(m.Root), f.Path)
		if !filepath.IsLocal(filepath.FromSlash(rel)) {
			return nil, forge.Invalidf("with-data", "%s has a file outside of its directory: %q", ref.Name, f.Path)
		}
		out = append(out, entry{name: path.Join(bundleData, rel), size: f.Size, sha256: f.SHA256, open: func() (io.ReadCloser, error) {
			r, err := os.Open(at)
			if err != nil {
				return nil, forge.Invalidf("with-data", "%s cannot be read here: %v", ref.Name, err).WithHint("run forgectl where the dataset's files are, or leave --with-data out")
			}
			return r, nil
		}})
	}
	return out, nil
}

// writeBundle writes a tar that says nothing of when, where and by whom it was made: the same entries give the same bytes.
func writeBundle(ctx context.Context, w io.Writer, entries []entry) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeEntry(t, e); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeEntry(t *tar.Writer, e entry) error {
	r, err := e.open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: e.size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, sum), io.LimitReader(r, e.size))
	if err != nil {
		return err
	}
	if n != e.size || e.sha256 != "" && hex.EncodeToString(sum.Sum(nil)) != e.sha256 {
		return forge.Errorf(forge.KindPrecondition, "run.export", "%s is not what it was when the run was submitted: its digest is another", e.name)
	}
	return nil
}
