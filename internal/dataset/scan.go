package dataset

import (
	"context"
	"io"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// MaxLine bounds one row. A longer line is refused rather than held in memory: a row of this
// size is far beyond any context window, or it is not JSON Lines at all.
const MaxLine = 16 << 20

// Options says what a scan looks for.
type Options struct {
	Kind    forge.DatasetKind   // empty: recognised from the columns of the first row
	Map     map[string]string   // column of the kind → column of the files, where they differ
	Preset  string              // alpaca or sharegpt, instead of a map
	Format  forge.DatasetFormat // empty: by the names of the files
	Threads int                 // goroutines that look at rows, beside the one that reads and digests; 0 and 1: one. The result does not depend on it
	PII     *pii.Options        // nil: nobody looks for personal data
	Near    float64             // from which Jaccard similarity of word shingles on rows are near duplicates, like 0.8; 0: nobody looks
	By      forge.ScannedBy     // whose process this is, for the report
	Scanner string              // version of this program, for the report

	// Fingerprints takes the first 8 bytes of the digest of each row, big endian, in ascending order, equal ones as often as
	// there are rows. May be nil. It is written to once all rows are known to be good.
	Fingerprints io.Writer
	// Progress is told the bytes read so far, the bytes there are, and the rows looked at; called from one goroutine, about
	// every 256 KiB. May be nil.
	Progress func(done, total, rows int64)
}

// Result is what a scan found.
type Result struct {
	forge.Scanned
	Ignored []string // what else lies below the directories that were given and is no part of the dataset, sorted
}

// Scan reads the files, directories and globs that paths name, once: digest, checks and everything that Options asks for.
// All paths are absolute. One file is a dataset of its own; of several the common directory is the root.
//
// *Problems, a KindInvalid error with Field "path", lists the rows and files that are none; other KindInvalid errors say what is
// wrong with paths and options; KindConflict says that the data changed while it was read; the context's error comes back as it is.
func Scan(ctx context.Context, paths []string, o Options) (Result, error) {
	began := time.Now()
	src, err := openSource(paths, o.Format)
	if err != nil {
		return Result{}, err
	}
	defer src.close()
	layout := forge.DatasetLayout{Format: src.format, Map: o.Map, Preset: o.Preset}
	p, err := newPlan(layout, o.Kind)
	if err != nil {
		return Result{}, err
	}
	if o.Near < 0 || o.Near > 1 {
		return Result{}, forge.Invalidf("near", "%v is no similarity; want one above 0, up to 1", o.Near)
	}
	x := newPass(p, o)
	defer x.sum.same.close()
	x.sum.total = src.size
	x.sum.problems.Format = src.format
	x.sum.problems.take(src.wrong, int64(len(src.wrong)))
	if err := x.run(ctx, func(ctx context.Context, out emit) error { return src.read(&meter{ctx: ctx, total: src.size}, out) }); err != nil {
		return Result{}, err
	}
	if x.sum.problems.Total > 0 {
		return Result{}, &x.sum.problems
	}
	if err := src.unchanged(); err != nil {
		return Result{}, err
	}
	res := Result{Ignored: src.ignored}
	if res.Scanned, err = x.sum.scanned(began); err != nil {
		return Result{}, err
	}
	res.Manifest, res.Layout = forge.Manifest{Root: src.root, Files: x.sum.files}, layout
	return res, nil
}
