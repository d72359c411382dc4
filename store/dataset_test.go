package store_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func addVersion(t *testing.T, tenant *store.Tenant, v forge.DatasetVersion, parents ...forge.DatasetVersion) forge.DatasetVersion {
	t.Helper()
	for _, p := range parents {
		v.Parents = append(v.Parents, forge.DatasetParent{ID: p.ID})
	}
	v, existed, err := tenant.AddDataset(ctx, v)
	must(t, err)
	if existed {
		t.Fatalf("%s@%d was there already", v.Name, v.Number)
	}
	return v
}

func on(v forge.DatasetVersion) func(*forge.RunSpec) {
	return func(s *forge.RunSpec) {
		s.Dataset = &forge.InputRef{Name: fmt.Sprintf("%s@%d", v.Name, v.Number), ID: string(v.ID), SHA256: v.SHA256}
	}
}

func found(v forge.DatasetVersion, rows int64) forge.DatasetVersion {
	v.Scan = &forge.ScanReport{Scanner: "1", PII: &forge.PIIReport{Rows: 10, RowsFound: rows}}
	v.PII = v.Scan.PII.Status()
	return v
}

func TestVersionsHaveManyParentsAndNoCycles(t *testing.T) {
	db := storetest.Open(t)
	acme, rival := storetest.Tenant(t, db, "acme"), storetest.Tenant(t, db, "rival")
	a, b := addVersion(t, acme, datasetVersion("a", "one")), addVersion(t, acme, datasetVersion("b", "one"))
	theirs := addVersion(t, rival, datasetVersion("a", "theirs"))
	c := addVersion(t, acme, datasetVersion("c", "one"), b, a)
	got, err := acme.DatasetVersion(ctx, forge.Ref{Name: "c"})
	must(t, err)
	if len(got.Parents) != 2 || got.Parents[0] != (forge.DatasetParent{ID: a.ID, Name: "a", Version: 1}) || got.Parents[1].Name != "b" {
		t.Errorf("parents are %+v", got.Parents)
	}
	for name, parents := range map[string][]forge.DatasetParent{"one of another tenant": {{ID: theirs.ID}}, "one twice": {{ID: a.ID}, {ID: a.ID}}, "none that there is": {{ID: "01X"}}} {
		v := datasetVersion("c", name)
		v.Parents = parents
		if _, _, err := acme.AddDataset(ctx, v); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]string{
		"a version above its own parent": `INSERT INTO dataset_parents SELECT parent, child, tenant FROM dataset_parents LIMIT 1`,
		"a version above itself":         `INSERT INTO dataset_parents SELECT child, child, tenant FROM dataset_parents LIMIT 1`,
		"a parent of another tenant":     fmt.Sprintf(`INSERT INTO dataset_parents SELECT c.seq, p.seq, c.tenant FROM dataset_versions c, dataset_versions p WHERE c.id = '%s' AND p.id = '%s'`, c.ID, theirs.ID),
		"lineage that changes":           `UPDATE dataset_parents SET parent = 1`,
		"lineage that goes away":         `DELETE FROM dataset_parents`,
		"a version that goes away":       `DELETE FROM dataset_versions`,
	} {
		if err := db.Raw(ctx, s); err == nil {
			t.Errorf("the schema takes %s", name)
		}
	}
}

