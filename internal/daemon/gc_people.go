package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
)

// copiesOfPeople names what lies in the artefact roots of accounts and is of no version. It goes as its owner says: forged removes nothing of theirs.
func (g *gcPass) copiesOfPeople(ctx context.Context, c *Cluster) error {
	k, ok := c.Files.(Keeper)
	if !ok {
		return nil
	}
	all, err := k.Kept(ctx)
	if err != nil {
		g.fail(thing{GCItem: api.GCItem{Kind: api.GCCopy, Path: c.ArtifactRoot, Yours: true}}, err)
		return ctx.Err()
	}
	silent := 0
	for _, account := range all {
		switch {
		case account.Err == nil:
		case g.q.Site:
			g.fail(thing{GCItem: api.GCItem{Kind: api.GCCopy, Path: account.Root, Yours: true}}, account.Err)
		default:
			silent++ // whose accounts these are is not a tenant's to know
		}
		for _, kept := range account.Copies {
			if g.tenant != "" && kept.Tenant != string(g.tenant) {
				continue
			}
			t, err := g.copyOfPerson(ctx, account.Root, kept)
			if err != nil {
				return err
			}
			g.note([]thing{t})
		}
	}
	if silent > 0 {
		g.fail(thing{GCItem: api.GCItem{Kind: api.GCCopy, Path: c.ArtifactRoot, Yours: true}},
			forge.Errorf(forge.KindUnavailable, opGC, "the copies of %d of %d accounts could not be listed", silent, len(all)))
	}
	return nil
}

// copyOfPerson judges by the tables, and by the age that the helper told.
func (g *gcPass) copyOfPerson(ctx context.Context, root string, kept artefact.Kept) (thing, error) {
	t := thing{GCItem: api.GCItem{Kind: api.GCCopy, Path: filepath.Join(root, kept.Tenant, kept.Name), Bytes: kept.Bytes, Yours: true, Why: "no version has it"}, goes: true}
	if strings.HasPrefix(kept.Name, artefact.HalfPrefix) {
		t.Kind, t.Why = api.GCIncoming, "a copy that was cut off"
	}
	known, err := g.d.db.RootInUse(ctx, t.Path)
	switch {
	case err != nil:
		return t, fmt.Errorf("is %s of a version: %w", t.Path, err)
	case known:
		t.goes, t.Why = false, "a registered version lies there"
	case g.now.Sub(kept.ChangedAt) < orphanLife:
		t.goes, t.Why = false, "it is younger than a day: it may be registered just now"
	}
	return t, nil
}
