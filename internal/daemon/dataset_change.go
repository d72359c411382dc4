package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

const maxWaiver = 1000

func versionName(v forge.DatasetVersion) string { return fmt.Sprintf("%s@%d", v.Name, v.Number) }

// mayChange finds a version that the principal may change: members what they registered, admins all.
func (s datasets) mayChange(ctx context.Context, p forge.Principal, op string, ref forge.Ref) (forge.DatasetVersion, error) {
	if err := least(p, op, forge.RoleMember, "changing a dataset"); err != nil {
		return forge.DatasetVersion{}, err
	}
	v, err := s.d.db.For(p).DatasetVersion(ctx, ref)
	if err == nil && v.CreatedBy != p.Actor() && !p.Role.Includes(forge.RoleAdmin) {
		return forge.DatasetVersion{}, forge.Errorf(forge.KindForbidden, op, "%s was registered by %s; members change what they registered only", versionName(v), v.CreatedBy).
			WithHint("ask %s, or an admin of the tenant", v.CreatedBy)
	}
	return v, err
}

func (s datasets) EditDataset(ctx context.Context, p forge.Principal, ref forge.Ref, r api.EditDatasetRequest) (forge.DatasetVersion, error) {
	var none forge.DatasetVersion
	v, err := s.mayChange(ctx, p, "dataset.edit", ref)
	if err != nil {
		return none, err
	}
	if r.License == nil && r.Description == nil {
		return none, forge.Invalidf("license", "nothing is to be changed: give a licence, a description or both")
	}
	if r.License != nil {
		text, _, err := s.d.licenceOf(ctx, *r.License, v.Parents)
		if err != nil {
			return none, err
		}
		r.License = &text
	}
	if r.Description != nil {
		if err := checkText("description", *r.Description, maxDescription); err != nil {
			return none, err
		}
	}
	return s.d.db.For(p).EditDataset(ctx, v.ID, r.License, r.Description)
}

func (s datasets) DeleteDataset(ctx context.Context, p forge.Principal, ref forge.Ref, r api.DeleteDatasetRequest) (forge.DatasetVersion, error) {
	const op = "dataset.delete"
	var none forge.DatasetVersion
	if err := least(p, op, forge.RoleAdmin, "deleting a dataset"); err != nil {
		return none, err
	}
	t := s.d.db.For(p)
	v, err := t.DatasetVersion(ctx, ref)
	if err != nil {
		return none, err
	}
	if v, err = t.DeleteDataset(ctx, v.ID, r.Purge); err != nil || !r.Purge {
		return v, err
	}
	// It is decided and stored; whatever goes wrong from here on, datasetsLoop does it again.
	if err := s.purge(ctx); err != nil {
		s.d.log.Warn().Err(err).Str("dataset", v.Name).Int("version", v.Number).Msg("copy not erased yet")
	}
	return t.DatasetVersionByID(ctx, v.ID)
}

func (s datasets) WaiveDataset(ctx context.Context, p forge.Principal, ref forge.Ref, why string) (forge.DatasetVersion, error) {
	var none forge.DatasetVersion
	if err := least(p, "dataset.waive", forge.RoleAdmin, "waiving findings of personal data"); err != nil {
		return none, err
	}
	if why = strings.TrimSpace(why); why == "" {
		return none, forge.Invalidf("reason", "say why; it stands in the version for ever")
	}
	if err := checkText("reason", why, maxWaiver); err != nil {
		return none, err
	}
	t := s.d.db.For(p)
	v, err := t.DatasetVersion(ctx, ref)
	if err != nil {
		return none, err
	}
	return t.WaiveDataset(ctx, v.ID, why)
}

// VerifyDataset hashes every file, also those that look as they did: a change that keeps size and times is what it is for.
func (s datasets) VerifyDataset(ctx context.Context, p forge.Principal, ref forge.Ref) (api.DatasetVerified, error) {
	const op = "dataset.verify"
	var none api.DatasetVerified
	if err := least(p, op, forge.RoleMember, "verifying a dataset"); err != nil {
		return none, err
	}
	v, err := s.d.db.For(p).DatasetVersion(ctx, ref)
	if err != nil {
		return none, err
	}
	if !v.PurgedAt.IsZero() {
		return none, forge.Errorf(forge.KindPrecondition, op, "the bytes of %s are erased since %s", versionName(v), v.PurgedAt.Format(time.RFC3339))
	}
	if !v.Owned {
		if err := errors.Join(s.d.mayRead(v.Manifest.Root), s.d.mayReadAll(v.Manifest)); err != nil {
			return none, err
		}
	}
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	began := time.Now()
	out := api.DatasetVerified{Name: versionName(v), SHA256: v.SHA256, Differs: []api.FileDiffers{}}
	total := v.Manifest.Bytes()
	for _, f := range v.Manifest.Files {
		path := filepath.Join(v.Manifest.Root, filepath.FromSlash(f.Path))
		sum, n, err := hashFile(ctx, path, func(n int64) { read(min(out.Bytes+n, total), total) })
		out.Bytes += n
		switch {
		case ctx.Err() != nil:
			return none, ctx.Err()
		case errors.Is(err, fs.ErrPermission):
			return none, forge.Errorf(forge.KindPrecondition, op, "forged may not read %s", path).
				WithHint("where data belongs to people it is verified as one of them: forgectl dataset verify %s, on a host that has the files", versionName(v))
		case errors.Is(err, fs.ErrNotExist):
			out.Differs = append(out.Differs, api.FileDiffers{File: path, Why: "it is gone"})
			continue
		case err != nil:
			out.Differs = append(out.Differs, api.FileDiffers{File: path, Why: "it cannot be read: " + strings.TrimPrefix(err.Error(), "read "+path+": ")})
			continue
		case n != f.Size:
			out.Differs = append(out.Differs, api.FileDiffers{File: path, Why: fmt.Sprintf("it has %d bytes, it had %d", n, f.Size), Found: sum})
		case sum != f.SHA256:
			out.Differs = append(out.Differs, api.FileDiffers{File: path, Why: "its content is different", Found: sum})
		}
		out.Files++
	}
	out.Intact, out.Elapsed = len(out.Differs) == 0, forge.Duration(time.Since(began).Round(time.Millisecond))
	return out, nil
}

