package cron

import (
	"math/bits"
	"strings"
	"time"
	_ "time/tzdata" // a host without zoneinfo, or with an old one, knows the zones all the same

	robfig "github.com/robfig/cron/v3"

	forge "github.com/forge-ml/forge-ml"
)

const (
	maxLength = 200
	maxYears  = 12              // how far ahead is looked: 29 February is at most eight away
	star      = uint64(1) << 63 // robfig's mark of a field that was *
)

// Spec is an expression that was read.
type Spec struct {
	minute, hour, dom, month, dow uint64 // a bit for each value
}

var parser = robfig.NewParser(robfig.Minute | robfig.Hour | robfig.Dom | robfig.Month | robfig.Dow | robfig.Descriptor)

const forms = "want minute, hour, day of the month, month, day of the week, like 0 3 * * *; or @hourly, @daily, @weekly, @monthly, @yearly"

// Parse reads an expression. KindInvalid, naming the field cron, for what is none, and for one that is never due.
func Parse(text string) (Spec, error) {
	bad := func(format string, args ...any) error {
		return forge.Invalidf("cron", format, args...).WithHint("%s", forms)
	}
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return Spec{}, bad("is empty")
	case len(text) > maxLength:
		return Spec{}, bad("has %d characters; want at most %d", len(text), maxLength)
	case strings.Contains(text, "TZ="): // the parser would take it, and panic over some
		return Spec{}, forge.Invalidf("cron", "%q names a time zone", text).WithHint("the zone has a field of its own: --tz Europe/Berlin")
	case strings.HasPrefix(text, "@every"):
		return Spec{}, forge.Invalidf("cron", "%q counts from when forged has started, so that nobody could say when it is due", text).
			WithHint("name the times: */10 * * * * is every ten minutes, 0 */6 * * * every six hours")
	}
	fields := strings.Fields(text)
	for _, f := range fields {
		for item := range strings.SplitSeq(f, ",") {
			if item == "" || strings.HasPrefix(item, "*-") || strings.HasPrefix(item, "?-") { // the parser would make something of it
				return Spec{}, bad("%q: %q is no field", text, f)
			}
		}
	}
	read, err := parser.Parse(text)
	if err != nil {
		if len(fields) == 5 && strings.Contains(fields[4], "7") {
			return Spec{}, bad("%q: days of the week are 0 to 6, or SUN to SAT; Sunday is 0", text)
		}
		return Spec{}, bad("%q: %v", text, err)
	}
	r, ok := read.(*robfig.SpecSchedule)
	if !ok {
		return Spec{}, bad("%q cannot be used here", text)
	}
	s := Spec{minute: r.Minute, hour: r.Hour, dom: r.Dom, month: r.Month, dow: r.Dow}
	return s, s.ever(text)
}

// ever refuses days that no month has. 29 February has one within eight years; with a day of the week that is named as well, either will do.
func (s Spec) ever(text string) error {
	if s.dow&star == 0 {
		return nil
	}
	first := bits.TrailingZeros64(s.dom &^ star)
	longest := 0
	for m := 1; m <= 12; m++ {
		if s.month&(1<<m) != 0 {
			longest = max(longest, longestOf(time.Month(m)))
		}
	}
	if first <= longest {
		return nil
	}
	return forge.Invalidf("cron", "%q is never due: no month that it names has a day %d", text, first).WithHint("the longest of them has %d days", longest)
}

func longestOf(m time.Month) int { return time.Date(2024, m+1, 0, 0, 0, 0, 0, time.UTC).Day() } // of a leap year

func (s Spec) onDay(day time.Time) bool {
	if s.month&(1<<day.Month()) == 0 {
		return false
	}
	dom, dow := s.dom&(1<<day.Day()) != 0, s.dow&(1<<day.Weekday()) != 0
	if s.dom&star != 0 || s.dow&star != 0 {
		return dom && dow
	}
	return dom || dow // both are named: cron has always taken either
}

// Next is the first time after another at which the expression is due; false where there is none within 12 years.
//
// It walks over what the clocks on the wall may show, in order: the times at which they show it are in the same order, whatever the zone
// does, so that the first of them after the given one is the answer.
func (s Spec) Next(loc *time.Location, after time.Time) (time.Time, bool) {
	local := after.In(loc)
	wall := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), 0, 0, time.UTC) // a face of the clock, and no time
	end := wall.AddDate(maxYears, 0, 0)
	for wall.Before(end) {
		day := time.Date(wall.Year(), wall.Month(), wall.Day(), 0, 0, 0, 0, time.UTC)
		if !s.onDay(wall) {
			wall = day.AddDate(0, 0, 1)
			continue
		}
		if s.hour&(1<<wall.Hour()) == 0 {
			wall = day.Add(time.Duration(wall.Hour()+1) * time.Hour)
			continue
		}
		if s.minute&(1<<wall.Minute()) != 0 {
			if at := shown(loc, wall); at.After(after) {
				return at, true
			}
		}
		wall = wall.Add(time.Minute)
	}
	return time.Time{}, false
}

// widest is more than any zone was ever away from UTC.
const widest = 26 * time.Hour

// shown is when clocks in a zone show a face for the first time, or, where they jump over it, the first whole minute after the jump.
func shown(loc *time.Location, wall time.Time) time.Time {
	in := wall.Add(-widest).In(loc) // before it is shown anywhere
	for {
		_, offset := in.Zone()
		at := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		if at.Before(in) {
			return wholeMinute(in)
		}
		_, end := in.ZoneBounds()
		if end.IsZero() {
			return at
		}
		// Beyond the table of a zone Go ends its last rule of a year after 365 days, in years of 366, too.
		if !end.After(in) {
			end = in.Add(24 * time.Hour)
		}
		if at.Before(end) {
			return at
		}
		in = end.In(loc)
	}
}

// wholeMinute rounds up to a minute of the wall: some zones were once seconds away from UTC.
func wholeMinute(t time.Time) time.Time {
	if s := t.Second(); s > 0 {
		t = t.Add(time.Duration(60-s) * time.Second)
	}
	return t
}

// Last is the newest time in (after, upTo] at which the expression is due, and how many of them there are, counted up to a bound. It is quick
// over years, too: what a clock that was set wrong skips is not walked through minute by minute.
func (s Spec) Last(loc *time.Location, after, upTo time.Time, bound int) (last time.Time, n int) {
	at, ok := s.Next(loc, after)
	for ok && !at.After(upTo) && n < bound {
		last = at
		n++
		at, ok = s.Next(loc, at)
	}
	if n < bound || !ok || at.After(upTo) {
		return last, n
	}
	for back := time.Hour; ; back *= 24 { // an hour, a day, 24 days, …: none of them has many times unless the one before had one
		from := upTo.Add(-back)
		if from.Before(last) {
			from = last
		}
		newest, ok := s.Next(loc, from)
		if !ok || newest.After(upTo) {
			continue
		}
		for ok && !newest.After(upTo) {
			last = newest
			newest, ok = s.Next(loc, newest)
		}
		return last, n
	}
}

// Zone finds a time zone by its IANA name. KindInvalid naming the field tz.
func Zone(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil, forge.Invalidf("tz", "there is no time zone %q", name).WithHint("want its IANA name, like Europe/Berlin, or UTC")
	}
	return loc, nil
}
