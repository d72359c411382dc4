package apitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// AddSnapshot implements api.Snapshots. It looks at the digest, and not into the archive.
func (f *Fake) AddSnapshot(_ context.Context, p forge.Principal, digest string, body io.Reader) (api.Snapshot, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return api.Snapshot{}, err
	}
	leave, err := f.enter("AddSnapshot")
	if err != nil {
		return api.Snapshot{}, err
	}
	defer leave()
	if err := least(p, "snapshot.add", forge.RoleMember); err != nil {
		return api.Snapshot{}, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != digest {
		return api.Snapshot{}, forge.Invalidf("sha256", "the body has another digest")
	}
	if f.snapshots == nil {
		f.snapshots, f.archives = map[string]api.Snapshot{}, map[string][]byte{}
	}
	f.archives[digest] = b
	f.snapshots[string(p.Tenant)+digest] = api.Snapshot{SHA256: digest, Bytes: int64(len(b)), Files: 1}
	f.remember(p, digest)
	return f.snapshots[string(p.Tenant)+digest], nil
}

// Snapshot implements api.Snapshots.
func (f *Fake) Snapshot(_ context.Context, p forge.Principal, digest string) (api.Snapshot, error) {
	leave, err := f.enter("Snapshot")
	if err != nil {
		return api.Snapshot{}, err
	}
	defer leave()
	s, ok := f.snapshots[string(p.Tenant)+digest]
	if !ok {
		return s, notFound("snapshot", digest)
	}
	return s, nil
}
