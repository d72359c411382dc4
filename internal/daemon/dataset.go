package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
	"github.com/forge-ml/forge-ml/store"
)

// datasets implements api.Datasets.
type datasets struct{ d *Daemon }

const (
	noLicense      = "NOASSERTION"
	maxLicense     = 200
	maxDescription = 2000
	maxFiles       = 10_000  // of a version, as internal/dataset has it
	maxColumns     = 10_000  // that somebody else's pass may have seen
	maxReport      = 1 << 20 // bytes of its report
)

func (s datasets) AddDataset(ctx context.Context, p forge.Principal, r api.AddDatasetRequest) (api.DatasetAdded, error) {
	var none api.DatasetAdded
	if err := s.mayAdd(p, r); err != nil {
		return none, err
	}
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	if r.Scanned != nil {
		if err := checkScanned(r.Scanned, time.Now()); err != nil {
			return none, err
		}
		if !r.Copy {
			if err := s.there(ctx, r.Scanned.Manifest); err != nil {
				return none, err
			}
		}
		return s.register(ctx, p, r, *r.Scanned, forge.ScannedByForgectl)
	}
	for _, path := range r.Paths {
		if err := s.d.mayRead(path); err != nil {
			return none, err
		}
	}
	prints, err := os.CreateTemp("", "forged-rows-")
	if err != nil {
		return none, unkept("dataset.add", err)
	}
	defer func() { _ = prints.Close(); _ = os.Remove(prints.Name()) }()
	o := dataset.Options{Map: r.Map, Preset: r.Preset, PII: &pii.Options{National: r.National}, By: forge.ScannedByForged, Scanner: s.d.version,
		Fingerprints: prints, Progress: func(done, total, _ int64) { read(done, total) }}
	if r.Near {
		o.Near = 0.8
	}
	if r.Kind != "auto" {
		o.Kind = forge.DatasetKind(r.Kind)
	}
	rep, err := dataset.Scan(ctx, r.Paths, o)
	if err != nil {
		return none, err
	}
	if err := s.d.mayReadAll(rep.Manifest); err != nil {
		return none, err
	}
	if r.Copy {
		if err := s.take(ctx, p, rep.Manifest); err != nil {
			return none, err
		}
	}
	out, err := s.register(ctx, p, r, rep.Scanned, forge.ScannedByForged)
	if err != nil || out.Indexed {
		return out, err
	}
	if n, err := prints.Seek(0, 1); err != nil || n != out.Rows*store.RowPrint {
		return out, nil // a scanner that makes none; the version is registered, and named where rows are looked for
	}
	if _, err := prints.Seek(0, 0); err != nil {
		return out, nil
	}
	v, err := s.index(ctx, p, out.DatasetVersion, prints)
	if err != nil {
		s.d.log.Warn().Err(err).Str("dataset", out.Name).Int("version", out.Number).Msg("rows not indexed")
		return out, nil
	}
	out.DatasetVersion.Indexed = v.Indexed
	return out, nil
}

// mayAdd looks at everything of a request that needs no reading.
func (s datasets) mayAdd(p forge.Principal, r api.AddDatasetRequest) error {
	if err := least(p, "dataset.add", forge.RoleMember, "registering a dataset"); err != nil {
		return err
	}
	if err := forge.CheckName(r.Name); err != nil {
		return forge.Invalidf("name", "%v", err)
	}
	if len(r.Paths) == 0 {
		return forge.Invalidf("paths", "no path given")
	}
	if r.Copy {
		if err := s.d.mayCopy(); err != nil {
			return err
		}
	}
	if r.Redaction && (len(r.Parents) != 1 || r.Scanned == nil && r.PIIPolicy == forge.PIIRedact) {
		return forge.Invalidf("redaction", "a redacted version has one parent, and is redacted already")
	}
	return errors.Join(checkText("license", r.License, maxLicense), checkText("description", r.Description, maxDescription))
}

// there holds what somebody else's pass found against the disk, as a run will do.
func (s datasets) there(ctx context.Context, m forge.Manifest) error {
	if err := s.d.mayRead(m.Root); err != nil {
		return err
	}
	if err := s.d.mayReadAll(m); err != nil {
		return err
	}
	if err := s.d.checkInputs(ctx, m); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return forge.Invalidf("scanned", "the data is not what was scanned: %w", reason(err)).WithHint("nothing may write to the files while they are registered; add them again")
	}
	return nil
}