func TestTheStatusOfPersonalDataMovesOnlyAsItMay(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	v := addVersion(t, acme, datasetVersion("chat", "one"))
	_, err := acme.WaiveDataset(ctx, v.ID, "made up")
	wantKind(t, err, forge.KindPrecondition) // nothing was found yet
	must(t, acme.SetDatasetPII(ctx, v.ID, forge.PIIScanning))
	wantKind(t, acme.SetDatasetPII(ctx, v.ID, forge.PIIRedacted), forge.KindPrecondition)
	got, err := acme.ScanDataset(ctx, v.ID, *found(v, 3).Scan)
	must(t, err)
	if got.PII != forge.PIIFindings {
		t.Fatalf("it is %s", got.PII)
	}
	wantKind(t, acme.SetDatasetPII(ctx, v.ID, forge.PIIClean), forge.KindPrecondition)
	got, err = acme.WaiveDataset(ctx, v.ID, "made up")
	must(t, err)
	if got.PII != forge.PIIWaived || got.Waiver == nil || got.Waiver.By != "ana" || got.Waiver.Reason != "made up" || got.Waiver.At.IsZero() {
		t.Fatalf("got %+v", got.Waiver)
	}
	for _, s := range []string{`UPDATE dataset_versions SET pii = 'findings', waived_at = 0, waived_by = '', waived_reason = ''`, `UPDATE dataset_versions SET waived_reason = 'x'`, `UPDATE dataset_versions SET pii = 'clean'`} {
		if db.Raw(ctx, s) == nil {
			t.Errorf("a waiver does not stand for ever: %s", s)
		}
	}
	t.Run("data that is added again with a look for personal data gets what that found", func(t *testing.T) {
		old := addVersion(t, acme, datasetVersion("late", "one"))
		again, existed, err := acme.AddDataset(ctx, found(datasetVersion("late", "one"), 2))
		must(t, err)
		if !existed || again.ID != old.ID || again.PII != forge.PIIFindings {
			t.Errorf("got %+v", again)
		}
	})
	t.Run("the report is in the version and not in listings", func(t *testing.T) {
		one, err := acme.DatasetVersion(ctx, forge.Ref{Name: "chat", Number: 1})
		must(t, err)
		all, err := acme.Dataset(ctx, "chat")
		must(t, err)
		if one.Scan == nil || one.Scan.PII.RowsFound != 3 || all.Versions[0].Scan != nil {
			t.Errorf("%+v, and in the listing %+v", one.Scan, all.Versions[0].Scan)
		}
	})
}

func TestAVersionInUseIsNotDeleted(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	v := addVersion(t, acme, datasetVersion("chat", "one"))
	run := storetest.Submit(t, acme, storetest.Spec(on(v)))
	_, err := acme.DeleteDataset(ctx, v.ID, false)
	wantKind(t, err, forge.KindPrecondition)
	if !strings.Contains(err.Error(), fmt.Sprintf("run %d", run.Number)) {
		t.Errorf("%v does not name the run", err)
	}
	_, err = acme.RequestCancel(ctx, string(run.ID), forge.CancelTerm)
	must(t, err)

	first := modelVersion("bot", "one")
	first.Lineage = &forge.Lineage{Run: run.ID, Dataset: "chat@1"}
	m, err := acme.AddModelVersion(ctx, first)
	must(t, err)
	onward := storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.Start = &forge.InputRef{Name: "bot@1", ID: string(m.ID)} }))
	second := modelVersion("bot", "two")
	second.Lineage = &forge.Lineage{Run: onward.ID, Start: "bot@1"}
	m2, err := acme.AddModelVersion(ctx, second)
	must(t, err)
	storetest.Move(t, acme, m2.ID, forge.StageProduction)
	_, err = acme.DeleteDataset(ctx, v.ID, false)
	wantKind(t, err, forge.KindPrecondition)
	if !strings.Contains(err.Error(), "model bot@2 in production") {
		t.Errorf("%v does not name the model that was trained on from one that was trained on it", err)
	}
	storetest.Move(t, acme, m2.ID, forge.StageArchived)
	_, err = acme.DeleteDataset(ctx, v.ID, true)
	wantKind(t, err, forge.KindPrecondition) // the bytes are not forge's
	gone, err := acme.DeleteDataset(ctx, v.ID, false)
	must(t, err)
	if gone.DeletedAt.IsZero() {
		t.Fatal("it is not deleted")
	}
	_, err = acme.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(on(v))})
	wantKind(t, err, forge.KindInvalid)
	if again := addVersion(t, acme, datasetVersion("chat", "one")); again.Number != 2 {
		t.Errorf("the same data comes back as version %d", again.Number)
	}
}

