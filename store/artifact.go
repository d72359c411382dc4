package store

import (
	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// artifactRow is a manifest: files referenced in place. It lies apart from the version that
// refers to it because it may have a hundred thousand lines and listings need none.
type artifactRow struct {
	bun.BaseModel `bun:"table:artifacts,alias:f"`

	ID        string         `bun:"id,pk"`
	Tenant    forge.TenantID `bun:"tenant"`
	SHA256    string         `bun:"sha256"`
	Root      string         `bun:"root"`
	Bytes     int64          `bun:"bytes"`
	Files     string         `bun:"files"`
	CreatedAt stamp          `bun:"created_at"`
}

// artifact stores a manifest and answers its id, digest and size.
func (t *tx) artifact(tenant forge.TenantID, m forge.Manifest) (*artifactRow, error) {
	files, err := encode(len(m.Files), m.Files)
	if err != nil {
		return nil, err
	}
	row := &artifactRow{ID: t.id(), Tenant: tenant, SHA256: m.Digest(), Root: clean(m.Root), Bytes: m.Bytes(), Files: files, CreatedAt: stampOf(t.now)}
	_, err = t.NewInsert().Model(row).Exec(t.ctx)
	return row, err
}

func manifest(root, files string) (forge.Manifest, error) {
	m := forge.Manifest{Root: root}
	return m, decode(files, &m.Files)
}
