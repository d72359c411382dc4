package columnar

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

var arrowMagic = []byte("ARROW1")

// Arrow reads an Arrow file of so many bytes, in the form of a stream, as datasets' save_to_disk writes it, or of a file, which is a
// stream between two marks and an index that is not needed here.
func Arrow(r io.ReaderAt, size int64) (*Reader, error) {
	head := make([]byte, min(8, size))
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	from := int64(0)
	switch {
	case bytes.HasPrefix(head, arrowMagic):
		tail := make([]byte, len(arrowMagic))
		if err := readAt(r, tail, max(size-int64(len(tail)), 0)); err != nil {
			return nil, err
		}
		if size < 20 || !bytes.Equal(tail, arrowMagic) {
			return nil, damaged("it does not end with ARROW1; is it still being written, or was it cut?")
		}
		from = 8
	case bytes.HasPrefix(head, []byte("FEA1")):
		return nil, refuse("is a file of Feather's first version, which is not read").hint("Write it again: pyarrow.feather.write_feather writes the second one")
	case len(head) < 8 || binary.LittleEndian.Uint32(head) != continuation:
		return nil, refuse("is no Arrow file: it begins neither with ARROW1 nor with a message")
	}
	a := &arrowRows{messages: messages{r: bufio.NewReaderSize(io.NewSectionReader(r, from, size-from), 256<<10), size: size}}
	return &Reader{row: a.row, size: size}, a.open()
}

type arrowRows struct {
	messages messages
	reader   *ipc.Reader
	keys     [][]byte
	names    []string
	columns  []arrow.Array
	at, rows int64 // of the batch
}

func (a *arrowRows) open() (err error) {
	defer catch(&err)
	if a.reader, err = ipc.NewReaderFromMessageReader(&a.messages, ipc.WithAllocator(&a.messages.bounded)); err != nil {
		return a.why(err)
	}
	fields := a.reader.Schema().Fields()
	if len(fields) == 0 {
		return refuse("has no columns")
	}
	leaves, seen := 0, map[string]bool{}
	for _, f := range fields {
		name := columnName([]byte(f.Name))
		if seen[f.Name] {
			return refuse("has two columns %s", name)
		}
		seen[f.Name] = true
		checkType(name, f.Type, 0, &leaves)
		a.names = append(a.names, name)
		a.keys = append(a.keys, append(appendText(nil, []byte(f.Name), "the name of a column"), ':'))
	}
	return nil
}

// why prefers what was refused to what the library makes of it.
func (a *arrowRows) why(err error) error {
	switch e := (*Error)(nil); {
	case a.messages.err != nil:
		return a.messages.err
	case a.messages.bounded.over > 0:
		return tooLarge(a.messages.bounded.over)
	case errors.As(err, &e):
		return e
	}
	return damaged("%.200s", err)
}

func (a *arrowRows) row(dst []byte) ([]byte, error) {
	for a.at == a.rows {
		if !a.reader.Next() {
			if err := a.reader.Err(); err != nil || a.messages.err != nil || !a.messages.ended {
				return nil, a.why(err)
			}
			return nil, io.EOF
		}
		batch := a.reader.RecordBatch()
		a.at, a.rows, a.columns = 0, batch.NumRows(), batch.Columns()
		for i, c := range a.columns {
			if int64(c.Len()) != a.rows {
				return nil, damaged("column %s has another number of rows than others", a.names[i])
			}
		}
	}
	dst = append(dst, '{')
	for i, c := range a.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendValue(append(dst, a.keys[i]...), c, int(a.at), a.names[i])
		if len(dst) > maxRow {
			return nil, longRow()
		}
	}
	a.at++
	return append(dst, '}'), nil
}

const continuation = 0xFFFFFFFF

// messages reads the messages of a stream, of no more than the bounds allow. The batch before is gone when the next is read.
type messages struct {
	r       *bufio.Reader
	size    int64
	meta    []byte
	body    []byte
	bounded bounded
	ended   bool
	err     error
}

func (m *messages) Retain()  {}
func (m *messages) Release() {}

