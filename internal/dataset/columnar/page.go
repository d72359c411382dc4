package columnar

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// chunk is the stored form of a leaf in one row group.
type chunk struct {
	codec      int
	values     int64
	from, size int64
}

// cursor stands at one value of a leaf.
type cursor struct {
	at    chunk
	left  int64 // values of the chunk that are not read
	more  int64 // of them in this page
	ended bool

	repAt, defAt int // levels of the value
	value        []byte
	reps, defs   *runs
	values       decoder
	dict         *dictionary
	dictBuf      []byte
	pageBuf      []byte
}

// The codecs that are read.
const (
	codecNone   = 0
	codecSnappy = 1
	codecGzip   = 2
	codecZstd   = 6
	codecLZ4    = 7
)

var codecNames = map[int]string{3: "LZO", 4: "Brotli", 5: "the LZ4 of Hadoop"}

// pages reads the pages of all leaves and knows how much of them is held.
type pages struct {
	r      io.ReaderAt
	size   int64
	held   int64
	packed []byte // a page before it is unpacked
	zstd   *zstd.Decoder
}

// hold makes buf as long as n, within the bound of all that is held. Its capacity is its length, so that no decoder reads what
// stood there before.
func (p *pages) hold(buf []byte, n int64) []byte {
	if n < 0 {
		panic(damaged("a page claims %d bytes", n))
	}
	if n <= int64(cap(buf)) {
		return buf[:n]
	}
	if p.held += n - int64(cap(buf)); p.held > maxUnpacked {
		panic(tooLarge(p.held))
	}
	return make([]byte, n)
}

// start begins a chunk.
func (p *pages) start(l *leaf, c chunk) {
	if c.from < 4 || c.size < 0 || c.from > p.size || c.size > p.size-c.from {
		panic(damaged("column %s stands at bytes %d to %d of %d", l.name, c.from, c.from+c.size, p.size))
	}
	l.at, l.left, l.more, l.ended, l.dict = c, c.values, 0, false, nil
	p.advance(l)
}

// advance moves to the next value, and to the next page where one ends.
func (p *pages) advance(l *leaf) {
	if l.left == 0 {
		l.ended, l.repAt, l.defAt = true, 0, 0
		return
	}
	for l.more == 0 {
		p.page(l)
	}
	l.left--
	l.more--
	l.repAt, l.defAt = 0, 0
	if l.rep > 0 {
		l.repAt = int(l.reps.number())
	}
	if l.def > 0 {
		l.defAt = int(l.defs.number())
	}
	if l.repAt > l.rep || l.defAt > l.def {
		panic(damaged("column %s nests deeper than it says", l.name))
	}
	if l.defAt == l.def {
		l.value = l.values.next()
	}
}

// header is what stands before a page.
type header struct {
	kind               int64
	unpacked, packed   int64
	values             int64
	encoding           int64
	defEncoding        int64
	defBytes, repBytes int64
	plain              bool // of a page of the second version: its values are not compressed
}

func (p *pages) header(l *leaf) header {
	const most = 64 << 10 // with statistics of long texts
	n := min(l.at.size, most)
	p.packed = p.hold(p.packed, n)
	if err := readAt(p.r, p.packed, l.at.from); err != nil {
		panic(err)
	}
	t := &thrift{b: p.packed[:n:n]}
	var h header
	ints := func(into map[int16]*int64, then func(id int16, kind byte) bool) {
		t.fields(func(id int16, kind byte) {
			switch v := into[id]; {
			case v != nil && kind == 5:
				*v = t.int()
			case then == nil || !then(id, kind):
				t.skip(kind)
			}
		})
	}
	ints(map[int16]*int64{1: &h.kind, 2: &h.unpacked, 3: &h.packed}, func(id int16, kind byte) bool {
		switch {
		case kind != thriftStruct:
			return false
		case id == 5:
			ints(map[int16]*int64{1: &h.values, 2: &h.encoding, 3: &h.defEncoding}, nil)
		case id == 7:
			ints(map[int16]*int64{1: &h.values, 2: &h.encoding}, nil)
		case id == 8:
			ints(map[int16]*int64{1: &h.values, 4: &h.encoding, 5: &h.defBytes, 6: &h.repBytes}, func(id int16, kind byte) bool {
				h.plain = h.plain || id == 7 && kind == thriftFalse
				return false
			})
		default:
			return false
		}
		return true
	})
	l.at.from, l.at.size = l.at.from+int64(t.i), l.at.size-int64(t.i)
	switch {
	case h.packed < 0 || h.packed > l.at.size:
		panic(damaged("a page of column %s claims %d bytes and has %d", l.name, h.packed, l.at.size))
	case h.values < 0 || h.values > maxValues:
		panic(damaged("a page of column %s claims %d values", l.name, h.values))
	case h.unpacked < 0 || h.unpacked > maxUnpacked:
		panic(tooLarge(h.unpacked))
	}
	return h
}

