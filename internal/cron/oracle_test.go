package cron

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fields is an expression as sets of numbers; nil is *.
type fields struct{ minute, hour, dom, month, dow []int }

func (f fields) String() string {
	text := func(all []int) string {
		if all == nil {
			return "*"
		}
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(all), "[]"), " ", ",")
	}
	return strings.Join([]string{text(f.minute), text(f.hour), text(f.dom), text(f.month), text(f.dow)}, " ")
}

func among(all []int, n int) bool { return all == nil || slices.Contains(all, n) }

func (f fields) match(w face) bool {
	if !among(f.minute, w.minute) || !among(f.hour, w.hour) || !among(f.month, w.month) {
		return false
	}
	if f.dom != nil && f.dow != nil {
		return among(f.dom, w.day) || among(f.dow, w.weekday)
	}
	return among(f.dom, w.day) && among(f.dow, w.weekday)
}

func random(r *rand.Rand) fields {
	pick := func(lo, hi, most int, always bool) []int {
		if !always && r.IntN(2) == 0 {
			return nil
		}
		var out []int
		for range 1 + r.IntN(most) {
			if n := lo + r.IntN(hi-lo+1); !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
		return out
	}
	f := fields{minute: pick(0, 59, 3, true), hour: pick(0, 3, 3, false), dom: pick(1, 31, 4, false), month: pick(1, 12, 6, false), dow: pick(0, 6, 2, false)}
	if r.IntN(4) == 0 {
		f.hour = pick(0, 23, 3, true)
	}
	return f
}

// face is what a clock on the wall shows.
type face struct {
	at                                int64 // minutes since 1970, as if the wall were UTC
	minute, hour, day, month, weekday int
}

func faceOf(at int64) face {
	t := time.Unix(at*60, 0).UTC()
	return face{at, t.Minute(), t.Hour(), t.Day(), int(t.Month()), int(t.Weekday())}
}

// due looks at the clock on the wall every minute. What it shows for the first time is due; what it jumped over is due when it has.
func due(loc *time.Location, f fields, from, to time.Time) (out []time.Time) {
	shown := func(t time.Time) int64 {
		_, offset := t.Zone()
		return (t.Unix() + int64(offset)) / 60
	}
	furthest := shown(from.In(loc))
	for t := from.Add(time.Minute); !t.After(to); t = t.Add(time.Minute) {
		now, hit := shown(t.In(loc)), false
		for furthest < now {
			furthest++
			hit = hit || f.match(faceOf(furthest))
		}
		if hit {
			out = append(out, t)
		}
	}
	return out
}

// TestNextIsWhatAWatcherOfTheClockSees: zones with an hour, half an hour and two hours of summer, with jumps at midnight, and some that changed
// their rules, in the weeks around it; a year of them by the long test.
func TestNextIsWhatAWatcherOfTheClockSees(t *testing.T) { watch(t, 3, 9*24*time.Hour) }

func watch(t *testing.T, specs int, around time.Duration) {
	r := rand.New(rand.NewPCG(11, 26))
	for _, c := range []struct{ zone, at string }{
		{"Europe/Berlin", "2026-03-29"}, {"Europe/Berlin", "2026-10-25"}, {"Australia/Lord_Howe", "2026-04-05"}, {"Australia/Lord_Howe", "2026-10-04"},
		{"Antarctica/Troll", "2026-03-29"}, {"Antarctica/Troll", "2026-10-25"}, {"America/Havana", "2026-03-08"}, {"America/Havana", "2026-11-01"}, {"Pacific/Apia", "2011-12-30"},
		{"Asia/Pyongyang", "2015-08-15"}, {"Asia/Pyongyang", "2018-05-05"}, {"America/Caracas", "2016-05-01"}, {"Africa/Casablanca", "2026-02-15"}, {"Asia/Kathmandu", "1986-01-01"},
		{"Europe/Dublin", "2040-03-25"}, {"America/St_Johns", "2006-10-29"},
	} {
		loc := zone(t, c.zone)
		day, err := time.Parse(time.DateOnly, c.at)
		if err != nil {
			t.Fatal(err)
		}
		from, to := day.Add(-around), day.Add(around)
		for range specs {
			f := random(r)
			s, err := Parse(f.String())
			if err != nil {
				continue // a day that no month has
			}
			want := due(loc, f, from, to)
			at, ok := s.Next(loc, from)
			for i, w := range want {
				if !ok || !at.Equal(w) {
					t.Fatalf("%s in %s around %s, number %d: %s, want %s", f, c.zone, c.at, i, at, w.In(loc))
				}
				// From whichever moment before it is asked, it is the same.
				if again, _ := s.Next(loc, w.Add(-time.Duration(1+r.Int64N(int64(time.Minute))))); !again.Equal(w) {
					t.Fatalf("%s in %s, asked just before %s: %s", f, c.zone, w.In(loc), again)
				}
				at, ok = s.Next(loc, at)
			}
			if ok && !at.After(to) {
				t.Fatalf("%s in %s: %s is one too many", f, c.zone, at)
			}
			if last, n := s.Last(loc, from, to, 1+len(want)); n != len(want) || n > 0 && !last.Equal(want[n-1]) {
				t.Fatalf("%s in %s: the last is %s of %d, want %d", f, c.zone, last, n, len(want))
			}
		}
	}
}
