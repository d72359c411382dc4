package columnar

import (
	"encoding/binary"
	"math/bits"
)

// decoder gives the values of a page one after another, as they stand in plain pages: little-endian numbers, bytes, one byte for a
// boolean. A value is valid until the next one.
type decoder interface{ next() []byte }

// runs are numbers of a few bits, in runs of equal ones and packed groups of eight.
type runs struct {
	b     []byte
	width int
	left  uint64 // of this run
	value uint64 // of a run of equal ones
	bit   int    // of the next packed one; -1: equal ones
}

func newRuns(b []byte, width int) *runs {
	if width > 32 {
		panic(damaged("numbers of %d bits", width))
	}
	return &runs{b: b, width: width, bit: -1}
}

func (r *runs) number() uint64 {
	if r.width == 0 {
		return 0
	}
	for r.left == 0 {
		head, n := binary.Uvarint(r.b)
		if n <= 0 {
			panic(damaged("a page has fewer values than it says"))
		}
		r.b = r.b[n:]
		if head&1 == 0 {
			r.left, r.bit, r.value = head>>1, -1, 0
			for i := range (r.width + 7) / 8 {
				r.value |= uint64(r.b[i]) << (8 * i)
			}
			r.b = r.b[(r.width+7)/8:]
		} else {
			groups := min(head>>1, uint64(len(r.b))) // the last group may be cut
			r.left, r.bit = groups*8, 0
		}
	}
	r.left--
	if r.bit < 0 {
		return r.value
	}
	v := unpack(r.b, r.bit, r.width)
	if r.bit += r.width; r.left == 0 {
		r.b = r.b[min(r.bit/8, len(r.b)):]
	}
	return v
}

// unpack is the number of so many bits from a bit on.
func unpack(b []byte, bit, width int) uint64 {
	at, shift := bit/8, bit%8
	if at+8 <= len(b) && width <= 56 {
		return binary.LittleEndian.Uint64(b[at:]) >> shift & (1<<width - 1)
	}
	var v uint64
	for have := 0; have < width; at++ {
		c := uint64(b[at]) >> shift
		v |= c << have
		have += 8 - shift
		shift = 0
	}
	if width < 64 {
		v &= 1<<width - 1
	}
	return v
}

// plainFixed are values of one width.
type plainFixed struct {
	b     []byte
	width int
}

func (p *plainFixed) next() []byte {
	v := p.b[:p.width]
	p.b = p.b[p.width:]
	return v
}

// plainBytes stand behind their lengths.
type plainBytes struct{ b []byte }

func (p *plainBytes) next() []byte {
	n := binary.LittleEndian.Uint32(p.b)
	v := p.b[4:][:n]
	p.b = p.b[4+n:]
	return v
}

// truths are booleans: packed bits, or runs.
type truths struct {
	r   *runs
	b   []byte
	bit int
	v   [1]byte
}

func (t *truths) next() []byte {
	if t.r != nil {
		t.v[0] = byte(t.r.number())
	} else {
		t.v[0] = t.b[t.bit/8] >> (t.bit % 8) & 1
		t.bit++
	}
	return t.v[:]
}

// dictionary are the values that pages refer to.
type dictionary struct {
	b     []byte
	width int      // of each value; 0: they have ends
	ends  []uint32 // of texts, which stand behind their lengths
}

func (d *dictionary) at(i uint64) []byte {
	if d.width > 0 {
		return d.b[i*uint64(d.width):][:d.width]
	}
	from := uint32(4)
	if i > 0 {
		from += d.ends[i-1]
	}
	return d.b[from:d.ends[i]]
}

type referring struct {
	d *dictionary
	r *runs
}

func (r *referring) next() []byte {
	i := r.r.number()
	if i >= maxValues {
		panic(damaged("a value is not in the dictionary"))
	}
	return r.d.at(i)
}

// deltas are numbers that differ little from the one before.
type deltas struct {
	b       []byte
	perMini int
	minis   int
	left    uint64
	first   bool
	value   uint64
	least   uint64
	widths  []byte
	mini    int // index of the mini-block
	at      int // value in it
	width   int
	v       [8]byte
	size    int // bytes of a value
}

