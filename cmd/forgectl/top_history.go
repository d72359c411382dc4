package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// historyCurve is one quantity of the history.
type historyCurve struct {
	name, unit string
	of         func(forge.GPUSample) *float64
	most       float64 // of the picture; 0: the highest value
}

var historyCurves = []historyCurve{
	{"utilisation", "%", func(s forge.GPUSample) *float64 { return s.UtilPercent }, 100},
	{"memory", "GiB", func(s forge.GPUSample) *float64 {
		if s.MemoryMiB == nil {
			return nil
		}
		v := *s.MemoryMiB / 1024
		return &v
	}, 0},
	{"temperature", "°C", func(s forge.GPUSample) *float64 { return s.TemperatureC }, 0},
	{"power", "W", func(s forge.GPUSample) *float64 { return s.PowerWatts }, 0},
}

// plotGPUs is how many GPUs have pictures with axes; of more each curve is a line.
const plotGPUs = 1

func (a *app) topHistory(ctx context.Context, q api.GPUQuery, of string, back time.Duration) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	since := a.Now().Add(-back)
	var all []api.GPUHistory
	nodes, err := gpusOf(ctx, cl, q, of)
	if err != nil && forge.KindOf(err) == forge.KindNotFound && of != "" { // a GPU that no node has any more has a history all the same
		if h, herr := cl.GPUHistory(ctx, of, since); herr == nil {
			all, err = []api.GPUHistory{h}, nil
		}
	}
	if err != nil {
		return err
	}
	for _, n := range nodes {
		for _, g := range n.GPUs {
			if g.UUID == "" {
				continue
			}
			h, err := cl.GPUHistory(ctx, g.UUID, since)
			if err != nil {
				return err
			}
			all = append(all, h)
		}
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(all)))
	}
	if !p.people() {
		p.historyRows(all)
	} else {
		for _, h := range all {
			p.history(h, since, a.Width, len(all) <= plotGPUs)
		}
	}
	a.nothing(p, len(all), "no GPUs whose history is known", "forgectl top --once shows what there is")
	return p.done(nil)
}

func (p *printer) historyRows(all []api.GPUHistory) {
	value := func(v *float64) string {
		if v == nil {
			return ""
		}
		return strconv.FormatFloat(*v, 'f', -1, 64)
	}
	t := p.table()
	for _, h := range all {
		for _, s := range h.Steps {
			t.row(h.UUID, p.time(s.At), strconv.Itoa(s.Seconds), value(s.UtilPercent), value(s.MemoryMiB), value(s.PowerWatts), value(s.TemperatureC))
		}
	}
	t.flush()
}

func (p *printer) history(h api.GPUHistory, since time.Time, width int, large bool) {
	name := clean(h.UUID)
	if h.Slot != nil {
		name = fmt.Sprintf("%s/%d  %s", clean(string(h.Node)), *h.Slot, name)
	}
	if p.color {
		name = bold + name + plainC
	}
	p.line("%s", name)
	if len(h.Steps) == 0 {
		p.line("  nothing is known of it since %s", p.time(since))
		return
	}
	for _, c := range historyCurves {
		if large {
			for _, l := range plotBy(c.name, c.unit, bucketsOf(h.Steps, c.of), plotSize{width: width, height: plotHeight / 2}, clockOf(p.now), historyGap) {
				p.line("%s", l)
			}
			continue
		}
		p.line("  %-11s %s", c.name, p.historyLine(h.Steps, c, since, width-14))
	}
}

// historyGap is the longest time, in minutes, over which a curve goes on without a value.
const historyGap = 20

// bucketsOf are the steps that have a value, by the minute.
func bucketsOf(steps []forge.GPUSample, of func(forge.GPUSample) *float64) (out []forge.MetricBucket) {
	for _, s := range steps {
		if v := of(s); v != nil {
			out = append(out, forge.MetricBucket{Step: s.At.Unix() / 60, Span: int64(max(1, s.Seconds/60)), Min: *v, Max: *v, Last: *v})
		}
	}
	return out
}

// clockOf writes minutes as people read times: with the day where that is another one.
func clockOf(now time.Time) func(int64) string {
	return func(minute int64) string {
		at := time.Unix(minute*60, 0).In(now.Location())
		if now.Sub(at) < 24*time.Hour {
			return at.Format("15:04")
		}
		return at.Format("Jan 2 15:04")
	}
}

// historyLine draws a curve in one line: means of equal parts of the time, a gap where nothing was said.
func (p *printer) historyLine(steps []forge.GPUSample, c historyCurve, since time.Time, width int) string {
	tail := 24 // room for the words behind
	n := max(8, width-tail)
	sums, counts := make([]float64, n), make([]int, n)
	whole := p.now.Sub(since)
	last, most := math.NaN(), c.most
	for _, s := range steps {
		v := c.of(s)
		if v == nil {
			continue
		}
		i := int(float64(n) * float64(s.At.Sub(since)) / float64(whole))
		i = min(max(i, 0), n-1)
		sums[i] += *v
		counts[i]++
		last, most = *v, max(most, *v)
	}
	if math.IsNaN(last) {
		return "not said"
	}
	percents := make([]int, n)
	for i := range percents {
		if percents[i] = -1; counts[i] > 0 {
			percents[i] = int(100 * sums[i] / float64(counts[i]) / max(most, 1e-9))
		}
	}
	return fmt.Sprintf("%s %s %s of %s", strings.TrimRight(spark(percents), " "), axisNumber(last), c.unit, axisNumber(most))
}
