package main

import (
	"bufio"
	"fmt"
	"strings"
)

// table is a listing. A head that starts with '>' aligns right; one that ends in ":N" may be left out
// where the terminal is too narrow, the lowest N first. In a pipe rows go out as they come, whole; on
// a terminal they wait until the widths are known.
type table struct {
	p      *printer
	cols   []column
	rows   [][]string
	titles []title
}

// title is a line of its own before a row, for people.
type title struct {
	before      int
	text, color string
}

type column struct {
	head  string
	right bool
	rank  int // when it is left out; 0: never
	width int
	gone  bool
}

// fixMark begins a cell that is to be copied, so that it must stay one line however long it is: the
// terminal wraps it, and gives it back whole.
const fixMark = "→ "

const (
	columnGap = 2
	// wrapWish is what the last column, which can wrap, gets before others are left out for it.
	wrapWish = 24
	// cutLeast is the narrowest that a column is cut to, wrapLeast the narrowest in which the last
	// one wraps: below them a listing says nothing any more, and a terminal may as well wrap it.
	cutLeast  = 10
	wrapLeast = 16
)

func (p *printer) table(heads ...string) *table {
	t := &table{p: p}
	for _, h := range heads {
		c := column{head: strings.TrimPrefix(h, ">"), right: strings.HasPrefix(h, ">")}
		if head, rank, ok := strings.Cut(c.head, ":"); ok {
			c.head, c.rank = head, int(rank[0]-'0')
		}
		t.cols = append(t.cols, c)
	}
	return t
}

// row takes one row. Every cell is cleaned here, so that no command can forget it.
func (t *table) row(cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	if t.p.mode == modeTSV {
		for i, c := range cells {
			if i > 0 {
				t.p.w.WriteByte('\t')
			}
			t.p.w.WriteString(c)
		}
		t.p.w.WriteByte('\n')
		return
	}
	t.rows = append(t.rows, cells)
}

// title puts a line of its own before the next row.
func (t *table) title(text, color string) {
	if t.p.mode == modeTable {
		t.titles = append(t.titles, title{len(t.rows), clean(text), color})
	}
}

// writeTitles writes those that stand before a row.
func (t *table) writeTitles(row int) {
	for len(t.titles) > 0 && t.titles[0].before <= row {
		l := t.titles[0]
		t.titles = t.titles[1:]
		indent := len(l.text) - len(strings.TrimLeft(l.text, " "))
		for i, text := range strings.Split(t.p.hang(l.text[indent:], indent), "\n") {
			if i == 0 {
				text = l.text[:indent] + text
			}
			if t.p.color && l.color != "" {
				text = l.color + text + plainC
			}
			t.p.line("%s", text)
		}
	}
}

// flush writes what waited.
func (t *table) flush() {
	if t.p.mode != modeTable {
		return
	}
	if len(t.rows) == 0 {
		t.writeTitles(0)
		return
	}
	for i := range t.cols {
		t.cols[i].width = textWidth(t.cols[i].head)
	}
	for _, r := range t.rows {
		for i, c := range r {
			t.cols[i].width = max(t.cols[i].width, textWidth(c))
		}
	}
	hidden := t.fit()
	heads := make([]string, len(t.cols))
	for i, c := range t.cols {
		heads[i] = c.head
	}
	t.write(heads, true)
	for i, r := range t.rows {
		t.writeTitles(i)
		t.write(r, false)
	}
	t.writeTitles(len(t.rows))
	if len(hidden) > 0 {
		fmt.Fprintf(t.p.notes, "left out for want of room: %s; all of them with --wide\n", strings.Join(hidden, ", "))
	}
}

// fit makes the table as wide as the terminal: first columns that are empty or least wanted go, then
// the widest are cut, and the last wraps in what is left. It returns what people should know is gone.
func (t *table) fit() (hidden []string) {
	if t.p.width == 0 || t.p.wide {
		return nil
	}
	last := len(t.cols) - 1
	need := func(least int) int { // with the last column wrapped to a width
		if t.cols[last].gone {
			return t.total()
		}
		return t.total() - t.cols[last].width + min(t.cols[last].width, least)
	}
	for rank := 1; rank <= 9; rank++ {
		for i := range t.cols {
			if c := &t.cols[i]; need(wrapWish) > t.p.width && c.rank == rank {
				c.gone = true
				hidden = append(hidden, c.head)
			}
		}
	}
	for need(wrapLeast) > t.p.width {
		widest := -1
		for i := range t.cols[:last] {
			if c := t.cols[i]; !c.gone && !c.right && c.width > max(cutLeast, textWidth(c.head)) && (widest < 0 || c.width > t.cols[widest].width) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		t.cols[widest].width--
	}
	if over := t.total() - t.p.width; over > 0 && !t.cols[last].gone {
		t.cols[last].width = max(t.cols[last].width-over, min(t.cols[last].width, wrapLeast))
	}
	return hidden
}

func (t *table) total() int {
	n := -columnGap
	for _, c := range t.cols {
		if !c.gone {
			n += c.width + columnGap
		}
	}
	return n
}

func (t *table) write(cells []string, head bool) {
	w, last := t.p.w, len(cells)-1
	for last > 0 && (cells[last] == "" || t.cols[last].gone) {
		last-- // no spaces at the end of a line
	}
	at := 0
	for i, c := range cells[:last+1] {
		col := &t.cols[i]
		if col.gone {
			continue
		}
		var more []string
		if i == len(t.cols)-1 {
			if strings.HasPrefix(c, fixMark) {
				t.p.w.WriteString(c)
				break
			}
			if lines := wrap(c, col.width); len(lines) > 1 && !head {
				c, more = lines[0], lines[1:]
			}
		} else {
			c = fitWidth(c, col.width)
		}
		pad := col.width - textWidth(c)
		if col.right {
			spaces(w, pad)
		}
		t.p.paint(c, col.head, head)
		if !col.right && i < last {
			spaces(w, pad)
		}
		if i < last {
			spaces(w, columnGap)
		}
		for _, line := range more {
			w.WriteByte('\n')
			spaces(w, at)
			t.p.paint(line, col.head, head)
		}
		at += col.width + columnGap
	}
	w.WriteByte('\n')
}

func spaces(w *bufio.Writer, n int) {
	for range n {
		w.WriteByte(' ')
	}
}

// hang wraps a value that begins at a column, on a terminal, so that what follows stays below it.
func (p *printer) hang(s string, at int) string {
	if p.width-at < wrapLeast || p.wide {
		return s
	}
	return strings.Join(wrap(s, p.width-at), "\n"+strings.Repeat(" ", at))
}
