package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// files says where the rows of a version are read from. That is where they lie; forge's own copy, which this account may not open or this host not
// have, is fetched for as long as the command runs.
func (a *app) files(ctx context.Context, v forge.DatasetVersion) (forge.Manifest, error) {
	err := readable(v)
	if err == nil || !v.Owned || !v.PurgedAt.IsZero() {
		return v.Manifest, err
	}
	if m, ok := a.fetched[v.ID]; ok {
		return m, nil
	}
	cl, err := a.connect()
	if err != nil {
		return forge.Manifest{}, err
	}
	dir, err := os.MkdirTemp("", "forgectl-data-*") // mode 0700
	if err != nil {
		return forge.Manifest{}, noRoomFor(v, err)
	}
	a.dirs = append(a.dirs, dir)
	m, err := a.fetch(ctx, cl, v, dir)
	if err != nil {
		return forge.Manifest{}, err
	}
	if a.fetched == nil {
		a.fetched = map[forge.DatasetVersionID]forge.Manifest{}
	}
	a.fetched[v.ID] = m
	return m, nil
}

// drop removes what was fetched: data of others than those who may look into TMPDIR.
func (a *app) drop() {
	for _, dir := range a.dirs {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintf(a.Err, "warning: %s holds a copy of a dataset and could not be removed: %s\n", clean(dir), clean(reasonOf(err)))
		}
	}
	a.dirs, a.fetched = nil, nil
}

// fetch writes the files of a version below dir, under the names that they have: those say how they are read.
func (a *app) fetch(ctx context.Context, cl *client.Client, v forge.DatasetVersion, dir string) (forge.Manifest, error) {
	root, err := os.OpenRoot(dir) // a manifest is what a server says: no name in it leads out
	if err != nil {
		return forge.Manifest{}, noRoomFor(v, err)
	}
	defer root.Close()
	fmt.Fprintf(a.Err, "the data of %s is forge's own copy; %s are fetched to read it here\n", clean(versionName(v)), size(v.Bytes))
	far, ask := meter()
	stop := a.spin(ctx, "fetching", versionName(v), ask)
	defer stop()
	base := path.Base(v.Manifest.Root)
	var done int64
	for _, f := range v.Manifest.Files {
		err := fetchFile(ctx, cl, versionName(v), f, root, path.Join(base, f.Path), func(n int64) { far(done+n, v.Bytes, 0) })
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return forge.Manifest{}, noRoomFor(v, err)
		}
		if err != nil {
			return forge.Manifest{}, err
		}
		done += f.Size
	}
	return forge.Manifest{Root: filepath.Join(dir, base), Files: v.Manifest.Files}, nil
}

func fetchFile(ctx context.Context, cl *client.Client, ref string, f forge.File, root *os.Root, name string, far func(int64)) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(cl.OwnedFile(ctx, ref, f, &telling{out, far, 0}), out.Close())
}

// telling says how much was written.
type telling struct {
	w   io.Writer
	far func(n int64)
	n   int64
}

func (t *telling) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	t.n += int64(n)
	t.far(t.n)
	return n, err
}

func noRoomFor(v forge.DatasetVersion, err error) error {
	return forge.Errorf(forge.KindUnavailable, "", "no room for the data of %s: %w", versionName(v), err).WithHint("set TMPDIR to a directory with %s of room", size(v.Bytes))
}

// placed names a file as people know it, wherever it was read.
func placed(file string, from, v forge.Manifest) string {
	if rest, ok := strings.CutPrefix(file, from.Root); ok && from.Root != v.Root {
		return v.Root + rest
	}
	return file
}

// placedError does so for rows that are none.
func placedError(err error, from, v forge.Manifest) error {
	var bad *dataset.Problems
	if errors.As(err, &bad) {
		for i := range bad.Rows {
			bad.Rows[i].File = placed(bad.Rows[i].File, from, v)
		}
	}
	return err
}

// placedSide does so for what is compared.
func placedSide(s dataset.Side, from, v forge.Manifest) dataset.Side {
	each := s.Each
	s.Each = func(ctx context.Context, fn func(dataset.Said) error) error {
		return placedError(each(ctx, func(r dataset.Said) error {
			r.File = placed(r.File, from, v)
			return fn(r)
		}), from, v)
	}
	return s
}
