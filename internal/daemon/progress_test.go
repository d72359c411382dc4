package daemon

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestParseMetricsTakesWholeLinesAndForgivesTheRest(t *testing.T) {
	a := forge.Attempt{Run: "r", Number: 2}
	good := `{"step":3,"total_steps":9,"time":"2026-01-02T03:04:05Z","values":{"loss":1.5,"bad":null}}` + "\n"
	for _, tc := range []struct {
		name, in string
		rows     int
		used     int
	}{
		{"a whole line", good, 1, len(good)},
		{"a line without its end waits", good + `{"step":4`, 1, len(good)},
		{"nothing", "", 0, 0},
		{"what is not JSON is passed over", "hello\n" + good, 1, 6 + len(good)},
		{"a negative step is passed over", `{"step":-1}` + "\n" + good, 1, 12 + len(good)},
		{"an array is passed over", "[1]\n" + good, 1, 4 + len(good)},
		{"a line that never ends is thrown away", strings.Repeat("x", maxMetricLine), 0, maxMetricLine},
		{"a number that is none is passed over", `{"step":1,"values":{"loss":NaN}}` + "\n" + good, 1, 33 + len(good)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, total, used := parseMetrics(a, []byte(tc.in), time.Unix(1, 0))
			if len(rows) != tc.rows || used != tc.used {
				t.Fatalf("%d rows of %d bytes, want %d of %d", len(rows), used, tc.rows, tc.used)
			}
			if tc.rows == 1 && (rows[0].Step != 3 || rows[0].Attempt != 2 || rows[0].Values["loss"] != 1.5 || len(rows[0].Values) != 1 || total != 9) {
				t.Errorf("%+v, total %d", rows[0], total)
			}
		})
	}
}

func FuzzParseMetrics(f *testing.F) {
	f.Add([]byte("{\"step\":1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, used := parseMetrics(forge.Attempt{}, b, time.Unix(1, 0))
		if used < 0 || used > len(b) {
			t.Fatalf("used %d of %d", used, len(b))
		}
	})
}

func TestALogIsNeverCutInsideACharacter(t *testing.T) {
	for in, want := range map[string]int{"abc": 3, "abé": 4, "ab\xc3": 2, "ab\xe2\x82": 2, "ab\xf0\x9f\x98": 2, "\xff\xff": 2, "": 0} {
		if got := wholeRunes([]byte(in), false); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
	if got := wholeRunes([]byte("ab\xc3"), true); got != 3 {
		t.Errorf("at the end everything goes, got %d", got)
	}
}
