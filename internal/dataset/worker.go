package dataset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// worker looks at rows. It keeps nothing from one block to the next but memory.
type worker struct {
	plan *plan
	s    scanner // over the row as it is in the files
	kind scanner // over the row of the kind, where a preset makes it

	members []member
	made    []byte
	digest  digester
	see     func(c columnSet, i int)
	chars   int64

	pii      *pii.Scanner
	findings []pii.Finding
	near     *sketcher
}

func newWorker(p *plan) *worker {
	w := &worker{plan: p}
	w.s.tree = newTree(p)
	w.see = func(_ columnSet, i int) {
		t := w.ofKind().text(i)
		w.chars += int64(characters(t))
		if w.near != nil {
			w.near.text(t)
		}
	}
	if p.layout.Preset != "" {
		w.s.tree.plan = nil
		w.kind.tree = newTree(p)
	}
	return w
}

// found is what one block holds.
type found struct {
	rows     int64
	sig      signature // of its first row
	first    place
	columns  []columnAt // in the order in which they came
	faults   faults
	mixed    bool // some row has another signature than the first one
	problems []forge.RowProblem
	wrong    int64 // how many problems
	marks    []mark
	lengths  [maxBins]int64
	pii      piiBlock
	near     []sketch
}

type columnAt struct {
	name string
	line int64
}

// maxBins is enough for any length.
const maxBins = 40

func (f *found) reset() {
	f.rows, f.sig, f.first, f.mixed, f.wrong = 0, signature{}, place{}, false, 0
	f.columns, f.problems, f.marks, f.near = f.columns[:0], f.problems[:0], f.marks[:0], f.near[:0]
	f.lengths = [maxBins]int64{}
	f.faults.reset()
	f.pii.reset()
}

func (f *found) add(p forge.RowProblem) {
	if f.wrong++; len(f.problems) < maxProblems {
		f.problems = append(f.problems, p)
	}
}

// block looks at all rows of b. like is the signature that they must have, and like's place where it is from; the zero one is that of the
// block's own first row.
func (w *worker) block(b *block, f *found, like signature, from place) {
	f.reset()
	w.begin()
	f.sig, f.first = like, from
	if b.broken != nil {
		f.add(*b.broken)
	}
	_ = b.each(func(line []byte, number, offset int64) error {
		w.row(b, f, line, number, offset)
		return nil
	})
	w.ends(f)
}

func (w *worker) begin() {
	w.s.tree.begin()
	if w.kind.tree != nil {
		w.kind.tree.begin()
	}
}

// row looks at one row; offset is that of its first byte in the file, -1 where it does not stand there like this.
func (w *worker) row(b *block, f *found, line []byte, number, offset int64) {
	if len(line) > MaxLine {
		f.add(*tooLong(b.shown, number))
		return
	}
	if p := badText(line, b.shown, number, offset); p != nil {
		f.add(*p)
		return
	}
	sig, blank, bad := w.read(line, number)
	if blank {
		return
	}
	if bad == nil && f.sig.has == 0 {
		f.sig, f.first = sig, place{b.shown, number}
	}
	if bad == nil && sig != f.sig {
		f.mixed = true
		bad = unfit("this row has %s, but %s line %d has %s; all rows of a dataset are of one kind", sig, f.first.file, f.first.line, f.sig)
	}
	if bad != nil {
		f.add(bad.report(line, b.shown, number))
		return
	}
	ks := w.ofKind()
	f.rows++
	f.faults.note(ks.faults, place{b.shown, number})
	w.chars = 0
	if w.near != nil {
		w.near.begin()
	}
	sum := w.digest.row(ks, sig, w.see)
	f.marks = append(f.marks, mark{binary.BigEndian.Uint64(sum[:]), int64(b.file)<<lineBits | number})
	f.lengths[bits.Len64(uint64(w.chars))]++
	if w.near != nil {
		f.near = append(f.near, sketch{})
		w.near.end(&f.near[len(f.near)-1])
	}
	if w.pii != nil {
		w.personal(b, f, number)
	}
}

// ofKind is the scanner that has read the row of the kind.
func (w *worker) ofKind() *scanner {
	if w.kind.tree != nil {
		return &w.kind
	}
	return &w.s
}

// read reads a row of the files, and makes the row of the kind.
func (w *worker) read(line []byte, number int64) (signature, bool, *problem) {
	w.s.reset(line)
	w.s.tree.line = number
	if w.kind.tree == nil {
		return w.s.row(w.plan, number)
	}
	blank, bad := w.s.any(number)
	if blank || bad != nil {
		return signature{}, blank, bad
	}
	w.members = members(w.members[:0], line)
	if w.made, bad = made(w.plan.layout.Preset, w.made[:0], w.members); bad != nil {
		return signature{}, false, bad
	}
	w.kind.reset(w.made)
	w.kind.tree.line = number
	sig, _, bad := w.kind.row(w.plan, number)
	if bad != nil {
		bad.at = 0 // the user does not see the row that was made
	}
	return sig, false, bad
}

// any reads a row of which no column matters.
func (s *scanner) any(number int64) (blank bool, bad *problem) {
	s.space()
	if s.i == len(s.b) {
		return true, nil
	}
	if s.peek() != '{' {
		return false, s.notAnObject(number)
	}
	if bad := s.object(s.tree.root); bad != nil {
		return false, bad
	}
	if s.space(); s.i < len(s.b) {
		return false, s.bad("after the object comes %s; one object a line", s.found())
	}
	return false, nil
}

// ends gathers what stands in the trees.
func (w *worker) ends(f *found) {
	t := w.ofKind().tree
	for _, n := range t.active {
		if n.up == t.root && n != t.rest {
			if name := w.plan.named(n.name); name != "" {
				f.columns = append(f.columns, columnAt{name, n.line})
			}
		}
	}
	if w.pii != nil {
		f.pii.gather(w.s.tree)
	}
}

// badText says why a line is no text that JSON can stand in.
func badText(line []byte, shown string, number, offset int64) *forge.RowProblem {
	not := func(why, hint string) *forge.RowProblem {
		return &forge.RowProblem{File: shown, Line: number, Why: why, Hint: hint}
	}
	if number == 1 && len(line) > 1 {
		switch {
		case bytes.HasPrefix(line, []byte("\xef\xbb\xbf")):
			return not("starts with a byte order mark, which JSON does not allow", `Remove it: sed -i '1s/^\xEF\xBB\xBF//' FILE`)
		case bytes.HasPrefix(line, []byte("\xff\xfe")), bytes.HasPrefix(line, []byte("\xfe\xff")):
			return not("starts with the byte order mark of UTF-16; a dataset is UTF-8", "Convert it: iconv -f UTF-16 -t UTF-8 in.jsonl > out.jsonl")
		}
	}
	at := func(i int) string {
		if offset < 0 {
			return ""
		}
		return fmt.Sprintf(" at byte offset %d", offset+int64(i))
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		return not(fmt.Sprintf("holds a NUL byte%s: the file is torn, binary, or UTF-16 instead of UTF-8", at(i)), "")
	}
	if utf8.Valid(line) {
		return nil
	}
	i := 0
	for i < len(line) {
		r, n := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return not(fmt.Sprintf("is not UTF-8: byte 0x%02x%s", line[i], at(i)), "Convert it, for example from Latin-1: iconv -f ISO-8859-1 -t UTF-8 in.jsonl > out.jsonl")
}
