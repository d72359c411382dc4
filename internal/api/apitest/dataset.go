package apitest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// OwnRoot is where the fake says that forge's own copies lie; there is nothing.
const OwnRoot = "/srv/forge/datasets"

// ScanDataset implements api.Datasets: a run that nobody starts.
func (f *Fake) ScanDataset(_ context.Context, p forge.Principal, r api.ScanDatasetRequest) (api.Submitted, error) {
	leave, err := f.enter("ScanDataset")
	if err != nil {
		return api.Submitted{}, err
	}
	defer leave()
	if err := forge.CheckName(r.Name); err != nil {
		return api.Submitted{}, forge.Invalidf("name", "%w", err)
	}
	run := forge.Run{ID: forge.RunID(f.id("R")), Tenant: p.Tenant, User: p.Actor(), State: forge.RunPending, SubmittedAt: f.now}
	run.Spec = forge.RunSpec{Name: r.Name, Recipe: "scan", Launch: forge.LaunchNode, Entry: forge.Entry{Command: []string{"forged", "scan"}}, Params: map[string]any{}, Origins: map[string]string{},
		Gang: forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: max(1, r.Threads), MemoryMiBPerGPU: 1024}, Priority: min(forge.DefaultPriority, maxPriority(p)),
		Cluster: forge.ClusterName(r.Cluster), Scan: &forge.ScanAsk{Name: r.Name, Paths: r.Paths, License: r.License, Policy: r.PIIPolicy}}
	if r.DryRun {
		return api.Submitted{Run: run}, nil
	}
	f.remember(p, string(run.ID))
	return f.queueRun(run), nil
}

// AddDataset implements api.Datasets. Paths must be absolute; nothing is read.
func (f *Fake) AddDataset(_ context.Context, p forge.Principal, r api.AddDatasetRequest) (api.DatasetAdded, error) {
	defer f.UnderWay(p)()
	leave, err := f.enter("AddDataset")
	if err != nil {
		return api.DatasetAdded{}, err
	}
	defer leave()
	if err := forge.CheckName(r.Name); err != nil {
		return api.DatasetAdded{}, forge.Invalidf("name", "%w", err)
	}
	if len(r.Paths) == 0 {
		return api.DatasetAdded{}, forge.Invalidf("paths", "no path given")
	}
	for _, path := range r.Paths {
		if !filepath.IsAbs(path) {
			return api.DatasetAdded{}, forge.Invalidf("paths", "%q is not absolute", path)
		}
	}
	v := forge.DatasetVersion{ID: forge.DatasetVersionID(f.id("V")), Name: r.Name, Number: 1, Kind: forge.KindMessages, Columns: []string{"messages"},
		Rows: 64, Bytes: 20480, SHA256: "5d41402abc4b2a76b9719d911017c592ae2f5d41402abc4b2a76b9719d911017",
		Manifest: forge.Manifest{Root: r.Paths[0], Files: []forge.File{{Path: ".", Size: 20480, SHA256: "5d41402a"}}},
		License:  r.License, Description: r.Description, PII: forge.PIINotScanned, Owned: r.Copy, CreatedBy: p.Actor(), CreatedAt: f.now}
	if v.License == "" {
		v.License = "NOASSERTION"
	}
	if s := r.Scanned; s != nil {
		if s.Report.PII.Found() && r.PIIPolicy == forge.PIIBlock {
			return api.DatasetAdded{}, forge.Invalidf("pii_policy", "%d rows hold personal data", s.Report.PII.RowsFound)
		}
		v.Kind, v.Columns, v.Rows, v.Bytes, v.Manifest = s.Kind, s.Columns, s.Rows, s.Manifest.Bytes(), s.Manifest
		v.SHA256, v.Seen, v.Layout, v.Scan, v.PII = s.Manifest.Digest(), &s.Seen, &s.Layout, &s.Report, s.Report.PII.Status()
		if r.Redaction {
			v.PII = forge.PIIRedacted
		}
		if r.Copy { // where nobody else looks
			v.Manifest.Root = filepath.Join(OwnRoot, filepath.Base(v.Manifest.Root))
		}
	}
	for _, name := range r.Parents {
		ref, err := forge.ParseRef(name)
		if err != nil {
			return api.DatasetAdded{}, forge.Invalidf("parents", "%w", err)
		}
		parent, err := f.version(p, ref)
		if err != nil {
			return api.DatasetAdded{}, forge.Invalidf("parents", "%w", err)
		}
		v.Parents = append(v.Parents, forge.DatasetParent{ID: parent.ID, Name: parent.Name, Version: parent.Number})
	}
	for i := range f.datasets {
		d := &f.datasets[i]
		if d.Name != r.Name || d.Tenant != p.Tenant {
			continue
		}
		for _, old := range d.Versions {
			if r.Scanned != nil && old.SHA256 == v.SHA256 && old.DeletedAt.IsZero() {
				f.remember(p, string(old.ID))
				return api.DatasetAdded{DatasetVersion: old, Existed: true}, nil
			}
		}
		v.Number = len(d.Versions) + 1
		d.Versions = append(d.Versions, v)
		f.remember(p, string(v.ID))
		return api.DatasetAdded{DatasetVersion: v}, nil
	}
	f.remember(p, string(v.ID))
	f.datasets = append(f.datasets, forge.Dataset{ID: forge.DatasetID(f.id("D")), Tenant: p.Tenant, Name: r.Name, CreatedAt: f.now, Versions: []forge.DatasetVersion{v}})
	return api.DatasetAdded{DatasetVersion: v}, nil
}

