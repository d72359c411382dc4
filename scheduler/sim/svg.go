package sim

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// Measures of the drawing, in its own units.
const (
	plotWidth, plotHeight  = 900, 460
	leftEdge, rightEdge    = 76, 20
	topEdge, panelGap      = 46, 44
	bottomEdge             = 52
	panelHeight            = (plotHeight - topEdge - bottomEdge - panelGap) / 2
	usedColor, queuedColor = "#2563ae", "#b4490f"
)

// SVG draws how much of the cluster was used and how many runs waited, over time.
func (r *Result) SVG(w io.Writer, title string) error {
	b := bufio.NewWriter(w)
	f := r.Figures
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" fill="#222">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(b, `<title>%s</title><rect width="100%%" height="100%%" fill="#fff"/>`+"\n", html.EscapeString(title))
	fmt.Fprintf(b, `<text x="%d" y="18" font-size="14" font-weight="600">%s</text>`+"\n", leftEdge, html.EscapeString(title))
	fmt.Fprintf(b, `<text x="%d" y="35" fill="#555">%d runs, average completion %s, makespan %s, %.1f %% of GPU time used, %d preemptions</text>`+"\n",
		leftEdge, f.Jobs, length(f.AvgJCT), length(f.Makespan), 100*f.Utilization, f.Preemptions)
	used, queued := make([]float64, len(r.Series.Points)), make([]float64, len(r.Series.Points))
	for i, p := range r.Series.Points {
		used[i], queued[i] = 100*p.Busy/float64(max(1, r.Series.total)), p.Queued
	}
	span := float64(int64(len(r.Series.Points))*r.Series.Step) / 1000
	unit, per := timeUnit(span)
	x := axis{0, span / per, leftEdge, plotWidth - rightEdge}
	top := topEdge
	for _, p := range []struct {
		label, color string
		values       []float64
		most         float64
	}{{"GPUs in use, % of " + strconv.FormatInt(r.Series.total, 10), usedColor, used, 100}, {"runs that wait", queuedColor, queued, highest(queued)}} {
		y := axis{0, p.most, float64(top + panelHeight), float64(top)}
		drawPanel(b, x, y, p.label, p.color, p.values)
		top += panelHeight + panelGap
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">time since the trace began (%s)</text>`+"\n</svg>\n", (leftEdge+plotWidth-rightEdge)/2, plotHeight-12, unit)
	return b.Flush()
}

func drawPanel(b *bufio.Writer, x, y axis, label, color string, values []float64) {
	for _, v := range y.ticks(5) {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", leftEdge, y.at(v), plotWidth-rightEdge, leftEdge-6, y.at(v)+4, short(v))
	}
	for _, v := range x.ticks(10) {
		fmt.Fprintf(b, `<path d="M%.1f %.1fv4" stroke="#888"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x.at(v), y.at(0), x.at(v), y.at(0)+17, short(v))
	}
	fmt.Fprintf(b, `<text transform="translate(18 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (y.at(0)+y.at(y.hi))/2, html.EscapeString(label))
	if len(values) > 0 {
		var d strings.Builder
		fmt.Fprintf(&d, "M%d %.1f", leftEdge, y.at(0))
		step := (x.hi - x.lo) / float64(len(values))
		for i, v := range values {
			fmt.Fprintf(&d, "L%.2f %.1fL%.2f %.1f", x.at(step*float64(i)), y.at(v), x.at(step*float64(i+1)), y.at(v))
		}
		fmt.Fprintf(&d, "V%.1fZ", y.at(0))
		fmt.Fprintf(b, `<path d="%s" fill="%s" fill-opacity="0.3" stroke="%s" stroke-width="0.8"/>`+"\n", d.String(), color, color)
	}
	fmt.Fprintf(b, `<path d="M%d %.1fV%.1fH%d" fill="none" stroke="#444"/>`+"\n", leftEdge, y.at(y.hi), y.at(0), plotWidth-rightEdge)
}

// axis maps values to places in the drawing.
type axis struct{ lo, hi, from, to float64 }

func (a axis) at(v float64) float64 {
	if a.hi <= a.lo {
		return a.from
	}
	return a.from + (v-a.lo)/(a.hi-a.lo)*(a.to-a.from)
}

// ticks are round numbers, at most about so many.
func (a axis) ticks(most int) []float64 {
	if a.hi <= a.lo {
		return []float64{a.lo}
	}
	step := math.Pow(10, math.Floor(math.Log10((a.hi-a.lo)/float64(most))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (a.hi-a.lo)/(step*m) <= float64(most) {
			step *= m
			break
		}
	}
	var out []float64
	for k := 0; a.lo+float64(k)*step <= a.hi*1.0001; k++ {
		out = append(out, a.lo+float64(k)*step)
	}
	return out
}

func highest(values []float64) float64 {
	most := 1.0
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

func timeUnit(seconds float64) (string, float64) {
	switch {
	case seconds >= 4*86400:
		return "days", 86400
	case seconds >= 4*3600:
		return "hours", 3600
	}
	return "minutes", 60
}

func length(seconds float64) string {
	switch {
	case seconds >= 2*86400:
		return fmt.Sprintf("%.1f days", seconds/86400)
	case seconds >= 2*3600:
		return fmt.Sprintf("%.1f h", seconds/3600)
	case seconds >= 120:
		return fmt.Sprintf("%.1f min", seconds/60)
	}
	return fmt.Sprintf("%.0f s", seconds)
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
