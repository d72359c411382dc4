package main

import (
	"bytes"
	"encoding/json"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// masker shows rows without the personal data that is in them: what forgectl prints lands in logs and tickets.
type masker struct {
	s     *pii.Scanner
	found []pii.Finding
}

func newMasker() *masker { return &masker{s: pii.New(pii.Options{National: true})} }

func (m *masker) text(dst, text []byte) []byte {
	m.found = m.s.Scan(m.found[:0], text)
	at := 0
	for _, f := range m.found {
		dst = append(append(dst, text[at:f.Start]...), pii.Mask(f.Entity, text[f.Start:f.End])...)
		at = f.End
	}
	return append(dst, text[at:]...)
}

// rowOut is a row as it is printed.
type rowOut struct {
	Place  string          `json:"place" doc:"FILE:LINE"`
	Number int64           `json:"number" doc:"From 1, over all files of the version"`
	Digest string          `json:"digest" doc:"SHA-256 of the row's texts, by which dataset impact finds it"`
	Row    json.RawMessage `json:"row" doc:"With personal data masked"`
	turns  []turn
}

// turn is one text of a row, as it is shown to people.
type turn struct{ who, says string }

func (m *masker) row(v forge.DatasetVersion, n int64, r dataset.Row) (rowOut, error) {
	out := rowOut{Place: rowPlace(v, r), Number: n, Digest: digestText(r.Digest)}
	b, err := dataset.Rewrite(nil, r.JSON, func(dst []byte, f dataset.Field) []byte { return m.text(dst, f.Text) })
	if err != nil {
		return out, err
	}
	if out.Row, err = oneLine(b); err != nil {
		return out, err
	}
	who := ""
	for _, f := range r.Fields {
		path, says := f.Path, string(m.text(nil, f.Text))
		switch {
		case strings.HasSuffix(path, ".role"), strings.HasSuffix(path, ".from"):
			who = says
			continue
		case who != "" && (strings.HasSuffix(path, ".content") || strings.HasSuffix(path, ".value")):
			path = who
		}
		who = ""
		out.turns = append(out.turns, turn{path, says})
	}
	return out, nil
}

// oneLine drops the white space between values: in a .json file a row may stand on many lines.
func oneLine(row []byte) ([]byte, error) {
	var flat bytes.Buffer
	if err := json.Compact(&flat, row); err != nil {
		return nil, forge.Errorf(forge.KindInternal, "", "a row that was read is no JSON: %w", err)
	}
	return flat.Bytes(), nil
}

// conversation writes a row for people: who says it, and what, with all its lines below.
func (p *printer) conversation(r rowOut) {
	p.line("%s  row %d  %s", clean(r.Place), r.Number, short(r.Digest))
	for _, t := range r.turns {
		lines := strings.Split(strings.TrimRight(cleanLines(t.says), "\n"), "\n")
		lead := "  " + clean(t.who) + ": "
		for i, l := range lines {
			if i > 0 {
				lead = "    "
			}
			p.line("%s%s", lead, p.hang(strings.ReplaceAll(l, "\t", "  "), min(textWidth(lead), 4)))
		}
	}
}
