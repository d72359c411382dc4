package dataset

import (
	"context"
	"errors"
	"io"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// MaxLine bounds one row. A longer line is refused rather than held in memory: a row of this
// size is far beyond any context window, or it is not JSON Lines at all.
const MaxLine = 16 << 20

// Options tunes a scan.
type Options struct {
	// Progress is told the bytes read so far and the bytes there are; called from the scanning
	// goroutine about every 256 KiB. May be nil.
	Progress func(done, total int64)
}

// Report is what a scan found.
type Report struct {
	Manifest forge.Manifest
	Kind     forge.DatasetKind
	Columns  []string // of all rows together, sorted
	Rows     int64
	Bytes    int64
	Seen     forge.RowsSeen
	Ignored  []string // what else lies below the directory and is no part of the dataset, sorted
}

// Scan reads a .jsonl file, or all .jsonl files below a directory, once: digest and checks
// together. The path must be absolute.
//
// KindInvalid with Field "path" names the file, the line and what is wrong; KindConflict says
// that the data changed while it was read; the context's error comes back as it is.
func Scan(ctx context.Context, path string, o Options) (Report, error) {
	src, err := openSource(path)
	if err != nil {
		return Report{}, err
	}
	defer src.close()
	rep := Report{Manifest: forge.Manifest{Root: src.root}, Ignored: src.ignored}
	m := &meter{ctx: ctx, total: src.size, report: o.Progress}
	t := newTable()
	for _, name := range src.names {
		f, err := scanFile(src, name, m, t)
		if err != nil {
			return Report{}, err
		}
		rep.Manifest.Files = append(rep.Manifest.Files, f)
	}
	if err := src.unchanged(); err != nil {
		return Report{}, err
	}
	rep.Kind, rep.Columns, rep.Rows, rep.Bytes = t.kind, t.sortedColumns(), t.rows, rep.Manifest.Bytes()
	rep.Seen = forge.RowsSeen{Messages: t.sig.list != 0 || t.kind == forge.KindMessages, Findings: t.faults.findings()}
	return rep, nil
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
