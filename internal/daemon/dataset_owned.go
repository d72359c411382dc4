package daemon

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// OwnedFile gives out what forge keeps itself and nothing else: who may read a file that is somebody's own is for that file's permissions to say.
func (s datasets) OwnedFile(ctx context.Context, p forge.Principal, ref forge.Ref, digest string) (io.ReadCloser, int64, error) {
	const op = "dataset.file"
	if err := least(p, op, forge.RoleMember, "reading the data of a dataset"); err != nil {
		return nil, 0, err
	}
	v, err := s.d.db.For(p).DatasetVersion(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case !v.PurgedAt.IsZero():
		return nil, 0, forge.Errorf(forge.KindPrecondition, op, "the bytes of %s are erased since %s", versionName(v), v.PurgedAt.Format(time.RFC3339))
	case !v.Owned:
		return nil, 0, forge.Errorf(forge.KindPrecondition, op, "forge has no copy of %s: its files are referenced where they lie", versionName(v)).
			WithHint("read them on a host that has %s", v.Manifest.Root)
	}
	i := slices.IndexFunc(v.Manifest.Files, func(f forge.File) bool { return f.SHA256 == digest })
	if i < 0 {
		return nil, 0, forge.Errorf(forge.KindNotFound, op, "%s has no file with the digest %.12s", versionName(v), digest)
	}
	f, err := openData(filepath.Join(v.Manifest.Root, filepath.FromSlash(v.Manifest.Files[i].Path)))
	if err != nil { // a purge that is under way has taken it, or somebody else
		return nil, 0, forge.Errorf(forge.KindPrecondition, op, "forged cannot read its copy of %s any more: %w", versionName(v), err).WithHint("forgectl dataset verify %s --on-server", versionName(v))
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, forge.Errorf(forge.KindUnavailable, op, "%w", err)
	}
	return f, st.Size(), nil
}
