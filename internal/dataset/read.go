package dataset

import (
	"bytes"
	"context"
	"os"
	"sync"

	forge "github.com/forge-ml/forge-ml"
)

// Row is one row as it is read again. Nothing of it may be kept after the call that it is given to.
type Row struct {
	File   string   // as the manifest names it
	Line   int64    // from 1; the number of the row in formats without lines
	JSON   []byte   // one object with the columns of the files: as it stands there, or as the same value in JSON
	Fields []Field  // all texts in it, in order
	Texts  []Field  // what Digest is of: the texts of the columns of the kind, after map or preset
	Roles  []string // of each of Texts: whose turn it is in a conversation; empty where it is of none
	Digest [32]byte // SHA-256 of Texts, the same in every format (docs/dataset-formats.md)

	prompts int // how many of Texts, from the first, are the prompt
}

// Field is one text of a row.
type Field struct {
	Path string // as columns nest: messages[].content
	Text []byte // UTF-8, without the escapes of JSON
}

// Read reads the rows of a version again, in their order, and stops at the first error that fn returns. Memory is bounded by a block of rows.
// It does not check digests: KindConflict says that a file has another size than the manifest says, *Problems that a row is none.
func Read(ctx context.Context, man forge.Manifest, layout forge.DatasetLayout, kind forge.DatasetKind, fn func(Row) error) error {
	if layout.Format == "" {
		layout.Format = forge.FormatJSONL
	}
	p, err := newPlan(layout, kind)
	if err != nil {
		return err
	}
	src, err := sourceOf(man, layout.Format)
	if err != nil {
		return err
	}
	defer src.close()
	r := newRowAgain(p, fn)
	m := &meter{ctx: ctx}
	for i, file := range man.Files {
		if err := r.file(src, i, file, m); err != nil {
			return err
		}
	}
	return nil
}

// sourceOf is the source of a manifest: those files and no others.
func sourceOf(man forge.Manifest, format forge.DatasetFormat) (*source, error) {
	s := &source{root: man.Root, format: format}
	if len(man.Files) == 1 && man.Files[0].Path == "." {
		s.single = true
		return s, nil
	}
	var err error
	if s.dir, err = os.OpenRoot(man.Root); err != nil {
		return nil, unreadable(man.Root, err)
	}
	return s, nil
}

// rowAgain gives rows to fn.
type rowAgain struct {
	fn  func(Row) error
	w   *worker
	out Row
	at  int // the turn that the text before was of
}

func newRowAgain(p *plan, fn func(Row) error) *rowAgain {
	r := &rowAgain{fn: fn, w: newWorker(p)}
	r.w.see = func(c columnSet, i int) {
		ks := r.w.ofKind()
		role := ""
		for n := range ks.turns { // most often the one of the text before, or the next; columns may come in another order
			n = (r.at + n) % len(ks.turns)
			if t := ks.turns[n]; t.content == i || i >= t.from && i < t.till {
				role, r.at = t.role, n
				break
			}
		}
		r.out.Roles = append(r.out.Roles, role)
		if c == colPrompt {
			r.out.prompts++
		}
		r.out.Texts = append(r.out.Texts, Field{ks.spans[i].at.path(), ks.text(i)})
	}
	return r
}

func (r *rowAgain) file(src *source, i int, file forge.File, m *meter) error {
	f, err := src.open(file.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.before.Size() != file.Size {
		return changedSince(f.shown)
	}
	named := file.Path
	if src.single {
		named = src.root
	}
	r.out.File = file.Path
	return rowsOf(f, src.format, named, m.through(f), i, func(b *block) error {
		defer b.release()
		r.w.begin()
		if b.broken != nil {
			return &Problems{Rows: []forge.RowProblem{*b.broken}, Total: 1, Format: src.format}
		}
		return b.each(func(line []byte, number, offset int64) error {
			p, err := r.row(f.shown, line, number, offset)
			if p != nil {
				return &Problems{Rows: []forge.RowProblem{*p}, Total: 1, Format: src.format}
			}
			return err
		})
	})
}

func (r *rowAgain) row(shown string, line []byte, number, offset int64) (*forge.RowProblem, error) {
	if len(line) > MaxLine {
		return tooLong(shown, number), nil
	}
	if p := badText(line, shown, number, offset); p != nil {
		return p, nil
	}
	sig, blank, bad := r.w.read(line, number)
	if bad != nil {
		p := bad.report(line, shown, number)
		return &p, nil
	}
	if blank {
		return nil, nil
	}
	o := &r.out
	o.Line, o.JSON, o.Fields, o.Texts = number, bytes.TrimSpace(line), o.Fields[:0], o.Texts[:0]
	o.Roles, o.prompts, r.at = o.Roles[:0], 0, 0
	for i := range r.w.s.spans {
		o.Fields = append(o.Fields, Field{r.w.s.spans[i].at.path(), r.w.s.text(i)})
	}
	o.Digest = r.w.digest.row(r.w.ofKind(), sig, r.w.see)
	return nil, r.fn(*o)
}

var rewriters = sync.Pool{New: func() any { return &scanner{tree: newTree(nil)} }}

// Rewrite appends row, a JSON object, to dst, with each of its texts replaced by what fn appends for it; keys and all else stay as they are.
func Rewrite(dst, row []byte, fn func(dst []byte, f Field) []byte) ([]byte, error) {
	s := rewriters.Get().(*scanner)
	defer rewriters.Put(s)
	s.tree.begin()
	s.reset(row)
	if _, bad := s.any(0); bad != nil {
		return dst, forge.Invalidf("path", "%s", bad.why)
	}
	at := 0
	var text []byte
	for i := range s.spans {
		raw, from := s.spans[i].raw, s.spans[i].from
		before := s.text(i)
		text = fn(text[:0], Field{s.spans[i].at.path(), before})
		dst = append(dst, row[at:from]...)
		if bytes.Equal(before, text) {
			dst = append(dst, raw...)
		} else {
			dst = append(dst, inner(appendQuoted(nil, text))...)
		}
		at = from + len(raw)
	}
	return append(dst, row[at:]...), nil
}
