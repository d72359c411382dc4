package dataset

import (
	"cmp"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// Bounds of what a report of personal data holds.
const (
	shownSamples = 3   // of each sort and confidence
	maxPIIFields = 500 // further fields are counted together, as *
)

// piiCount counts one sort with one confidence in one place.
type piiCount struct {
	entity         forge.PIIEntity
	confidence     forge.Confidence
	findings, rows int64
	last           int64 // row that was counted last
}

type piiKey struct {
	entity     forge.PIIEntity
	confidence forge.Confidence
}

type piiField struct {
	field string
	piiKey
}

// piiBlock is what was found in one block.
type piiBlock struct {
	rowsFound int64
	counts    []forge.PIICount
	samples   []forge.PIISample
	kept      map[piiKey]int
}

func (p *piiBlock) reset() {
	p.rowsFound, p.counts, p.samples = 0, p.counts[:0], p.samples[:0]
	clear(p.kept)
}

// personal looks through all texts of the row that has just been read, in whatever column.
func (w *worker) personal(b *block, f *found, number int64) {
	hit := false
	for i := range w.s.spans {
		t := w.s.text(i)
		at := w.s.spans[i].at
		if roleOf(t) != "" {
			continue
		}
		w.findings = w.pii.Scan(w.findings[:0], t)
		for _, g := range w.findings {
			hit = hit || pii.AtLeast(g.Confidence, forge.ConfidenceMedium)
			at.note(g, number)
			key := piiKey{g.Entity, g.Confidence}
			if f.pii.kept[key] < shownSamples {
				if f.pii.kept == nil {
					f.pii.kept = map[piiKey]int{}
				}
				f.pii.kept[key]++
				f.pii.samples = append(f.pii.samples, forge.PIISample{Entity: g.Entity, Field: at.path(), Confidence: g.Confidence,
					Place: place{b.shown, number}.String(), Offset: g.Start, Masked: pii.Mask(g.Entity, t[g.Start:g.End])})
			}
		}
	}
	if hit {
		f.pii.rowsFound++
	}
}

func (n *node) note(g pii.Finding, row int64) {
	for i := range n.found {
		if c := &n.found[i]; c.entity == g.Entity && c.confidence == g.Confidence {
			if c.findings++; c.last != row {
				c.rows, c.last = c.rows+1, row
			}
			return
		}
	}
	n.found = append(n.found, piiCount{g.Entity, g.Confidence, 1, 1, row})
}

// gather takes the counts from the places.
func (p *piiBlock) gather(t *tree) {
	for _, n := range t.active {
		for _, c := range n.found {
			p.counts = append(p.counts, forge.PIICount{Entity: c.entity, Field: n.path(), Confidence: c.confidence, Findings: c.findings, Rows: c.rows})
		}
	}
}

// personalData sums up the blocks.
type personalData struct {
	rowsFound int64
	counts    map[piiField]*forge.PIICount
	fields    map[string]struct{}
	samples   []forge.PIISample
	kept      map[piiKey]int
}

func newPersonalData() *personalData {
	return &personalData{counts: map[piiField]*forge.PIICount{}, fields: map[string]struct{}{}, kept: map[piiKey]int{}}
}

func (p *personalData) add(b *piiBlock) {
	p.rowsFound += b.rowsFound
	for _, c := range b.counts {
		if _, known := p.fields[c.Field]; !known {
			if len(p.fields) < maxPIIFields {
				p.fields[c.Field] = struct{}{}
			} else {
				c.Field = "*"
			}
		}
		key := piiField{c.Field, piiKey{c.Entity, c.Confidence}}
		if have := p.counts[key]; have != nil {
			have.Findings, have.Rows = have.Findings+c.Findings, have.Rows+c.Rows
		} else {
			p.counts[key] = &c
		}
	}
	for _, s := range b.samples {
		if key := (piiKey{s.Entity, s.Confidence}); p.kept[key] < shownSamples {
			p.kept[key]++
			p.samples = append(p.samples, s)
		}
	}
}

// report is in an order that depends on what was found only.
func (p *personalData) report(o pii.Options, rows int64) *forge.PIIReport {
	r := &forge.PIIReport{Scanner: pii.Version, RulesSHA256: pii.RulesSHA256(o), Sets: []string{"default", "secrets"}, Rows: rows, RowsFound: p.rowsFound,
		Counts: []forge.PIICount{}, Samples: append([]forge.PIISample{}, p.samples...), Note: pii.Note}
	if o.National {
		r.Sets = append(r.Sets, "national")
	}
	for _, c := range p.counts {
		r.Counts = append(r.Counts, *c)
	}
	slices.SortFunc(r.Counts, func(a, b forge.PIICount) int {
		return cmp.Or(strings.Compare(string(a.Entity), string(b.Entity)), surer(a.Confidence, b.Confidence), strings.Compare(a.Field, b.Field))
	})
	slices.SortStableFunc(r.Samples, func(a, b forge.PIISample) int {
		return cmp.Or(strings.Compare(string(a.Entity), string(b.Entity)), surer(a.Confidence, b.Confidence))
	})
	return r
}

// surer puts higher confidences first.
func surer(a, b forge.Confidence) int {
	switch {
	case a == b:
		return 0
	case pii.AtLeast(a, b):
		return -1
	}
	return 1
}
