package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestAHistogramShowsItsGapsAndTheFewest(t *testing.T) {
	got := strings.Join(histogram([]forge.LengthBin{{Below: 1024, Rows: 1}, {Below: 64, Rows: 1200}, {Below: 128, Rows: 600}}, 60), "\n")
	want := strings.Join([]string{
		"   under 64  1,200  ██████████████████████████████████████",
		"  under 128    600  ███████████████████",
		"  under 256      0",
		"  under 512      0",
		"under 1,024      1  ▏",
	}, "\n")
	if got != want {
		t.Errorf("drawn as\n%s\nwant\n%s", got, want)
	}
	for _, bins := range [][]forge.LengthBin{nil, {{Below: 0, Rows: 3}}, {{Below: -4, Rows: 3}, {Below: 8, Rows: -1}}} {
		if lines := histogram(bins, 80); lines != nil {
			t.Errorf("%v is drawn as %q", bins, lines)
		}
	}
	if lines := histogram([]forge.LengthBin{{Below: 1, Rows: 1}, {Below: 1 << 62, Rows: 1 << 62}}, 20); len(lines) != 63 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestPersonalDataIsATableOfMasks(t *testing.T) {
	var out, notes bytes.Buffer
	p := &printer{w: bufio.NewWriter(&out), mode: modeTable, notes: &notes}
	r := &forge.PIIReport{Scanner: "3", Sets: []string{"default", "secrets"}, Rows: 5000, RowsFound: 40, Note: "Names need more.",
		Counts: []forge.PIICount{{Entity: "ip_address", Field: "text", Confidence: "low", Findings: 900, Rows: 800}, {Entity: "email", Field: "messages[].content", Confidence: "high", Findings: 41, Rows: 39},
			{Entity: "phone", Field: "text", Confidence: "medium", Findings: 2, Rows: 2}},
		Samples: []forge.PIISample{{Entity: "email", Field: "messages[].content", Confidence: "high", Place: "chat.jsonl:7", Masked: "a**@*******.***\x1b[2J"}}}
	p.pii(r)
	p.w.Flush()
	want := `personal data in 40 of 5,000 rows, by rules 3 (default, secrets):
ENTITY      FIELD               CONFIDENCE  FINDINGS  ROWS  SAMPLE
email       messages[].content  high              41    39  a**@*******.***\x1b[2J at chat.jsonl:7
phone       text                medium             2     2
ip_address  text                low              900   800
Names need more.
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if line := piiLine(r); line != "41 email, 2 phone" {
		t.Errorf("in one line: %q", line)
	}
}

func TestBadRowsAreGroupedByTheirCause(t *testing.T) {
	rows := []forge.RowProblem{{File: "/d/a.jsonl", Line: 3, Column: 14, Why: "NaN is not JSON; write null"}, {File: "/d/b.jsonl", Why: "cannot be read: permission denied"}}
	for i := range 900 {
		rows = append(rows, forge.RowProblem{File: "/d/a.jsonl", Line: int64(10 + i), Why: "no prompt", Hint: "give a --map"})
	}
	got := strings.Join(problemLines(rows, 1500), "\n")
	want := strings.Join([]string{
		"/d/a.jsonl:10: no prompt",
		"  and 899 of the same, at /d/a.jsonl:11, /d/a.jsonl:12 …",
		"  hint: give a --map",
		"/d/a.jsonl:3:14: NaN is not JSON; write null",
		"/d/b.jsonl cannot be read: permission denied",
		"and 598 more; those that are known with -o json",
	}, "\n")
	if got != want {
		t.Errorf("said as\n%s\nwant\n%s", got, want)
	}
	t.Run("and people are shown twenty", func(t *testing.T) {
		var rows []forge.RowProblem
		for i := range 60 {
			rows = append(rows, forge.RowProblem{File: "a", Line: int64(i + 1), Why: fmt.Sprintf("cause %d", i)})
		}
		lines := problemLines(rows, 60)
		if len(lines) != 21 || lines[20] != "and 40 more; those that are known with -o json" {
			t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
		}
	})
}
