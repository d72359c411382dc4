package columnar

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// The physical types of Parquet.
const (
	typeBoolean = iota
	typeInt32
	typeInt64
	typeInt96
	typeFloat
	typeDouble
	typeBytes
	typeFixed
)

// meaning is what the values of a leaf stand for.
type meaning uint8

const (
	meansNothing meaning = iota
	meansText
	meansEnum // and all else that Python has as bytes
	meansDecimal
	meansDate
	meansClock
	meansTime
	meansUnsigned
	meansNull
	meansHalf
)

// shape is how a node of the schema becomes JSON.
type shape uint8

const (
	shapeLeaf shape = iota
	shapeStruct
	shapeList // its only child is repeated
	shapeMap
)

// node is one of the schema.
type node struct {
	name     string // as columns nest, for errors
	key      []byte // `"name":`
	shape    shape
	optional bool
	repeated bool
	def, rep int // levels at which it is there
	kids     []*node
	leaf     *leaf // of a leaf, and of others the first below it
	leaves   []*leaf
}

// leaf is a column as it is stored.
type leaf struct {
	name     string
	typ      int
	width    int // of a typeFixed
	means    meaning
	scale    int
	unit     time.Duration
	zoned    bool
	rep, def int
	cursor
}

// footer is what a file says of itself.
type footer struct {
	raw    []byte
	top    []*node
	leaves []*leaf
	groups []int // where they stand in raw
}

var parquetMagic = []byte("PAR1")

func readFooter(r io.ReaderAt, size int64) (*footer, error) {
	if size < 12 {
		return nil, refuse("is no Parquet file: it has only %d bytes", size)
	}
	var head [4]byte
	var tail [8]byte
	if err := readAt(r, head[:], 0); err != nil {
		return nil, err
	}
	if err := readAt(r, tail[:], size-8); err != nil {
		return nil, err
	}
	switch n := int64(binary.LittleEndian.Uint32(tail[:])); {
	case bytes.Equal(tail[4:], []byte("PARE")) || bytes.Equal(head[:], []byte("PARE")):
		return nil, encrypted()
	case !bytes.Equal(head[:], parquetMagic):
		return nil, refuse("is no Parquet file: it does not begin with PAR1")
	case !bytes.Equal(tail[4:], parquetMagic):
		return nil, damaged("it does not end with PAR1; is it still being written, or was it cut?")
	case n > size-12:
		return nil, damaged("its description claims %d bytes, and the file has %d", n, size)
	case n > maxFooter:
		return nil, refuse("its description has %d MiB; at most %d are read", n>>20, maxFooter>>20).hint("Write it with fewer columns and larger row groups")
	default:
		raw := make([]byte, n)
		if err := readAt(r, raw, size-8-n); err != nil {
			return nil, err
		}
		return parseFooter(raw)
	}
}

func encrypted() *Error {
	return refuse("is encrypted; forge holds no keys").hint("Decrypt it where the keys are, and register the result")
}

// element is one of the schema as it stands in the file: depth first, with the number of its children.
type element struct {
	typ, width, repetition, kids int
	name                         []byte
	converted                    int
	scale                        int
	logical                      int16
	unit                         time.Duration
	zoned, unsigned              bool
}

func parseFooter(raw []byte) (f *footer, err error) {
	defer catch(&err)
	f = &footer{raw: raw}
	t := &thrift{b: raw}
	var schema []element
	t.fields(func(id int16, kind byte) {
		switch {
		case id == 2 && kind == thriftList:
			t.list(func(byte) {
				if len(schema) > 4*maxColumns {
					panic(tooManyColumns())
				}
				schema = append(schema, t.schemaElement())
			})
		case id == 4 && kind == thriftList:
			t.list(func(kind byte) {
				f.groups = append(f.groups, t.i)
				t.skip(kind)
			})
		case id == 8:
			panic(encrypted())
		default:
			t.skip(kind)
		}
	})
	if len(schema) < 2 {
		return nil, refuse("has no columns")
	}
	b := &builder{schema: schema[1:], f: f}
	seen := map[string]bool{}
	for range schema[0].kids {
		n := b.node(nil, 0, 0, 0)
		if seen[string(n.key)] {
			return nil, refuse("has two columns %s", n.name)
		}
		seen[string(n.key)] = true
		f.top = append(f.top, n)
	}
	if len(f.top) == 0 || len(b.schema) > 0 {
		return nil, damaged("its columns do not add up")
	}
	return f, nil
}

