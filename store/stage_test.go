package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// stages is a tenant with a model of so many versions.
func stages(t *testing.T, db *store.DB, n int) (acme *store.Tenant, ids []forge.ModelVersionID) {
	t.Helper()
	acme = storetest.Tenant(t, db, "acme")
	for i := range n {
		v, err := acme.AddModelVersion(ctx, modelVersion("bot", fmt.Sprintf("bytes %d", i)))
		must(t, err)
		ids = append(ids, v.ID)
	}
	return acme, ids
}

func wantIntact(t *testing.T, acme *store.Tenant, lines int64) forge.HistoryCheck {
	t.Helper()
	c, err := acme.VerifyHistory(ctx, "bot")
	must(t, err)
	if !c.Intact || len(c.Breaks) > 0 || c.Lines != lines {
		t.Fatalf("%d lines, want %d; breaks %+v", c.Lines, lines, c.Breaks)
	}
	return c
}

func stageOf(t *testing.T, acme *store.Tenant, id forge.ModelVersionID) forge.Stage {
	t.Helper()
	v, err := acme.ModelVersionByID(ctx, id)
	must(t, err)
	return v.Stage
}

func pointsTo(t *testing.T, acme *store.Tenant, alias string) int {
	t.Helper()
	v, err := acme.ModelVersion(ctx, forge.Ref{Name: "bot", Label: alias})
	if forge.KindOf(err) == forge.KindNotFound {
		return 0
	}
	must(t, err)
	return v.Number
}

func TestStages(t *testing.T) {
	db := storetest.Open(t)
	acme, ids := stages(t, db, 3)
	report := &forge.GateReport{Model: "bot@1", To: forge.StageCandidate, Verdict: forge.GatePass, Rules: []forge.RuleResult{{Rule: forge.RuleDigest, Verdict: forge.GatePass, Words: "<as it was> & more"}}}
	t.Run("a promotion is a line with the report of its gate, and an event that names its digest", func(t *testing.T) {
		c, err := acme.PromoteVersion(ctx, store.StageMove{Version: ids[0], From: forge.StageStaging, To: forge.StageCandidate, Report: report, Reason: "first"})
		must(t, err)
		if c.Seq != 4 || c.Model != "bot@1" || c.Action != forge.ActionPromote || c.Report.Rules[0].Words != "<as it was> & more" || c.ReportOf == "" || c.Forced || c.Actor != "ana" {
			t.Errorf("the line is %+v", c)
		}
		events, err := acme.Events(ctx, store.EventFilter{Types: []forge.EventType{forge.EventModelStage}}, 10)
		must(t, err)
		if len(events) != 1 || events[0].Data["line_sha256"] != c.SHA256 || events[0].Data["to"] != "candidate" {
			t.Errorf("events are %+v", events)
		}
		v, err := acme.ModelVersionByID(ctx, ids[0])
		must(t, err)
		if v.Stage != forge.StageCandidate || v.StageBy != "ana" || !v.StageSince.Equal(c.At) || v.Forced {
			t.Errorf("the version is %+v", v)
		}
	})
	t.Run("what comes into production displaces what was there, which previous names then", func(t *testing.T) {
		storetest.Move(t, acme, ids[0], forge.StageProduction)
		storetest.Move(t, acme, ids[1], forge.StageProduction)
		if stageOf(t, acme, ids[0]) != forge.StageArchived || pointsTo(t, acme, "previous") != 1 || pointsTo(t, acme, "production") != 2 {
			t.Errorf("1 is %s, previous is %d, production is %d", stageOf(t, acme, ids[0]), pointsTo(t, acme, "previous"), pointsTo(t, acme, "production"))
		}
		if v, err := acme.ModelVersionByID(ctx, ids[1]); err != nil || !v.Forced {
			t.Errorf("it was forced, and is marked: %v, %v", v.Forced, err)
		}
	})
	t.Run("a rollback brings it back, and the next one goes further back, not to what was left", func(t *testing.T) {
		storetest.Move(t, acme, ids[2], forge.StageProduction)
		back := func(to forge.ModelVersionID, from forge.ModelVersionID) {
			_, err := acme.RollBack(ctx, store.StageMove{Version: to, From: forge.StageArchived, To: forge.StageProduction, Production: from, Reason: "worse"})
			must(t, err)
		}
		back(ids[1], ids[2])
		if pointsTo(t, acme, "production") != 2 || pointsTo(t, acme, "previous") != 1 {
			t.Errorf("production is %d, previous is %d", pointsTo(t, acme, "production"), pointsTo(t, acme, "previous"))
		}
		back(ids[0], ids[1])
		if pointsTo(t, acme, "production") != 1 || pointsTo(t, acme, "previous") != 0 {
			t.Errorf("production is %d, previous is %d", pointsTo(t, acme, "production"), pointsTo(t, acme, "previous"))
		}
	})
	t.Run("a version that never was in production does not come there by a rollback", func(t *testing.T) {
		v, err := acme.AddModelVersion(ctx, modelVersion("bot", "never"))
		must(t, err)
		storetest.Move(t, acme, v.ID, forge.StageArchived)
		_, err = acme.RollBack(ctx, store.StageMove{Version: v.ID, From: forge.StageArchived, To: forge.StageProduction, Production: ids[0], Reason: "x"})
		wantKind(t, err, forge.KindPrecondition)
		if stageOf(t, acme, ids[0]) != forge.StageProduction {
			t.Error("what was in production was displaced all the same")
		}
	})
	t.Run("a move from where the version is no longer is a conflict that says who was faster", func(t *testing.T) {
		_, err := acme.PromoteVersion(ctx, store.StageMove{Version: ids[0], From: forge.StageStaging, To: forge.StageCandidate})
		wantKind(t, err, forge.KindConflict)
		if !strings.Contains(err.Error(), "production") || !strings.Contains(err.Error(), "ana") {
			t.Errorf("%v", err)
		}
	})
	t.Run("another tenant has no such version, no history and no aliases", func(t *testing.T) {
		rival := storetest.Tenant(t, db, "rival")
		_, err := rival.PromoteVersion(ctx, store.StageMove{Version: ids[0], From: forge.StageProduction, To: forge.StageArchived})
		wantKind(t, err, forge.KindNotFound)
		_, _, err = rival.History(ctx, "bot", store.Listing{})
		wantKind(t, err, forge.KindNotFound)
		_, err = rival.VerifyHistory(ctx, "bot")
		wantKind(t, err, forge.KindNotFound)
		_, err = rival.Aliases(ctx, "bot")
		wantKind(t, err, forge.KindNotFound)
		_, err = rival.SetAlias(ctx, ids[0], "mine")
		wantKind(t, err, forge.KindNotFound)
	})
	t.Run("a history comes in pages", func(t *testing.T) {
		var seqs []int64
		for l := (store.Listing{Limit: 3}); ; {
			page, next, err := acme.History(ctx, "bot", l)
			must(t, err)
			for _, c := range page {
				seqs = append(seqs, c.Seq)
			}
			if l.Cursor = next; next == "" {
				break
			}
		}
		c := wantIntact(t, acme, int64(len(seqs)))
		if seqs[0] != 1 || seqs[len(seqs)-1] != c.Lines || c.Head == "" {
			t.Errorf("lines %v", seqs)
		}
	})
}

