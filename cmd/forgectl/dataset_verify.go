package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) datasetVerifyCommand() *cli.Command {
	return &cli.Command{Name: "verify", Usage: "hash the files of a version again: here, or on the server where they are not here", ArgsUsage: "NAME[@VERSION]",
		Description: "Each file that differs is named, and the exit code is 1.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "all versions that are in use"}, &cli.BoolFlag{Name: "on-server", Usage: "forged reads it, on its host"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.datasetVerify(c.Context, args[0], c.Bool("all"), c.Bool("on-server"))
		}}
}

func (a *app) datasetVerify(ctx context.Context, ref string, all, onServer bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	versions, err := a.toVerify(ctx, cl, ref, all)
	if err != nil {
		return err
	}
	out := []api.DatasetVerified{}
	for _, v := range versions {
		r, err := a.verify(ctx, cl, v, onServer)
		if err != nil {
			return err
		}
		out = append(out, r)
	}
	if err := a.printVerified(out, all); err != nil {
		return err
	}
	changed := 0
	for _, r := range out {
		if !r.Intact {
			changed++
		}
	}
	switch {
	case changed == 0:
		return nil
	case all:
		return forge.Errorf(forge.KindInternal, "", "%d of %s are not as they were registered", changed, plural(len(out), "version"))
	}
	return forge.Errorf(forge.KindInternal, "", "%s is not as it was registered; no run uses it", out[0].Name).WithHint("restore the files, or register what is there now as the next version")
}

func (a *app) toVerify(ctx context.Context, cl *client.Client, ref string, all bool) ([]forge.DatasetVersion, error) {
	if !all {
		v, err := a.version(ctx, cl, ref)
		if err == nil && !v.PurgedAt.IsZero() {
			err = readable(v)
		}
		return []forge.DatasetVersion{v}, err
	}
	r, err := forge.ParseRef(ref)
	switch {
	case err != nil:
		return nil, forge.Invalidf("name", "%w", err)
	case r.Number > 0:
		return nil, forge.Invalidf("all", "is for all versions of %s, and %s is one", r.Name, ref)
	}
	d, err := cl.Dataset(ctx, r.Name)
	var out []forge.DatasetVersion
	for _, v := range d.Versions {
		if v.DeletedAt.IsZero() {
			out = append(out, v)
		}
	}
	return out, err
}

func (a *app) verify(ctx context.Context, cl *client.Client, v forge.DatasetVersion, onServer bool) (api.DatasetVerified, error) {
	if !onServer && readable(v) == nil { // a file that is gone below the root is a finding
		return a.verifyHere(ctx, v)
	}
	if !onServer {
		fmt.Fprintf(a.Err, "%s is not on this host; forged reads it on its own\n", clean(v.Manifest.Root))
	}
	once := client.NewOnce()
	stop := a.spin(ctx, "hashing", versionName(v), progressOf(cl, once))
	defer stop()
	return cl.VerifyDataset(ctx, versionName(v), once)
}

func (a *app) verifyHere(ctx context.Context, v forge.DatasetVersion) (api.DatasetVerified, error) {
	if a.Nice != nil {
		a.Nice()
	}
	out := api.DatasetVerified{Name: versionName(v), SHA256: v.SHA256, Differs: []api.FileDiffers{}}
	began := time.Now()
	far, ask := meter()
	stop := a.spin(ctx, "hashing", out.Name, ask)
	defer stop()
	buf := make([]byte, 1<<20)
	for _, f := range v.Manifest.Files {
		sum, n, err := hashHere(ctx, filePath(v.Manifest, f), buf, func(n int64) { far(out.Bytes+n, v.Bytes, 0) })
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		out.Files, out.Bytes = out.Files+1, out.Bytes+n
		name := filePath(v.Manifest, f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out.Differs = append(out.Differs, api.FileDiffers{File: name, Why: "is gone"})
		case err != nil:
			out.Differs = append(out.Differs, api.FileDiffers{File: name, Why: "cannot be read: " + reasonOf(err)})
		case n != f.Size:
			out.Differs = append(out.Differs, api.FileDiffers{File: name, Why: fmt.Sprintf("has %d bytes, and had %d", n, f.Size), Found: sum})
		case sum != f.SHA256:
			out.Differs = append(out.Differs, api.FileDiffers{File: name, Why: "has other content of the same size", Found: sum})
		}
	}
	out.Intact, out.Elapsed = len(out.Differs) == 0, forge.Duration(time.Since(began))
	return out, nil
}

// reasonOf is what the system said, without the path that stands beside it anyway.
func reasonOf(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}

// hashHere reads a file to its end. O_NONBLOCK: what was a file may be a pipe by now, and nobody waits for that.
func hashHere(ctx context.Context, path string, buf []byte, far func(n int64)) (string, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return "", 0, err
	case !fi.Mode().IsRegular():
		return "", 0, errors.New("it is no regular file")
	}
	h := sha256.New()
	n, err := copyTo(ctx, h, f, buf, far)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

func copyTo(ctx context.Context, h hash.Hash, r io.Reader, buf []byte, far func(n int64)) (n int64, err error) {
	for ctx.Err() == nil {
		k, err := r.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
		far(n)
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
	return n, ctx.Err()
}

func (a *app) printVerified(all []api.DatasetVerified, list bool) error {
	p := a.printer()
	if p.mode == modeJSON {
		if list {
			return p.done(jsonList(p, each(all)))
		}
		return p.done(p.json(all[0]))
	}
	if !p.people() {
		t := p.table()
		for _, r := range all {
			if r.Intact {
				t.row(r.Name, "intact", "", "")
			}
			for _, d := range r.Differs {
				t.row(r.Name, "differs", d.File, d.Why)
			}
		}
		return p.done(nil)
	}
	for _, r := range all {
		if r.Intact {
			p.line("%s is as it was registered: %s, %s read in %s", clean(r.Name), plural(r.Files, "file"), size(r.Bytes), r.Elapsed.D().Round(10*time.Millisecond))
		}
		for _, d := range r.Differs {
			p.line("%s: %s", clean(r.Name), clean(d.File+" "+d.Why))
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(a.Err, "no version of it is in use")
	}
	return p.done(nil)
}
