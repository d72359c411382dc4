package main

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// sampleMost bounds what is held in memory: a row may have 16 MiB.
const sampleMost = 1000

type sampleOptions struct {
	ref    string
	n      int
	seed   uint64
	row    int64 // from 1; 0: a sample
	digest bool
}

func (a *app) datasetSampleCommand() *cli.Command {
	return &cli.Command{Name: "sample", Usage: "show a few rows, chosen by a seed, with personal data masked; it is read here", ArgsUsage: "NAME[@VERSION]",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "rows", Aliases: []string{"n"}, Usage: "how many", Value: 5},
			&cli.Uint64Flag{Name: "seed", Usage: "which ones: the same seed shows the same rows", Value: 1},
			&cli.Int64Flag{Name: "row", Usage: "this one instead, counted from 1 over all files"},
			&cli.BoolFlag{Name: "digest", Usage: "print only the digests, for dataset impact"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			o := sampleOptions{ref: args[0], n: c.Int("rows"), seed: c.Uint64("seed"), row: c.Int64("row"), digest: c.Bool("digest")}
			switch {
			case o.n < 1 || o.n > sampleMost:
				return forge.Invalidf("rows", "%d: want 1 to %d", o.n, sampleMost)
			case c.IsSet("row") && o.row < 1:
				return forge.Invalidf("row", "%d: rows are counted from 1", o.row)
			}
			return a.datasetSample(c.Context, o)
		}}
}

func (a *app) datasetSample(ctx context.Context, o sampleOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	v, err := a.version(ctx, cl, o.ref)
	if err != nil {
		return err
	}
	rows, err := a.sample(ctx, v, o)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(rows)))
	}
	for i, r := range rows {
		switch {
		case o.digest:
			p.table().row(r.Digest)
		case !p.people():
			// The row is JSON, which has escapes of its own: what clean would make of it may be none any more.
			p.line("%s\t%d\t%s\t%s", clean(r.Place), r.Number, r.Digest, r.Row)
		default:
			if i > 0 {
				p.line("")
			}
			p.conversation(r)
		}
	}
	return p.done(nil)
}

// sample chooses rows in one pass: the first n, and then each later one with the chance that it must have for
// all to be equally likely (Vitter's algorithm R).
func (a *app) sample(ctx context.Context, v forge.DatasetVersion, o sampleOptions) ([]rowOut, error) {
	if o.row > v.Rows {
		return nil, noSuchRow(v, o.row)
	}
	m, rng := newMasker(), rand.New(rand.NewPCG(o.seed, 0))
	var kept []rowOut
	err := a.rows(ctx, v, "reading", func(n int64, r dataset.Row) error {
		at := len(kept)
		switch {
		case o.row > 0:
			if n != o.row {
				return nil
			}
		case len(kept) >= o.n:
			j := rng.Int64N(n)
			if j >= int64(o.n) {
				return nil
			}
			at = int(j)
		}
		out, err := m.row(v, n, r)
		if err != nil {
			return err
		}
		if at == len(kept) {
			kept = append(kept, out)
		} else {
			kept[at] = out
		}
		if o.row > 0 {
			return errEnough
		}
		return nil
	})
	slices.SortFunc(kept, func(a, b rowOut) int { return int(a.Number - b.Number) })
	return kept, err
}

func noSuchRow(v forge.DatasetVersion, n int64) error {
	return forge.Errorf(forge.KindNotFound, "", "%s has %s rows and no row %s", versionName(v), thousands(v.Rows), thousands(n))
}

// rowPlace is FILE:LINE; a version of a single file calls that "." itself.
func rowPlace(v forge.DatasetVersion, r dataset.Row) string {
	file := r.File
	if file == "." {
		file = filepath.Base(v.Manifest.Root)
	}
	return file + ":" + strconv.FormatInt(r.Line, 10)
}

func digestText(d [32]byte) string { return hex.EncodeToString(d[:]) }
