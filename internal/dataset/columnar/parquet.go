package columnar

import (
	"encoding/binary"
	"io"
	"math"
	"math/big"
	"strconv"
	"time"
)

// Parquet reads a Parquet file of so many bytes.
func Parquet(r io.ReaderAt, size int64) (*Reader, error) {
	f, err := readFooter(r, size)
	if err != nil {
		return nil, err
	}
	p := &parquet{footer: f, pages: pages{r: r, size: size}}
	return &Reader{row: p.row, size: size}, nil
}

type parquet struct {
	*footer
	pages
	group int   // the next one
	left  int64 // rows of this one
}

// row appends the next row.
func (p *parquet) row(dst []byte) ([]byte, error) {
	for p.left == 0 {
		if p.group == len(p.groups) {
			return nil, io.EOF
		}
		p.next()
	}
	p.left--
	for _, l := range p.leaves {
		if l.ended || l.repAt != 0 {
			panic(damaged("column %s has another number of rows than others", l.name))
		}
	}
	return p.fields(dst, p.top), nil
}

// next begins a row group.
func (p *parquet) next() {
	t := &thrift{b: p.raw, i: p.groups[p.group]}
	p.group++
	var chunks []chunk
	t.fields(func(id int16, kind byte) {
		switch {
		case id == 1 && kind == thriftList:
			t.list(func(byte) {
				if len(chunks) == len(p.leaves) {
					panic(damaged("a row group has more columns than the file"))
				}
				chunks = append(chunks, t.chunk())
			})
		case id == 3 && kind == 6:
			p.left = t.int()
		default:
			t.skip(kind)
		}
	})
	if len(chunks) != len(p.leaves) || p.left < 0 {
		panic(damaged("a row group has %d columns and the file %d", len(chunks), len(p.leaves)))
	}
	if p.left == 0 {
		return
	}
	for i, l := range p.leaves {
		p.start(l, chunks[i])
	}
}

func (t *thrift) chunk() (c chunk) {
	var data, dict int64
	t.fields(func(id int16, kind byte) {
		switch {
		case id == 1 && kind == thriftBinary:
			if len(t.binary()) > 0 {
				panic(refuse("refers to data in another file"))
			}
		case id == 8:
			panic(encrypted())
		case id == 3 && kind == thriftStruct:
			t.fields(func(id int16, kind byte) {
				if kind != 5 && kind != 6 {
					t.skip(kind)
					return
				}
				v := t.int()
				switch id {
				case 4:
					c.codec = int(v)
				case 5:
					c.values = v
				case 7:
					c.size = v
				case 9:
					data = v
				case 11:
					dict = v
				}
			})
		default:
			t.skip(kind)
		}
	})
	if c.from = data; dict > 0 && dict < data {
		c.from = dict
	}
	if c.values < 0 {
		panic(damaged("a column claims %d values", c.values))
	}
	return c
}

// fields appends an object.
func (p *parquet) fields(dst []byte, nodes []*node) []byte {
	dst = append(dst, '{')
	for i, n := range nodes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = p.node(append(dst, n.key...), n)
		if len(dst) > maxRow {
			panic(longRow())
		}
	}
	return append(dst, '}')
}

// node appends what stands at a node, and moves all leaves below it on.
func (p *parquet) node(dst []byte, n *node) []byte {
	switch {
	case n.repeated: // outside of a list or map: a list of its own
		return p.many(dst, n, '[', ']')
	case n.optional && n.leaf.defAt < n.def:
		p.pass(n)
		return append(dst, "null"...)
	case n.shape == shapeList:
		return p.many(dst, n.kids[0], '[', ']')
	case n.shape == shapeMap:
		return p.many(dst, n.kids[0], '{', '}')
	}
	return p.one(dst, n)
}

// one appends a struct or a value that is there.
func (p *parquet) one(dst []byte, n *node) []byte {
	if n.shape == shapeStruct {
		return p.fields(dst, n.kids)
	}
	dst = n.leaf.append(dst)
	p.advance(n.leaf)
	return dst
}

// many appends the elements of a list, or the pairs of a map, which n repeats.
func (p *parquet) many(dst []byte, n *node, open, shut byte) []byte {
	dst = append(dst, open)
	if n.leaf.defAt < n.def {
		p.pass(n)
		return append(dst, shut)
	}
	for first := true; first || !n.leaf.ended && n.leaf.repAt == n.rep; first = false {
		if !first {
			dst = append(dst, ',')
		}
		switch {
		case open == '{':
			key := n.kids[0].leaf
			dst = append(appendText(dst, key.value, key.name), ':')
			p.advance(key)
			dst = p.node(dst, n.kids[1])
		case n.shape == shapeLeaf && len(n.kids) == 1: // stands for its child
			dst = p.node(dst, n.kids[0])
		default:
			dst = p.one(dst, n)
		}
		if len(dst) > maxRow {
			panic(longRow())
		}
	}
	return append(dst, shut)
}

// pass moves over what is not there: each leaf has one value that says so.
func (p *parquet) pass(n *node) {
	for _, l := range n.leaves {
		if l.defAt >= n.def {
			panic(damaged("column %s has a value where there is none", l.name))
		}
		p.advance(l)
	}
}

const julian1970 = 2440588

// append appends the value that the leaf stands at.
func (l *leaf) append(dst []byte) []byte {
	v := l.value
	if l.ended || l.defAt < l.def {
		panic(damaged("column %s has no value where there is one", l.name))
	}
	switch l.means {
	case meansText:
		return appendText(dst, v, l.name)
	case meansNull:
		return append(dst, "null"...)
	case meansHalf:
		return appendFloat(dst, half(binary.LittleEndian.Uint16(v)))
	case meansDecimal:
		if l.typ == typeInt32 || l.typ == typeInt64 {
			return appendDecimal(dst, big.NewInt(l.int()), l.scale)
		}
		if len(v) > 64 {
			panic(damaged("column %s has a decimal of %d bytes", l.name, len(v)))
		}
		return appendDecimal(dst, signed(v), l.scale)
	case meansDate:
		return appendDate(dst, l.int(), l.name)
	case meansClock:
		return appendTime(dst, l.int(), int64(max(l.unit, 1)), clockTime, l.name)
	case meansTime:
		return appendTime(dst, l.int(), int64(max(l.unit, 1)), l.layout(), l.name)
	case meansUnsigned:
		if l.typ == typeInt32 {
			return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(v)), 10)
		}
		return strconv.AppendUint(dst, binary.LittleEndian.Uint64(v), 10)
	}
	switch l.typ {
	case typeBoolean:
		return strconv.AppendBool(dst, v[0] == 1)
	case typeInt96: // the time of old Spark: nanoseconds of the day, day by Julian count
		days := int64(binary.LittleEndian.Uint32(v[8:])) - julian1970
		t := time.Unix(days*86400, 0).Add(time.Duration(binary.LittleEndian.Uint64(v)))
		return appendTime(dst, t.UnixNano(), 1, localTime, l.name)
	case typeFloat:
		return appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(v))))
	case typeDouble:
		return appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(v)))
	}
	return strconv.AppendInt(dst, l.int(), 10)
}

func (l *leaf) int() int64 {
	if l.typ == typeInt32 {
		return int64(int32(binary.LittleEndian.Uint32(l.value)))
	}
	return int64(binary.LittleEndian.Uint64(l.value))
}

func (l *leaf) layout() string {
	if l.zoned {
		return zonedTime
	}
	return localTime
}