// hashFile reads a regular file to its end. A pipe in its place does not hold it up.
func hashFile(ctx context.Context, path string, progress func(int64)) (sum string, n int64, _ error) {
	f, err := openData(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		k, err := f.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
		progress(n)
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), n, nil
		case err != nil:
			return "", n, err
		case ctx.Err() != nil:
			return "", n, ctx.Err()
		}
	}
}

// AddDatasetRows takes an index in pieces: no more than one is in memory, and the store's writer is never held for longer than one takes.
func (s datasets) AddDatasetRows(ctx context.Context, p forge.Principal, ref forge.Ref, digest string, body io.Reader) (api.DatasetRows, error) {
	v, err := s.mayChange(ctx, p, "dataset.rows", ref)
	if err != nil {
		return api.DatasetRows{}, err
	}
	sum := sha256.New()
	v, err = s.indexChecked(ctx, p, v, io.TeeReader(body, sum), func() error {
		if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
			return forge.Invalidf("sha256", "the fingerprints have the digest %s", got)
		}
		return nil
	})
	return api.DatasetRows{Name: versionName(v), Rows: v.Rows}, err
}

func (s datasets) index(ctx context.Context, p forge.Principal, v forge.DatasetVersion, prints io.Reader) (forge.DatasetVersion, error) {
	p.Once = forge.Once{} // it belongs to the registration
	return s.indexChecked(ctx, p, v, prints, func() error { return nil })
}

func (s datasets) indexChecked(ctx context.Context, p forge.Principal, v forge.DatasetVersion, prints io.Reader, whole func() error) (forge.DatasetVersion, error) {
	const op = "dataset.rows"
	if _, busy := s.d.indexing.LoadOrStore(v.ID, true); busy {
		return v, forge.Errorf(forge.KindPrecondition, op, "the rows of %s are being indexed right now", versionName(v))
	}
	defer s.d.indexing.Delete(v.ID)
	t := s.d.db.For(p)
	if err := t.BeginDatasetRows(ctx, v.ID); err != nil {
		return v, err
	}
	var last [store.RowPrint]byte
	rows := int64(0)
	for part := 0; ; part++ {
		buf := make([]byte, store.RowsPart)
		n, err := io.ReadFull(prints, buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return v, forge.Invalidf("", "the fingerprints did not arrive whole and in time")
		}
		if n%store.RowPrint != 0 {
			return v, forge.Invalidf("", "fingerprints have %d bytes each; there are %d more", store.RowPrint, n%store.RowPrint)
		}
		for i := 0; i < n; i += store.RowPrint {
			if string(buf[i:i+store.RowPrint]) < string(last[:]) {
				return v, forge.Invalidf("", "the fingerprints do not ascend at row %d", rows+int64(i/store.RowPrint)+1)
			}
			copy(last[:], buf[i:])
		}
		if rows += int64(n / store.RowPrint); rows > v.Rows {
			break
		}
		if err := t.AddDatasetRows(ctx, v.ID, part, buf[:n]); err != nil {
			return v, err
		}
	}
	if rows != v.Rows {
		return v, forge.Invalidf("", "%s has %d rows, and these are not as many fingerprints", versionName(v), v.Rows)
	}
	if err := whole(); err != nil {
		return v, err
	}
	return t.EndDatasetRows(ctx, v.ID)
}

func (s datasets) DatasetLineage(ctx context.Context, p forge.Principal, ref forge.Ref, q api.LineageQuery) (forge.LineageGraph, error) {
	t := s.d.db.For(p)
	v, err := t.DatasetVersion(ctx, ref)
	if err != nil {
		return forge.LineageGraph{}, err
	}
	if q.Limit <= 0 {
		q.Limit = api.DefaultLineage
	}
	return t.DatasetLineage(ctx, v.ID, q.Down, min(q.Limit, api.MaxLineage))
}

func (s datasets) DatasetImpact(ctx context.Context, p forge.Principal, digest string) (forge.Impact, error) {
	var sum [sha256.Size]byte
	if n, err := hex.Decode(sum[:], []byte(digest)); err != nil || n != len(sum) {
		return forge.Impact{}, forge.Invalidf("digest", "%.80q: want 64 hexadecimal digits", digest)
	}
	return s.d.db.For(p).DatasetImpact(ctx, sum, api.MaxLineage)
}

// openData opens a file that may have become anything since it was registered.
func openData(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return nil, errors.Join(err, errors.New("it is no regular file"))
	}
	return f, nil
}