// Datasets implements api.Datasets.
func (f *Fake) Datasets(_ context.Context, p forge.Principal, l api.Listing) (api.List[forge.Dataset], error) {
	leave, err := f.enter("Datasets")
	if err != nil {
		return api.List[forge.Dataset]{}, err
	}
	defer leave()
	return paged(p, "datasets", f.datasets, l, func(d forge.Dataset) (thing, bool) {
		return thing{string(d.ID), d.Name, d.CreatedAt}, d.Tenant == p.Tenant
	})
}

// Dataset implements api.Datasets.
func (f *Fake) Dataset(_ context.Context, p forge.Principal, name string) (forge.Dataset, error) {
	leave, err := f.enter("Dataset")
	if err != nil {
		return forge.Dataset{}, err
	}
	defer leave()
	for _, d := range f.datasets {
		if d.Name == name && d.Tenant == p.Tenant {
			d.Versions = slices.Clone(d.Versions)
			for i := range d.Versions {
				d.Versions[i].Scan = nil
			}
			return d, nil
		}
	}
	return forge.Dataset{}, notFound("dataset", name)
}

// DatasetVersion implements api.Datasets.
func (f *Fake) DatasetVersion(_ context.Context, p forge.Principal, id string) (forge.DatasetVersion, error) {
	leave, err := f.enter("DatasetVersion")
	if err != nil {
		return forge.DatasetVersion{}, err
	}
	defer leave()
	for _, d := range f.datasets {
		for _, v := range d.Versions {
			if d.Tenant == p.Tenant && string(v.ID) == id {
				return v, nil
			}
		}
	}
	return forge.DatasetVersion{}, notFound("dataset version", id)
}

// version is the version itself, to be changed under the lock.
func (f *Fake) version(p forge.Principal, ref forge.Ref) (*forge.DatasetVersion, error) {
	for i := range f.datasets {
		d := &f.datasets[i]
		if d.Name != ref.Name || d.Tenant != p.Tenant {
			continue
		}
		n := ref.Number
		if n == 0 {
			n = len(d.Versions)
		}
		if n <= len(d.Versions) {
			return &d.Versions[n-1], nil
		}
	}
	return nil, notFound("dataset", ref.String())
}

// onVersion does something with a version for whoever may.
func (f *Fake) onVersion(op string, p forge.Principal, role forge.Role, ref forge.Ref, do func(*forge.DatasetVersion) error) (forge.DatasetVersion, error) {
	leave, err := f.enter(op)
	if err != nil {
		return forge.DatasetVersion{}, err
	}
	defer leave()
	if err := least(p, op, role); err != nil {
		return forge.DatasetVersion{}, err
	}
	v, err := f.version(p, ref)
	if err != nil {
		return forge.DatasetVersion{}, err
	}
	if err := do(v); err != nil {
		return forge.DatasetVersion{}, err
	}
	f.remember(p, string(v.ID))
	return *v, nil
}

// DatasetNumber implements api.Datasets.
func (f *Fake) DatasetNumber(_ context.Context, p forge.Principal, ref forge.Ref) (forge.DatasetVersion, error) {
	return f.onVersion("DatasetNumber", p, forge.RoleViewer, ref, func(*forge.DatasetVersion) error { return nil })
}

// EditDataset implements api.Datasets.
func (f *Fake) EditDataset(_ context.Context, p forge.Principal, ref forge.Ref, r api.EditDatasetRequest) (forge.DatasetVersion, error) {
	return f.onVersion("EditDataset", p, forge.RoleMember, ref, func(v *forge.DatasetVersion) error {
		if r.License != nil {
			v.License = *r.License
		}
		if r.Description != nil {
			v.Description = *r.Description
		}
		return nil
	})
}

