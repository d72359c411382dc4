package dataset

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// chunk is how much is read at once: large enough for the disk, small enough that the parser
// finds in cache what the digest has just been over.
const chunk = 256 << 10

// meter passes bytes on from file after file; what passes is digested, counted and reported,
// and stops when the context ends.
type meter struct {
	ctx    context.Context
	report func(done, total int64)
	total  int64
	done   int64 // over all files
	file   int64 // of this file
	r      io.Reader
	h      hash.Hash
}

// through starts the next file.
func (m *meter) through(r io.Reader) *meter {
	m.r, m.h, m.file = r, sha256.New(), 0
	return m
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	if n > 0 {
		m.h.Write(p[:n])
		m.file += int64(n)
		m.done += int64(n)
		if m.report != nil {
			m.report(m.done, max(m.total, m.done))
		}
	}
	return n, err
}

// sum is the digest of the file that has just been read to its end.
func (m *meter) sum() string { return hex.EncodeToString(m.h.Sum(nil)) }

var errLineTooLong = errors.New("line too long")

// lines splits a stream at newlines, holding one line at a time.
type lines struct {
	r      *bufio.Reader
	number int64 // of the line returned last, from 1
	offset int64 // of its first byte in the file
	size   int64 // of it, with its newline
	long   []byte
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, chunk)} }

// next returns the next line without its newline, valid until the call after.
func (l *lines) next() ([]byte, error) {
	l.offset += l.size
	l.number++
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = l.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			if l.long = append(l.long, line...); len(l.long) > MaxLine {
				return nil, errLineTooLong
			}
			line, err = l.r.ReadSlice('\n')
		}
		l.long = append(l.long, line...)
		line = l.long
	}
	l.size = int64(len(line))
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil // the last line need not end with a newline
	}
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if len(line) > MaxLine {
		return nil, errLineTooLong
	}
	return line, nil
}

// checkEncoding refuses what is not UTF-8 text, and says what it seems to be instead.
func checkEncoding(line []byte, l *lines, shown string) error {
	if l.number == 1 {
		switch {
		case bytes.HasPrefix(line, []byte("\xef\xbb\xbf")):
			return forge.Invalidf("path", "%s: line 1 starts with a byte order mark, which JSON does not allow", shown).
				WithHint(`Remove it: sed -i '1s/^\xEF\xBB\xBF//' FILE`)
		case bytes.HasPrefix(line, []byte("\xff\xfe")), bytes.HasPrefix(line, []byte("\xfe\xff")):
			return forge.Invalidf("path", "%s: line 1 starts with the byte order mark of UTF-16; a dataset is UTF-8", shown).
				WithHint("Convert it: iconv -f UTF-16 -t UTF-8 in.jsonl > out.jsonl")
		case bytes.HasPrefix(line, []byte("\x1f\x8b")):
			return forge.Invalidf("path", "%s is gzip-compressed", shown).WithHint("Decompress it first: gunzip")
		}
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		return forge.Invalidf("path", "%s: line %d holds a NUL byte (byte offset %d): the file is torn, binary, or UTF-16 instead of UTF-8", shown, l.number, l.offset+int64(i))
	}
	if utf8.Valid(line) {
		return nil
	}
	i := 0
	for i < len(line) {
		r, n := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return forge.Invalidf("path", "%s: line %d is not UTF-8: byte 0x%02x at byte offset %d", shown, l.number, line[i], l.offset+int64(i)).
		WithHint("Convert it, for example from Latin-1: iconv -f ISO-8859-1 -t UTF-8 in.jsonl > out.jsonl")
}
