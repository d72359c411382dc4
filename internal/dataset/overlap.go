package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// The usual and the greatest values of a comparison.
const (
	DefaultMinText = 16 // characters; what is shorter ("yes", "42") stands everywhere
	overlapPlaces  = 3
	// maxPrints bounds the fingerprints of the smaller side: 8 bytes each, 512 MiB.
	maxPrints = 64 << 20
)

// Side is one of two sets of rows that are compared. Each gives all rows, in order, as often as it is asked.
type Side struct {
	Name string
	Rows int64 // as many as there are, about: the side with fewer is kept in memory
	Each func(ctx context.Context, fn func(Said) error) error
}

// Said is what one row says. Nothing of it may be kept after the call that it is given to.
type Said struct {
	File   string
	Line   int64
	Prompt [][]byte // what is asked; empty where a row has no such part
	Texts  [][]byte // the texts that are looked for one by one
	All    [][]byte // all that is said
}

// OverlapOptions says what counts.
type OverlapOptions struct {
	MinText  int                           // characters; 0: DefaultMinText
	Progress func(step string, rows int64) // may be nil
}

// SideOf is a version, read where it lies.
func SideOf(name string, rows int64, man forge.Manifest, layout forge.DatasetLayout, kind forge.DatasetKind) Side {
	return Side{Name: name, Rows: rows, Each: func(ctx context.Context, fn func(Said) error) error {
		var s Said
		return Read(ctx, man, layout, kind, func(r Row) error {
			s.File, s.Line, s.Prompt, s.Texts, s.All = r.File, r.Line, s.Prompt[:0], s.Texts[:0], s.All[:0]
			if r.File == "." {
				s.File = man.Root
			}
			last := lastAsked(kind, r)
			for i, f := range r.Texts {
				s.All = append(s.All, f.Text)
				if r.Roles[i] == "system" {
					continue
				}
				s.Texts = append(s.Texts, f.Text)
				if i <= last {
					s.Prompt = append(s.Prompt, f.Text)
				}
			}
			return fn(s)
		})
	}}
}

// SaidOf is a row of what is no dataset: a question of a suite.
func SaidOf(file string, line int64, prompt, texts []string) Said {
	s := Said{File: file, Line: line}
	for _, t := range prompt {
		s.Prompt = append(s.Prompt, []byte(t))
	}
	for _, t := range texts {
		s.Texts = append(s.Texts, []byte(t))
	}
	s.All = s.Texts
	return s
}

