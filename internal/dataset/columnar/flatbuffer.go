package columnar

import "encoding/binary"

// table is one of FlatBuffers, in which Arrow describes its batches. Nothing is allocated for what a table claims, and an offset that
// leads outside panics, which catch makes an error of.
type table struct {
	b  []byte
	at uint32
}

func rootTable(b []byte) table { return table{b, binary.LittleEndian.Uint32(b)} }

// field is where the value of a field stands; 0: it is not there.
func (t table) field(i uint32) uint32 {
	v := uint32(int64(t.at) - int64(int32(binary.LittleEndian.Uint32(t.b[t.at:]))))
	if 4+2*i+2 > uint32(binary.LittleEndian.Uint16(t.b[v:])) {
		return 0
	}
	off := binary.LittleEndian.Uint16(t.b[v+4+2*i:])
	if off == 0 {
		return 0
	}
	return t.at + uint32(off)
}

func (t table) number8(i uint32, absent uint8) uint8 {
	if at := t.field(i); at != 0 {
		return t.b[at]
	}
	return absent
}

func (t table) number16(i uint32, absent int16) int16 {
	if at := t.field(i); at != 0 {
		return int16(binary.LittleEndian.Uint16(t.b[at:]))
	}
	return absent
}

func (t table) number32(i uint32, absent int32) int32 {
	if at := t.field(i); at != 0 {
		return int32(binary.LittleEndian.Uint32(t.b[at:]))
	}
	return absent
}

func (t table) number64(i uint32) int64 {
	if at := t.field(i); at != 0 {
		return int64(binary.LittleEndian.Uint64(t.b[at:]))
	}
	return 0
}

// table is one that the field refers to.
func (t table) table(i uint32) (table, bool) {
	at := t.field(i)
	if at == 0 {
		return table{}, false
	}
	return table{t.b, at + binary.LittleEndian.Uint32(t.b[at:])}, true
}

// vector is the bytes of count elements of so many bytes.
func (t table) vector(i uint32, size int) (b []byte, count int) {
	at := t.field(i)
	if at == 0 {
		return nil, 0
	}
	at += binary.LittleEndian.Uint32(t.b[at:])
	n := binary.LittleEndian.Uint32(t.b[at:])
	if int64(n)*int64(size) > int64(len(t.b))-int64(at)-4 {
		panic(damaged("a list in its description claims %d elements", n))
	}
	return t.b[at+4:][:int(n)*size], int(n)
}

// tables calls fn with each of a list.
func (t table) tables(i uint32, fn func(table)) {
	b, n := t.vector(i, 4)
	if n == 0 {
		return
	}
	from := t.field(i)
	from += binary.LittleEndian.Uint32(t.b[from:]) + 4
	for k := range n {
		fn(table{t.b, from + uint32(4*k) + binary.LittleEndian.Uint32(b[4*k:])})
	}
}