// page reads the next page of data, and the dictionary where one stands before it.
func (p *pages) page(l *leaf) {
	if l.at.size <= 0 {
		panic(damaged("column %s has fewer values than it says", l.name))
	}
	h := p.header(l)
	p.packed = p.hold(p.packed, h.packed)
	if err := readAt(p.r, p.packed, l.at.from); err != nil {
		panic(err)
	}
	l.at.from, l.at.size = l.at.from+h.packed, l.at.size-h.packed
	switch h.kind {
	case 2:
		l.dictBuf = p.hold(l.dictBuf, h.unpacked)
		p.unpack(l, l.dictBuf, p.packed)
		l.dict = newDictionary(l, l.dictBuf[:h.unpacked:h.unpacked], h.values)
	case 0:
		l.pageBuf = p.hold(l.pageBuf, h.unpacked)
		p.unpack(l, l.pageBuf, p.packed)
		body := l.pageBuf[:h.unpacked:h.unpacked]
		l.reps, body = leadingRuns(body, l.rep)
		if l.def > 0 && h.defEncoding != 3 {
			panic(refuse("column %s is encoded in a way of 2013 that is not read", l.name))
		}
		l.defs, body = leadingRuns(body, l.def)
		p.begin(l, h, body)
	case 3:
		levels := h.defBytes + h.repBytes
		if h.defBytes < 0 || h.repBytes < 0 || levels > h.packed || levels > h.unpacked {
			panic(damaged("a page of column %s claims %d bytes of levels", l.name, levels))
		}
		l.pageBuf = p.hold(l.pageBuf, h.unpacked)
		body := l.pageBuf[:h.unpacked:h.unpacked]
		copy(body, p.packed[:levels])
		if h.plain {
			if h.packed != h.unpacked {
				panic(damaged("a page of column %s has two sizes", l.name))
			}
			copy(body[levels:], p.packed[levels:])
		} else {
			p.unpack(l, body[levels:], p.packed[levels:])
		}
		l.reps = newRuns(body[:h.repBytes:h.repBytes], bitsFor(l.rep))
		l.defs = newRuns(body[h.repBytes:levels:levels], bitsFor(l.def))
		p.begin(l, h, body[levels:])
	default: // an index of pages
	}
}

// leadingRuns takes the levels that stand behind their size at the front of a page.
func leadingRuns(body []byte, most int) (*runs, []byte) {
	if most == 0 {
		return nil, body
	}
	n := binary.LittleEndian.Uint32(body)
	return newRuns(body[4:4+n:4+n], bitsFor(most)), body[4+n:]
}