func (m *messages) Message() (msg *ipc.Message, err error) {
	defer func() {
		if err != nil && !errors.Is(err, io.EOF) {
			m.err = err
		}
	}()
	defer catch(&err)
	var head [8]byte
	if err := m.read(head[:]); err != nil {
		return nil, err
	}
	n := int64(int32(binary.LittleEndian.Uint32(head[4:])))
	switch {
	case binary.LittleEndian.Uint32(head[:]) != continuation:
		return nil, damaged("a message does not begin as one")
	case n == 0:
		m.ended = true
		return nil, io.EOF
	case n < 8 || n > maxFooter || n > m.size:
		return nil, damaged("the description of a batch claims %d bytes", n)
	}
	m.meta = grown(m.meta, n)
	if err := m.read(m.meta); err != nil {
		return nil, err
	}
	meta := memory.NewBufferBytes(m.meta)
	msg = ipc.NewMessage(meta, memory.NewBufferBytes(nil))
	n = msg.BodyLen()
	switch {
	case n < 0 || n > m.size:
		return nil, damaged("a batch claims %d bytes, and the file has %d", n, m.size)
	case n+m.bounded.held > maxUnpacked:
		return nil, tooLarge(n + m.bounded.held)
	}
	body := m.body
	if msg.Type() == ipc.MessageDictionaryBatch { // stays, while batches go
		m.bounded.held += n
		body = nil
	}
	if body = grown(body, n); msg.Type() != ipc.MessageDictionaryBatch {
		m.body = body
	} else {
		meta = memory.NewBufferBytes(bytes.Clone(m.meta))
	}
	if err := m.read(body); err != nil {
		return nil, err
	}
	return ipc.NewMessage(meta, memory.NewBufferBytes(body)), nil
}

func (m *messages) read(b []byte) error {
	_, err := io.ReadFull(m.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends before its mark of the end; is it still being written, or was it cut?")
	}
	return err
}

