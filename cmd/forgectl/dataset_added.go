package main

import (
	"fmt"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// addedOut is what -o json prints.
type addedOut struct {
	api.DatasetAdded
	Redacted *api.DatasetAdded `json:"redacted,omitempty" doc:"The child that was made by --pii-policy redact"`
}

// added says what was registered, and what is known of it now; child is its redacted one, where that was made too.
func (a *app) added(v api.DatasetAdded, child *api.DatasetAdded) error {
	for _, f := range findings(v.DatasetVersion) {
		fmt.Fprintf(a.Err, "warning: %s\n", f)
	}
	for _, w := range v.Warnings {
		fmt.Fprintf(a.Err, "warning: %s\n", clean(w))
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(addedOut{v, child}))
	case modeTSV:
		t := p.table()
		for _, one := range []*api.DatasetAdded{&v, child} {
			if one != nil {
				t.row(one.Name, strconv.Itoa(one.Number), one.SHA256, strconv.FormatInt(one.Rows, 10), strconv.FormatInt(one.Bytes, 10), string(one.Kind), string(one.PII), strconv.FormatBool(one.Existed))
			}
		}
		return p.done(nil)
	}
	done := "registered"
	if v.Existed {
		done = "is this data already"
	}
	p.line("dataset %s %s: %s rows, %s, kind %s, sha256 %s", clean(versionName(v.DatasetVersion)), done, thousands(v.Rows), size(v.Bytes), clean(string(v.Kind)), clean(short(v.SHA256)))
	p.report(v.DatasetVersion)
	p.rates(v.DatasetVersion)
	best := v.DatasetVersion
	if child != nil {
		best = child.DatasetVersion
		p.line("dataset %s registered: without it, status %s", clean(versionName(best)), clean(string(best.PII)))
	} else if v.PII == forge.PIIFindings {
		p.line("next: forgectl dataset redact %s", clean(versionName(best)))
	}
	p.line("next: forgectl run submit lora_sft --dataset %s --base MODEL", clean(versionName(best)))
	return p.done(nil)
}

// rates says how fast it was read.
func (p *printer) rates(v forge.DatasetVersion) {
	if v.Scan == nil || v.Scan.Elapsed.D() < time.Millisecond {
		return
	}
	took := v.Scan.Elapsed.D()
	p.line("read in %s: %s/s, %s rows/s", took.Round(10*time.Millisecond), size(int64(float64(v.Bytes)/took.Seconds())), thousands(int64(float64(v.Rows)/took.Seconds())))
}
