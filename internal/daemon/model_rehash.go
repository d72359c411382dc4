package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// rehash reads a version's bytes where they lie and holds them against its manifest. An error says that nobody could look: that is no finding.
func (d *Daemon) rehash(ctx context.Context, p forge.Principal, v forge.ModelVersion) (*gate.Finding, error) {
	r, err := d.readAgain(ctx, p, v)
	if err != nil {
		return nil, err
	}
	facts := map[string]string{"sha256": r.SHA256, "seconds": strconv.FormatFloat(r.Elapsed.D().Seconds(), 'f', 3, 64), "read_at": r.At.Format(time.RFC3339)}
	var bytes int64
	for i, w := range r.Weights {
		bytes += w.Bytes
		if i > 0 {
			facts["base"], facts["base_sha256"] = w.Name, w.SHA256
		}
	}
	facts["bytes"] = strconv.FormatInt(bytes, 10)
	return &gate.Finding{OK: r.Intact, Words: r.Words, Facts: facts}, nil
}

// VerifyModel implements api.Models.
func (s models) VerifyModel(ctx context.Context, p forge.Principal, ref forge.Ref) (api.ModelVerified, error) {
	if err := least(p, "model.verify", forge.RoleMember, "verifying a model"); err != nil {
		return api.ModelVerified{}, err
	}
	v, err := s.d.db.For(p).ModelVersion(ctx, ref)
	if err != nil {
		return api.ModelVerified{}, err
	}
	return s.d.readAgain(ctx, p, v)
}

// readAgain reads a version, and of an adapter the base under it: what is served is the two together.
func (d *Daemon) readAgain(ctx context.Context, p forge.Principal, v forge.ModelVersion) (api.ModelVerified, error) {
	began := time.Now()
	out := api.ModelVerified{Name: v.Input().Name, SHA256: v.SHA256, Intact: true, Words: v.Input().Name + " is as it was registered"}
	all := []forge.ModelVersion{v}
	if v.IsAdapter() {
		switch b, err := d.baseUnder(ctx, "name", &v); {
		case err == nil:
			all = append(all, *b)
		case forge.KindOf(err) != forge.KindInvalid:
			return out, err
		default: // that it is not registered any more is what was found
			out.Intact, out.Words = false, plainly(err)
		}
	}
	var total, before int64
	for _, w := range all {
		total += w.Manifest.Bytes()
	}
	read, end := d.reading.begin(p, began)
	defer end()
	for _, w := range all {
		seen, err := d.lookAgain(ctx, w, func(n int64) { read(min(before+n, total), total) })
		if err != nil {
			return out, err
		}
		before += w.Manifest.Bytes()
		r := api.WeightsVerified{Name: w.Input().Name, Path: w.Manifest.Root, SHA256: w.SHA256, Files: seen.Files, Bytes: seen.Bytes, Differs: []api.FileDiffers{}}
		for _, x := range seen.Differs {
			r.Differs = append(r.Differs, api.FileDiffers{File: x.File, Why: x.Why, Found: x.Found})
		}
		if len(seen.Differs) > 0 && out.Intact {
			out.Intact, out.Words = false, fmt.Sprintf("%s is not as it was registered: %s: %s", r.Name, seen.Differs[0].File, seen.Differs[0].Why)
			if n := len(seen.Differs) - 1; n > 0 {
				out.Words += fmt.Sprintf(", and %d more", n)
			}
		}
		out.Weights = append(out.Weights, r)
	}
	out.At, out.Elapsed = time.Now().UTC(), forge.Duration(time.Since(began).Round(time.Millisecond))
	return out, nil
}

// lookAgain reads every byte of a version: forged itself, or whom it belongs to.
func (d *Daemon) lookAgain(ctx context.Context, v forge.ModelVersion, progress func(n int64)) (artefact.Seen, error) {
	if v.Lineage != nil && !v.Lineage.Unverified {
		if k := d.keeperOf(v.Manifest.Root); k != nil {
			return k.Reread(ctx, v.Manifest)
		}
	}
	if err := d.mayReadAgain(v); err != nil {
		return artefact.Seen{}, err
	}
	return artefact.Checker{}.Check(ctx, v.Manifest, progress)
}

// mayReadAgain holds paths that a person gave to what the site takes data from today: links in them may lead elsewhere by now. What a run left is
// forge's own.
func (d *Daemon) mayReadAgain(v forge.ModelVersion) error {
	if v.Lineage != nil && !v.Lineage.Unverified {
		return nil
	}
	return errors.Join(d.mayRead(v.Manifest.Root), d.mayReadAll(v.Manifest))
}

// plainly is an error without the field that it is about.
func plainly(err error) string {
	var e *forge.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}
