package health_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

const page = "../../docs/gpu-health.md"

// The tables of the page are made from the code: UPDATE=1 writes them.
func TestThePageIsTheTable(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	for name, rows := range map[string][]string{"xids": xidRows(), "signals": signalRows(false), "escalations": signalRows(true), "patterns": patternRows()} {
		head := "<!-- " + name + " -->\n"
		before, rest, ok := strings.Cut(got, head)
		_, after, ends := strings.Cut(rest, "<!-- end -->\n")
		if !ok || !ends {
			t.Fatalf("the page has no place for %s", name)
		}
		got = before + head + strings.Join(rows, "\n") + "\n<!-- end -->\n" + after
	}
	if got == string(text) {
		return
	}
	if os.Getenv("UPDATE") != "1" {
		t.Fatal("docs/gpu-health.md is not what the table says: UPDATE=1 go test -run Page ./internal/health")
	}
	if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}

func xidRows() []string {
	rows := []string{"| XID | what it is | class | run | hold | over after | source |", "|---|---|---|---|---|---|---|"}
	for _, r := range builtin().Rules() {
		if len(r.XIDs) == 1 || r.Name == "xid_unknown" {
			rows = append(rows, fmt.Sprintf("| %s | %s | `%s` | `%s` | `%s` | %s | %s |", number(r), r.Words, r.Class, r.Run, r.Hold, span(r.ClearFor), r.Source))
		}
	}
	return rows
}

// span is a duration as people write it.
func span(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

func number(r forge.HealthRule) string {
	if len(r.XIDs) == 0 {
		return "others"
	}
	return fmt.Sprint(r.XIDs[0])
}

func signalRows(several bool) []string {
	rows := []string{"| name | what it is | threshold | for | back at | class | run | hold | over after | source |", "|---|---|---|---|---|---|---|---|---|---|"}
	for _, r := range builtin().Rules() {
		if len(r.XIDs) > 0 || r.Name == "xid_unknown" || several != slices.Contains([]string{"xid_many_runs", "xid_again"}, r.Name) {
			continue
		}
		lasts := ""
		if r.For > 0 {
			lasts = span(r.For)
		}
		back := ""
		if r.Clear != nil {
			back = fmt.Sprintf("%g", *r.Clear)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s | %s | `%s` | `%s` | `%s` | %s | %s |", r.Name, r.Words, builtin().Threshold(r.Name), lasts, back, r.Class, r.Run, r.Hold,
			span(r.ClearFor), r.Source))
	}
	return rows
}

func patternRows() []string {
	rows := []string{"| name | action | what it says | for example |", "|---|---|---|---|"}
	for _, p := range builtin().Patterns() {
		i := slices.IndexFunc(samples, func(s struct {
			name   string
			action forge.PatternAction
			line   string
		}) bool {
			return s.name == p.Name
		})
		line := samples[i].line
		if len(line) > 110 {
			line = line[:110] + " …"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s | `%s` |", p.Name, p.Action, p.Words, line))
	}
	return rows
}

func TestTheExampleOfThePageIsTaken(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("the page has no example")
	}
	got, err := health.Parse([]byte(example))
	if err != nil || len(got.Rules) != 2 || len(got.Patterns) != 2 || got.Settle == 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
