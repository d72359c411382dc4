package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

const (
	printBytes = 16 // of a row's digest: enough that no two rows of a site share them by chance
	entryBytes = printBytes + 8
	heapMost   = 32 << 20 // bytes of a side that stay in memory
)

// digests are those of all rows of a version with their numbers, in 256 buckets by the first byte. What is more
// than heapMost goes to a file, so that two versions of any size are compared in the memory of two buckets.
type digests struct {
	heap [256][]byte
	held int
	most int
	file *os.File
	at   int64
	part [256][]segment
	rows int64
}

type segment struct {
	at int64
	n  int
}

func newDigests() *digests { return &digests{most: heapMost} }

func (d *digests) drop() {
	if d.file != nil {
		_ = d.file.Close()
	}
}

// add takes a row. n is its number.
func (d *digests) add(digest [32]byte, n int64) error {
	b := digest[0]
	d.heap[b] = binary.BigEndian.AppendUint64(append(d.heap[b], digest[:printBytes]...), uint64(n))
	d.held += entryBytes
	d.rows++
	if d.held < d.most {
		return nil
	}
	return d.spill()
}

func (d *digests) spill() error {
	if d.file == nil {
		f, err := os.CreateTemp("", "forgectl-diff-*")
		if err != nil {
			return spillFailed(err)
		}
		_ = os.Remove(f.Name()) // it goes with the process, however that ends
		d.file = f
	}
	for b := range d.heap {
		if len(d.heap[b]) == 0 {
			continue
		}
		if _, err := d.file.WriteAt(d.heap[b], d.at); err != nil {
			return spillFailed(err)
		}
		d.part[b] = append(d.part[b], segment{d.at, len(d.heap[b])})
		d.at += int64(len(d.heap[b]))
		d.heap[b] = d.heap[b][:0]
	}
	d.held = 0
	return nil
}

func spillFailed(err error) error {
	e := forge.Errorf(forge.KindUnavailable, "dataset.diff", "no room for the digests of the rows: %w", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, os.ErrPermission) {
		return e.WithHint("set TMPDIR to a directory with %d bytes for each row", 2*entryBytes)
	}
	return e
}

// bucket gives all entries whose digest begins with b, sorted: equal ones stand together, in the order of the rows.
func (d *digests) bucket(b int) ([]rowEntry, error) {
	raw := slices.Clone(d.heap[b])
	for _, s := range d.part[b] {
		from := len(raw)
		raw = append(raw, make([]byte, s.n)...)
		if _, err := d.file.ReadAt(raw[from:], s.at); err != nil {
			return nil, fmt.Errorf("the digests of the rows: %w", err)
		}
	}
	out := make([]rowEntry, 0, len(raw)/entryBytes)
	for ; len(raw) > 0; raw = raw[entryBytes:] {
		out = append(out, rowEntry{[printBytes]byte(raw), int64(binary.BigEndian.Uint64(raw[printBytes:]))})
	}
	slices.SortFunc(out, func(a, b rowEntry) int {
		if c := bytes.Compare(a.print[:], b.print[:]); c != 0 {
			return c
		}
		return int(a.row - b.row)
	})
	return out, nil
}

type rowEntry struct {
	print [printBytes]byte
	row   int64
}

// rowsCompared counts rows as often as they are there: twice in one and once in the other is one in both and one more.
type rowsCompared struct {
	OnlyA int64 `json:"only_a"`
	OnlyB int64 `json:"only_b"`
	Both  int64 `json:"both"`
	inA   smallest
	inB   smallest
}

// compareDigests holds two versions against each other; of the rows that one alone has it keeps the first few numbers.
func compareDigests(a, b *digests, show int) (rowsCompared, error) {
	c := rowsCompared{inA: smallest{most: show}, inB: smallest{most: show}}
	for i := range 256 {
		as, err := a.bucket(i)
		if err != nil {
			return c, err
		}
		bs, err := b.bucket(i)
		if err != nil {
			return c, err
		}
		for len(as) > 0 || len(bs) > 0 {
			order := 0
			switch {
			case len(bs) == 0:
				order = -1
			case len(as) == 0:
				order = 1
			default:
				order = bytes.Compare(as[0].print[:], bs[0].print[:])
			}
			if order <= 0 {
				if order < 0 {
					c.OnlyA++
					c.inA.add(as[0].row)
				}
				as = as[1:]
			}
			if order >= 0 {
				if order > 0 {
					c.OnlyB++
					c.inB.add(bs[0].row)
				}
				bs = bs[1:]
			}
			if order == 0 {
				c.Both++
			}
		}
	}
	return c, nil
}

// smallest keeps the smallest few of many numbers, sorted.
type smallest struct {
	most int
	rows []int64
}

func (s *smallest) add(n int64) {
	at, _ := slices.BinarySearch(s.rows, n)
	if at >= s.most {
		return
	}
	s.rows = slices.Insert(s.rows, at, n)
	s.rows = s.rows[:min(len(s.rows), s.most)]
}
