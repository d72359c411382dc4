package columnar

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var arrowMagic = []byte("ARROW1")

// What a message begins with, and what messages there are.
const (
	continuation = 0xFFFFFFFF

	messageSchema     = 1
	messageDictionary = 2
	messageBatch      = 3
)

// Arrow reads an Arrow file of so many bytes, in the form of a stream, as datasets' save_to_disk writes it, or of a file, whose messages
// are where its index says: not every program writes a whole stream between the marks.
func Arrow(r io.ReaderAt, size int64) (_ *Reader, err error) {
	head := make([]byte, min(8, size))
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, arrowMagic):
		return arrowFile(r, size)
	case bytes.HasPrefix(head, []byte("FEA1")):
		return nil, refuse("is a file of Feather's first version, which is not read").hint("Write it again: pyarrow.feather.write_feather writes the second one")
	case len(head) < 8 || binary.LittleEndian.Uint32(head) != continuation:
		return nil, refuse("is no Arrow file: it begins neither with ARROW1 nor with a message")
	}
	a := newArrow(io.NewSectionReader(r, 0, size), size)
	defer catch(&err)
	kind, t := a.message()
	if kind != messageSchema {
		return nil, damaged("it does not begin with its columns")
	}
	a.schema = parseSchema(t)
	return &Reader{row: a.row, size: size}, nil
}

// arrowFile reads the index at the end of a file, and takes columns and places of the messages from it.
func arrowFile(r io.ReaderAt, size int64) (_ *Reader, err error) {
	const mark = 4 + 6 // the length of the index, and ARROW1
	tail := make([]byte, mark)
	if err := readAt(r, tail, max(size-mark, 0)); err != nil {
		return nil, err
	}
	if size < 8+mark || !bytes.Equal(tail[4:], arrowMagic) {
		return nil, damaged("it does not end with ARROW1; is it still being written, or was it cut?")
	}
	n := int64(int32(binary.LittleEndian.Uint32(tail)))
	if n < 8 || n > maxFooter || n > size-8-mark {
		return nil, damaged("its index claims %d bytes", n)
	}
	index := make([]byte, n)
	if err := readAt(r, index, size-mark-n); err != nil {
		return nil, err
	}
	a := newArrow(nil, size)
	a.file = r
	defer catch(&err)
	footer := rootTable(index)
	s, ok := footer.table(1)
	if !ok {
		return nil, damaged("its index names no columns")
	}
	a.schema = parseSchema(s)
	for _, list := range []uint32{2, 3} { // dictionaries, batches
		blocks, n := footer.vector(list, 24)
		for i := range n {
			a.places = append(a.places, int64(binary.LittleEndian.Uint64(blocks[24*i:])))
		}
	}
	return &Reader{row: a.row, size: size}, nil
}

func newArrow(r io.Reader, size int64) *arrow {
	return &arrow{r: bufio.NewReaderSize(r, 64<<10), size: size, dictionaries: map[int64]*batch{}}
}

type arrow struct {
	r            *bufio.Reader
	file         io.ReaderAt // nil for a stream
	places       []int64     // in a file: of the messages that come
	size         int64
	schema       *schema
	dictionaries map[int64]*batch
	now          batch
	at           int64 // the next row of it
	held         int64 // bytes of dictionaries
	meta         []byte
	bodySize     int64
	zstd         *zstd.Decoder
	lz4          *lz4.Reader
}

// batch is some rows of all columns. Its memory is used again for the next one.
type batch struct {
	rows     int64
	columns  []*values
	body     []byte
	unpacked []byte
}

func (a *arrow) row(dst []byte) ([]byte, error) {
	for a.at == a.now.rows {
		if !a.next() {
			return nil, io.EOF
		}
	}
	dst = append(dst, '{')
	for i, f := range a.schema.fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst = a.now.columns[i].append(append(dst, f.key...), a.at); len(dst) > maxRow {
			return nil, longRow()
		}
	}
	a.at++
	return append(dst, '}'), nil
}

