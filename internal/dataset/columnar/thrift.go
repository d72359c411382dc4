package columnar

import "encoding/binary"

// The types of Thrift's compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

// thrift reads what describes a Parquet file. It builds nothing and allocates nothing: a list that claims a billion elements ends
// with the bytes that there are. Bytes that are not there panic, and catch makes an error of it.
type thrift struct {
	b     []byte
	i     int
	depth int
}

func (t *thrift) byte() byte {
	c := t.b[t.i]
	t.i++
	return c
}

func (t *thrift) uvarint() uint64 {
	v, n := binary.Uvarint(t.b[t.i:])
	if n <= 0 {
		panic(damaged("a number in its description is cut short"))
	}
	t.i += n
	return v
}

func (t *thrift) int() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (t *thrift) binary() []byte {
	n := t.uvarint()
	if n > uint64(len(t.b)-t.i) {
		panic(damaged("a text in its description is cut short"))
	}
	t.i += int(n)
	return t.b[t.i-int(n) : t.i]
}

// fields calls fn for each field of a struct; fn reads the value or skips it.
func (t *thrift) fields(fn func(id int16, kind byte)) {
	t.enter()
	for id := int16(0); ; {
		head := t.byte()
		if head == 0 {
			break
		}
		if delta := head >> 4; delta != 0 {
			id += int16(delta)
		} else {
			id = int16(t.int())
		}
		fn(id, head&15)
	}
	t.depth--
}

// list calls fn for each element.
func (t *thrift) list(fn func(kind byte)) {
	t.enter()
	head := t.byte()
	n := uint64(head >> 4)
	if n == 15 {
		n = t.uvarint()
	}
	if n > uint64(len(t.b)-t.i) { // an element has a byte at least
		panic(damaged("a list in its description claims %d elements", n))
	}
	for range n {
		fn(head & 15)
	}
	t.depth--
}

func (t *thrift) enter() {
	if t.depth++; t.depth > maxDepth {
		panic(damaged("its description nests deeper than %d", maxDepth))
	}
}

func (t *thrift) skip(kind byte) {
	switch kind {
	case thriftTrue, thriftFalse:
	case thriftByte:
		t.byte()
	case 4, 5, 6:
		t.uvarint()
	case thriftDouble:
		t.i += 8
	case thriftBinary:
		t.binary()
	case thriftList, thriftSet:
		t.list(func(kind byte) { t.element(kind) })
	case thriftMap:
		n := t.uvarint()
		if n == 0 {
			return
		}
		if n > uint64(len(t.b)-t.i) {
			panic(damaged("a map in its description claims %d elements", n))
		}
		t.enter()
		kinds := t.byte()
		for range n {
			t.element(kinds >> 4)
			t.element(kinds & 15)
		}
		t.depth--
	case thriftStruct:
		t.fields(func(_ int16, kind byte) { t.skip(kind) })
	default:
		panic(damaged("its description has a value of type %d", kind))
	}
}

// element skips one of a list: there a boolean has a byte.
func (t *thrift) element(kind byte) {
	if kind == thriftTrue || kind == thriftFalse {
		t.byte()
		return
	}
	t.skip(kind)
}