// begin chooses how the values of a page are read.
func (p *pages) begin(l *leaf, h header, body []byte) {
	l.more = min(h.values, l.left)
	width := l.fixedWidth()
	delta := map[int]int{typeInt32: 4, typeInt64: 8}[l.typ]
	switch e := h.encoding; {
	case e == 0 && l.typ == typeBoolean:
		l.values = &truths{b: body}
	case e == 0 && width > 0:
		l.values = &plainFixed{b: body, width: width}
	case e == 0:
		l.values = &plainBytes{b: body}
	case e == 2 || e == 8:
		if l.dict == nil {
			panic(damaged("column %s has no dictionary", l.name))
		}
		if len(body) == 0 { // all of its values are null
			l.values = &plainBytes{}
			return
		}
		l.values = &referring{d: l.dict, r: newRuns(body[1:], int(body[0]))}
	case e == 3 && l.typ == typeBoolean:
		r, _ := leadingRuns(body, 1)
		l.values = &truths{r: r}
	case e == 5 && delta > 0:
		l.values = newDeltas(body, delta)
	case e == 6 && l.typ == typeBytes:
		l.values = newDeltaBytes(body)
	case e == 7 && l.typ == typeBytes:
		l.values = newFrontCoded(body)
	case e == 9 && width > 0:
		l.values = newSplit(body, width)
	default:
		panic(refuse("column %s is encoded in a way (%d) that is not read", l.name, e))
	}
}

func (l *leaf) fixedWidth() int {
	switch l.typ {
	case typeInt32, typeFloat:
		return 4
	case typeInt64, typeDouble:
		return 8
	case typeInt96:
		return 12
	case typeFixed:
		return l.width
	}
	return 0
}

func newDictionary(l *leaf, b []byte, values int64) *dictionary {
	d := &dictionary{b: b, width: l.fixedWidth()}
	if l.typ == typeBoolean {
		panic(damaged("column %s has a dictionary of booleans", l.name))
	}
	if d.width > 0 {
		return d
	}
	if values > int64(len(b)/4) {
		panic(damaged("the dictionary of column %s claims %d values", l.name, values))
	}
	d.ends = make([]uint32, 0, values)
	for at := uint32(0); int64(len(d.ends)) < values; {
		n := binary.LittleEndian.Uint32(b[at:])
		if n > uint32(len(b))-at-4 {
			panic(damaged("the dictionary of column %s is cut short", l.name))
		}
		at += 4 + n
		d.ends = append(d.ends, at)
	}
	return d
}

// unpack fills dst exactly; what unpacks to more or to less was not written by a program that means it.
func (p *pages) unpack(l *leaf, dst, src []byte) {
	ok := false
	switch l.at.codec {
	case codecNone:
		ok = copy(dst, src) == len(src) && len(src) == len(dst)
	case codecSnappy:
		n, err := snappy.DecodedLen(src)
		if ok = err == nil && n == len(dst); ok {
			_, err = snappy.Decode(dst, src)
			ok = err == nil
		}
	case codecGzip:
		r, err := gzip.NewReader(bytes.NewReader(src))
		ok = err == nil && fills(r, dst)
	case codecZstd:
		if p.zstd == nil {
			p.zstd = newZstd()
		}
		ok = p.zstd.Reset(bytes.NewReader(src)) == nil && fills(p.zstd, dst)
	case codecLZ4:
		n, err := lz4.UncompressBlock(src, dst)
		ok = err == nil && n == len(dst) || len(dst) == 0
	default:
		name := codecNames[l.at.codec]
		if name == "" {
			name = "a codec that nobody knows"
		}
		panic(refuse("column %s is compressed with %s, which is not read", l.name, name).hint("Write it with zstd, snappy or gzip"))
	}
	if !ok {
		panic(damaged("a page of column %s does not unpack to the %d bytes that it claims", l.name, len(dst)))
	}
}

func newZstd() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderMaxWindow(maxUnpacked))
	if err != nil {
		panic(err) // of these options
	}
	return d
}

// fills reads dst from r, which must then be at its end.
func fills(r io.Reader, dst []byte) bool {
	if _, err := io.ReadFull(r, dst); err != nil {
		return false
	}
	var one [1]byte
	n, err := r.Read(one[:])
	for n == 0 && err == nil {
		n, err = r.Read(one[:])
	}
	return n == 0 && err == io.EOF
}