// next reads the next batch, and the dictionaries before it.
func (a *arrow) next() bool {
	for {
		switch kind, t := a.message(); kind {
		case 0:
			return false
		case messageBatch:
			a.load(&a.now, t, a.schema.fields)
			a.at = 0
			return true
		case messageDictionary:
			id := t.number64(0)
			of, ok := a.schema.dictionaries[id]
			data, there := t.table(1)
			switch {
			case !ok || !there:
				panic(damaged("a dictionary belongs to no column"))
			case t.number8(2, 0) != 0:
				panic(refuse("column %s has a dictionary that grows, which is not read", of.name))
			}
			if old := a.dictionaries[id]; old != nil {
				a.held -= int64(cap(old.body) + cap(old.unpacked))
			}
			b := &batch{}
			a.load(b, data, []*arrowField{of})
			a.dictionaries[id] = b
			a.held += int64(cap(b.body) + cap(b.unpacked))
		default:
			panic(damaged("a message of kind %d", kind))
		}
	}
}

// message reads what describes the next one, and how long its body is; kind is 0 at the mark of the end.
func (a *arrow) message() (kind uint8, t table) {
	if a.file != nil {
		if len(a.places) == 0 {
			return 0, t
		}
		at := a.places[0]
		if a.places = a.places[1:]; at < 8 || at > a.size-8 {
			panic(damaged("its index names byte %d of %d", at, a.size))
		}
		a.r.Reset(io.NewSectionReader(a.file, at, a.size-at))
	}
	var head [8]byte
	a.read(head[:])
	n := int64(int32(binary.LittleEndian.Uint32(head[4:])))
	switch {
	case binary.LittleEndian.Uint32(head[:]) != continuation:
		panic(damaged("a message does not begin as one"))
	case n == 0:
		return 0, t
	case n < 8 || n > maxFooter || n > a.size:
		panic(damaged("the description of a batch claims %d bytes", n))
	}
	a.meta = grown(a.meta, n)
	a.read(a.meta)
	message := rootTable(a.meta)
	if a.bodySize = message.number64(3); a.bodySize < 0 || a.bodySize > a.size {
		panic(damaged("a batch claims %d bytes, and the file has %d", a.bodySize, a.size))
	}
	t, ok := message.table(2)
	if kind = message.number8(1, 0); !ok || kind == 0 {
		panic(damaged("a message says nothing"))
	}
	return kind, t
}

func (a *arrow) read(b []byte) {
	_, err := io.ReadFull(a.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		panic(damaged("it ends before its mark of the end; is it still being written, or was it cut?"))
	}
	if err != nil {
		panic(err)
	}
}

// grown is b with the length and the capacity n, so that nothing reads what stood there before.
func grown(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n:cap(b)]
}

// load reads the body that follows t, and finds the values of fields in it.
func (a *arrow) load(b *batch, t table, fields []*arrowField) {
	if a.bodySize+a.held > maxUnpacked {
		panic(tooLarge(a.bodySize + a.held))
	}
	b.body = grown(b.body, a.bodySize)
	a.read(b.body)
	l := &loader{a: a, b: b, rest: b.body[:a.bodySize:a.bodySize]}
	l.nodes, _ = t.vector(1, 16)
	l.buffers, _ = t.vector(2, 16)
	l.views, _ = t.vector(4, 8)
	if c, ok := t.table(3); ok {
		l.codec = 1 + c.number8(0, 0)
		l.room()
	}
	b.rows, b.columns = t.number64(0), b.columns[:0]
	if b.rows < 0 {
		panic(damaged("a batch claims %d rows", b.rows))
	}
	for _, f := range fields {
		v := l.values(f)
		if v.n != b.rows {
			panic(damaged("column %s has another number of rows than others", f.name))
		}
		b.columns = append(b.columns, v)
	}
}