func TestAliases(t *testing.T) {
	acme, ids := stages(t, storetest.Open(t), 2)
	_, err := acme.SetAlias(ctx, ids[0], "best")
	must(t, err)
	_, err = acme.SetAlias(ctx, ids[1], "best")
	must(t, err)
	if pointsTo(t, acme, "best") != 2 {
		t.Errorf("best is %d", pointsTo(t, acme, "best"))
	}
	for _, name := range []string{"production", "previous", "latest", "12", "Best", "a/b", ""} {
		_, err := acme.SetAlias(ctx, ids[0], name)
		wantKind(t, err, forge.KindInvalid)
	}
	all, err := acme.Aliases(ctx, "bot")
	must(t, err)
	if len(all) != 1 || all[0].SetBy != "ana" || all[0].Version != 2 {
		t.Errorf("aliases are %+v", all)
	}
	_, err = acme.RemoveAlias(ctx, "bot", "best")
	must(t, err)
	_, err = acme.RemoveAlias(ctx, "bot", "best")
	wantKind(t, err, forge.KindNotFound)
}

// Whoever writes into the file itself, with all triggers dropped, is seen: each time with the line and the reason.
func TestAHistoryThatWasAlteredDoesNotHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forge.db")
	db := storetest.OpenAt(t, path, store.Options{Log: zerolog.Nop()})
	acme, ids := stages(t, db, 3)
	storetest.Move(t, acme, ids[0], forge.StageProduction)
	_, err := acme.PromoteVersion(ctx, store.StageMove{Version: ids[1], From: forge.StageStaging, To: forge.StageCandidate,
		Report: &forge.GateReport{Model: "bot@2", Verdict: forge.GatePass, Rules: []forge.RuleResult{}}})
	must(t, err)
	storetest.Move(t, acme, ids[1], forge.StageProduction)
	wantIntact(t, acme, 8)
	raw, err := sql.Open("sqlite3", path)
	must(t, err)
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	for _, name := range []string{"stage_changes_chain", "stage_changes_move", "stage_changes_of_version", "stage_changes_carry", "stage_changes_immutable", "stage_changes_stay",
		"models_head", "models_history_began", "models_immutable", "model_versions_begin", "model_versions_move", "model_versions_stay", "model_versions_immutable", "events_append_only_update", "events_append_only_delete"} {
		if _, err := raw.Exec("DROP TRIGGER IF EXISTS " + name); err != nil {
			t.Fatal(err)
		}
	}
	putBack := keep(t, raw)
	const newest = `(SELECT max(seq) FROM stage_changes)`
	cut := `DELETE FROM stage_changes WHERE seq = ` + newest + `;`
	for name, c := range map[string]struct {
		sql string
		seq int64
		why string
	}{
		"a line that was changed":               {`UPDATE stage_changes SET actor = 'somebody' WHERE seq = 5`, 5, "was changed"},
		"a mark of force that was taken away":   {`UPDATE stage_changes SET forced = 0 WHERE seq = 5`, 5, "was changed"},
		"a line that was removed":               {`DELETE FROM stage_changes WHERE seq = 5`, 5, "missing"},
		"the newest line removed":               {cut, 8, "removed"},
		"and the head of the model set back":    {cut + `UPDATE models SET history_seq = 7, history_head = (SELECT sha256 FROM stage_changes WHERE seq = 7); UPDATE model_versions SET stage = 'candidate' WHERE number = 2`, 8, "event"},
		"two lines that changed places":         {`UPDATE stage_changes SET seq = 99 WHERE seq = 4; UPDATE stage_changes SET seq = 4 WHERE seq = 5; UPDATE stage_changes SET seq = 5 WHERE seq = 99`, 4, "was changed"},
		"a stage that was changed alone":        {`UPDATE model_versions SET stage = 'candidate' WHERE number = 3`, 0, "without a line"},
		"a report that was altered":             {`UPDATE stage_changes SET report = replace(report, 'pass', 'fail') WHERE report <> ''`, 6, "report"},
		"a report that was taken away":          {`PRAGMA ignore_check_constraints = 1; UPDATE stage_changes SET report = '' WHERE report <> ''`, 6, "report"},
		"a version with other bytes":            {`UPDATE model_versions SET sha256 = 'ff' WHERE number = 1`, 0, "digest"},
		"a model with another name":             {`UPDATE models SET name = 'bot' WHERE name = 'x'; UPDATE model_versions SET number = 9 WHERE number = 3`, 3, "was changed"},
		"a line that was put at the end":        {`INSERT INTO stage_changes SELECT model, 9, tenant, version, version_sha256, action, was, becomes, actor, at, reason, forced, report, report_sha256, sha256, 'ff' FROM stage_changes WHERE seq = 8`, 9, "event"},
		"a version without a line":              {`INSERT INTO model_versions (id, tenant, model, number, stage, sha256, bytes, artifact, license, lineage, created_by, created_at) SELECT 'x', tenant, model, 7, 'staging', 'x', 0, artifact, '', '', '', 0 FROM model_versions WHERE number = 1`, 0, "registration"},
		"an event that tells of something else": {`UPDATE events SET data = replace(data, '"line":5', '"line":6') WHERE data LIKE '%"line":5,%'`, 6, "event"},
	} {
		t.Run(name, func(t *testing.T) {
			defer putBack()
			_, err := raw.Exec(c.sql)
			must(t, err)
			got, err := acme.VerifyHistory(ctx, "bot")
			must(t, err)
			found := false
			for _, b := range got.Breaks {
				found = found || b.Seq == c.seq && strings.Contains(b.Why, c.why)
			}
			if got.Intact || !found {
				t.Errorf("intact %v, and line %d is not named with %q: %+v", got.Intact, c.seq, c.why, got.Breaks)
			}
		})
		wantIntact(t, acme, 8)
	}
}