// grown is b with the length and capacity n.
func grown(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// bounded allocates what batches unpack to.
type bounded struct{ held, over int64 }

func (b *bounded) Allocate(size int) []byte {
	if size < 0 || b.held+int64(size) > maxUnpacked {
		b.over = max(b.held+int64(size), maxUnpacked+1)
		panic(outOfMemory(b.over))
	}
	b.held += int64(size)
	return make([]byte, size)
}

func (b *bounded) Reallocate(size int, old []byte) []byte {
	if size <= cap(old) {
		return old[:size]
	}
	grown := b.Allocate(size)
	copy(grown, old)
	b.Free(old)
	return grown
}

func (b *bounded) Free(old []byte) { b.held -= int64(cap(old)) }

// checkType refuses columns that are no part of a row of text.
func checkType(name string, t arrow.DataType, depth int, leaves *int) {
	if *leaves++; *leaves > maxColumns {
		panic(tooManyColumns())
	}
	if depth > maxDepth || len(name) > 4096 {
		panic(refuse("column %.60s… nests deeper than %d", name, maxDepth))
	}
	switch t := t.(type) {
	case *arrow.NullType, *arrow.BooleanType, *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType,
		*arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type,
		*arrow.Float16Type, *arrow.Float32Type, *arrow.Float64Type, *arrow.Date32Type, *arrow.Date64Type, *arrow.Time32Type, *arrow.Time64Type,
		*arrow.TimestampType, *arrow.DurationType:
	case arrow.DecimalType:
		if t.GetScale() < 0 {
			panic(refuse("column %s holds decimals with a negative scale, which are not read", name))
		}
	case *arrow.MapType:
		if t.KeyType().ID() != arrow.STRING {
			panic(refuse("column %s is a map whose keys are not text", name))
		}
		checkType(name+".value", t.ItemType(), depth+1, leaves)
	case *arrow.StructType:
		for _, f := range t.Fields() {
			checkType(name+"."+columnName([]byte(f.Name)), f.Type, depth+1, leaves)
		}
		if t.NumFields() == 0 {
			panic(refuse("column %s is a struct without fields", name))
		}
	case *arrow.ListType:
		checkType(name+"[]", t.Elem(), depth+1, leaves)
	case *arrow.LargeListType:
		checkType(name+"[]", t.Elem(), depth+1, leaves)
	case *arrow.FixedSizeListType:
		checkType(name+"[]", t.Elem(), depth+1, leaves)
	case *arrow.DictionaryType:
		checkType(name, t.ValueType, depth+1, leaves)
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType, *arrow.FixedSizeBinaryType:
		panic(refuse("column %s holds binary data; a row is text", name).hint("Drop the column, or write it as text"))
	default:
		panic(refuse("column %s has the type %s, which is not read", name, t.Name()))
	}
}

// appendValue appends one value of a column.
func appendValue(dst []byte, column arrow.Array, i int, name string) []byte {
	if column.IsNull(i) {
		return append(dst, "null"...)
	}
	switch c := column.(type) {
	case *array.String:
		return appendText(dst, []byte(c.Value(i)), name)
	case *array.LargeString:
		return appendText(dst, []byte(c.Value(i)), name)
	case *array.StringView:
		return appendText(dst, []byte(c.Value(i)), name)
	case *array.Null:
		return append(dst, "null"...)
	case *array.Boolean:
		return strconv.AppendBool(dst, c.Value(i))
	case *array.Int8:
		return strconv.AppendInt(dst, int64(c.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(dst, int64(c.Value(i)), 10)
	case *array.Int32:
		return strconv.AppendInt(dst, int64(c.Value(i)), 10)
	case *array.Int64:
		return strconv.AppendInt(dst, c.Value(i), 10)
	case *array.Uint8:
		return strconv.AppendUint(dst, uint64(c.Value(i)), 10)
	case *array.Uint16:
		return strconv.AppendUint(dst, uint64(c.Value(i)), 10)
	case *array.Uint32:
		return strconv.AppendUint(dst, uint64(c.Value(i)), 10)
	case *array.Uint64:
		return strconv.AppendUint(dst, c.Value(i), 10)
	case *array.Float16:
		return appendFloat(dst, half(c.Value(i).Uint16()))
	case *array.Float32:
		return appendFloat(dst, float64(c.Value(i)))
	case *array.Float64:
		return appendFloat(dst, c.Value(i))
	case *array.Dictionary:
		return appendValue(dst, c.Dictionary(), c.GetValueIndex(i), name)
	case *array.Map:
		return appendMap(dst, c, i, name)
	case *array.Struct:
		t := c.DataType().(*arrow.StructType)
		dst = append(dst, '{')
		for k := range t.NumFields() {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendText(dst, []byte(t.Field(k).Name), "the name of a field"), ':')
			dst = appendValue(dst, c.Field(k), i, name)
		}
		return append(dst, '}')
	case array.ListLike:
		from, to := c.ValueOffsets(i)
		dst = append(dst, '[')
		for k := from; k < to; k++ {
			if k > from {
				dst = append(dst, ',')
			}
			if dst = appendValue(dst, c.ListValues(), int(k), name); len(dst) > maxRow {
				panic(longRow())
			}
		}
		return append(dst, ']')
	}
	return appendOther(dst, column, i, name)
}

func appendMap(dst []byte, c *array.Map, i int, name string) []byte {
	from, to := c.ValueOffsets(i)
	keys := c.Keys().(*array.String)
	dst = append(dst, '{')
	for k := from; k < to; k++ {
		if k > from {
			dst = append(dst, ',')
		}
		dst = append(appendText(dst, []byte(keys.Value(int(k))), name), ':')
		if dst = appendValue(dst, c.Items(), int(k), name); len(dst) > maxRow {
			panic(longRow())
		}
	}
	return append(dst, '}')
}

// appendOther appends what is rather rare in rows of text: times and decimals.
func appendOther(dst []byte, column arrow.Array, i int, name string) []byte {
	switch c := column.(type) {
	case *array.Date32:
		return appendDate(dst, int64(c.Value(i)), name)
	case *array.Date64:
		const day = 24 * 60 * 60 * 1000
		ms := int64(c.Value(i))
		days := ms / day
		if ms%day < 0 {
			days--
		}
		return appendDate(dst, days, name)
	case *array.Time32:
		return appendTime(dst, int64(c.Value(i)), unitOf(c.DataType()), clockTime, name)
	case *array.Time64:
		return appendTime(dst, int64(c.Value(i)), unitOf(c.DataType()), clockTime, name)
	case *array.Timestamp:
		layout := localTime
		if c.DataType().(*arrow.TimestampType).TimeZone != "" {
			layout = zonedTime
		}
		return appendTime(dst, int64(c.Value(i)), unitOf(c.DataType()), layout, name)
	case *array.Duration:
		return strconv.AppendInt(dst, int64(c.Value(i)), 10)
	case *array.Decimal32:
		return appendDecimal(dst, big.NewInt(int64(c.Value(i))), scaleOf(c))
	case *array.Decimal64:
		return appendDecimal(dst, big.NewInt(int64(c.Value(i))), scaleOf(c))
	case *array.Decimal128:
		return appendDecimal(dst, c.Value(i).BigInt(), scaleOf(c))
	case *array.Decimal256:
		return appendDecimal(dst, c.Value(i).BigInt(), scaleOf(c))
	}
	panic(refuse("column %s has the type %s, which is not read", name, column.DataType().Name()))
}

func unitOf(t arrow.DataType) int64 {
	return int64(t.(interface{ TimeUnit() arrow.TimeUnit }).TimeUnit().Multiplier() / time.Nanosecond)
}

func scaleOf(c arrow.Array) int { return int(c.DataType().(arrow.DecimalType).GetScale()) }
