package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
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
