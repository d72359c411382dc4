package columnar

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"
)

// values are those of one column in one batch.
type values struct {
	*arrowField
	n     int64
	valid []byte // a bit each; nil: all are there
	ends  []byte // where those of variable length begin and end
	data  []byte
	more  [][]byte // of views: long texts
	kids  []*values
	of    *values // of a dictionary
}

// append appends value i.
func (v *values) append(dst []byte, i int64) []byte {
	if i < 0 || i >= v.n {
		panic(damaged("column %s has no value %d", v.name, i))
	}
	if v.kind == arrowNull && !v.dictionary || v.valid != nil && v.valid[i/8]>>(i%8)&1 == 0 {
		return append(dst, "null"...)
	}
	if v.dictionary {
		if v.of == nil {
			panic(damaged("column %s has no dictionary", v.name))
		}
		return v.of.append(dst, v.number(i, v.index, v.indexSign))
	}
	switch v.kind {
	case arrowText, arrowLargeText:
		from, to := v.span(i)
		return appendText(dst, v.data[from:to], v.name)
	case arrowTextView:
		return appendText(dst, v.view(i), v.name)
	case arrowBool:
		return strconv.AppendBool(dst, v.data[i/8]>>(i%8)&1 == 1)
	case arrowInt:
		if n := v.number(i, v.width, v.sign); v.sign {
			return strconv.AppendInt(dst, n, 10)
		} else {
			return strconv.AppendUint(dst, uint64(n), 10)
		}
	case arrowFloat:
		return appendFloat(dst, v.float(i))
	case arrowStruct:
		dst = append(dst, '{')
		for k, kid := range v.kids {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = kid.append(append(dst, kid.key...), i)
		}
		return append(dst, '}')
	case arrowList, arrowLargeList:
		from, to := v.span(i)
		return v.list(dst, from, to)
	case arrowFixedList:
		return v.list(dst, i*int64(v.width), (i+1)*int64(v.width))
	case arrowMap:
		return v.pairs(dst, i)
	}
	return v.rare(dst, i)
}

func (v *values) list(dst []byte, from, to int64) []byte {
	dst = append(dst, '[')
	for k := from; k < to; k++ {
		if k > from {
			dst = append(dst, ',')
		}
		if dst = v.kids[0].append(dst, k); len(dst) > maxRow {
			panic(longRow())
		}
	}
	return append(dst, ']')
}

func (v *values) pairs(dst []byte, i int64) []byte {
	from, to := v.span(i)
	keys, items := v.kids[0].kids[0], v.kids[0].kids[1]
	dst = append(dst, '{')
	for k := from; k < to; k++ {
		if k > from {
			dst = append(dst, ',')
		}
		a, b := keys.span(k)
		dst = append(appendText(dst, keys.data[a:b], keys.name), ':')
		if dst = items.append(dst, k); len(dst) > maxRow {
			panic(longRow())
		}
	}
	return append(dst, '}')
}

// span is where a text or a list begins and ends.
func (v *values) span(i int64) (from, to int64) {
	if v.width == 8 {
		return int64(binary.LittleEndian.Uint64(v.ends[8*i:])), int64(binary.LittleEndian.Uint64(v.ends[8*i+8:]))
	}
	return int64(int32(binary.LittleEndian.Uint32(v.ends[4*i:]))), int64(int32(binary.LittleEndian.Uint32(v.ends[4*i+4:])))
}

// view is a text that stands by its length, or, where it is long, in another place.
func (v *values) view(i int64) []byte {
	b := v.data[16*i:][:16]
	n := int64(int32(binary.LittleEndian.Uint32(b)))
	if n <= 12 {
		return b[4:][:n]
	}
	from := int64(int32(binary.LittleEndian.Uint32(b[12:])))
	return v.more[binary.LittleEndian.Uint32(b[8:])][from : from+n]
}

func (v *values) number(i int64, width int, sign bool) int64 {
	switch b := v.data[int64(width)*i:]; {
	case width == 1 && sign:
		return int64(int8(b[0]))
	case width == 1:
		return int64(b[0])
	case width == 2 && sign:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case width == 2:
		return int64(binary.LittleEndian.Uint16(b))
	case width == 4 && sign:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	case width == 4:
		return int64(binary.LittleEndian.Uint32(b))
	case width == 8:
		return int64(binary.LittleEndian.Uint64(b))
	}
	panic(damaged("column %s has numbers of %d bytes", v.name, width))
}

func (v *values) float(i int64) float64 {
	switch v.width {
	case 2:
		return half(binary.LittleEndian.Uint16(v.data[2*i:]))
	case 4:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(v.data[4*i:])))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(v.data[8*i:]))
}

// rare appends what is rather rare in rows of text: times and decimals.
func (v *values) rare(dst []byte, i int64) []byte {
	switch v.kind {
	case arrowDate:
		return appendTime(dst, v.number(i, v.width, true), int64(v.unit/time.Nanosecond), "2006-01-02", v.name)
	case arrowClock:
		return appendTime(dst, v.number(i, v.width, true), int64(v.unit), clockTime, v.name)
	case arrowTime:
		layout := localTime
		if v.zoned {
			layout = zonedTime
		}
		return appendTime(dst, v.number(i, v.width, true), int64(v.unit), layout, v.name)
	case arrowDuration:
		return strconv.AppendInt(dst, v.number(i, v.width, true), 10)
	case arrowDecimal:
		b := slices.Clone(v.data[int64(v.width)*i:][:v.width])
		slices.Reverse(b)
		return appendDecimal(dst, signed(b), v.scale)
	}
	panic(refuse("column %s has the type %d, which is not read", v.name, v.kind))
}
