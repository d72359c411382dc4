package dataset

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"

	forge "github.com/forge-ml/forge-ml"
)

// blockSize is how much of a file one worker looks at in one go: what the digest has been over is then still in cache. Where blocks end
// depends on nothing but the file, and so does all that is found, whatever the number of workers.
var blockSize = 256 << 10

// block is some rows of one file, in order.
type block struct {
	shown  string // name of the file, for people
	file   int    // its number
	first  int64  // number of the first line
	offset int64  // of data in the file, after decompression
	data   []byte
	packed []packedRow // nil: data is lines; else data is these rows, one after another
	broken *forge.RowProblem
	done   int64       // bytes read of all files, once this block was
	end    *forge.File // comes behind the last block of a file
}

// packedRow ends at data[:end].
type packedRow struct {
	end    int
	number int64
}

var blocks = sync.Pool{New: func() any { return &block{data: make([]byte, 0, blockSize)} }}

func (b *block) release() {
	if cap(b.data) > 4*blockSize || cap(b.data) < blockSize {
		return // one very long line must not stay in memory
	}
	*b = block{data: b.data[:0]}
	blocks.Put(b)
}

// each calls fn with the rows, blank lines among them; offset is that of the first byte in the file, -1 where the row does not stand there
// like this.
func (b *block) each(fn func(row []byte, number, offset int64) error) error {
	at := 0
	for _, r := range b.packed {
		if err := fn(b.data[at:r.end], r.number, -1); err != nil {
			return err
		}
		at = r.end
	}
	if b.packed != nil {
		return nil
	}
	for number := b.first; at < len(b.data); number++ {
		end := bytes.IndexByte(b.data[at:], '\n')
		next := at + end + 1
		if end < 0 {
			end, next = len(b.data)-at, len(b.data)
		}
		if err := fn(b.data[at:at+end], number, b.offset+int64(at)); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// emit takes blocks in order; an error ends the reading.
type emit func(*block) error

// cut splits lines into blocks. A line of more than MaxLine is a problem of its own, and is not held.
func cut(r io.Reader, file int, shown string, out emit) error {
	b := blocks.Get().(*block)
	number, offset := int64(1), int64(0)
	size := blockSize // depends on nothing but the file
	for {
		b.data = slices.Grow(b.data, size-len(b.data))
		n, err := io.ReadFull(r, b.data[len(b.data):size])
		b.data = b.data[:len(b.data)+n]
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return err
		}
		keep := bytes.LastIndexByte(b.data, '\n') + 1
		if end {
			keep = len(b.data)
		}
		if keep == 0 && !end {
			if len(b.data) <= MaxLine {
				size = min(2*size, MaxLine+blockSize) // the line is longer than the block
				continue
			}
			if b, offset, err = skipLine(r, b, file, shown, number, offset, out); err != nil {
				return err
			}
			number, size = number+1, len(b.data)+blockSize
			continue
		}
		next := blocks.Get().(*block)
		next.data = append(next.data, b.data[keep:]...)
		b.data = b.data[:keep]
		lines := int64(bytes.Count(b.data, []byte{'\n'}))
		b.shown, b.file, b.first, b.offset = shown, file, number, offset
		number, offset = number+lines, offset+int64(keep)
		if keep > 0 {
			if err := out(b); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
		b, size = next, max(blockSize, len(next.data)+blockSize/2)
	}
}

// skipLine reads on to the end of the line that fills b, and says that it is too long. It returns what follows that line.
func skipLine(r io.Reader, b *block, file int, shown string, number, offset int64, out emit) (*block, int64, error) {
	next := blocks.Get().(*block)
	next.shown, next.file, next.first, next.offset = shown, file, number, offset
	next.broken = tooLong(shown, number)
	if err := out(next); err != nil {
		return nil, 0, err
	}
	offset += int64(len(b.data))
	b = blocks.Get().(*block)
	for {
		b.data = slices.Grow(b.data[:0], blockSize)
		n, err := io.ReadFull(r, b.data[:blockSize])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return nil, 0, err
		}
		b.data = b.data[:n]
		if at := bytes.IndexByte(b.data, '\n'); at >= 0 {
			offset += int64(at + 1)
			b.data = b.data[:copy(b.data, b.data[at+1:])]
			return b, offset, nil
		}
		if offset += int64(n); end {
			b.data = b.data[:0]
			return b, offset, nil
		}
	}
}

func tooLong(shown string, number int64) *forge.RowProblem {
	return &forge.RowProblem{File: shown, Line: number, Why: "is longer than 16 MiB",
		Hint: "A row is one JSON object on one line; is this JSON Lines? A pretty-printed or .json file converts with: jq -c '.[]' in.json > out.jsonl"}
}

// pack puts the rows of a reader into blocks.
func pack(rows rowReader, file int, shown string, out emit) error {
	fresh := func() *block {
		b := blocks.Get().(*block)
		b.shown, b.file, b.packed = shown, file, []packedRow{}
		return b
	}
	b := fresh()
	flush := func() error {
		if len(b.packed) == 0 && b.broken == nil {
			return nil
		}
		full := b
		b = fresh()
		return out(full)
	}
	for {
		row, number, err := rows.next()
		var wrong *rowError
		switch {
		case errors.Is(err, io.EOF):
			return flush()
		case errors.As(err, &wrong):
			if err := flush(); err != nil {
				return err
			}
			b.broken = &forge.RowProblem{File: shown, Line: wrong.number, Why: wrong.why, Hint: wrong.hint}
			if err := flush(); err != nil {
				return err
			}
			continue
		case err != nil:
			return errors.Join(flush(), err)
		}
		if len(b.data) > 0 && len(b.data)+len(row) > blockSize {
			if err := flush(); err != nil {
				return err
			}
		}
		b.data = append(b.data, row...)
		b.packed = append(b.packed, packedRow{len(b.data), number})
	}
}
