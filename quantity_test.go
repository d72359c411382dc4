package forge_test

import (
	"encoding/json"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90": 90 * time.Minute, "0": 0, "1:30": 90 * time.Second, "1:30:00": 90 * time.Minute, "2-0": 48 * time.Hour, "1-12:00:00": 36 * time.Hour,
		"1-12": 36 * time.Hour, "1-1:30": 25*time.Hour + 30*time.Minute, "36h": 36 * time.Hour, "90m": 90 * time.Minute, "1m30s": 90 * time.Second, " 5 ": 5 * time.Minute,
	} {
		got, err := forge.ParseDuration(in)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-5", "-1h", "1:2:3:4", "a", "1-", "1h30", "1e3", "9999999999999", "1-2:3:4:5", "１０"} {
		if d, err := forge.ParseDuration(in); err == nil {
			t.Errorf("%q was accepted as %v", in, d)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("1-12:00:00")
	f.Add("36h")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := forge.ParseDuration(s)
		if err == nil && d < 0 {
			t.Fatalf("%q is %v", s, d)
		}
		if err == nil && d > 0 {
			again, err := forge.ParseDuration(d.String())
			if err != nil || again != d {
				t.Fatalf("%q echoed as %s and read as %v, %v", s, d, again, err)
			}
		}
	})
}

func TestDurationOnTheWire(t *testing.T) {
	var v struct{ D forge.Duration }
	if err := json.Unmarshal([]byte(`{"D":"1-12:00:00"}`), &v); err != nil || v.D.D() != 36*time.Hour {
		t.Fatalf("%v, %v", v.D, err)
	}
	b, err := json.Marshal(v)
	if err != nil || string(b) != `{"D":"36h0m0s"}` {
		t.Fatalf("%s, %v", b, err)
	}
}

func TestParseMemoryMiB(t *testing.T) {
	for in, want := range map[string]int64{"512": 512, "2G": 2048, "1.5g": 1536, "2GiB": 2048, "1T": 1 << 20, "1024K": 1, "1K": 1, "100MB": 100} {
		got, err := forge.ParseMemoryMiB(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "G", "-1G", "NaN", "1e99G", "two", "Inf"} {
		if n, err := forge.ParseMemoryMiB(in); err == nil {
			t.Errorf("%q was accepted as %d", in, n)
		}
	}
}
