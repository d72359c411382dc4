package invariant_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/invariant"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// What the tables refuse is done to them with their triggers gone, as somebody would who has the file.
func TestHistoriesAreReadFromTheTablesThemselves(t *testing.T) {
	dir := t.TempDir()
	db := storetest.OpenAt(t, filepath.Join(dir, "forge.db"), store.Options{})
	acme := storetest.Tenant(t, db, "acme")
	for _, sha := range []string{"one", "two"} {
		v, err := acme.AddModelVersion(context.Background(), forge.ModelVersion{Name: "bot", Kind: forge.ModelBase, SHA256: sha, License: "MIT",
			Manifest: forge.Manifest{Root: "/models/" + sha, Files: []forge.File{{Path: "model.safetensors", Size: 1, SHA256: sha}}}})
		if err != nil {
			t.Fatal(err)
		}
		storetest.Move(t, acme, v.ID, forge.StageProduction)
	}
	found := func() (all []string) {
		t.Helper()
		f, err := invariant.Gather(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Lines) == 0 {
			t.Fatal("it has read no history")
		}
		for _, v := range invariant.Judge(f) {
			all = append(all, v.String())
		}
		return all
	}
	if all := found(); len(all) > 0 {
		t.Fatal(all)
	}
	file, err := sql.Open("sqlite3", filepath.Join(dir, "forge.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	raw := func(statement string) {
		t.Helper()
		if _, err := file.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	raw(`DROP TRIGGER model_versions_move; DROP TRIGGER stage_changes_immutable; DROP TRIGGER stage_changes_stay; DROP INDEX model_versions_one_production`)
	for _, c := range []struct{ name, breaks, mends, says string }{
		{"two versions in production", `UPDATE model_versions SET stage = 'production' WHERE stage = 'archived'`, `UPDATE model_versions SET stage = 'archived' WHERE sha256 = 'one'`, "has 2 versions in production"},
		{"a stage that changed alone", `UPDATE model_versions SET stage = 'candidate' WHERE sha256 = 'two'`, `UPDATE model_versions SET stage = 'production' WHERE sha256 = 'two'`,
			`is in "candidate", and the newest line about it says "production"`},
		{"a line that follows another", `UPDATE stage_changes SET before = 'x' || before WHERE seq = 4`, `UPDATE stage_changes SET before = substr(before, 2) WHERE seq = 4`, "does not hold the digest of the line before it"},
		{"a line that was altered", `UPDATE stage_changes SET actor = 'x' || actor WHERE seq = 5`, `UPDATE stage_changes SET actor = substr(actor, 2) WHERE seq = 5`, "does not say what was hashed"},
		{"a line that is gone", `DELETE FROM stage_changes WHERE seq = 3`, "", "line 4 of the history of model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw(c.breaks)
			if all := strings.Join(found(), "\n"); !strings.Contains(all, c.says) || !strings.Contains(all, "invariant 7") {
				t.Errorf("it says %q", all)
			}
			if c.mends == "" {
				return
			}
			raw(c.mends)
			if all := found(); len(all) > 0 {
				t.Fatalf("mended it says %q", all)
			}
		})
	}
}
