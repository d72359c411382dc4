package store_test

import (
	"fmt"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func files(content string) forge.Manifest {
	return forge.Manifest{Root: "/data/" + content, Files: []forge.File{{Path: "a", Size: int64(len(content)), SHA256: fmt.Sprintf("%064x", content)}}}
}

func modelVersion(name, content string) forge.ModelVersion {
	return forge.ModelVersion{Name: name, Kind: forge.ModelTrained, Manifest: files(content)}
}

func datasetVersion(name, content string) forge.DatasetVersion {
	return forge.DatasetVersion{Name: name, Kind: forge.KindMessages, Columns: []string{"messages"}, Rows: 3, Manifest: files(content)}
}

func TestModels(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	var ids []forge.ModelVersionID
	t.Run("versions count from one and start in staging", func(t *testing.T) {
		for i, content := range []string{"one", "two", "three"} {
			v, err := acme.AddModelVersion(ctx, modelVersion("bot", content))
			must(t, err)
			if v.Number != i+1 || v.Stage != forge.StageStaging || v.SHA256 != v.Manifest.Digest() || v.CreatedBy != "ana" {
				t.Fatalf("got %+v", v)
			}
			ids = append(ids, v.ID)
		}
	})
	t.Run("a version is found by number, as the newest, by stage and by id", func(t *testing.T) {
		storetest.Move(t, acme, ids[1], forge.StageProduction)
		for ref, want := range map[string]int{"bot@1": 1, "bot": 3, "bot@production": 2, "bot@staging": 3} {
			r, err := forge.ParseRef(ref)
			must(t, err)
			v, err := acme.ModelVersion(ctx, r)
			must(t, err)
			if v.Number != want || len(v.Manifest.Files) != 1 || v.Name != "bot" || v.Kind != forge.ModelTrained {
				t.Errorf("%s: got %+v, want version %d with its files", ref, v, want)
			}
		}
		v, err := db.ModelVersionByID(ctx, ids[0])
		must(t, err)
		if v.Number != 1 {
			t.Errorf("got version %d, want 1", v.Number)
		}
		for _, ref := range []forge.Ref{{Name: "bot", Number: 4}, {Name: "bot", Label: "archived"}, {Name: "cat"}} {
			_, err := acme.ModelVersion(ctx, ref)
			wantKind(t, err, forge.KindNotFound)
		}
	})
	t.Run("a base model cannot take the name of a trained one", func(t *testing.T) {
		v := modelVersion("bot", "four")
		v.Kind = forge.ModelBase
		_, err := acme.AddModelVersion(ctx, v)
		wantKind(t, err, forge.KindConflict)
	})
	t.Run("bad names and kinds are refused by field", func(t *testing.T) {
		_, err := acme.AddModelVersion(ctx, modelVersion("../etc", "x"))
		wantKind(t, err, forge.KindInvalid)
		_, err = acme.AddModelVersion(ctx, forge.ModelVersion{Name: "cat"})
		wantKind(t, err, forge.KindInvalid)
	})
	t.Run("a listing has all versions and no manifests; the model has both", func(t *testing.T) {
		v := modelVersion("cat", "one")
		v.Kind = forge.ModelBase
		_, err := acme.AddModelVersion(ctx, v)
		must(t, err)
		all, _, err := acme.Models(ctx, store.Listing{})
		must(t, err)
		if len(all) != 2 || all[0].Name != "bot" || len(all[0].Versions) != 3 || len(all[1].Versions) != 1 || len(all[0].Versions[0].Manifest.Files) != 0 {
			t.Fatalf("got %+v", all)
		}
		_, next, err := acme.Models(ctx, store.Listing{Limit: 1})
		must(t, err)
		page, last, err := acme.Models(ctx, store.Listing{Limit: 1, Cursor: next})
		must(t, err)
		if len(page) != 1 || page[0].Name != "cat" || last != "" {
			t.Fatalf("got page %+v, want cat", page)
		}
		m, err := acme.Model(ctx, "bot")
		must(t, err)
		if len(m.Versions) != 3 || m.Versions[0].Number != 1 || len(m.Versions[2].Manifest.Files) != 1 {
			t.Fatalf("got %+v", m)
		}
	})
}

func TestDatasets(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	first, _, err := acme.AddDataset(ctx, datasetVersion("chat", "one"))
	must(t, err)
	t.Run("the same bytes are the version that has them", func(t *testing.T) {
		next := datasetVersion("chat", "two")
		next.Parent = first.ID
		_, _, err := acme.AddDataset(ctx, next)
		must(t, err)
		same, existed, err := acme.AddDataset(ctx, datasetVersion("chat", "one"))
		must(t, err)
		if !existed || same.ID != first.ID || same.Number != 1 {
			t.Fatalf("got %+v, existed %v", same, existed)
		}
		wantInt(t, db, `SELECT count(*) FROM artifacts`, 2) // nothing of the second one is left
	})
	t.Run("the same bytes under another name are another dataset", func(t *testing.T) {
		v, _, err := acme.AddDataset(ctx, datasetVersion("copy", "one"))
		must(t, err)
		if v.Number != 1 || v.PII != forge.PIINotScanned || v.License != "NOASSERTION" {
			t.Fatalf("got %+v", v)
		}
	})
	t.Run("versions are found by number, as the newest and by id, just as they were stored", func(t *testing.T) {
		v, err := acme.DatasetVersion(ctx, forge.Ref{Name: "chat"})
		must(t, err)
		if v.Number != 2 || v.Parent != first.ID {
			t.Fatalf("got %+v", v)
		}
		v, err = acme.DatasetVersion(ctx, forge.Ref{Name: "chat", Number: 1})
		must(t, err)
		byID, err := db.DatasetVersionByID(ctx, first.ID)
		must(t, err)
		if a, b, c := fmt.Sprint(first), fmt.Sprint(v), fmt.Sprint(byID); a != b || b != c {
			t.Fatalf("got\n%s\n%s\n%s", a, b, c)
		}
		_, err = acme.DatasetVersion(ctx, forge.Ref{Name: "chat", Label: "production"})
		wantKind(t, err, forge.KindInvalid)
		d, err := acme.Dataset(ctx, "chat")
		must(t, err)
		if len(d.Versions) != 2 || d.Versions[0].Number != 1 {
			t.Fatalf("got %+v", d)
		}
		all, _, err := acme.Datasets(ctx, store.Listing{})
		must(t, err)
		if len(all) != 2 || len(all[0].Versions) != 2 || len(all[1].Versions) != 1 {
			t.Fatalf("got %+v", all)
		}
	})
	t.Run("a parent that does not exist is refused by field", func(t *testing.T) {
		v := datasetVersion("chat", "three")
		v.Parent = "01ABSENT"
		_, _, err := acme.AddDataset(ctx, v)
		wantKind(t, err, forge.KindInvalid)
	})
}