func tooManyColumns() *Error {
	return refuse("has more than %d columns; is a value used as a name?", maxColumns)
}

func (t *thrift) schemaElement() element {
	e := element{typ: -1, converted: -1}
	t.fields(func(id int16, kind byte) {
		switch {
		case kind == thriftBinary && id == 4:
			e.name = t.binary()
		case kind == 5 && id <= 8:
			v := int(t.int())
			switch id {
			case 1:
				e.typ = v
			case 2:
				e.width = v
			case 3:
				e.repetition = v
			case 5:
				e.kids = v
			case 6:
				e.converted = v
			case 7:
				e.scale = v
			}
		case kind == thriftStruct && id == 10:
			t.fields(func(id int16, kind byte) {
				if e.logical = id; kind != thriftStruct {
					t.skip(kind)
					return
				}
				t.logical(&e)
			})
		default:
			t.skip(kind)
		}
	})
	return e
}

// The logical types, by their ids.
const (
	logicalText, logicalMap, logicalList, logicalEnum, logicalDecimal, logicalDate    = 1, 2, 3, 4, 5, 6
	logicalClock, logicalTime, logicalInt, logicalNull, logicalJSON, logicalHalfFloat = 7, 8, 10, 11, 12, 15
)

func (t *thrift) logical(e *element) {
	of := e.logical
	t.fields(func(id int16, kind byte) {
		switch {
		case of == logicalDecimal && id == 1:
			e.scale = int(t.int())
		case (of == logicalClock || of == logicalTime) && id == 1:
			e.zoned = kind == thriftTrue
		case (of == logicalClock || of == logicalTime) && id == 2 && kind == thriftStruct:
			t.fields(func(id int16, kind byte) {
				e.unit = map[int16]time.Duration{1: time.Millisecond, 2: time.Microsecond, 3: time.Nanosecond}[id]
				t.skip(kind)
			})
		case of == logicalInt && id == 2:
			e.unsigned = kind == thriftFalse
		default:
			t.skip(kind)
		}
	})
}

// builder makes nodes of elements.
type builder struct {
	schema []element
	f      *footer
}

func (b *builder) node(up *node, def, rep, depth int) *node {
	if len(b.schema) == 0 {
		panic(damaged("its columns do not add up"))
	}
	e := b.schema[0]
	b.schema = b.schema[1:]
	n := &node{name: columnName(e.name), optional: e.repetition == 1, repeated: e.repetition == 2}
	if up != nil {
		n.name = up.name + "." + n.name
	}
	if depth > maxDepth || len(n.name) > 4096 {
		panic(refuse("%.60s… nests deeper than %d", n.name, maxDepth))
	}
	n.key = append(appendText(nil, e.name, "the name of a column"), ':')
	if n.optional || n.repeated {
		def++
	}
	if n.repeated {
		rep++
	}
	n.def, n.rep = def, rep
	if e.typ >= 0 && e.kids == 0 {
		b.leaf(n, e)
		return n
	}
	n.shape = shapeStruct
	switch {
	case e.logical == logicalList || e.converted == 3:
		n.shape = shapeList
	case e.logical == logicalMap || e.converted == 1 || e.converted == 2 && !n.repeated:
		n.shape = shapeMap
	}
	from := len(b.f.leaves)
	for range e.kids {
		n.kids = append(n.kids, b.node(n, def, rep, depth+1))
	}
	n.leaves = b.f.leaves[from:]
	if len(n.kids) == 0 {
		panic(refuse("column %s is a struct without fields", n.name))
	}
	n.leaf = n.leaves[0]
	n.check()
	return n
}