// loader finds the buffers of a batch, which stand there in the order of the columns.
type loader struct {
	a                     *arrow
	b                     *batch
	rest                  []byte
	nodes, buffers, views []byte
	codec                 uint8 // 0: none, 1: LZ4, 2: zstd
	free                  []byte
}

// stored is the next buffer as it stands in the body.
func (l *loader) stored(at int) []byte {
	from, n := binary.LittleEndian.Uint64(l.buffers[16*at:]), binary.LittleEndian.Uint64(l.buffers[16*at+8:])
	if from > uint64(len(l.rest)) || n > uint64(len(l.rest))-from {
		panic(damaged("a column stands outside of its batch"))
	}
	return l.rest[from : from+n : from+n]
}

// room makes place for all that unpacks, within the bound.
func (l *loader) room() {
	total := int64(0)
	for i := range len(l.buffers) / 16 {
		b := l.stored(i)
		if len(b) < 8 {
			continue
		}
		switch n := int64(binary.LittleEndian.Uint64(b)); {
		case n == -1:
		case n < 0 || n > maxUnpacked:
			panic(tooLarge(n & math.MaxInt64))
		default:
			total += n
		}
		if sum := total + l.a.held + l.a.bodySize; sum > maxUnpacked {
			panic(tooLarge(sum))
		}
	}
	l.b.unpacked = grown(l.b.unpacked, total)
	l.free = l.b.unpacked
}

func (l *loader) buffer() []byte {
	b := l.stored(0)
	l.buffers = l.buffers[16:]
	if l.codec == 0 || len(b) == 0 {
		return b
	}
	n := int64(binary.LittleEndian.Uint64(b))
	b = b[8:]
	if n == -1 {
		return b
	}
	dst := l.free[:n:n]
	l.free = l.free[n:]
	ok := false
	switch l.codec {
	case 1:
		if l.a.lz4 == nil {
			l.a.lz4 = lz4.NewReader(nil)
		}
		l.a.lz4.Reset(bytes.NewReader(b))
		ok = fills(l.a.lz4, dst)
	case 2:
		if l.a.zstd == nil {
			l.a.zstd = newZstd()
		}
		ok = l.a.zstd.Reset(bytes.NewReader(b)) == nil && fills(l.a.zstd, dst)
	}
	if !ok {
		panic(damaged("a batch does not unpack to the %d bytes that it claims", n))
	}
	return dst
}

// values takes the next column, with all below it.
func (l *loader) values(f *arrowField) *values {
	v := &values{arrowField: f, n: int64(binary.LittleEndian.Uint64(l.nodes))}
	nulls := binary.LittleEndian.Uint64(l.nodes[8:])
	if l.nodes = l.nodes[16:]; v.n < 0 {
		panic(damaged("column %s claims %d values", f.name, v.n))
	}
	if f.kind == arrowNull && !f.dictionary {
		return v
	}
	valid := l.buffer()
	if nulls != 0 && len(valid) > 0 {
		v.valid = valid
	}
	if f.dictionary {
		v.data = l.buffer()
		if b := l.a.dictionaries[f.id]; b != nil {
			v.of = b.columns[0]
		}
		return v
	}
	switch f.kind {
	case arrowText, arrowLargeText:
		v.ends, v.data = l.buffer(), l.buffer()
	case arrowTextView:
		v.data = l.buffer()
		n := binary.LittleEndian.Uint64(l.views)
		l.views = l.views[8:]
		for range min(n, uint64(len(l.buffers))) {
			v.more = append(v.more, l.buffer())
		}
	case arrowList, arrowLargeList, arrowMap:
		v.ends = l.buffer()
	case arrowFixedList, arrowStruct:
	default:
		v.data = l.buffer()
	}
	for _, kid := range f.kids {
		v.kids = append(v.kids, l.values(kid))
	}
	return v
}
