package main

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/forge-ml/forge-ml/internal/api"
)

func TestWidthOfText(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "é": 1, "e\u0301": 1, "日本語": 6, "한국": 4, "🚀": 2, "Ａ": 2, "ﾊ": 1, "…": 1, "naïve": 5, "❤️": 1} {
		if got := textWidth(s); got != want {
			t.Errorf("%q takes %d cells, want %d", s, got, want)
		}
	}
	for _, c := range []struct {
		s    string
		most int
		want string
	}{{"abcdef", 6, "abcdef"}, {"abcdef", 4, "abc…"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"🚀🚀🚀", 3, "🚀…"}} {
		if got := fitWidth(c.s, c.most); got != c.want || textWidth(got) > c.most {
			t.Errorf("%q in %d cells is %q, want %q", c.s, c.most, got, c.want)
		}
	}
	for _, c := range []struct {
		s    string
		most int
		want string
	}{{"one two three", 8, "one two|three"}, {"one two three", 7, "one two|three"}, {"/a/long/path/x", 6, "/a/lon|g/path|/x"}, {"日本語 日本", 6, "日本語|日本"}, {"x", 1, "x"}, {"ab cd", 2, "ab|cd"}} {
		if got := strings.Join(wrap(c.s, c.most), "|"); got != c.want {
			t.Errorf("%q in %d cells is %q, want %q", c.s, c.most, got, c.want)
		}
	}
}

// tableText is a table on a terminal of a width.
func tableText(width int, wide bool, heads []string, rows ...[]string) (lines []string, notes string) {
	var out, said strings.Builder
	p := &printer{w: bufio.NewWriter(&out), mode: modeTable, width: width, wide: wide, notes: &said}
	t := p.table(heads...)
	for _, r := range rows {
		t.row(slices.Clone(r)...)
	}
	t.flush()
	_ = p.w.Flush()
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"), said.String()
}

func TestATableFitsItsTerminal(t *testing.T) {
	heads := []string{">RUN", "NAME", "LESS:2", "LEAST:1", "WHY"}
	rows := [][]string{{"1", "short", "less", "least", "it waits for the two GPUs that run 7 holds until about two o'clock"}, {"23", "日本語の名前-with-more", "x", "y", ""}}
	for width := 40; width <= 140; width++ {
		lines, _ := tableText(width, false, heads, rows...)
		for _, l := range lines {
			if textWidth(l) > width {
				t.Errorf("at %d a line takes %d cells: %q", width, textWidth(l), l)
			}
		}
		// The last column wraps, and loses nothing.
		if all := strings.Join(strings.Fields(strings.Join(lines, " ")), " "); width > 60 && !strings.Contains(all, "two") {
			t.Errorf("at %d: %q", width, all)
		}
	}
	lines, notes := tableText(60, false, heads, rows...)
	if strings.Contains(lines[0], "LEAST") || !strings.Contains(notes, "LEAST") || !strings.Contains(notes, "--wide") {
		t.Errorf("got %q, notes %q", lines[0], notes)
	}
	if lines, notes := tableText(60, true, heads, rows...); !strings.Contains(lines[0], "LEAST") || notes != "" || !strings.HasSuffix(lines[1], "two o'clock") {
		t.Errorf("wide: %q, notes %q", lines, notes)
	}
	if lines, _ := tableText(0, false, heads, rows...); !strings.HasSuffix(lines[1], "two o'clock") {
		t.Errorf("no terminal: %q", lines)
	}
	t.Run("and columns stay in line", func(t *testing.T) {
		lines, _ := tableText(140, false, heads, rows...)
		at := textWidth(lines[0][:strings.Index(lines[0], "LESS")])
		for i, cell := range []string{"less", "x"} {
			if got := textWidth(lines[i+1][:strings.Index(lines[i+1], "  "+cell)+2]); got != at {
				t.Errorf("%q is at cell %d, its head at %d", cell, got, at)
			}
		}
	})
}

func TestACommandToBeCopiedStaysOneLine(t *testing.T) {
	fix := fixMark + "forged backup --state-dir /var/lib/forge --out /another/disk/forge.tar.gz"
	lines, _ := tableText(60, false, []string{"STATUS", "FOUND"}, []string{"!", "no backup"}, []string{"", fix})
	if len(lines) != 3 || !strings.HasSuffix(lines[2], fix) {
		t.Errorf("got %q", lines)
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"run", "dataset", "model", "queue", "--priority"}
	for word, want := range map[string]string{"runs": "run", "rnu": "run", "datset": "dataset", "mdoel": "model", "qeuue": "queue", "--prioirty": "--priority", "banana": "", "x": "", strings.Repeat("y", 300): ""} {
		got := didYouMean(word, known)
		if want == "" && got != "" || want != "" && got != "; did you mean "+want+"?" {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestVersionsOfTheTwoSides(t *testing.T) {
	for _, c := range []struct {
		name string
		v    api.Version
		want api.CheckStatus
	}{
		{"the same level", api.Version{API: api.Level, Oldest: api.OldestLevel}, api.CheckOK},
		{"a newer server that still understands us", api.Version{API: api.Level + 3, Oldest: api.Level}, api.CheckOK},
		{"a newer server that does not", api.Version{API: api.Level + 3, Oldest: api.Level + 1}, api.CheckFail},
		{"an older server", api.Version{API: api.Level - 1, Oldest: 1}, api.CheckWarn},
		{"one from before levels", api.Version{}, api.CheckWarn},
	} {
		d := &examination{app: quiet()}
		d.versions(c.v)
		if d.checks[0].Status != c.want {
			t.Errorf("%s: %+v", c.name, d.checks[0])
		}
	}
}

func TestASpinnerIsForTerminalsOnly(t *testing.T) {
	a := quiet()
	a.Err = io.Discard
	a.spin(t.Context(), "reading", "/nonexistent", nobodySays)()
	var b syncText
	a.Err, a.ErrTTY, a.Width = &b, true, 40
	stop := a.spin(t.Context(), "reading", t.TempDir()+"/\x1b[2Jevil"+strings.Repeat("x", 80), nobodySays)
	for !strings.Contains(b.String(), "reading") {
		if t.Context().Err() != nil {
			t.Fatal("it shows nothing")
		}
	}
	stop()
	if s := b.String(); strings.Contains(s, "\x1b[2J") || !strings.HasSuffix(s, "\r\x1b[K") {
		t.Errorf("it leaves %q", s)
	}
}

// syncText is a strings.Builder that a goroutine writes while the test reads.
type syncText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
