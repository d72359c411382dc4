package cron

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func parse(t testing.TB, text string) Spec {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWhenAnExpressionIsDue: times are written as they are on the wall, with their distance from UTC.
func TestWhenAnExpressionIsDue(t *testing.T) {
	for _, c := range []struct {
		what, zone, cron, after string
		want                    []string
	}{
		{"every night", "Europe/Berlin", "0 3 * * *", "2026-11-26T18:00:00+01:00", []string{"2026-11-27T03:00:00+01:00", "2026-11-28T03:00:00+01:00"}},
		{"not the minute itself", "UTC", "0 3 * * *", "2026-11-26T03:00:00Z", []string{"2026-11-27T03:00:00Z"}},
		{"within the minute before", "UTC", "0 3 * * *", "2026-11-26T02:59:59.999Z", []string{"2026-11-26T03:00:00Z"}},

		{"a gap: the first minute after it", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"a gap swallows several, which are due once", "Europe/Berlin", "*/10 2 * * *", "2026-03-29T00:00:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"a gap's end that is due by itself is due once", "Europe/Berlin", "0 2,3 * * *", "2026-03-29T00:00:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"a fold: the first time", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00+02:00", []string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"a fold, asked in its second hour", "Europe/Berlin", "30 2 * * *", "2026-10-25T02:10:00+01:00", []string{"2026-10-26T02:30:00+01:00"}},
		{"a fold: every hour that the wall shows", "Europe/Berlin", "0 * * * *", "2026-10-25T01:30:00+02:00", []string{"2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00"}},

		{"half an hour's gap", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00+10:30", []string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		{"beside half an hour's gap", "Australia/Lord_Howe", "45 2 * * *", "2026-10-03T12:00:00+10:30", []string{"2026-10-04T02:45:00+11:00"}},
		{"half an hour's fold", "Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00+11:00", []string{"2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"}},
		{"beside half an hour's fold", "Australia/Lord_Howe", "15 1 * * *", "2026-04-04T12:00:00+11:00", []string{"2026-04-05T01:15:00+11:00", "2026-04-06T01:15:00+10:30"}},

		{"a midnight that is jumped over", "America/Havana", "@daily", "2026-03-07T12:00:00-05:00", []string{"2026-03-08T01:00:00-04:00", "2026-03-09T00:00:00-04:00"}},
		{"a day that is jumped over", "Pacific/Apia", "0 3 30 12 *", "2011-12-01T00:00:00-10:00", []string{"2011-12-31T00:00:00+14:00", "2012-12-30T03:00:00+14:00"}},
		{"every night around it", "Pacific/Apia", "0 3 * * *", "2011-12-29T00:00:00-10:00", []string{"2011-12-29T03:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T03:00:00+14:00"}},
		{"a zone that gave its own hour up", "Asia/Pyongyang", "15 0 * * *", "2015-08-14T12:00:00+09:00", []string{"2015-08-15T00:15:00+08:30", "2015-08-16T00:15:00+08:30"}},
		{"a zone that changes for a month of the moon", "Africa/Casablanca", "30 2 * * *", "2026-03-21T12:00:00+00:00", []string{"2026-03-22T03:00:00+01:00"}},

		{"the 29th of February", "UTC", "0 0 29 2 *", "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		{"the 29th of February over a century", "UTC", "0 0 29 2 *", "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		{"the last day of a leap year to come", "Europe/Berlin", "0 3 31 12 *", "2048-12-30T12:00:00+01:00", []string{"2048-12-31T03:00:00+01:00", "2049-12-31T03:00:00+01:00"}},
		{"the same in the south", "Australia/Lord_Howe", "0 3 31 12 *", "2048-12-30T12:00:00+11:00", []string{"2048-12-31T03:00:00+11:00", "2049-12-31T03:00:00+11:00"}},
		{"the 31st", "UTC", "0 0 31 * *", "2026-01-31T00:00:00Z", []string{"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
		{"a day of the month or of the week", "UTC", "0 0 13 * 5", "2026-11-06T00:00:00Z", []string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"}},
		{"the 30th of February, or a Sunday of it", "UTC", "0 0 30 2 0", "2026-01-01T00:00:00Z", []string{"2026-02-01T00:00:00Z"}},
		{"names", "UTC", "0 12 * JAN MON-WED", "2026-01-01T00:00:00Z", []string{"2026-01-05T12:00:00Z", "2026-01-06T12:00:00Z"}},
		{"@weekly", "UTC", "@weekly", "2026-11-26T00:00:00Z", []string{"2026-11-29T00:00:00Z"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339Nano, c.after)
			if err != nil {
				t.Fatal(err)
			}
			s, loc := parse(t, c.cron), zone(t, c.zone)
			for i, want := range c.want {
				next, ok := s.Next(loc, at)
				if got := next.Format(time.RFC3339); !ok || got != want {
					t.Fatalf("%s in %s after %s, %d: %s, want %s", c.cron, c.zone, at, i, got, want)
				}
				at = next
			}
		})
	}
}

func TestWhatIsNoExpressionIsRefusedWithTheReason(t *testing.T) {
	for text, says := range map[string]string{
		"":                                      "is empty",
		"   ":                                   "is empty",
		"0 3 * *":                               "expected exactly 5 fields",
		"0 0 3 * * *":                           "expected exactly 5 fields",
		"60 * * * *":                            "above maximum",
		"0 24 * * *":                            "above maximum",
		"0 0 0 * *":                             "below minimum",
		"0 0 * * 7":                             "Sunday is 0",
		"5-1 * * * *":                           "beyond end of range",
		"*/0 * * * *":                           "should be a positive number",
		"-1 * * * *":                            "is no",
		"a * * * *":                             "failed to parse",
		"1,,2 * * * *":                          "is no field",
		", * * * *":                             "is no field",
		"*-5 * * * *":                           "is no field",
		"TZ=":                                   "names a time zone",
		"CRON_TZ=UTC 0":                         "names a time zone",
		"@every 5m":                             "counts from when forged has started",
		"@reboot":                               "unrecognized descriptor",
		"0 0 30 2 *":                            "is never due: no month that it names has a day 30",
		"0 0 31 2,4,6,9 *":                      "is never due: no month that it names has a day 31",
		"0 0 30,31 2 *":                         "is never due",
		"99999999999999999 * * * *":             "is no",
		strings.Repeat("1,", 150) + "1 * * * *": "want at most 200",
	} {
		_, err := Parse(text)
		if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error()+forge.HintOf(err), says) && says != "is no" {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	for _, name := range []string{"", "Local", "Berlin", "../../etc/passwd", "Europe/berlin/x"} {
		if _, err := Zone(name); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("zone %q: %v", name, err)
		}
	}
}

func TestTheNewestDueTimeOfManyYearsIsFoundAtOnce(t *testing.T) {
	loc := zone(t, "Europe/Berlin")
	after, upTo := time.Date(2026, 11, 26, 18, 0, 0, 0, time.UTC), time.Date(2096, 7, 1, 12, 0, 30, 0, time.UTC)
	for text, want := range map[string]string{
		"* * * * *":    "2096-07-01T14:00:00+02:00",
		"0 3 * * *":    "2096-07-01T03:00:00+02:00",
		"30 2 * 1 *":   "2096-01-31T02:30:00+01:00",
		"* 4 1 1 *":    "2096-01-01T04:59:00+01:00",
		"*/5 * 29 2 *": "2096-02-29T23:55:00+01:00",
		"0 0 29 2 *":   "2096-02-29T00:00:00+01:00",
	} {
		began := time.Now()
		last, n := parse(t, text).Last(loc, after, upTo, 1000)
		if last.Format(time.RFC3339) != want || n == 0 || n > 1000 {
			t.Errorf("%s: %s and %d, want %s", text, last.Format(time.RFC3339), n, want)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("%s took %s", text, d)
		}
	}
	if last, n := parse(t, "0 3 * * *").Last(loc, after, after.Add(time.Hour), 10); n != 0 || !last.IsZero() {
		t.Errorf("nothing was due: %s, %d", last, n)
	}
	if last, n := parse(t, "0 * * * *").Last(loc, after, after.Add(3*time.Hour), 10); n != 3 || !last.Equal(after.Add(3*time.Hour)) {
		t.Errorf("three were due: %s, %d", last, n)
	}
}
