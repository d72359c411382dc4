package main

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// plotSize is the room for a curve with its axes, in characters.
type plotSize struct{ width, height int }

const (
	minPlotWidth  = 20
	minPlotHeight = 4
)

// plot draws a curve of buckets in braille dots (two by four a character), with the range of
// values on the left and that of steps below. Where a bucket covers many steps its range from
// min to max is drawn too, so that a spike between two buckets is seen. Values that are not
// numbers are left out. The unit stands over the values. It returns lines of at most the given width, and nothing else happens.
func plot(title, unit string, buckets []forge.MetricBucket, sz plotSize) []string {
	return plotBy(title, unit, buckets, sz, func(step int64) string { return strconv.FormatInt(step, 10) }, 0)
}

// plotBy is plot with other words for steps. Where more than gap steps have no value the curve is broken; 0: never.
func plotBy(title, unit string, buckets []forge.MetricBucket, sz plotSize, foot func(step int64) string, gap int64) []string {
	var pts []forge.MetricBucket
	for _, b := range buckets {
		if finite(b.Last) && finite(b.Min) && finite(b.Max) {
			pts = append(pts, b)
		}
	}
	if len(pts) == 0 {
		return []string{title + ": no values yet"}
	}
	sz.width, sz.height = max(sz.width, minPlotWidth), max(sz.height, minPlotHeight)
	lo, hi := pts[0].Min, pts[0].Max
	for _, p := range pts {
		lo, hi = min(lo, p.Min, p.Last), max(hi, p.Max, p.Last)
	}
	if lo == hi { // a flat line runs through the middle
		pad := max(math.Abs(lo)*0.1, 0.1)
		lo, hi = lo-pad, hi+pad
	}
	rows := sz.height - 3 // title, axis, steps
	if unit != "" {
		rows = max(1, rows-1)
	}
	labels := make([]string, rows)
	labelWidth := 0
	for _, r := range []int{0, rows / 2, rows - 1} {
		labels[r] = axisNumber(hi - (hi-lo)*float64(r)/float64(max(1, rows-1)))
		labelWidth = max(labelWidth, len(labels[r]))
	}
	c := newCanvas(sz.width-labelWidth-2, rows)
	drawCurve(c, pts, lo, hi, gap)
	out := []string{strings.TrimRight(title+" "+axisNumber(pts[len(pts)-1].Last)+" "+unit, " ")}
	if unit != "" {
		out = append(out, strings.Repeat(" ", max(0, labelWidth-utf8.RuneCountInString(unit)))+unit)
	}
	for r := range rows {
		tick := "│"
		if labels[r] != "" {
			tick = "┤"
		}
		out = append(out, strings.TrimRight(strings.Repeat(" ", labelWidth-len(labels[r]))+labels[r]+" "+tick+c.row(r), " "))
	}
	first, last := foot(pts[0].Step), foot(lastStep(pts))
	out = append(out, strings.Repeat(" ", labelWidth+1)+"└"+strings.Repeat("─", c.width))
	room := c.width - utf8.RuneCountInString(first) - len(last)
	ends := strings.Repeat(" ", labelWidth+2) + first
	if room > 0 {
		ends += strings.Repeat(" ", room) + last
	}
	return append(out, ends)
}

func lastStep(pts []forge.MetricBucket) int64 {
	p := pts[len(pts)-1]
	return p.Step + max(0, p.Span-1)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func axisNumber(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func drawCurve(c *canvas, pts []forge.MetricBucket, lo, hi float64, gap int64) {
	from, to := pts[0].Step, lastStep(pts)
	x := func(p forge.MetricBucket) int {
		if to == from {
			return 0
		}
		at := p.Step + max(0, p.Span-1)
		return int(math.Round(float64(at-from) / float64(to-from) * float64(2*c.width-1)))
	}
	y := func(v float64) int { return int(math.Round((hi - v) / (hi - lo) * float64(4*c.height-1))) }
	px, py := x(pts[0]), y(pts[0].Last)
	for i, p := range pts {
		nx, ny := x(p), y(p.Last)
		if gap > 0 && i > 0 && p.Step-lastStep(pts[:i]) > gap {
			px, py = nx, ny
		}
		c.line(px, py, nx, ny)
		if p.Span > 1 {
			c.line(nx, y(p.Min), nx, y(p.Max))
		}
		px, py = nx, ny
	}
}

// canvas is a grid of braille characters.
type canvas struct {
	width, height int
	cells         []byte
}

func newCanvas(width, height int) *canvas {
	return &canvas{width: width, height: height, cells: make([]byte, width*height)}
}

// dots[y][x] is the bit of a dot inside a braille character (Unicode 2800).
var dots = [4][2]byte{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}

func (c *canvas) dot(x, y int) {
	if x < 0 || y < 0 || x >= 2*c.width || y >= 4*c.height {
		return
	}
	c.cells[y/4*c.width+x/2] |= dots[y%4][x%2]
}

// line is Bresenham's.
func (c *canvas) line(x0, y0, x1, y1 int) {
	dx, dy := abs(x1-x0), -abs(y1-y0)
	sx, sy := sign(x1-x0), sign(y1-y0)
	e := dx + dy
	for {
		c.dot(x0, y0)
		if x0 == x1 && y0 == y1 {
			return
		}
		e2 := 2 * e
		if e2 >= dy {
			e, x0 = e+dy, x0+sx
		}
		if e2 <= dx {
			e, y0 = e+dx, y0+sy
		}
	}
}

func (c *canvas) row(r int) string {
	var b strings.Builder
	for _, bits := range c.cells[r*c.width : (r+1)*c.width] {
		if bits == 0 {
			b.WriteByte(' ')
		} else {
			b.WriteRune(rune(0x2800) + rune(bits))
		}
	}
	return b.String()
}

func abs(n int) int { return max(n, -n) }

func sign(n int) int {
	switch {
	case n > 0:
		return 1
	case n < 0:
		return -1
	}
	return 0
}
