package dataset

import (
	"context"
	"errors"
	"io"
	"slices"
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
	if len(paths) != 1 {
		return Result{}, forge.Invalidf("path", "want one path, have %d", len(paths))
	}
	began := time.Now()
	src, err := openSource(paths[0])
	if err != nil {
		return Result{}, err
	}
	defer src.close()
	res := Result{Ignored: src.ignored}
	res.Manifest = forge.Manifest{Root: src.root}
	t := newTable()
	m := &meter{ctx: ctx, total: src.size}
	if o.Progress != nil {
		m.report = func(done, total int64) { o.Progress(done, total, t.rows) }
	}
	for _, name := range src.names {
		f, err := scanFile(src, name, m, t)
		if err != nil {
			return Result{}, err
		}
		res.Manifest.Files = append(res.Manifest.Files, f)
	}
	if err := src.unchanged(); err != nil {
		return Result{}, err
	}
	res.Kind, res.Columns, res.Rows, res.Layout = t.kind, t.sortedColumns(), t.rows, forge.DatasetLayout{Format: forge.FormatJSONL}
	res.Seen = forge.RowsSeen{Messages: t.sig.list != 0 || t.kind == forge.KindMessages, Findings: t.faults.findings()}
	res.Report = forge.ScanReport{Scanner: o.Scanner, By: o.By, At: time.Now().UTC(), Elapsed: forge.Duration(time.Since(began)),
		Duplicates: forge.Duplicates{First: []string{}}, Lengths: []forge.LengthBin{}}
	return res, nil
}

// scanFile reads one file of the source into the table.
func scanFile(src *source, name string, m *meter, t *table) (forge.File, error) {
	shown := src.shown(name)
	f, err := src.open(name)
	if err != nil {
		return forge.File{}, err
	}
	defer f.Close()
	if f.before.Size() == 0 {
		return forge.File{}, forge.Invalidf("path", "%s is empty", shown)
	}
	before := t.rows
	l := newLines(m.through(f))
	err = scanLines(l, shown, t)
	// A writer that is still at work tears the last row; say that, and not what the torn row
	// looks like.
	if changed := f.unchanged(); changed != nil && (err == nil || forge.KindOf(err) == forge.KindInvalid) {
		return forge.File{}, changed
	}
	if err != nil {
		return forge.File{}, err
	}
	if m.file != f.before.Size() {
		return forge.File{}, changed(shown)
	}
	if t.rows == before {
		return forge.File{}, forge.Invalidf("path", "%s has no rows, only blank lines", shown)
	}
	return f.entry(name, m.sum()), nil
}

func scanLines(l *lines, shown string, t *table) error {
	for {
		line, err := l.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errLineTooLong):
			return forge.Invalidf("path", "%s: line %d is longer than %d MiB", shown, l.number, MaxLine>>20).
				WithHint("A row is one JSON object on one line; is this JSON Lines? A pretty-printed or .json file converts with: jq -c '.[]' in.json > out.jsonl")
		case err != nil:
			return readFailed(shown, err)
		}
		if err := checkEncoding(line, l, shown); err != nil {
			return err
		}
		if p := t.row(line, place{file: shown, line: l.number}); p != nil {
			return p.report(line, shown, l.number)
		}
	}
}

// sortedColumns is the union over all rows.
func (t *table) sortedColumns() []string {
	cols := make([]string, 0, len(t.columns))
	for c := range t.columns {
		cols = append(cols, c)
	}
	slices.Sort(cols)
	return cols
}
