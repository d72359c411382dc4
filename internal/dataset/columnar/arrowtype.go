package columnar

import (
	"time"
)

// The types of Arrow that are read, by their numbers.
const (
	arrowNull, arrowInt, arrowFloat, arrowBinary, arrowText, arrowBool, arrowDecimal, arrowDate, arrowClock, arrowTime = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

	arrowList, arrowStruct, arrowFixedBinary, arrowFixedList, arrowMap, arrowDuration = 12, 13, 15, 16, 17, 18

	arrowLargeBinary, arrowLargeText, arrowLargeList, arrowBinaryView, arrowTextView = 19, 20, 21, 23, 24
)

var arrowNames = map[uint8]string{11: "interval", 14: "union", 22: "run_end_encoded", 25: "list_view", 26: "large_list_view"}

// arrowField is one of the schema.
type arrowField struct {
	name  string // as columns nest, for errors
	key   []byte
	kind  uint8
	width int // bytes of a number, or elements of a list of fixed size
	sign  bool
	scale int
	unit  time.Duration
	zoned bool
	kids  []*arrowField

	dictionary bool // the values are numbers of those in a dictionary
	id         int64
	index      int // bytes of such a number
	indexSign  bool
}

// schema makes fields of a description, and remembers which dictionaries there are.
type schema struct {
	fields       []*arrowField
	dictionaries map[int64]*arrowField
	count        int
}

func parseSchema(t table) *schema {
	s := &schema{dictionaries: map[int64]*arrowField{}}
	if t.number16(0, 0) != 0 {
		panic(refuse("is written in the byte order of another sort of machine"))
	}
	seen := map[string]bool{}
	t.tables(1, func(f table) {
		field := s.field(f, "", 0)
		if seen[string(field.key)] {
			panic(refuse("has two columns %s", field.name))
		}
		seen[string(field.key)] = true
		s.fields = append(s.fields, field)
	})
	if len(s.fields) == 0 {
		panic(refuse("has no columns"))
	}
	return s
}

var timeUnits = [...]time.Duration{time.Second, time.Millisecond, time.Microsecond, time.Nanosecond}

func timeUnit(n int16) time.Duration {
	if n < 0 || int(n) >= len(timeUnits) {
		panic(damaged("a time in units of %d", n))
	}
	return timeUnits[n]
}

func (s *schema) field(t table, up string, depth int) *arrowField {
	if s.count++; s.count > 4*maxColumns {
		panic(tooManyColumns())
	}
	raw, _ := t.vector(0, 1)
	f := &arrowField{name: up + columnName(raw), kind: t.number8(2, 0)}
	if depth > maxDepth || len(f.name) > 4096 {
		panic(refuse("column %.60s… nests deeper than %d", f.name, maxDepth))
	}
	f.key = append(appendText(nil, raw, "the name of a column"), ':')
	of, ok := t.table(3)
	if !ok {
		panic(damaged("column %s has no type", f.name))
	}
	t.tables(5, func(kid table) { f.kids = append(f.kids, s.field(kid, f.name+".", depth+1)) })
	f.typed(of)
	f.check()
	if d, ok := t.table(4); ok {
		value := *f
		f.dictionary, f.id, f.index, f.indexSign = true, d.number64(0), 4, true
		if n, ok := d.table(1); ok {
			f.index, f.indexSign = int(n.number32(0, 0)/8), n.number8(1, 0) != 0
		}
		f.width = f.index
		if _, twice := s.dictionaries[f.id]; twice { // it could hold itself
			panic(refuse("column %s shares its dictionary with another, which is not read", f.name))
		}
		s.dictionaries[f.id] = &value
	}
	return f
}

// typed reads what the type needs to know.
func (f *arrowField) typed(t table) {
	switch f.kind {
	case arrowInt:
		f.width, f.sign = int(t.number32(0, 0)/8), t.number8(1, 0) != 0
	case arrowFloat:
		f.width = 2 << max(t.number16(0, 0), 0)
	case arrowDecimal:
		f.scale, f.width = int(t.number32(1, 0)), int(t.number32(2, 128)/8)
	case arrowDate:
		f.width, f.unit = 4, 24*time.Hour
		if t.number16(0, 1) == 1 {
			f.width, f.unit = 8, time.Millisecond
		}
	case arrowClock:
		f.unit, f.width = timeUnit(t.number16(0, 1)), int(t.number32(1, 32)/8)
	case arrowTime:
		zone, _ := t.vector(1, 1)
		f.unit, f.width, f.zoned = timeUnit(t.number16(0, 0)), 8, len(zone) > 0
	case arrowDuration:
		f.width, f.sign = 8, true
	case arrowFixedList:
		f.width = int(t.number32(0, 0))
	case arrowText, arrowBinary:
		f.width = 4
	case arrowLargeText, arrowLargeBinary, arrowLargeList:
		f.width = 8
	case arrowList, arrowMap:
		f.width = 4
	case arrowTextView:
		f.width = 16
	}
}

// check refuses columns that are no part of a row of text, and types that cannot be.
func (f *arrowField) check() {
	ok := true
	switch f.kind {
	case arrowNull, arrowBool, arrowText, arrowLargeText, arrowTextView, arrowDate, arrowTime, arrowDuration:
	case arrowInt, arrowClock:
		ok = f.width == 1 || f.width == 2 || f.width == 4 || f.width == 8
	case arrowFloat:
		ok = f.width <= 8
	case arrowDecimal:
		if ok = f.width == 4 || f.width == 8 || f.width == 16 || f.width == 32; f.scale < 0 || f.scale > 1000 {
			panic(refuse("column %s holds decimals with the scale %d, which are not read", f.name, f.scale))
		}
	case arrowList, arrowLargeList:
		ok = len(f.kids) == 1
	case arrowFixedList:
		ok = len(f.kids) == 1 && f.width >= 0
	case arrowMap:
		ok = len(f.kids) == 1 && f.kids[0].kind == arrowStruct && len(f.kids[0].kids) == 2
		if ok && (f.kids[0].kids[0].kind != arrowText || f.kids[0].kids[0].dictionary) {
			panic(refuse("column %s is a map whose keys are not text", f.name))
		}
	case arrowStruct:
		if len(f.kids) == 0 {
			panic(refuse("column %s is a struct without fields", f.name))
		}
	case arrowBinary, arrowLargeBinary, arrowFixedBinary, arrowBinaryView:
		panic(refuse("column %s holds binary data; a row is text", f.name).hint("Drop the column, or write it as text"))
	default:
		panic(refuse("column %s has the type %s (%d), which is not read", f.name, arrowNames[f.kind], f.kind))
	}
	if !ok {
		panic(damaged("column %s has a type that cannot be", f.name))
	}
}