func TestAPurgeIsDecidedBeforeAnythingGoes(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	own := datasetVersion("chat", "one")
	own.Owned = true
	v := addVersion(t, acme, own)
	gone, err := acme.DeleteDataset(ctx, v.ID, true)
	must(t, err)
	todo, err := db.DatasetsToPurge(ctx)
	must(t, err)
	if !gone.PurgedAt.IsZero() || len(todo) != 1 || todo[0].ID != v.ID || todo[0].Dir != filepath.Dir(v.Manifest.Root) {
		t.Fatalf("%v, to do: %+v", gone.PurgedAt, todo)
	}
	must(t, db.DatasetPurged(ctx, v.ID))
	must(t, db.DatasetPurged(ctx, v.ID))
	gone, err = acme.DatasetVersionByID(ctx, v.ID)
	must(t, err)
	if gone.PurgedAt.IsZero() || gone.SHA256 != v.SHA256 || len(gone.Manifest.Files) == 0 {
		t.Errorf("what stays is %+v", gone)
	}
	wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'dataset.purged'`, 1)
	if db.Raw(ctx, `UPDATE dataset_versions SET deleted_at = 0, purging_at = 0, purged_at = 0`) == nil {
		t.Error("a tombstone is taken away again")
	}
}

func TestEditsAreEventsThatSayWhatItWas(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	v := addVersion(t, acme, datasetVersion("chat", "one"))
	got, err := acme.EditDataset(ctx, v.ID, new("MIT"), new("of the desk"))
	must(t, err)
	_, err = acme.EditDataset(ctx, v.ID, new("MIT"), nil) // nothing changes
	must(t, err)
	if got.License != "MIT" || got.Description != "of the desk" {
		t.Errorf("got %+v", got)
	}
	wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'dataset.edited' AND json_extract(data, '$.license_was') = 'NOASSERTION'`, 1)
}

// prints are the fingerprints of n rows, each as often as times says; key makes the digest of row i.
func prints(n int, times func(int) int) []byte {
	var all [][]byte
	for i := range n {
		for range times(i) {
			d := rowDigest(i)
			all = append(all, d[:store.RowPrint])
		}
	}
	slices.SortFunc(all, func(a, b []byte) int { return strings.Compare(string(a), string(b)) })
	return slices.Concat(all...)
}

func rowDigest(i int) [32]byte { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }

func indexRows(t *testing.T, tenant *store.Tenant, v forge.DatasetVersion, all []byte) {
	t.Helper()
	must(t, tenant.BeginDatasetRows(ctx, v.ID))
	for part, some := range slices.Collect(slices.Chunk(all, store.RowsPart)) {
		must(t, tenant.AddDatasetRows(ctx, v.ID, part, some))
	}
	_, err := tenant.EndDatasetRows(ctx, v.ID)
	must(t, err)
}