// SideOfRows is what was read already.
func SideOfRows(name string, rows []Said) Side {
	return Side{Name: name, Rows: int64(len(rows)), Each: func(ctx context.Context, fn func(Said) error) error {
		for _, r := range rows {
			if err := errors.Join(ctx.Err(), fn(r)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// lastAsked is the index of the last text that comes before the answer: of messages the last one before the assistant's last turn, of
// other kinds the last of the prompt. -1: there is no such part.
func lastAsked(kind forge.DatasetKind, r Row) int {
	if kind == forge.KindMessages {
		for i := len(r.Texts) - 1; i >= 0; i-- {
			if r.Roles[i] == "assistant" {
				return i - 1
			}
		}
		return len(r.Texts) - 1
	}
	return r.prompts - 1
}

// measure is one of what is counted: a grain, exactly or normalised.
const measures = 6

func measured(m int) (forge.Grain, bool) { return forge.Grains[m/2], m%2 == 1 }

// prints makes the fingerprints of rows.
type prints struct {
	least     int
	all, norm []byte
}

// of gives fn each fingerprint of a row, with its measure.
func (p *prints) of(s Said, fn func(m int, print uint64)) {
	both := func(m int, texts [][]byte, least int) {
		p.all = p.all[:0]
		for i, t := range texts {
			if i > 0 {
				p.all = append(p.all, '\n') // so that a passage and its question are what they are in one text, too
			}
			p.all = append(p.all, t...)
		}
		p.norm = appendNormal(p.norm[:0], p.all)
		if len(p.norm) == 0 || least > 0 && characters(p.norm) < least {
			return
		}
		fn(m, printOf(p.all))
		fn(m+1, printOf(p.norm))
	}
	both(0, s.All, 0)
	both(2, s.Prompt, 0)
	for i := range s.Texts {
		both(4, s.Texts[i:i+1], p.least)
	}
}

func printOf(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// kept are the fingerprints of one side, and which of them the other side has.
type kept struct {
	sorted [measures][]uint64
	found  [measures][]uint64 // bits; nil: all
}

func (k *kept) index(m int, print uint64) (int, bool) { return slices.BinarySearch(k.sorted[m], print) }

func (k *kept) mark(m int, print uint64) {
	if i, ok := k.index(m, print); ok {
		k.found[m][i/64] |= 1 << (i % 64)
	}
}

func (k *kept) has(m int, print uint64) bool {
	i, ok := k.index(m, print)
	return ok && (k.found[m] == nil || k.found[m][i/64]&(1<<(i%64)) != 0)
}

// Overlap looks in a for what the rows of b say. It reads both sides twice at most, and holds the fingerprints of the smaller one. Texts
// count as equal when 64 bits of their SHA-256 are. KindInvalid says that the smaller side is too large.
func Overlap(ctx context.Context, a, b Side, o OverlapOptions) (forge.Overlap, error) {
	if o.MinText <= 0 {
		o.MinText = DefaultMinText
	}
	inside := b.Rows <= a.Rows // b is kept, and a read by
	small := a
	if inside {
		small = b
	}
	p := &prints{least: o.MinText}
	each := func(step string, s Side, fn func(Said) error) (n int64, err error) {
		err = s.Each(ctx, func(x Said) error {
			if n++; o.Progress != nil && n%1024 == 0 {
				o.Progress(step+" "+s.Name, n)
			}
			return fn(x)
		})
		return n, err
	}
	var k kept
	total := 0
	rows, err := each("reading", small, func(s Said) error {
		p.of(s, func(m int, print uint64) { k.sorted[m], total = append(k.sorted[m], print), total+1 })
		if total > maxPrints {
			return forge.Invalidf("", "%s and %s both have more than %d texts: they cannot be compared in memory", a.Name, b.Name, maxPrints/2).
				WithHint("compare parts: forgectl dataset overlap takes paths of single files, too")
		}
		return nil
	})
	if err != nil {
		return forge.Overlap{}, err
	}
	for m := range k.sorted {
		slices.Sort(k.sorted[m])
		k.sorted[m] = slices.Compact(k.sorted[m])
	}
	out := forge.Overlap{A: a.Name, B: b.Name, RowsA: rows, MinText: o.MinText}
	if inside {
		for m := range k.found {
			k.found[m] = make([]uint64, len(k.sorted[m])/64+1)
		}
		if out.RowsA, err = each("reading", a, func(s Said) error { p.of(s, k.mark); return nil }); err != nil {
			return forge.Overlap{}, err
		}
	}
	c := counter{kept: &k, wanted: map[wanted][]int{}}
	if out.RowsB, err = each("comparing", b, func(s Said) error { c.row(p, s); return nil }); err != nil {
		return forge.Overlap{}, err
	}
	if len(c.wanted) > 0 {
		if _, err = each("placing in", a, func(s Said) error { return c.place(p, s) }); err != nil && !errors.Is(err, errAllPlaced) {
			return forge.Overlap{}, err
		}
	}
	out.Found = c.report()
	return out, nil
}

// wanted is a fingerprint whose place in a is still to be found.
type wanted struct {
	m     int
	print uint64
}

// counter counts the rows of b.
type counter struct {
	kept   *kept
	of     [measures]int64
	hits   [measures]int64
	first  [measures][]forge.OverlapPlace
	wanted map[wanted][]int // → index in first
}

func (c *counter) row(p *prints, s Said) {
	var has, hit [measures]bool
	p.of(s, func(m int, print uint64) {
		has[m] = true
		if hit[m] || !c.kept.has(m, print) {
			return
		}
		if hit[m] = true; len(c.first[m]) < overlapPlaces {
			w := wanted{m, print}
			c.wanted[w] = append(c.wanted[w], len(c.first[m]))
			c.first[m] = append(c.first[m], forge.OverlapPlace{B: s.place()})
		}
	})
	for m := range measures {
		if has[m] {
			c.of[m]++
		}
		if hit[m] {
			c.hits[m]++
		}
	}
}

var errAllPlaced = errors.New("all are placed")

func (c *counter) place(p *prints, s Said) error {
	p.of(s, func(m int, print uint64) {
		w := wanted{m, print}
		for _, i := range c.wanted[w] {
			c.first[m][i].A = s.place()
		}
		delete(c.wanted, w)
	})
	if len(c.wanted) == 0 {
		return errAllPlaced
	}
	return nil
}

func (c *counter) report() (out []forge.OverlapFound) {
	for m := range measures {
		f := forge.OverlapFound{Of: c.of[m], Rows: c.hits[m], First: c.first[m]}
		f.Grain, f.Normalised = measured(m)
		if f.First == nil {
			f.First = []forge.OverlapPlace{}
		}
		if f.Of > 0 {
			f.Share = float64(f.Rows) / float64(f.Of)
		}
		out = append(out, f)
	}
	return out
}

func (s *Said) place() string { return s.File + ":" + strconv.FormatInt(s.Line, 10) }
