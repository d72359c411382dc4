package main

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":         "plain",
		"grüße 世界":      "grüße 世界",
		"a\x1b[2Jb":     `a\x1b[2Jb`,
		"a\nb\tc\rd":    `a\nb\tc\rd`,
		"\u009b31m":     `\x9b31m`,
		"\xff":          `\xff`,
		"a\u202eb":      `a\u202eb`,
		"\x7f\x00\x07.": `\x7f\x00\x07.`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := cleanLines("10%\r20%\r\n\tx\x1b[A\n"); got != "10%\n20%\n\tx\\x1b[A\n" {
		t.Errorf("got %q", got)
	}
}

func TestTimesForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "now", 5 * time.Second: "5s ago", 65 * time.Second: "1m05s ago", 2 * time.Minute: "2m ago", 59 * time.Minute: "59m ago",
		61 * time.Minute: "1h01m ago", 2 * time.Hour: "2h ago", 49 * time.Hour: "2d ago", -3 * time.Minute: "in 3m",
	} {
		if got := ago(scriptNow, scriptNow.Add(-d)); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	if ago(scriptNow, time.Time{}) != "-" {
		t.Error("no time is a dash")
	}
}

func TestWhatSlurmLastSaidOfAnEndedAttemptIsSaidToBeOld(t *testing.T) {
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		state forge.AttemptState
		job   forge.BatchJob
		want  string
	}{
		{forge.AttemptRunning, forge.BatchJob{ID: "7", State: "COMPLETING"}, "7: COMPLETING"},
		{forge.AttemptEnded, forge.BatchJob{ID: "7", Partition: "main", State: "COMPLETING"}, "7 on partition main: COMPLETING when last seen"},
		{forge.AttemptEnded, forge.BatchJob{ID: "7", State: "FAILED", Reason: "NodeDown", EndedAt: at}, "7: FAILED (NodeDown)"},
	} {
		if got := jobText(&printer{}, []forge.Attempt{{State: c.state, Batch: &c.job}}); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
