package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
	"github.com/forge-ml/forge-ml/internal/license"
	"github.com/forge-ml/forge-ml/store"
)

// datasets implements api.Datasets.
type datasets struct{ d *Daemon }

const (
	maxDescription = 2000
	maxFiles       = 10_000 // of a version, as internal/dataset has it
)

func (s datasets) AddDataset(ctx context.Context, p forge.Principal, r api.AddDatasetRequest) (api.DatasetAdded, error) {
	var none api.DatasetAdded
	if err := s.mayAdd(p, r); err != nil {
		return none, err
	}
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
	if err := s.d.mayScanHere(); err != nil {
		return none, err
	}
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	got, err := s.d.scan(ctx, askOf(r), read)
	if err != nil {
		return none, err
	}
	defer got.done()
	if err := s.d.mayReadAll(got.Scanned.Manifest); err != nil {
		return none, err
	}
	if r.Copy {
		if err := s.take(ctx, p, got.Scanned.Manifest); err != nil {
			return none, err
		}
	}
	out, err := s.register(ctx, p, r, got.Scanned, forge.ScannedByForged)
	if err != nil || out.Indexed || got.Fingerprints.Count == 0 {
		return out, err
	}
	prints, err := os.Open(got.prints)
	if err == nil {
		var v forge.DatasetVersion
		if v, err = s.index(ctx, p, out.DatasetVersion, prints); err == nil {
			out.DatasetVersion.Indexed = v.Indexed
		}
		_ = prints.Close()
	}
	if err != nil { // the version is whole without, and named where rows are looked for
		s.d.log.Warn().Err(err).Str("dataset", out.Name).Int("version", out.Number).Msg("rows not indexed")
	}
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
	if r.Scanned == nil {
		if r.PIIPolicy == forge.PIIRedact {
			return forge.Invalidf("pii_policy", "whoever makes the redacted child reads the data himself: forgectl does, forged and a job do not").
				WithHint("add it with --pii-policy warn; then: forgectl dataset redact %s", r.Name)
		}
		for _, path := range r.Paths {
			if err := errors.Join(s.d.mayRead(path), s.d.mayMatch(path)); err != nil {
				return err
			}
		}
	}
	if r.Redaction && len(r.Parents) != 1 {
		return forge.Invalidf("redaction", "a redacted version has one parent, and is redacted already")
	}
	if _, _, err := license.Given(r.License); err != nil {
		return err
	}
	return checkText("description", r.Description, maxDescription)
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
	sc.Report.By = by
	if err := scanner.Blocked(r.PIIPolicy, &sc.Report); err != nil {
		return none, err
	}
	ask := askOf(r)
	var err error
	if ask.Parents, err = s.parents(ctx, p, r.Parents); err != nil {
		return none, err
	}
	var notes []string
	if ask.License, notes, err = s.d.licenceOf(ctx, r.License, ask.Parents); err != nil {
		return none, err
	}
	v := versionOf(ask, sc)
	if r.Redaction {
		if v.PII != forge.PIIClean {
			return none, forge.Invalidf("redaction", "a redacted version comes with a report that found no personal data; this one says %s", v.PII)
		}
		v.PII = forge.PIIRedacted
	}
	dir := ""
	if r.Copy {
		if v.Manifest, dir, err = s.keep(p.Tenant, sc.Manifest); err != nil {
			return none, err
		}
		v.Owned = true
	}
	v, existed, err := s.d.db.For(p).AddDataset(ctx, v)
	if dir != "" && (err != nil && forge.KindOf(err) != forge.KindUnavailable || existed) { // unavailable: perhaps it was stored; datasetsLoop looks
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		return none, err
	}
	out := api.DatasetAdded{DatasetVersion: v, Existed: existed}
	out.Warnings, err = s.d.licenceWarnings(ctx, p, "dataset", forge.Ref{Name: v.Name, Number: v.Number}.String(), v.License, notes)
	return out, err
}

// parents finds the versions that data was made from.
func (s datasets) parents(ctx context.Context, p forge.Principal, names []string) ([]forge.DatasetParent, error) {
	var out []forge.DatasetParent
	for _, name := range names {
		ref, err := forge.ParseRef(name)
		if err != nil {
			return nil, forge.Invalidf("parents", "%v", err)
		}
		v, err := s.d.db.For(p).DatasetVersion(ctx, ref)
		if err != nil {
			return nil, asField(err, "parents")
		}
		out = append(out, forge.DatasetParent{ID: v.ID, Name: v.Name, Version: v.Number})
	}
	return out, nil
}

// versionOf is what is registered of data that was read.
func versionOf(ask forge.ScanAsk, found forge.Scanned) forge.DatasetVersion {
	return forge.DatasetVersion{Name: ask.Name, Kind: found.Kind, Columns: found.Columns, Rows: found.Rows, Bytes: found.Manifest.Bytes(), SHA256: found.Manifest.Digest(),
		Manifest: found.Manifest, License: cmp.Or(ask.License, license.NoAssertion), Description: ask.Description, PII: found.Report.PII.Status(), Parents: ask.Parents, Seen: &found.Seen,
		Layout: &found.Layout, Scan: &found.Report}
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