var ofHistories = []string{"stage_changes", "models", "model_versions", "events"}

// keep puts what there is aside, and putBack writes it back over whatever was done.
func keep(t *testing.T, raw *sql.DB) (putBack func()) {
	t.Helper()
	for _, table := range ofHistories {
		if _, err := raw.Exec(`CREATE TEMP TABLE was_` + table + ` AS SELECT * FROM ` + table); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		for _, table := range ofHistories {
			if _, err := raw.Exec(`DELETE FROM ` + table + `; INSERT INTO ` + table + ` SELECT * FROM was_` + table); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Two that promote at once: one wins, the other is told what happened.
func TestTwoThatPromoteAtOnce(t *testing.T) {
	acme, ids := stages(t, storetest.Open(t), 3)
	storetest.Move(t, acme, ids[0], forge.StageProduction)
	storetest.Move(t, acme, ids[1], forge.StageCandidate)
	storetest.Move(t, acme, ids[2], forge.StageCandidate)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, errs[i] = acme.PromoteVersion(ctx, store.StageMove{Version: ids[1+i], From: forge.StageCandidate, To: forge.StageProduction, Production: ids[0], Forced: true})
		}()
	}
	wg.Wait()
	won, lost := errs[0], errs[1]
	if won != nil {
		won, lost = lost, won
	}
	must(t, won)
	wantKind(t, lost, forge.KindConflict)
	if !strings.Contains(lost.Error(), "in production of bot has changed meanwhile") || !strings.Contains(lost.Error(), "ana") {
		t.Errorf("%v", lost)
	}
	wantIntact(t, acme, 3+2+2+2)
}

// Invariant 7, whatever anybody does in whatever order: at most one version in production, stages that move as the table says, and a history
// that holds.
func TestWhateverHappensAHistoryHolds(t *testing.T) {
	const workers, steps = 4, 15
	acme, ids := stages(t, storetest.Open(t), 4)
	var wg sync.WaitGroup
	var mu sync.Mutex
	moved := map[forge.StageAction]int{}
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range steps {
				action, err := anything(r, acme, ids)
				if k := forge.KindOf(err); err != nil && k != forge.KindConflict && k != forge.KindPrecondition && k != forge.KindNotFound {
					t.Errorf("%s: %v", action, err)
				}
				if err == nil {
					mu.Lock()
					moved[action]++
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
	lines, _, err := acme.History(ctx, "bot", store.Listing{Limit: 1000})
	must(t, err)
	wantIntact(t, acme, int64(len(lines)))
	is := map[string]forge.Stage{}
	for _, l := range lines {
		if l.From != is[l.Model] || l.From != "" && !forge.CanMoveStage(l.From, l.To) {
			t.Errorf("line %d: %s stood in %q and went from %q to %s", l.Seq, l.Model, is[l.Model], l.From, l.To)
		}
		is[l.Model] = l.To
		n := 0
		for _, s := range is {
			if s == forge.StageProduction {
				n++
			}
		}
		if n > 1 {
			t.Errorf("after line %d, %d versions are in production", l.Seq, n)
		}
	}
	for _, a := range []forge.StageAction{forge.ActionPromote, forge.ActionRollback, forge.ActionArchive} {
		if moved[a] == 0 {
			t.Errorf("nothing was moved by %s: %v", a, moved)
		}
	}
}

// anything does what comes to mind, with what it saw a moment ago.
func anything(r *rand.Rand, acme *store.Tenant, ids []forge.ModelVersionID) (forge.StageAction, error) {
	ctx := context.Background()
	v, err := acme.ModelVersionByID(ctx, ids[r.IntN(len(ids))])
	if err != nil {
		return "", err
	}
	m := store.StageMove{Version: v.ID, From: v.Stage, Reason: "anything", Forced: true}
	if p, err := acme.ModelVersion(ctx, forge.Ref{Name: "bot", Label: "production"}); err == nil {
		m.Production = p.ID
	}
	switch x := r.IntN(12); {
	case x < 6 && forge.NextStage(v.Stage) != "":
		m.To = forge.NextStage(v.Stage)
		_, err = acme.PromoteVersion(ctx, m)
		return forge.ActionPromote, err
	case x < 10:
		m.To = forge.StageProduction
		_, err = acme.RollBack(ctx, m)
		return forge.ActionRollback, err
	case x < 11:
		_, err = acme.AddModelVersion(ctx, modelVersion("bot", fmt.Sprint(r.Uint64())))
		return forge.ActionRegister, err
	default:
		m.To = forge.StageArchived
		_, err = acme.ArchiveVersion(ctx, m)
		return forge.ActionArchive, err
	}
}
