package storetest

import (
	"context"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// Move brings a version of the tenant to a stage, by promotions that nobody's gate was asked for, or to the archive.
func Move(t testing.TB, tenant *store.Tenant, id forge.ModelVersionID, to forge.Stage) {
	t.Helper()
	ctx := context.Background()
	for {
		v, err := tenant.ModelVersionByID(ctx, id)
		if err != nil {
			t.Fatalf("move %s: %v", id, err)
		}
		if v.Stage == to {
			return
		}
		m := store.StageMove{Version: id, From: v.Stage, To: forge.NextStage(v.Stage), Forced: true, Reason: "test"}
		if to == forge.StageArchived {
			m.To, m.Forced = to, false
			_, err = tenant.ArchiveVersion(ctx, m)
		} else {
			if p, err := tenant.ModelVersion(ctx, forge.Ref{Name: v.Name, Label: string(forge.StageProduction)}); err == nil {
				m.Production = p.ID
			}
			_, err = tenant.PromoteVersion(ctx, m)
		}
		if err != nil {
			t.Fatalf("move %s@%d to %s: %v", v.Name, v.Number, to, err)
		}
	}
}
