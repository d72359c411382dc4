package dataset

import (
	"crypto/sha256"
	"encoding/binary"
)

// digester makes the digest of a row of what is said in it, so that it is the same whatever format, order of columns or escapes it
// is written with. Each word below goes in with its length before it, 4 bytes big endian:
//
//	of each column of the kind, in the order of columnNames: its name, then its text; a label is the text true or false;
//	of a list of messages: its name with [] behind it, then of each turn its role, its content ("" where it has none), and of each
//	text in its tool calls, in order, the word tool_calls and that text.
type digester struct{ buf []byte }

func (d *digester) word(w string) {
	d.buf = append(binary.BigEndian.AppendUint32(d.buf, uint32(len(w))), w...)
}

func (d *digester) text(t []byte) {
	d.buf = append(binary.BigEndian.AppendUint32(d.buf, uint32(len(t))), t...)
}

// row digests the row that s has read; each text is given to see, too, with the column that it is of. The text is valid until the next row.
func (d *digester) row(s *scanner, sig signature, see func(c columnSet, i int)) [sha256.Size]byte {
	d.buf = d.buf[:0]
	for i, name := range columnNames {
		c := columnSet(1) << i
		if sig.has&c == 0 {
			continue
		}
		at := &s.cells[i]
		switch {
		case c == colLabel:
			d.word(name)
			if s.good {
				d.word("true")
			} else {
				d.word("false")
			}
		case !at.list:
			d.word(name)
			d.text(s.text(at.from))
			see(c, at.from)
		default:
			d.word(name + "[]")
			for _, t := range s.turns[at.from:at.to] {
				d.word(t.role)
				if t.content < 0 {
					d.word("")
				} else {
					d.text(s.text(t.content))
					see(c, t.content)
				}
				for j := t.from; j < t.till; j++ {
					d.word("tool_calls")
					d.text(s.text(j))
					see(c, j)
				}
			}
		}
	}
	return sha256.Sum256(d.buf)
}
