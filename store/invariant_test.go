package store_test

import (
	"fmt"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// The constraints stand alone: each statement goes past all Go code.
func TestTheSchemaItselfRefuses(t *testing.T) {
	s := running(t)
	acme := s.acme
	other := storetest.Submit(t, acme, storetest.Spec())
	done := storetest.Submit(t, acme, storetest.Spec())
	_, err := acme.RequestCancel(ctx, string(done.ID), forge.CancelTerm)
	must(t, err)
	v1, err := acme.AddModelVersion(ctx, modelVersion("bot", "one"))
	must(t, err)
	v2, err := acme.AddModelVersion(ctx, modelVersion("bot", "two"))
	must(t, err)
	_, _, err = acme.AddDataset(ctx, datasetVersion("chat", "one"))
	must(t, err)
	storetest.Move(t, acme, v1.ID, forge.StageProduction)

	attempt := func(run forge.RunID, n int, state string) string {
		return fmt.Sprintf(`INSERT INTO attempts (run, number, state, reason, detail, cluster, placement, external_id, run_dir, intent, resume_step,
			resume_from, last_step, saved_step, unknown_since, placed_at, started_at, exited_at, ended_at, exits, version) SELECT '%s', %d, '%s', reason, detail, cluster, placement, external_id, run_dir, intent, resume_step,
			resume_from, last_step, saved_step, unknown_since, placed_at, started_at, exited_at, ended_at, exits, 1 FROM attempts LIMIT 1`, run, n, state)
	}
	line := func(of forge.ModelVersionID, seq, move, before string) string {
		return fmt.Sprintf(`INSERT INTO stage_changes (model, seq, tenant, version, version_sha256, action, was, becomes, actor, at, before, sha256)
			SELECT model, %[2]s, tenant, '%[1]s', (SELECT sha256 FROM model_versions WHERE id = '%[1]s'), %[3]s, 'me', 0, %[4]s, 'x' FROM stage_changes ORDER BY seq DESC LIMIT 1`, of, seq, move, before)
	}
	alias := func(of forge.ModelVersionID, name string) string {
		return fmt.Sprintf(`INSERT INTO model_aliases SELECT model, '%s', tenant, id, 'me', 0 FROM model_versions WHERE id = '%s'`, name, of)
	}
	cases := []struct {
		name, statement string
		kind            forge.Kind
	}{
		{"two open attempts of a run", attempt(s.run.ID, 2, "placed"), forge.KindConflict},
		{"a slot of an attempt that a cluster's own queue places", fmt.Sprintf(`UPDATE attempts SET handed_over = 1, version = version + 1 WHERE run = '%[1]s';
			INSERT INTO allocations VALUES ('local', 'gpu-1', 3, '%[1]s', 1)`, s.run.ID), forge.KindPrecondition},
		{"a run whose words for a batch system change", fmt.Sprintf(`UPDATE runs SET batch = '{}', version = version + 1 WHERE id = '%s'`, other.ID), forge.KindPrecondition},
		{"an attempt number given twice", attempt(s.run.ID, 1, "ended"), forge.KindConflict},
		{"a slot held twice", fmt.Sprintf(`INSERT INTO allocations VALUES ('local', 'gpu-1', 0, '%s', 1)`, s.run.ID), forge.KindConflict},
		{"a slot of a node that does not exist", fmt.Sprintf(`INSERT INTO allocations VALUES ('local', 'gpu-9', 0, '%s', 1)`, s.run.ID), forge.KindPrecondition},
		{"a slot claimed twice", fmt.Sprintf(`INSERT INTO claims (cluster, node, slot, for_run, created_at) VALUES ('local', 'gpu-1', 3, '%[1]s', 0), ('local', 'gpu-1', 3, '%[2]s', 0)`, other.ID, s.run.ID), forge.KindConflict},
		{"two versions of a model in production", fmt.Sprintf(`DROP TRIGGER model_versions_move; UPDATE model_versions SET stage = 'production' WHERE id = '%s'`, v2.ID), forge.KindConflict},
		{"a stage that changes without a line", fmt.Sprintf(`UPDATE model_versions SET stage = 'archived' WHERE id = '%s'`, v1.ID), forge.KindPrecondition},
		{"a line of a history that changes", `UPDATE stage_changes SET actor = 'nobody'`, forge.KindPrecondition},
		{"a line of a history that goes", `DELETE FROM stage_changes`, forge.KindPrecondition},
		{"a line that does not follow the newest", line(v1.ID, "seq + 7", "'archive', 'production', 'archived'", "sha256"), forge.KindPrecondition},
		{"a line that follows another one", line(v1.ID, "seq + 1", "'archive', 'production', 'archived'", "before"), forge.KindPrecondition},
		{"a move that there is none of", line(v1.ID, "seq + 1", "'promote', 'production', 'candidate'", "sha256"), forge.KindPrecondition},
		{"a move out of another stage", line(v1.ID, "seq + 1", "'archive', 'candidate', 'archived'", "sha256"), forge.KindPrecondition},
		{"a way to production past its gate", line(v2.ID, "seq + 1", "'rollback', 'staging', 'production'", "sha256"), forge.KindPrecondition},
		{"the head of a history that moves", `UPDATE models SET history_head = 'x'`, forge.KindPrecondition},
		{"a version that begins in production", `INSERT INTO model_versions SELECT 'x', tenant, model, 9, 'production', sha256, bytes, artifact, license, run, lineage, created_by, created_at, looked FROM model_versions LIMIT 1`, forge.KindPrecondition},
		{"a version that goes", `DELETE FROM model_versions`, forge.KindPrecondition},
		{"a model that gets another name", `UPDATE models SET name = 'x'`, forge.KindPrecondition},
		{"an alias that is a stage", alias(v1.ID, "production"), forge.KindInternal},
		{"an alias that is a number", alias(v1.ID, "12"), forge.KindInternal},
		{"a terminal run that moves", fmt.Sprintf(`UPDATE runs SET state = 'pending', version = version + 1 WHERE id = '%s'`, done.ID), forge.KindPrecondition},
		{"a run whose spec changes", `UPDATE run_specs SET spec = '{}'`, forge.KindPrecondition},
		{"a run whose gang changes", `UPDATE runs SET nodes = 9, version = version + 1`, forge.KindPrecondition},
		{"a run that changes without a new version", `UPDATE runs SET step = 7`, forge.KindPrecondition},
		{"an attempt that goes back", `UPDATE attempts SET state = 'launching', version = version + 1`, forge.KindPrecondition},
		{"an attempt that changes without a new version", `UPDATE attempts SET last_step = 7`, forge.KindPrecondition},
		{"an event that changes", `UPDATE events SET message = 'nothing happened'`, forge.KindPrecondition},
		{"an event that disappears", `DELETE FROM events WHERE seq = 1`, forge.KindPrecondition},
		{"a run number given twice", fmt.Sprintf(`UPDATE runs SET number = 1, version = version + 1 WHERE id = '%s'`, other.ID), forge.KindPrecondition},
		{"a state that does not exist", fmt.Sprintf(`UPDATE runs SET state = 'lost', version = version + 1 WHERE id = '%s'`, other.ID), forge.KindInternal},
		{"a tenant that does not exist", `UPDATE datasets SET tenant = 'nobody'`, forge.KindPrecondition},
		{"a dataset version whose bytes change", `UPDATE dataset_versions SET sha256 = 'x'`, forge.KindPrecondition},
		{"a model version whose lineage changes", `UPDATE model_versions SET lineage = ''`, forge.KindPrecondition},
		{"a manifest that changes", `UPDATE artifacts SET files = ''`, forge.KindPrecondition},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			wantKind(t, s.db.Raw(ctx, c.statement), c.kind)
		})
	}
	t.Run("every step forward is allowed, over unseen states too", func(t *testing.T) {
		for _, state := range []forge.AttemptState{forge.AttemptStopping, forge.AttemptExited, forge.AttemptEnded} {
			must(t, s.db.Raw(ctx, fmt.Sprintf(`UPDATE attempts SET state = '%s', version = version + 1`, state)))
		}
		must(t, s.db.Raw(ctx, attempt(s.run.ID, 2, "placed")))
	})
}
