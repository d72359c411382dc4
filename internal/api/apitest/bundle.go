package apitest

import (
	"bytes"
	"context"
	"io"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Bundle implements api.Bundles.
func (f *Fake) Bundle(_ context.Context, p forge.Principal, run string) (api.Bundle, error) {
	leave, err := f.enter("Bundle")
	if err != nil {
		return api.Bundle{}, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return api.Bundle{}, err
	}
	b := api.Bundle{Format: api.BundleFormat, Run: r.Number, State: r.State, Steps: r.Step, Spec: r.Spec, Snapshot: r.Spec.Source != nil}
	if r.State == forge.RunCompleted {
		b.Card, b.Code = "# a card\n", map[string]string{"torch": "2.15.0"}
	}
	return b, nil
}

// Source implements api.Bundles.
func (f *Fake) Source(_ context.Context, p forge.Principal, run string) (io.ReadCloser, int64, error) {
	leave, err := f.enter("Source")
	if err != nil {
		return nil, 0, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return nil, 0, err
	}
	if r.Spec.Source == nil {
		return nil, 0, forge.Errorf(forge.KindPrecondition, "run.source", "run %d came without a working directory", r.Number)
	}
	b := f.archives[r.Spec.Source.SHA256]
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}
