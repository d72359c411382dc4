package forge

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that speaks Go's form on the wire ("1h30m0s") and accepts
// Slurm's as well. The zero value means "not given" or "no limit", as the field says.
type Duration time.Duration

// D is the standard form.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

const durationForms = `want minutes ("90"), [days-]hours:minutes[:seconds] ("1-12:00:00", "1:30:00"), or Go's form ("36h", "90m", "30s")`

// ParseDuration reads a bare number as minutes, Slurm's forms (minutes:seconds,
// hours:minutes:seconds, days-hours[:minutes[:seconds]]) and Go's form. Negative is refused.
func ParseDuration(s string) (time.Duration, error) {
	bad := func() (time.Duration, error) {
		return 0, fmt.Errorf("duration %q is not understood; %s", s, durationForms)
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return bad()
	}
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		if d < 0 {
			return 0, fmt.Errorf("duration %q is negative; %s", s, durationForms)
		}
		return d, nil
	}
	var days int64
	clock, hasDays := s, false
	if head, tail, ok := strings.Cut(s, "-"); ok {
		n, err := strconv.ParseUint(head, 10, 31)
		if err != nil {
			return bad()
		}
		days, clock, hasDays = int64(n), tail, true
	}
	var parts []int64
	for p := range strings.SplitSeq(clock, ":") {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return bad()
		}
		parts = append(parts, int64(n))
	}
	var sec int64
	switch {
	case len(parts) > 3:
		return bad()
	case hasDays: // hours[:minutes[:seconds]]
		sec = parts[0] * 3600
		if len(parts) > 1 {
			sec += parts[1] * 60
		}
		if len(parts) > 2 {
			sec += parts[2]
		}
	case len(parts) == 3:
		sec = parts[0]*3600 + parts[1]*60 + parts[2]
	case len(parts) == 2:
		sec = parts[0]*60 + parts[1]
	default:
		sec = parts[0] * 60
	}
	sec += days * 86400
	if sec > math.MaxInt64/int64(time.Second) {
		return bad()
	}
	return time.Duration(sec) * time.Second, nil
}

// ParseMemoryMiB reads a memory size: a bare number is MiB, suffixes K, M, G, T (optionally
// with B or iB) are powers of 1024, as in Slurm. The result is rounded up to whole MiB.
func ParseMemoryMiB(s string) (int64, error) {
	bad := func() (int64, error) {
		return 0, fmt.Errorf("memory size %q is not understood; want MiB (\"512\") or a number with K, M, G or T (\"2G\")", s)
	}
	t := strings.ToUpper(strings.TrimSpace(s))
	t = strings.TrimSuffix(t, "IB")
	t = strings.TrimSuffix(t, "B")
	if t == "" {
		return bad()
	}
	mib := 1.0
	switch t[len(t)-1] {
	case 'K':
		mib, t = 1.0/1024, t[:len(t)-1]
	case 'M':
		t = t[:len(t)-1]
	case 'G':
		mib, t = 1024, t[:len(t)-1]
	case 'T':
		mib, t = 1024*1024, t[:len(t)-1]
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) || n*mib > 1<<40 {
		return bad()
	}
	return int64(math.Ceil(n * mib)), nil
}

// FormatMiB writes a size as people read it: 512M, 2G, 1.5T.
func FormatMiB(m int64) string {
	switch {
	case m >= 1024*1024:
		return strconv.FormatFloat(float64(m)/(1024*1024), 'g', 3, 64) + "T"
	case m >= 1024:
		return strconv.FormatFloat(float64(m)/1024, 'g', 3, 64) + "G"
	}
	return strconv.FormatInt(m, 10) + "M"
}
