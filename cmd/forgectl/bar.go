package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	askEvery   = 200 * time.Millisecond
	askTimeout = 2 * time.Second
	paceOver   = 10 * time.Second // what a disk did before says little about what it will do
	leftMost   = 99 * 24 * time.Hour

	barLeast = 8 // cells
	barMost  = 30
	rateMost = len("1023.9 MiB/s") // what is reserved, so that the bar does not jump
	tillMost = len("47h59m left")
	rowsMost = len("999,999,999 rows")
)

// reach is how far something is.
type reach struct{ done, total, rows int64 } // bytes; rows 0: nobody counts them

// howFar asks about that: the server about one request, or whoever reads here.
type howFar func(context.Context) (reach, error)

func progressOf(cl *client.Client, once client.Once) howFar {
	return func(ctx context.Context) (reach, error) {
		g, err := cl.Progress(ctx, once)
		return reach{done: g.BytesDone, total: g.BytesTotal}, err
	}
}

// standing is how far it is, and how fast it gets there.
type standing struct {
	done, total int64
	rate        float64 // bytes a second; 0: not known
	rows        int64
}

// watchProgress asks until the context ends. Whatever comes instead of an answer (a server of before this
// operation, one that has not begun, a lost connection) leaves nothing to draw: the spinner is shown.
func (a *app) watchProgress(ctx context.Context, ask howFar, now *atomic.Pointer[standing]) {
	p := pace{{at: a.Now()}}
	tick := time.NewTimer(spinAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		one, cancel := context.WithTimeout(ctx, askTimeout)
		g, err := ask(one)
		cancel()
		if err != nil || g.total <= 0 {
			now.Store(nil)
		} else {
			now.Store(&standing{done: g.done, total: g.total, rate: p.rate(a.Now(), g.done), rows: g.rows})
		}
		tick.Reset(askEvery)
	}
}

// pace is what was seen lately.
type pace []sample

type sample struct {
	at   time.Time
	done int64
}

func (p *pace) rate(at time.Time, done int64) float64 {
	s := *p
	if n := len(s); n > 0 && done < s[n-1].done { // the request was sent again and began anew
		s = nil
	}
	s = append(s, sample{at, done})
	for len(s) > 2 && at.Sub(s[0].at) > paceOver {
		s = s[1:]
	}
	*p = s
	took := at.Sub(s[0].at).Seconds()
	if took <= 0 {
		return 0
	}
	return float64(done-s[0].done) / took
}

// barLine draws `text [█████░░░░]  45%  1.2/2.7 GiB  310.0 MiB/s  5s left`, narrower than the width. What matters
// least is left out first.
func barLine(text string, s standing, width int) string {
	done := min(s.done, s.total)
	percent := fmt.Sprintf("%3d%%", int(100*float64(done)/float64(s.total)))
	sizes := sizesOf(done, s.total)
	rate, till := "", ""
	if s.rate >= 1 {
		rate = size(int64(s.rate)) + "/s"
		if left := time.Duration(float64(s.total-done) / s.rate * float64(time.Second)); done < s.total && left >= 0 && left < leftMost {
			till = span(left) + " left"
		}
	}
	rows := ""
	if s.rows > 0 {
		rows = thousands(s.rows) + " rows"
	}
	frame := len(" [] ")
	tail, room := percent, width-1-len(percent)-frame
	for _, form := range []struct {
		parts []string
		needs int
	}{
		{[]string{percent, sizes, rows, rate, till}, len(percent) + len(sizes) + rowsRoom(rows) + rateMost + tillMost + 6},
		{[]string{percent, sizes, rate, till}, len(percent) + len(sizes) + rateMost + tillMost + 6},
		{[]string{percent, sizes, till}, len(percent) + len(sizes) + tillMost + 4},
		{[]string{percent, till}, len(percent) + tillMost + 2},
	} {
		if r := width - 1 - form.needs - frame; r >= cutLeast+barLeast {
			tail, room = join(form.parts), r
			break
		}
	}
	cells := max(barLeast, min(barMost, room-max(cutLeast, min(textWidth(text), room/2))))
	full := int(float64(cells) * float64(done) / float64(s.total))
	return fitWidth(text, max(cutLeast, room-cells)) + " [" + strings.Repeat("█", full) + strings.Repeat("░", cells-full) + "] " + tail
}

func rowsRoom(rows string) int {
	if rows == "" {
		return 0
	}
	return max(len(rows), rowsMost) + 2
}

func join(parts []string) string {
	var there []string
	for _, p := range parts {
		if p != "" {
			there = append(there, p)
		}
	}
	return strings.Join(there, "  ")
}

// sizesOf writes both in the unit of the greater one, always as wide.
func sizesOf(done, total int64) string {
	whole := size(total)
	number, unit, _ := strings.Cut(whole, " ")
	part := strconv.FormatInt(done, 10)
	if unit != "B" {
		of, _ := strconv.ParseFloat(number, 64)
		part = strconv.FormatFloat(of*float64(done)/float64(total), 'f', 1, 64)
	}
	return fmt.Sprintf("%*s/%s", len(number), part, whole)
}