// register makes a version of what a pass found. Whose pass it was is for the caller to know.
func (s datasets) register(ctx context.Context, p forge.Principal, r api.AddDatasetRequest, sc forge.Scanned, by forge.ScannedBy) (api.DatasetAdded, error) {
	var none api.DatasetAdded
	t := s.d.db.For(p)
	sc.Report.By = by
	status := sc.Report.PII.Status()
	if status == forge.PIIFindings && r.PIIPolicy == forge.PIIBlock {
		return none, forge.Invalidf("pii_policy", "%d of %d rows hold personal data or secrets, and the policy is block", sc.Report.PII.RowsFound, sc.Rows).
			WithHint("forgectl dataset redact makes data without them; --pii-policy warn registers it as it is")
	}
	if r.Redaction {
		if status != forge.PIIClean {
			return none, forge.Invalidf("redaction", "a redacted version comes with a report that found no personal data; this one says %s", status)
		}
		status = forge.PIIRedacted
	}
	v := forge.DatasetVersion{Name: r.Name, Kind: sc.Kind, Columns: sc.Columns, Rows: sc.Rows, Bytes: sc.Manifest.Bytes(), SHA256: sc.Manifest.Digest(), Manifest: sc.Manifest,
		License: r.License, Description: r.Description, PII: status, Seen: &sc.Seen, Layout: &sc.Layout, Scan: &sc.Report}
	if v.License == "" {
		v.License = noLicense
	}
	for _, name := range r.Parents {
		ref, err := forge.ParseRef(name)
		if err != nil {
			return none, forge.Invalidf("parents", "%v", err)
		}
		parent, err := t.DatasetVersion(ctx, ref)
		if err != nil {
			return none, asField(err, "parents")
		}
		v.Parents = append(v.Parents, forge.DatasetParent{ID: parent.ID, Name: parent.Name, Version: parent.Number})
	}
	dir := ""
	if r.Copy {
		var err error
		if v.Manifest, dir, err = s.keep(p.Tenant, sc.Manifest); err != nil {
			return none, err
		}
		v.Owned = true
	}
	v, existed, err := t.AddDataset(ctx, v)
	if dir != "" && (err != nil && forge.KindOf(err) != forge.KindUnavailable || existed) { // unavailable: perhaps it was stored; datasetsLoop looks
		_ = os.RemoveAll(dir)
	}
	return api.DatasetAdded{DatasetVersion: v, Existed: existed}, err
}

// checkScanned bounds what somebody else says of data, and holds it to what forged itself would say.
func checkScanned(sc *forge.Scanned, now time.Time) error {
	bad := func(format string, args ...any) error { return forge.Invalidf("scanned", format, args...) }
	m := sc.Manifest
	switch {
	case len(m.Files) == 0 || len(m.Files) > maxFiles:
		return bad("has %d files; want 1 to %d", len(m.Files), maxFiles)
	case !slices.Contains(forge.DatasetKinds, sc.Kind):
		return bad("%q is no kind of dataset", sc.Kind)
	case sc.Rows < 1:
		return bad("has %d rows", sc.Rows)
	case len(sc.Columns) > maxColumns:
		return bad("has %d columns; want at most %d", len(sc.Columns), maxColumns)
	case len(m.Files) > 1 && slices.ContainsFunc(m.Files, func(f forge.File) bool { return f.Path == "." }):
		return bad("the path . stands for the root itself, and beside it are others")
	case !slices.IsSortedFunc(m.Files, func(a, b forge.File) int { // strictly: no path twice
		if a.Path < b.Path {
			return -1
		}
		return 1
	}):
		return bad("the files are not sorted by path, or one is there twice")
	}
	for _, f := range m.Files {
		if f.Path != "." && (!filepath.IsLocal(f.Path) || filepath.Clean(f.Path) != f.Path) || f.Size < 0 || !digestForm.MatchString(f.SHA256) {
			return bad("file %.200q: want a path below the root, a size and a SHA-256", f.Path)
		}
		if err := checkText("scanned", f.Path, maxPath); err != nil {
			return err
		}
	}
	for _, c := range sc.Columns {
		if err := checkText("scanned", c, 500); err != nil {
			return err
		}
	}
	if !slices.Contains([]forge.DatasetFormat{forge.FormatJSONL, forge.FormatJSON, forge.FormatCSV, forge.FormatParquet, forge.FormatArrow}, sc.Layout.Format) {
		return bad("%q is no format", sc.Layout.Format)
	}
	if b, err := json.Marshal(sc.Report); err != nil || len(b) > maxReport {
		return bad("the report has %d bytes; want at most %d", len(b), maxReport)
	}
	if r := sc.Report.PII; r != nil && (r.Rows != sc.Rows || r.RowsFound < 0 || r.RowsFound > r.Rows) {
		return bad("the report on personal data is of %d rows, with findings in %d; there are %d", r.Rows, r.RowsFound, sc.Rows)
	}
	if sc.Report.At.IsZero() || sc.Report.At.After(now) {
		sc.Report.At = now.UTC()
	}
	return nil
}

func (s datasets) Datasets(ctx context.Context, p forge.Principal, l api.Listing) (api.List[forge.Dataset], error) {
	items, next, err := s.d.db.For(p).Datasets(ctx, store.Listing(l))
	return api.List[forge.Dataset]{Items: items, Next: next}, err
}

func (s datasets) DatasetVersion(ctx context.Context, p forge.Principal, id string) (forge.DatasetVersion, error) {
	return s.d.db.For(p).DatasetVersionByID(ctx, forge.DatasetVersionID(id))
}

func (s datasets) Dataset(ctx context.Context, p forge.Principal, name string) (forge.Dataset, error) {
	return s.d.db.For(p).Dataset(ctx, name)
}

func (s datasets) DatasetNumber(ctx context.Context, p forge.Principal, v forge.Ref) (forge.DatasetVersion, error) {
	return s.d.db.For(p).DatasetVersion(ctx, v)
}

// asField says which input field a lookup failed for; a reference to what is not there is bad
// input, not a missing page.
func asField(err error, field string) error {
	if forge.KindOf(err) != forge.KindNotFound {
		return err
	}
	return &forge.Error{Kind: forge.KindInvalid, Field: field, Err: fmt.Errorf("%w", reason(err)), Hint: forge.HintOf(err)}
}

// reason is what an error says is wrong, without the field that whoever passes it on names.
func reason(err error) error {
	var e *forge.Error
	if errors.As(err, &e) && e.Field != "" && e.Err != nil {
		return e.Err
	}
	return err
}
