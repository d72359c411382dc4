package dataset

import (
	"math/bits"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// Near duplicates are found by MinHash: of all runs of 5 words of a row, 60 hash functions keep the smallest value; the part of equal ones
// estimates the Jaccard similarity of two rows, give or take 0.05. Rows that agree in one of 12 bands of 5 values are compared: of pairs
// with a similarity of 0.8 that is 99 %.
const (
	shingle = 5
	bands   = 12
	perBand = 5
	hashes  = bands * perBand
	maxNear = 300_000 // rows that are kept to compare with, some 300 bytes each
)

// sketch is what is kept of one row.
type sketch struct {
	low  [hashes]uint8 // of each smallest value the lowest byte
	band [bands]uint64
	none bool // no words
}

type sketcher struct {
	mul, add [hashes]uint64
	least    [hashes]uint32
	last     [shingle]uint64 // the words before
	words    int
}

func newSketcher() *sketcher {
	s := &sketcher{}
	x := uint64(0x9e3779b97f4a7c15)
	for i := range hashes {
		x = mix(x + 1)
		s.mul[i] = x | 1
		x = mix(x + 1)
		s.add[i] = x
	}
	return s
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// begin forgets the row before.
func (s *sketcher) begin() {
	s.words = 0
	for i := range s.least {
		s.least[i] = ^uint32(0)
	}
}

// text takes the next text of the row: words in lower case, without what stands between them.
func (s *sketcher) text(t []byte) {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for i := 0; i < len(t); {
		c, n := rune(t[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRune(t[i:])
		} else if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		i += n
		in := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 0xaa && c != 0xab && c != 0xbb && (c < 0x2000 || c > 0x206f)
		alone := c >= 0x2e80 && c <= 0xd7ff || c >= 0x20000 // scripts that put no spaces between words
		if h != offset && (!in || alone) {
			s.word(h)
			h = offset
		}
		if in {
			h = (h ^ uint64(c)) * prime
		}
		if alone {
			s.word(h)
			h = offset
		}
	}
	if h != offset {
		s.word(h)
	}
}

func (s *sketcher) word(h uint64) {
	copy(s.last[:], s.last[1:])
	s.last[shingle-1] = mix(h)
	if s.words++; s.words >= shingle {
		s.keep(s.last[:])
	}
}

func (s *sketcher) keep(words []uint64) {
	x := uint64(0)
	for _, w := range words {
		x = bits.RotateLeft64(x, 9)*0x9e3779b97f4a7c15 + w
	}
	x = mix(x)
	for i := range hashes {
		if v := uint32((x*s.mul[i] + s.add[i]) >> 32); v < s.least[i] {
			s.least[i] = v
		}
	}
}

// end is the sketch of the row.
func (s *sketcher) end(out *sketch) {
	if out.none = s.words == 0; out.none {
		return
	}
	if s.words < shingle { // all there is
		s.keep(s.last[shingle-s.words:])
	}
	for b := range bands {
		x := uint64(b)
		for i := b * perBand; i < (b+1)*perBand; i++ {
			x = mix(x ^ uint64(s.least[i]))
			out.low[i] = uint8(s.least[i])
		}
		out.band[b] = x
	}
}

// nearby finds rows that are nearly an earlier one.
type nearby struct {
	threshold float64
	kept      []keptRow
	most      int
	slots     []uint64 // of a band: 40 bits of its hash, 24 of the row's number in kept, from 1; half of them are empty
	counted   map[uint64]struct{}
	full      bool
	rows      int64
	few       []same
}

type keptRow struct {
	mark
	low [hashes]uint8
}

func newNearby(threshold float64) *nearby {
	return &nearby{threshold: threshold, most: maxNear, slots: make([]uint64, 1<<12), counted: map[uint64]struct{}{}}
}

func (n *nearby) add(rows []sketch, marks []mark) {
	for i := range rows {
		if !rows[i].none {
			n.row(&rows[i], marks[i])
		}
	}
}

func (n *nearby) row(r *sketch, m mark) {
	best := -1
	mask := len(n.slots) - 1
	for _, h := range r.band {
		for at := int(h>>24) & mask; n.slots[at] != 0; at = (at + 1) & mask {
			if n.slots[at]>>24 != h>>24 {
				continue
			}
			k := int(n.slots[at]&(1<<24-1)) - 1
			if k == best {
				break
			}
			if n.kept[k].fp == m.fp {
				return // exactly that row
			}
			if best < 0 && n.alike(k, r) {
				best = k
			}
		}
	}
	if best >= 0 {
		if _, exactly := n.counted[m.fp]; exactly {
			return
		}
		if len(n.counted) < n.most {
			n.counted[m.fp] = struct{}{}
		}
		if n.rows++; len(n.few) < shownPlaces {
			n.few = append(n.few, same{m.at, n.kept[best].at})
		}
		return
	}
	if len(n.kept) == n.most {
		n.full = true
		return
	}
	n.kept = append(n.kept, keptRow{m, r.low})
	if len(n.kept)*bands*2 > len(n.slots) {
		old := n.slots
		n.slots = make([]uint64, 2*len(old))
		for _, s := range old {
			if s != 0 {
				n.put(s)
			}
		}
	}
	for _, h := range r.band {
		n.put(h>>24<<24 | uint64(len(n.kept)))
	}
}

func (n *nearby) put(slot uint64) {
	mask := len(n.slots) - 1
	at := int(slot>>24) & mask
	for n.slots[at] != 0 {
		at = (at + 1) & mask
	}
	n.slots[at] = slot
}

func (n *nearby) alike(k int, r *sketch) bool {
	same := 0
	for i, v := range n.kept[k].low {
		if v == r.low[i] {
			same++
		}
	}
	return float64(same) >= n.threshold*hashes
}

func (n *nearby) report(d *forge.Duplicates, name func(at int64) string) {
	d.Near, d.Threshold = n.rows, n.threshold
	for _, s := range n.few {
		d.NearFirst = append(d.NearFirst, name(s.row)+" ≈ "+name(s.first))
	}
	if n.full {
		d.NearAmong = int64(len(n.kept))
	}
}