func TestARowIsFoundWhereverItWent(t *testing.T) {
	db := storetest.Open(t)
	acme, rival := storetest.Tenant(t, db, "acme"), storetest.Tenant(t, db, "rival")
	const often = 3 * store.RowsPart / store.RowPrint // more than two parts hold nothing but one row
	a := addVersion(t, acme, datasetVersion("a", "one"))
	b := addVersion(t, acme, datasetVersion("b", "one"), a) // without row 7
	c := addVersion(t, acme, datasetVersion("c", "one"), a) // nobody knows
	theirs := addVersion(t, rival, datasetVersion("a", "one"))
	indexRows(t, acme, a, prints(20_000, func(i int) int {
		if i == 5 {
			return often
		}
		return 1
	}))
	indexRows(t, acme, b, prints(100, func(i int) int {
		if i == 7 {
			return 0
		}
		return 1
	}))
	indexRows(t, rival, theirs, prints(10, func(int) int { return 1 }))
	wantKind(t, acme.BeginDatasetRows(ctx, a.ID), forge.KindPrecondition)
	wantKind(t, rival.AddDatasetRows(ctx, c.ID, 0, prints(1, func(int) int { return 1 })), forge.KindNotFound)

	run := storetest.Submit(t, acme, storetest.Spec(on(a)))
	m := modelVersion("bot", "one")
	m.Lineage = &forge.Lineage{Run: run.ID, Dataset: "a@1"}
	bot, err := acme.AddModelVersion(ctx, m)
	must(t, err)
	next := storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.RewardModel = &forge.InputRef{Name: "bot@1", ID: string(bot.ID)} }))
	m = modelVersion("policy", "two")
	m.Lineage = &forge.Lineage{Run: next.ID, RewardModel: "bot@1"}
	_, err = acme.AddModelVersion(ctx, m)
	must(t, err)
	must(t, db.Raw(ctx, fmt.Sprintf(`INSERT INTO eval_results (id, run, tenant, model, model_id, suite, suite_sha256, limited, facts, created_at) SELECT r.id, r.id, r.tenant, 'bot@1', '%s', 'default', 'x', 0, '{}', 1 FROM runs r WHERE r.id = '%s'`, bot.ID, next.ID)))

	for row, want := range map[int][]forge.RowInside{5: {{Name: "a@1", Times: often}, {Name: "b@1", Times: 1}}, 7: {{Name: "a@1", Times: 1}}, 19_999: {{Name: "a@1", Times: 1}}, 20_001: {}} {
		got, err := acme.DatasetImpact(ctx, rowDigest(row), 100)
		must(t, err)
		if !slices.Equal(got.Versions, want) || !slices.Equal(got.Unknown, []string{"c@1"}) {
			t.Errorf("row %d is in %+v, unknown %v", row, got.Versions, got.Unknown)
		}
		models := []string{"bot@1", "policy@1"}
		if row == 20_001 {
			models = []string{}
		}
		if !slices.Equal(got.Models, models) {
			t.Errorf("row %d went into %v", row, got.Models)
		}
	}
	got, err := acme.DatasetImpact(ctx, rowDigest(7), 100)
	must(t, err)
	if names := nodeNames(got.Graph); names != "a@1 1 bot@1 2 2 policy@1" { // the eval is that of run 2 here
		t.Errorf("the graph is %s: %+v", names, got.Graph)
	}
	down, err := acme.DatasetLineage(ctx, a.ID, true, 100)
	must(t, err)
	var as []string
	for _, e := range down.Edges {
		as = append(as, e.As)
	}
	if len(down.Nodes) != 8 || down.Root != string(a.ID) || !slices.Equal(as, []string{"parent", "parent", "data", "output", "reward_model", "evaluated", "output"}) || down.More {
		t.Errorf("down: %s, edges %v", nodeNames(down), as)
	}
	up, err := acme.DatasetLineage(ctx, b.ID, false, 100)
	must(t, err)
	if nodeNames(up) != "b@1 a@1" || len(up.Edges) != 1 || up.Edges[0] != (forge.LineageEdge{From: string(a.ID), To: string(b.ID), As: "parent"}) {
		t.Errorf("up: %+v", up)
	}
	_, err = rival.DatasetLineage(ctx, a.ID, true, 100)
	wantKind(t, err, forge.KindNotFound)
	short, err := acme.DatasetLineage(ctx, a.ID, true, 2)
	must(t, err)
	if len(short.Nodes) != 2 || !short.More {
		t.Errorf("two at most: %+v", short)
	}
}

func nodeNames(g forge.LineageGraph) string {
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestLineageKnowsWhatCameSinceItWasLastAsked(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	last := addVersion(t, acme, datasetVersion("chain", "0"))
	for i := 1; i <= 30; i++ {
		last = addVersion(t, acme, datasetVersion("chain", fmt.Sprint(i)), last)
		n, err := acme.AncestorsOf(ctx, last.ID)
		must(t, err)
		if n != i {
			t.Fatalf("version %d has %d ancestors", i, n)
		}
	}
	g, err := acme.DatasetLineage(ctx, last.ID, false, 10)
	must(t, err)
	if len(g.Nodes) != 10 || g.Nodes[9].Name != "chain@22" || len(g.Edges) != 9 || !g.More {
		t.Errorf("got %s, %d edges, more %v", nodeNames(g), len(g.Edges), g.More)
	}
}
