package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/contrib/pii-corpus/corpus"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// scanned is what the scanner finds with medium confidence or more.
func scanned(rows []corpus.Row) [][]corpus.Label {
	s, out := pii.New(pii.Options{National: true}), make([][]corpus.Label, len(rows))
	var found []pii.Finding
	for i, r := range rows {
		found = s.Scan(found[:0], []byte(r.Text))
		for _, f := range found {
			if !pii.AtLeast(f.Confidence, forge.ConfidenceMedium) {
				continue
			}
			e := string(f.Entity)
			if strings.HasPrefix(e, "secret_") {
				e = "secret"
			}
			out[i] = append(out[i], corpus.Label{Start: f.Start, End: f.End, Entity: e})
		}
	}
	return out
}

func TestTheScannerIsRightOnTheCorpus(t *testing.T) {
	rows := corpus.Generate(7, 3000)
	by, wrong := corpus.Judge(rows, scanned(rows))
	if s := by[""]; s.Precision() < 0.98 || s.Recall() < 0.98 {
		for _, e := range slices.Sorted(maps.Keys(by)) {
			t.Errorf("%-16s %v", e, by[e])
		}
	}
	if os.Getenv("PII_MISTAKES") != "" {
		for _, m := range wrong {
			text := rows[m.Row].Text
			fmt.Printf("%s %s %q in %q\n", map[bool]string{true: "MISSED", false: "WRONG"}[m.Missed], m.Entity, text[m.Start:m.End], text[max(0, m.Start-60):min(len(text), m.End+30)])
		}
		for _, e := range slices.Sorted(maps.Keys(by)) {
			fmt.Printf("%-16s %v\n", e, by[e])
		}
	}
}
