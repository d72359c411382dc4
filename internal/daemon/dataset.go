package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/license"
	"github.com/forge-ml/forge-ml/store"
)

// datasets implements api.Datasets.
type datasets struct{ d *Daemon }

const (
	maxDescription = 2000 // characters
)

func (s datasets) AddDataset(ctx context.Context, p forge.Principal, r api.AddDatasetRequest) (api.DatasetAdded, error) {
	var none api.DatasetAdded
	if err := least(p, "dataset.add", forge.RoleMember, "registering a dataset"); err != nil {
		return none, err
	}
	if err := s.check(r); err != nil {
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
	t := s.d.db.For(p)
	got, err := s.scanned(ctx, p, r)
	if err != nil {
		return none, err
	}
	defer got.done()
	v, err := t.AddDataset(ctx, versionOf(ask, got.Scanned))
	if err != nil {
		return none, err
	}
	out := api.DatasetAdded{DatasetVersion: v}
	out.Warnings, err = s.d.licenceWarnings(ctx, p, "dataset", forge.Ref{Name: v.Name, Number: v.Number}.String(), v.License, notes)
	return out, err
}

// check holds what a request says of itself, before anything is read.
func (s datasets) check(r api.AddDatasetRequest) error {
	if err := forge.CheckName(r.Name); err != nil {
		return forge.Invalidf("name", "%v", err)
	}
	if _, _, err := license.Given(r.License); err != nil {
		return err
	}
	if err := checkText("description", r.Description, maxDescription); err != nil {
		return err
	}
	if len(r.Paths) == 0 {
		return forge.Invalidf("path", "no path given")
	}
	for _, path := range r.Paths {
		if err := s.d.mayRead(path); err != nil {
			return err
		}
		if err := s.d.mayMatch(path); err != nil {
			return err
		}
	}
	return nil
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
	v := forge.DatasetVersion{Name: ask.Name, Kind: found.Kind, Columns: found.Columns, Rows: found.Rows, Bytes: found.Manifest.Bytes(), SHA256: found.Manifest.Digest(),
		Manifest: found.Manifest, License: cmp.Or(ask.License, license.NoAssertion), Description: ask.Description, PII: found.Report.PII.Status(), Parents: ask.Parents, Seen: &found.Seen, Scan: &found.Report}
	if found.Layout.Format != forge.FormatJSONL || !found.Layout.Plain() {
		v.Layout = &found.Layout
	}
	return v
}

var errNotYet = forge.Errorf(forge.KindUnavailable, "dataset", "not yet")

func (s datasets) DatasetNumber(ctx context.Context, p forge.Principal, v forge.Ref) (forge.DatasetVersion, error) {
	return s.d.db.For(p).DatasetVersion(ctx, v)
}
func (s datasets) EditDataset(context.Context, forge.Principal, forge.Ref, api.EditDatasetRequest) (forge.DatasetVersion, error) {
	return forge.DatasetVersion{}, errNotYet
}
func (s datasets) DeleteDataset(context.Context, forge.Principal, forge.Ref, api.DeleteDatasetRequest) (forge.DatasetVersion, error) {
	return forge.DatasetVersion{}, errNotYet
}
func (s datasets) WaiveDataset(context.Context, forge.Principal, forge.Ref, string) (forge.DatasetVersion, error) {
	return forge.DatasetVersion{}, errNotYet
}
func (s datasets) VerifyDataset(context.Context, forge.Principal, forge.Ref) (api.DatasetVerified, error) {
	return api.DatasetVerified{}, errNotYet
}
func (s datasets) AddDatasetFile(context.Context, forge.Principal, string, io.Reader) (api.DatasetFile, error) {
	return api.DatasetFile{}, errNotYet
}
func (s datasets) DatasetFile(context.Context, forge.Principal, string) (api.DatasetFile, error) {
	return api.DatasetFile{}, errNotYet
}
func (s datasets) AddDatasetRows(context.Context, forge.Principal, forge.Ref, string, io.Reader) (api.DatasetRows, error) {
	return api.DatasetRows{}, errNotYet
}
func (s datasets) DatasetLineage(context.Context, forge.Principal, forge.Ref, api.LineageQuery) (forge.LineageGraph, error) {
	return forge.LineageGraph{}, errNotYet
}
func (s datasets) DatasetImpact(context.Context, forge.Principal, string) (forge.Impact, error) {
	return forge.Impact{}, errNotYet
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
