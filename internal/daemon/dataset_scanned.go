package daemon

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// The bounds of what is taken of a pass that somebody else's process made: it stays in the database, and people are shown it.
const (
	maxReport         = 1 << 20 // bytes of a report
	maxScannedColumns = 10_000
	maxScannedCounts  = 10_000
	maxScannedSamples = 1000
	maxScannedWords   = 500 // characters of one text
)

// checkScanned holds what a process of a user's says of data against everything that can be known without reading it: that its numbers can be true
// together, and that it is of a size that people can be shown. What it says of the rows themselves is its word; the report says whose.
func checkScanned(s *forge.Scanned, now time.Time) error {
	bad := func(field, format string, args ...any) error {
		return forge.Invalidf("scanned."+field, format, args...).WithHint("scanned is what forgectl dataset add sends; let forgectl or forged read the data")
	}
	if err := saneManifest(s.Manifest, bad); err != nil {
		return err
	}
	formats := []forge.DatasetFormat{forge.FormatJSONL, forge.FormatJSON, forge.FormatCSV, forge.FormatParquet, forge.FormatArrow}
	switch {
	case !slices.Contains(forge.DatasetKinds, s.Kind):
		return bad("kind", "%.40q is not a kind of dataset; want one of %v", s.Kind, forge.DatasetKinds)
	case !slices.Contains(formats, s.Layout.Format):
		return bad("layout.format", "%.40q is not a format; want one of %v", s.Layout.Format, formats)
	case s.Layout.Preset != "" && len(s.Layout.Map) > 0:
		return bad("layout", "has a map and a preset; want one of them")
	case !slices.Contains([]string{"", "alpaca", "sharegpt"}, s.Layout.Preset):
		return bad("layout.preset", "%.40q is none; want alpaca or sharegpt", s.Layout.Preset)
	case s.Rows < 1:
		return bad("rows", "%d: a dataset has one row at least", s.Rows)
	case len(s.Columns) == 0 || len(s.Columns) > maxScannedColumns || len(s.Layout.Map) > maxScannedColumns:
		return bad("columns", "%d of them; want 1 to %d", len(s.Columns), maxScannedColumns)
	}
	for to, from := range s.Layout.Map {
		for _, c := range []string{to, from} {
			if err := checkText("scanned.layout.map", c, maxScannedWords); err != nil {
				return err
			}
		}
	}
	if b, err := json.Marshal(s.Report); err != nil || len(b) > maxReport {
		return bad("report", "has %d bytes; want at most %d", len(b), maxReport)
	}
	if s.Report.At.IsZero() || s.Report.At.After(now) {
		s.Report.At = now.UTC()
	}
	return saneReport(s, bad)
}

func saneManifest(m forge.Manifest, bad func(field, format string, args ...any) error) error {
	if !filepath.IsAbs(m.Root) || filepath.Clean(m.Root) != m.Root || len(m.Root) > maxPath {
		return bad("manifest.root", "%.200q: want a clean absolute path of at most %d bytes", m.Root, maxPath)
	}
	if err := checkText("scanned.manifest.root", m.Root, maxPath); err != nil {
		return err
	}
	if n := len(m.Files); n == 0 || n > maxFiles {
		return bad("manifest.files", "%d of them; want 1 to %d", n, maxFiles)
	}
	seen := map[string]bool{}
	for i, f := range m.Files {
		at := fmt.Sprintf("manifest.files[%d]", i)
		local := f.Path == "." && len(m.Files) == 1 || filepath.IsLocal(f.Path) && f.Path != "." && path.Clean(f.Path) == f.Path
		switch {
		case !local || seen[f.Path] || len(f.Path) > maxPath:
			return bad(at+".path", "%.200q: want a clean path below the root, each one once", f.Path)
		case !digestForm.MatchString(f.SHA256):
			return bad(at+".sha256", "%.80q: want 64 hexadecimal digits in lower case", f.SHA256)
		case f.Size < 0:
			return bad(at+".size", "%d bytes", f.Size)
		case i > 0 && f.Path < m.Files[i-1].Path:
			return bad(at+".path", "%.200q: want the files in the order of their paths, which their digest goes by", f.Path)
		case f.ModTime.IsZero():
			return bad(at+".mtime", "is missing: it is what tells a run that a file has changed")
		}
		if err := checkText("scanned."+at+".path", f.Path, maxPath); err != nil {
			return err
		}
		seen[f.Path] = true
	}
	return nil
}

func saneReport(s *forge.Scanned, bad func(field, format string, args ...any) error) error {
	r := &s.Report
	dup := r.Duplicates
	var binned, below int64
	for _, b := range r.Lengths {
		if b.Rows < 1 || b.Below <= below {
			return bad("report.lengths", "want bins in ascending order, each with rows in it")
		}
		binned, below = binned+b.Rows, b.Below
	}
	switch {
	case dup.Rows < 0 || dup.Near < 0 || dup.Rows+dup.Near >= s.Rows || dup.Threshold < 0 || dup.Threshold > 1:
		return bad("report.duplicates", "%d exact and %d near ones among %d rows cannot be", dup.Rows, dup.Near, s.Rows)
	case len(r.Lengths) > 0 && binned != s.Rows:
		return bad("report.lengths", "hold %d rows; there are %d", binned, s.Rows)
	case r.Elapsed < 0:
		return bad("report.elapsed", "is less than no time")
	}
	words := slices.Concat(s.Columns, dup.First, dup.NearFirst, []string{r.Scanner})
	if p := r.PII; p != nil {
		if p.Rows != s.Rows || p.RowsFound < 0 || p.RowsFound > p.Rows || len(p.Counts) > maxScannedCounts || len(p.Samples) > maxScannedSamples {
			return bad("report.pii", "%d rows with findings of %d looked at; there are %d rows", p.RowsFound, p.Rows, s.Rows)
		}
		most := int64(0)
		for _, c := range p.Counts {
			if c.Findings < c.Rows || c.Rows < 1 || c.Rows > s.Rows || !slices.Contains(confidences, c.Confidence) {
				return bad("report.pii.counts", "%d findings of confidence %.20q in %d rows of %d cannot be", c.Findings, c.Confidence, c.Rows, s.Rows)
			}
			if c.Confidence != forge.ConfidenceLow {
				most = max(most, c.Rows)
			}
			words = append(words, string(c.Entity), c.Field)
		}
		if p.RowsFound < most || p.RowsFound > 0 && most == 0 {
			return bad("report.pii.rows_found", "%d does not go with its counts", p.RowsFound)
		}
		for _, x := range p.Samples {
			words = append(words, string(x.Entity), x.Field, x.Place, x.Masked)
		}
		words = append(words, p.Scanner, p.RulesSHA256, p.Note)
	}
	if len(dup.First) > maxScannedSamples || len(dup.NearFirst) > maxScannedSamples {
		return bad("report.duplicates", "lists too many")
	}
	for _, w := range words {
		if len(w) > maxPath*3 {
			return bad("report", "%.80q… is %d bytes long", w, len(w))
		}
		if strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return bad("report", "%.80q holds a control character", w)
		}
	}
	return nil
}

var confidences = []forge.Confidence{forge.ConfidenceLow, forge.ConfidenceMedium, forge.ConfidenceHigh}
