package dataset

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// mark is the fingerprint of a row, the first 8 bytes of its digest, and where it is: the file in the upper bits, the line below.
// Two different rows have the same fingerprint once in 2^64 pairs: among 100 million rows with a chance of 1 in 3,700.
type mark struct {
	fp uint64
	at int64
}

const (
	lineBits = 40
	markSize = 16
)

// maxMarks is how many are held in memory: 32 MiB. More are sorted in parts, which lie in a temporary file without a name.
var maxMarks = 2 << 20

func compareMarks(a, b mark) int { return cmp.Or(cmp.Compare(a.fp, b.fp), cmp.Compare(a.at, b.at)) }

// duplicates finds equal fingerprints by sorting: exactly, in bounded memory, whatever the number of rows.
type duplicates struct {
	held []mark
	most int
	tmp  *os.File
	runs []int64 // where each sorted part ends in tmp
}

func (d *duplicates) add(marks []mark) error {
	for len(marks) > 0 {
		n := min(len(marks), d.most-len(d.held))
		if len(d.held)+n > cap(d.held) { // by half would be five times the memory
			d.held = slices.Grow(d.held, min(max(n, len(d.held), 4096), d.most-len(d.held)))
		}
		d.held = append(d.held, marks[:n]...)
		if marks = marks[n:]; len(d.held) == d.most {
			if err := d.spill(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *duplicates) spill() (err error) {
	defer func() {
		if err != nil {
			err = (&forge.Error{Kind: forge.KindUnavailable, Op: "dataset.scan", Err: err}).
				WithHint("Fingerprints of so many rows are sorted in a temporary file, 16 bytes a row; TMPDIR names the directory")
		}
	}()
	if d.tmp == nil {
		if d.tmp, err = os.CreateTemp("", "forge-scan-*"); err != nil {
			return err
		}
		if err = os.Remove(d.tmp.Name()); err != nil {
			return err
		}
	}
	slices.SortFunc(d.held, compareMarks)
	w := bufio.NewWriterSize(d.tmp, blockSize)
	for _, m := range d.held {
		b := binary.BigEndian.AppendUint64(w.AvailableBuffer(), m.fp)
		if _, err = w.Write(binary.BigEndian.AppendUint64(b, uint64(m.at))); err != nil {
			return err
		}
	}
	if err = w.Flush(); err != nil {
		return err
	}
	end := int64(len(d.held)) * markSize
	if len(d.runs) > 0 {
		end += d.runs[len(d.runs)-1]
	}
	d.runs, d.held = append(d.runs, end), d.held[:0]
	return nil
}

func (d *duplicates) close() {
	if d.tmp != nil {
		_ = d.tmp.Close()
	}
}

// part is one sorted part, read from its beginning.
type part struct {
	r    *bufio.Reader // nil: in memory
	held []mark
	head mark
}

func (p *part) next() (bool, error) {
	if p.r == nil {
		if len(p.held) == 0 {
			return false, nil
		}
		p.head, p.held = p.held[0], p.held[1:]
		return true, nil
	}
	var b [markSize]byte
	if _, err := io.ReadFull(p.r, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	p.head = mark{binary.BigEndian.Uint64(b[:8]), int64(binary.BigEndian.Uint64(b[8:]))}
	return true, nil
}

// sorted calls fn with all marks in order.
func (d *duplicates) sorted(fn func(mark) error) error {
	slices.SortFunc(d.held, compareMarks)
	parts := []*part{{held: d.held}}
	from := int64(0)
	for _, end := range d.runs {
		parts = append(parts, &part{r: bufio.NewReaderSize(io.NewSectionReader(d.tmp, from, end-from), 64<<10)})
		from = end
	}
	live := parts[:0]
	for _, p := range parts {
		more, err := p.next()
		if err != nil {
			return err
		}
		if more {
			live = append(live, p)
		}
	}
	for len(live) > 0 {
		least := 0
		for i := 1; i < len(live); i++ {
			if compareMarks(live[i].head, live[least].head) < 0 {
				least = i
			}
		}
		if err := fn(live[least].head); err != nil {
			return err
		}
		more, err := live[least].next()
		if err != nil {
			return err
		}
		if !more {
			live = slices.Delete(live, least, least+1)
		}
	}
	return nil
}

// same is a row and the first one that says the same.
type same struct{ row, first int64 }

// report counts the rows that say the same as an earlier one, names the first few, and writes all fingerprints to w, where there is one.
func (d *duplicates) report(w io.Writer, name func(at int64) string) (forge.Duplicates, error) {
	out := forge.Duplicates{First: []string{}}
	var few []same
	var first mark
	seen := false
	var to *bufio.Writer
	if w != nil {
		to = bufio.NewWriterSize(w, 64<<10)
	}
	err := d.sorted(func(m mark) error {
		if to != nil {
			if _, err := to.Write(binary.BigEndian.AppendUint64(to.AvailableBuffer(), m.fp)); err != nil {
				return err
			}
		}
		if !seen || m.fp != first.fp {
			first, seen = m, true
			return nil
		}
		out.Rows++
		if len(few) < shownPlaces || m.at < few[len(few)-1].row {
			i, _ := slices.BinarySearchFunc(few, m.at, func(s same, at int64) int { return cmp.Compare(s.row, at) })
			few = slices.Insert(few, i, same{m.at, first.at})
			few = few[:min(len(few), shownPlaces)]
		}
		return nil
	})
	if err == nil && to != nil {
		err = to.Flush()
	}
	for _, s := range few {
		out.First = append(out.First, name(s.row)+" = "+name(s.first))
	}
	return out, err
}