// check looks at lists and maps, which are structs by convention.
func (n *node) check() {
	switch n.shape {
	case shapeList:
		if len(n.kids) != 1 || !n.kids[0].repeated || n.repeated {
			panic(refuse("column %s is a list of a form that is not read", n.name))
		}
		// Three levels, as all write it now; two, as some did: then what is repeated is the element itself.
		if r := n.kids[0]; r.shape == shapeStruct && len(r.kids) == 1 && !legacyElement(n, r) {
			r.shape = shapeLeaf // it stands for its child
		}
	case shapeMap:
		if len(n.kids) != 1 || !n.kids[0].repeated || n.repeated || len(n.kids[0].kids) != 2 {
			panic(refuse("column %s is a map of a form that is not read", n.name))
		}
		if key := n.kids[0].kids[0]; key.shape != shapeLeaf || key.leaf.means != meansText || key.optional {
			panic(refuse("column %s is a map whose keys are not text", n.name))
		}
	}
}

func legacyElement(list, repeated *node) bool {
	name := repeated.name[len(list.name)+1:]
	last := list.name
	for i := len(last) - 1; i >= 0; i-- {
		if last[i] == '.' {
			last = last[i+1:]
			break
		}
	}
	return name == "array" || name == last+"_tuple"
}

func (b *builder) leaf(n *node, e element) {
	if len(b.f.leaves) >= maxColumns {
		panic(tooManyColumns())
	}
	l := &leaf{name: n.name, typ: e.typ, rep: n.rep, def: n.def, width: e.width, scale: e.scale, unit: e.unit, zoned: e.zoned}
	b.f.leaves = append(b.f.leaves, l)
	n.leaf, n.leaves = l, b.f.leaves[len(b.f.leaves)-1:len(b.f.leaves):len(b.f.leaves)]
	l.means = meaningOf(e, l)
	if l.typ > typeFixed || l.typ == typeFixed && (l.width < 1 || l.width > 1<<16) || l.scale < 0 || l.scale > 1000 {
		panic(damaged("column %s has type %d", l.name, l.typ))
	}
	binary := (l.typ == typeBytes || l.typ == typeFixed) && (l.means == meansNothing || l.means == meansEnum)
	switch {
	case binary:
		panic(refuse("column %s holds binary data; a row is text", l.name).hint("Drop the column, or write it as text"))
	case l.means == meansText && l.typ != typeBytes, l.means == meansHalf && (l.typ != typeFixed || l.width != 2),
		l.means == meansDate && l.typ != typeInt32, l.means == meansTime && l.typ != typeInt64,
		l.means == meansDecimal && (l.typ == typeBoolean || l.typ == typeInt96 || l.typ == typeFloat || l.typ == typeDouble):
		panic(damaged("column %s has type %d and says that it holds something else", l.name, l.typ))
	}
}

func meaningOf(e element, l *leaf) meaning {
	switch e.logical {
	case logicalText, logicalJSON:
		return meansText
	case logicalDecimal:
		return meansDecimal
	case logicalDate:
		return meansDate
	case logicalClock:
		return meansClock
	case logicalTime:
		return meansTime
	case logicalNull:
		return meansNull
	case logicalHalfFloat:
		return meansHalf
	case logicalInt:
		if e.unsigned {
			return meansUnsigned
		}
		return meansNothing
	case 0:
	default:
		return meansEnum
	}
	switch e.converted {
	case 0, 19:
		return meansText
	case 5:
		return meansDecimal
	case 6:
		return meansDate
	case 7, 8:
		l.unit = map[int]time.Duration{7: time.Millisecond, 8: time.Microsecond}[e.converted]
		return meansClock
	case 9, 10:
		l.unit, l.zoned = map[int]time.Duration{9: time.Millisecond, 10: time.Microsecond}[e.converted], true
		return meansTime
	case 11, 12, 13, 14:
		return meansUnsigned
	case 4, 20, 21:
		return meansEnum
	}
	return meansNothing
}

// columnName shows the name of a column, which is all of the content that leaves the file.
func columnName(name []byte) string {
	if len(name) > 256 {
		panic(refuse("the name of a column has %d bytes; at most 256 are read", len(name)))
	}
	if !utf8.Valid(name) || bytes.ContainsAny(name, "\x00\n\r\t\x1b\"") {
		return fmt.Sprintf("%q", name)
	}
	return string(name)
}
