package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/store"
)

// datasets implements api.Datasets.
type datasets struct{ d *Daemon }

const (
	noLicense  = "NOASSERTION"
	maxLicense = 200
)

func (s datasets) AddDataset(ctx context.Context, p forge.Principal, r api.AddDatasetRequest) (forge.DatasetVersion, error) {
	var none forge.DatasetVersion
	if err := least(p, "dataset.add", forge.RoleMember, "registering a dataset"); err != nil {
		return none, err
	}
	if err := forge.CheckName(r.Name); err != nil {
		return none, forge.Invalidf("name", "%v", err)
	}
	if err := checkText("license", r.License, maxLicense); err != nil {
		return none, err
	}
	if err := s.d.mayRead(r.Path); err != nil {
		return none, err
	}
	t := s.d.db.For(p)
	var parent forge.DatasetVersionID
	if r.Parent != "" {
		ref, err := forge.ParseRef(r.Parent)
		if err != nil {
			return none, forge.Invalidf("parent", "%v", err)
		}
		v, err := t.DatasetVersion(ctx, ref)
		if err != nil {
			return none, asField(err, "parent")
		}
		parent = v.ID
	}
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	rep, err := dataset.Scan(ctx, []string{r.Path}, dataset.Options{By: forge.ScannedByForged, Progress: func(done, total, _ int64) { read(done, total) }})
	if err != nil {
		return none, err
	}
	if err := s.d.mayReadAll(rep.Manifest); err != nil {
		return none, err
	}
	v := forge.DatasetVersion{Name: r.Name, Kind: rep.Kind, Columns: rep.Columns, Rows: rep.Rows, Bytes: rep.Manifest.Bytes(),
		SHA256: rep.Manifest.Digest(), Manifest: rep.Manifest, License: r.License, PII: forge.PIINotScanned, Parent: parent, Seen: &rep.Seen}
	if v.License == "" {
		v.License = noLicense
	}
	return t.AddDataset(ctx, v)
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