// DeleteDataset implements api.Datasets. Versions that a run names are in use.
func (f *Fake) DeleteDataset(_ context.Context, p forge.Principal, ref forge.Ref, r api.DeleteDatasetRequest) (forge.DatasetVersion, error) {
	return f.onVersion("DeleteDataset", p, forge.RoleAdmin, ref, func(v *forge.DatasetVersion) error {
		name := fmt.Sprintf("%s@%d", v.Name, v.Number)
		for _, d := range f.runs {
			if d.Spec.Dataset != nil && d.Spec.Dataset.Name == name && !d.State.Terminal() {
				return forge.Errorf(forge.KindPrecondition, "dataset.delete", "%s is used by run %d", name, d.Number)
			}
		}
		v.DeletedAt = f.now
		if r.Purge {
			v.PurgedAt, v.Indexed = f.now, false
		}
		return nil
	})
}

// WaiveDataset implements api.Datasets.
func (f *Fake) WaiveDataset(_ context.Context, p forge.Principal, ref forge.Ref, reason string) (forge.DatasetVersion, error) {
	return f.onVersion("WaiveDataset", p, forge.RoleAdmin, ref, func(v *forge.DatasetVersion) error {
		if v.PII != forge.PIIFindings {
			return forge.Errorf(forge.KindPrecondition, "dataset.waive", "%s@%d has the PII status %s", v.Name, v.Number, v.PII)
		}
		v.PII, v.Waiver = forge.PIIWaived, &forge.Waiver{By: p.Actor(), Reason: reason, At: f.now}
		return nil
	})
}

// VerifyDataset implements api.Datasets. Everything is as it was.
func (f *Fake) VerifyDataset(_ context.Context, p forge.Principal, ref forge.Ref) (api.DatasetVerified, error) {
	v, err := f.onVersion("VerifyDataset", p, forge.RoleMember, ref, func(*forge.DatasetVersion) error { return nil })
	return api.DatasetVerified{Name: fmt.Sprintf("%s@%d", v.Name, v.Number), SHA256: v.SHA256, Files: len(v.Manifest.Files), Bytes: v.Bytes, Intact: true, Differs: []api.FileDiffers{}}, err
}

// AddDatasetFile implements api.Datasets.
func (f *Fake) AddDatasetFile(_ context.Context, p forge.Principal, digest string, body io.Reader) (api.DatasetFile, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return api.DatasetFile{}, err
	}
	leave, err := f.enter("AddDatasetFile")
	if err != nil {
		return api.DatasetFile{}, err
	}
	defer leave()
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != digest {
		return api.DatasetFile{}, forge.Invalidf("sha256", "the body has another digest")
	}
	if f.files == nil {
		f.files = map[string][]byte{}
	}
	f.files[string(p.Tenant)+digest] = b
	f.remember(p, digest)
	return api.DatasetFile{SHA256: digest, Bytes: int64(len(b))}, nil
}

// DatasetFile implements api.Datasets.
func (f *Fake) DatasetFile(_ context.Context, p forge.Principal, digest string) (api.DatasetFile, error) {
	leave, err := f.enter("DatasetFile")
	if err != nil {
		return api.DatasetFile{}, err
	}
	defer leave()
	b, ok := f.files[string(p.Tenant)+digest]
	if !ok {
		return api.DatasetFile{}, notFound("dataset file", digest)
	}
	return api.DatasetFile{SHA256: digest, Bytes: int64(len(b))}, nil
}

// OwnedFile implements api.Datasets.
func (f *Fake) OwnedFile(_ context.Context, p forge.Principal, ref forge.Ref, digest string) (io.ReadCloser, int64, error) {
	var b []byte
	_, err := f.onVersion("OwnedFile", p, forge.RoleMember, ref, func(v *forge.DatasetVersion) error {
		if !v.Owned || !v.PurgedAt.IsZero() {
			return forge.Errorf(forge.KindPrecondition, "dataset.file", "forge has no copy of %s@%d", v.Name, v.Number)
		}
		if !slices.ContainsFunc(v.Manifest.Files, func(file forge.File) bool { return file.SHA256 == digest }) {
			return notFound("dataset file", digest)
		}
		b = f.files[string(p.Tenant)+digest]
		return nil
	})
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), err
}

// ChangeOwned makes all that forge keeps of datasets another content.
func (f *Fake) ChangeOwned(change func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, b := range f.files {
		f.files[name] = change(b)
	}
}

// AddDatasetRows implements api.Datasets.
func (f *Fake) AddDatasetRows(_ context.Context, p forge.Principal, ref forge.Ref, digest string, body io.Reader) (api.DatasetRows, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return api.DatasetRows{}, err
	}
	v, err := f.onVersion("AddDatasetRows", p, forge.RoleMember, ref, func(v *forge.DatasetVersion) error {
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != digest {
			return forge.Invalidf("sha256", "the body has another digest")
		}
		if f.rows == nil {
			f.rows = map[forge.DatasetVersionID][]byte{}
		}
		v.Indexed, f.rows[v.ID] = true, b
		return nil
	})
	return api.DatasetRows{Name: fmt.Sprintf("%s@%d", v.Name, v.Number), Rows: int64(len(b) / api.RowPrint)}, err
}