func newDeltas(b []byte, size int) *deltas {
	d := &deltas{b: b, size: size, first: true}
	block, minis := d.uvarint(), d.uvarint()
	if minis == 0 || minis > 1024 || block == 0 || block > 1<<20 || block%minis != 0 || (block/minis)%8 != 0 {
		panic(damaged("blocks of %d values in %d parts", block, minis))
	}
	d.perMini, d.minis = int(block/minis), int(minis)
	d.left = d.uvarint()
	if d.left > maxValues {
		panic(damaged("a page claims %d values", d.left))
	}
	d.value = d.zigzag()
	d.mini, d.at = d.minis, 0
	return d
}

func (d *deltas) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		panic(damaged("a page ends in a number"))
	}
	d.b = d.b[n:]
	return v
}

func (d *deltas) zigzag() uint64 {
	v := d.uvarint()
	return v>>1 ^ -(v & 1)
}

func (d *deltas) number() uint64 {
	if d.left == 0 {
		panic(damaged("a page has fewer values than it says"))
	}
	d.left--
	if d.first {
		d.first = false
		return d.value
	}
	if d.at == 0 {
		if d.mini == d.minis {
			d.least = d.zigzag()
			d.widths, d.b, d.mini = d.b[:d.minis], d.b[d.minis:], 0
		}
		if d.width = int(d.widths[d.mini]); d.width > 64 {
			panic(damaged("numbers of %d bits", d.width))
		}
	}
	var v uint64
	if d.width > 0 {
		v = unpack(d.b, d.at*d.width, d.width)
	}
	d.value += d.least + v
	if d.at++; d.at == d.perMini || d.left == 0 {
		d.b = d.b[min(d.perMini*d.width/8, len(d.b)):]
		d.at, d.mini = 0, d.mini+1
	}
	return d.value
}

func (d *deltas) next() []byte {
	binary.LittleEndian.PutUint64(d.v[:], d.number())
	return d.v[:d.size]
}

// end reads to the end and returns what stands behind it.
func (d *deltas) end() []byte {
	for d.left > 0 {
		d.number()
	}
	return d.b
}

// deltaBytes are texts: all lengths first, then all bytes.
type deltaBytes struct {
	lengths *deltas
	b       []byte
}

func newDeltaBytes(b []byte) *deltaBytes {
	return &deltaBytes{lengths: newDeltas(b, 4), b: newDeltas(b, 4).end()}
}

func (d *deltaBytes) next() []byte {
	n := int32(d.lengths.number())
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// frontCoded are texts that begin like the one before.
type frontCoded struct {
	shared *deltas
	rest   *deltaBytes
	value  []byte
}

func newFrontCoded(b []byte) *frontCoded {
	return &frontCoded{shared: newDeltas(b, 4), rest: newDeltaBytes(newDeltas(b, 4).end())}
}

func (f *frontCoded) next() []byte {
	n := int32(f.shared.number())
	rest := f.rest.next()
	if n < 0 || int(n) > len(f.value) {
		panic(damaged("a text begins like %d bytes of one that has %d", n, len(f.value)))
	}
	if int(n)+len(rest) > maxRow {
		panic(longRow())
	}
	f.value = append(f.value[:n], rest...)
	return f.value
}

// split are numbers whose first bytes stand together, then their second ones, and so on.
type split struct {
	b           []byte
	width, i, n int
	v           []byte
}

func newSplit(b []byte, width int) *split {
	return &split{b: b, width: width, n: len(b) / width, v: make([]byte, width)}
}

func (s *split) next() []byte {
	if s.i == s.n {
		panic(damaged("a page has fewer values than it says"))
	}
	for k := range s.width {
		s.v[k] = s.b[k*s.n+s.i]
	}
	s.i++
	return s.v
}

// bitsFor is how many bits numbers up to most have.
func bitsFor(most int) int { return bits.Len(uint(most)) }
