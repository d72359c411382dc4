// Package columnar reads Parquet and Arrow files as rows: each row becomes one JSON object, the same that forge_train makes of it
// (formats.py). What becomes of which type stands in docs/dataset-formats.md; a file of testdata holds both readers to it.
//
// # Bounds
//
// Whoever wrote the file may have meant harm. What a file claims is believed only as far as memory allows: a page or batch is unpacked
// into a buffer of the size that it claims, which is bounded (maxUnpacked), and not further; counts of values are read lazily and never
// allocated for; and rows that are together more than maxRatio times the file are refused. Memory is one page of each column, or one batch.
//
// # Why own readers
//
// arrow-go's reader of IPC allocates what a list in a schema claims, which kills the process and cannot be caught; parquet-go's Thrift
// makes slices of what a footer claims; arrow-go's Parquet brings its compute kernels. ADR 0027 has what was seen. Codecs are libraries'.
package columnar

import (
	"errors"
	"fmt"
	"io"
	"runtime"
)

// Bounds. They are constants because a file must be the same dataset on every machine.
const (
	maxRow      = 16 << 20 // bytes of a row as JSON; dataset.MaxLine
	maxUnpacked = 64 << 20 // bytes of the pages, or of the batch, that are held at a time
	maxFooter   = 16 << 20 // bytes of what describes a file
	maxColumns  = 1000     // leaves of a schema, as nested columns have several
	maxDepth    = 64       // of nested columns
	maxValues   = 1 << 24  // in one page
	maxRatio    = 2000     // bytes of rows per byte of file …
	freeRatio   = 64 << 20 // … beyond this many bytes of rows
)

// Error says why a file, or a row, cannot be read. It quotes nothing of the content but names of columns.
type Error struct {
	Why  string // after the name of the file
	Hint string
}

func (e *Error) Error() string { return e.Why }

func refuse(format string, args ...any) *Error { return &Error{Why: fmt.Sprintf(format, args...)} }

func (e *Error) hint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Reader gives the rows of one file.
type Reader struct {
	row    func(dst []byte) ([]byte, error) // appends the next row; io.EOF after the last
	size   int64
	number int64
	out    int64
	buf    []byte
	err    error
}

// Next returns the next row and its number from 1; row is valid until the call after. io.EOF ends the file; after any other error,
// most often an *Error, it cannot be read on.
func (r *Reader) Next() (row []byte, number int64, err error) {
	if r.err != nil {
		return nil, r.number, r.err
	}
	row, err = r.next()
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) {
			err = &Error{Why: fmt.Sprintf("cannot be read from row %d on: %s", r.number+1, e.Why), Hint: e.Hint}
		}
		r.err = err
		return nil, r.number, err
	}
	r.number++
	return row, r.number, nil
}

func (r *Reader) next() (row []byte, err error) {
	defer catch(&err)
	r.buf, err = r.row(r.buf[:0])
	if err != nil {
		return nil, err
	}
	if r.out += int64(len(r.buf)); r.out > freeRatio && r.out/maxRatio > r.size {
		return nil, refuse("the rows are more than %d times the size of the file: this is made to fill disks and not to train on", maxRatio)
	}
	return r.buf, nil
}

// catch makes an error of what decoders of torn or hostile files run into: an index out of range. Nothing was written by then but
// into buffers of theirs.
func catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case *Error:
		*err = p
	case error:
		if _, ours := p.(runtime.Error); ours {
			*err = damaged("%.200s", p)
		} else {
			*err = p // of the disk
		}
	default:
		*err = refuse("the file is damaged: %.200s", fmt.Sprint(p))
	}
}

func tooLarge(size int64) *Error {
	return refuse("a part of it unpacks to %d MiB, and at most %d are held at a time", size>>20, maxUnpacked>>20).
		hint("Write it with smaller pages or batches: in pyarrow row_group_size=1000 or data_page_size, in datasets writer_batch_size=100")
}

func damaged(format string, args ...any) *Error {
	return refuse("the file is damaged: "+format, args...)
}

// readAt reads exactly len(b) bytes; what is not there any more is a file cut short.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return damaged("it ends where %d more bytes are wanted, at byte %d", len(b)-n, at+int64(n))
	}
	return err
}
