package store_test

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// Every way to name something is tried with what another tenant has and with what nobody has: the
// two answers must be the same but for the name itself.
func TestAnotherTenantsThingsAnswerAsAbsent(t *testing.T) {
	s := running(t)
	dv, err := s.acme.AddDataset(ctx, datasetVersion("chat", "one"))
	must(t, err)
	_, err = s.acme.AddModelVersion(ctx, modelVersion("bot", "one"))
	must(t, err)
	keys, err := s.acme.Keys(ctx)
	must(t, err)
	must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Rows: []forge.MetricRow{row(1, 1)}, Saves: []forge.Checkpoint{{Attempt: 1, Step: 1}}}))
	_, err = s.acme.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(), IdempotencyKey: "once"})
	must(t, err)
	rival := storetest.Tenant(t, s.db, "rival")

	named := map[string]struct {
		theirs string
		ask    func(name string) error
	}{
		"run":         {string(s.run.ID), func(n string) error { _, err := rival.Run(ctx, n); return err }},
		"attempts":    {string(s.run.ID), func(n string) error { _, err := rival.Attempts(ctx, forge.RunID(n)); return err }},
		"checkpoints": {string(s.run.ID), func(n string) error { _, err := rival.Checkpoints(ctx, forge.RunID(n)); return err }},
		"metrics":     {string(s.run.ID), func(n string) error { _, err := rival.Metrics(ctx, forge.RunID(n), nil, 0, 0, 0); return err }},
		"cancel":      {string(s.run.ID), func(n string) error { _, err := rival.RequestCancel(ctx, n, forge.CancelNow); return err }},
		"hold":        {string(s.run.ID), func(n string) error { _, err := rival.HoldRun(ctx, n, ""); return err }},
		"release":     {string(s.run.ID), func(n string) error { _, err := rival.ReleaseRun(ctx, n); return err }},
		"after": {string(s.run.ID), func(n string) error {
			_, err := rival.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(storetest.After(forge.RunID(n)))})
			return err
		}},
		"parent": {string(s.run.ID), func(n string) error {
			_, err := rival.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(), Parent: forge.RunID(n)})
			return err
		}},
		"dataset":         {"chat", func(n string) error { _, err := rival.Dataset(ctx, n); return err }},
		"dataset version": {"chat", func(n string) error { _, err := rival.DatasetVersion(ctx, forge.Ref{Name: n}); return err }},
		"dataset parent": {string(dv.ID), func(n string) error {
			v := datasetVersion("mine", "x")
			v.Parent = forge.DatasetVersionID(n)
			_, err := rival.AddDataset(ctx, v)
			return err
		}},
		"model":         {"bot", func(n string) error { _, err := rival.Model(ctx, n); return err }},
		"model version": {"bot", func(n string) error { _, err := rival.ModelVersion(ctx, forge.Ref{Name: n, Number: 1}); return err }},
		"model lineage": {string(s.run.ID), func(n string) error {
			v := modelVersion("mine", "x")
			v.Lineage = &forge.Lineage{Run: forge.RunID(n)}
			_, err := rival.AddModelVersion(ctx, v)
			return err
		}},
		"key": {string(keys[0].ID), func(n string) error { _, err := rival.RevokeKey(ctx, forge.KeyID(n)); return err }},
	}
	for what, c := range named {
		t.Run(what, func(t *testing.T) {
			const nobodys = "01nobody"
			theirs, absent := c.ask(c.theirs), c.ask(nobodys)
			if theirs == nil || absent == nil {
				t.Fatalf("theirs: %v, absent: %v; want two errors", theirs, absent)
			}
			if forge.KindOf(theirs) != forge.KindOf(absent) || strings.ReplaceAll(theirs.Error(), c.theirs, nobodys) != absent.Error() {
				t.Fatalf("theirs: %s %q, absent: %s %q", forge.KindOf(theirs), theirs, forge.KindOf(absent), absent)
			}
		})
	}
	t.Run("numbers count per tenant and lead to one's own", func(t *testing.T) {
		mine := storetest.Submit(t, rival, storetest.Spec())
		got, err := rival.Run(ctx, "1")
		must(t, err)
		if mine.Number != 1 || got.ID != mine.ID {
			t.Fatalf("got %+v", got)
		}
		_, err = rival.RequestCancel(ctx, "2", forge.CancelTerm) // acme has a second run
		wantKind(t, err, forge.KindNotFound)
		_, err = rival.HoldRun(ctx, "2", "")
		wantKind(t, err, forge.KindNotFound)
	})
	t.Run("an idempotency key of another tenant is not one's own", func(t *testing.T) {
		run, err := rival.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(), IdempotencyKey: "once"})
		must(t, err)
		if run.Number != 2 {
			t.Fatalf("got run %d, want a new one", run.Number)
		}
	})
	t.Run("listings and events hold nothing of others", func(t *testing.T) {
		runs, err := rival.Runs(ctx, store.RunFilter{})
		must(t, err)
		datasets, err := rival.Datasets(ctx, 0, "")
		must(t, err)
		models, err := rival.Models(ctx, 0, "")
		must(t, err)
		own, err := rival.Keys(ctx)
		must(t, err)
		if len(runs) != 2 || len(datasets) != 0 || len(models) != 0 || len(own) != 1 {
			t.Fatalf("got %d runs, %d datasets, %d models, %d keys", len(runs), len(datasets), len(models), len(own))
		}
		events, err := rival.Events(ctx, store.EventFilter{}, 0)
		must(t, err)
		for _, e := range events {
			if e.Run != "" && e.Run == s.run.ID || e.Tenant == "" {
				t.Errorf("event %d of somebody else is visible: %s", e.Seq, e.Message)
			}
		}
		if events, err = rival.Events(ctx, store.EventFilter{Run: s.run.ID}, 0); err != nil || len(events) != 0 {
			t.Fatalf("got %d events of another tenant's run, %v", len(events), err)
		}
	})
	t.Run("the site's events are for operators", func(t *testing.T) {
		p := storetest.Principal(t, s.db, "site")
		p.Role = forge.RoleOperator
		events, err := s.db.For(p).Events(ctx, store.EventFilter{}, 0)
		must(t, err)
		seen := false
		for _, e := range events {
			seen = seen || e.Type == forge.EventNodeChanged
			if e.Tenant != "" && e.Tenant != p.Tenant {
				t.Errorf("event %d of tenant %s is visible", e.Seq, e.Tenant)
			}
		}
		if !seen {
			t.Error("an operator does not see that a node changed")
		}
	})
}

func TestTenants(t *testing.T) {
	db := storetest.Open(t)
	first, err := db.CreateTenant(ctx, "acme")
	must(t, err)
	_, err = db.CreateTenant(ctx, "acme")
	wantKind(t, err, forge.KindConflict)
	_, err = db.CreateTenant(ctx, "Not A Name")
	wantKind(t, err, forge.KindInvalid)
	got, err := db.TenantByName(ctx, "acme")
	must(t, err)
	if got != first {
		t.Fatalf("got %+v, want %+v", got, first)
	}
	_, err = db.TenantByName(ctx, "nobody")
	wantKind(t, err, forge.KindNotFound)
}

func TestKeys(t *testing.T) {
	db := storetest.Open(t)
	tenant, err := db.CreateTenant(ctx, "acme")
	must(t, err)
	key, secret, err := db.CreateKey(ctx, tenant.ID, "ana", forge.RoleOperator, "init")
	must(t, err)
	t.Run("the secret is long, shown once, and nowhere in the database", func(t *testing.T) {
		if len(secret) != len("forge_")+64 || !strings.HasPrefix(secret, key.Prefix) || len(key.Prefix) > 12 {
			t.Fatalf("secret of %d characters, prefix %q", len(secret), key.Prefix)
		}
		hash, err := db.Text(ctx, `SELECT hash FROM api_keys`)
		must(t, err)
		if strings.Contains(secret, hash) || len(hash) != 64 {
			t.Fatalf("hash %q", hash)
		}
	})
	t.Run("the secret names its principal, at first and from the cache", func(t *testing.T) {
		for range 2 {
			p, err := db.Authenticate(ctx, secret)
			must(t, err)
			if p.Tenant != tenant.ID || p.User != "ana" || p.Role != forge.RoleOperator || p.Key != key.ID || p.UserID == "" {
				t.Fatalf("got %+v", p)
			}
		}
	})
	t.Run("a revoked key is refused at once, with the words for an unknown one", func(t *testing.T) {
		p, err := db.Authenticate(ctx, secret)
		must(t, err)
		revoked, err := db.For(p).RevokeKey(ctx, key.ID)
		must(t, err)
		if revoked.RevokedAt == nil {
			t.Fatalf("got %+v", revoked)
		}
		_, gone := db.Authenticate(ctx, secret)
		_, unknown := db.Authenticate(ctx, "forge_"+strings.Repeat("0", 64))
		wantKind(t, gone, forge.KindUnauthorized)
		if gone.Error() != unknown.Error() || forge.HintOf(gone) != forge.HintOf(unknown) {
			t.Fatalf("revoked: %v; unknown: %v", gone, unknown)
		}
		again, err := db.For(p).RevokeKey(ctx, key.ID)
		must(t, err)
		if !again.RevokedAt.Equal(*revoked.RevokedAt) {
			t.Fatal("revoking twice moved the time")
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'key.revoked'`, 1)
	})
	t.Run("one user may have several keys; bad names, roles and tenants are refused", func(t *testing.T) {
		_, _, err := db.CreateKey(ctx, tenant.ID, "ana", forge.RoleMember, "ana")
		must(t, err)
		wantInt(t, db, `SELECT count(*) FROM users`, 1)
		_, _, err = db.CreateKey(ctx, tenant.ID, "Ana B", forge.RoleMember, "ana")
		wantKind(t, err, forge.KindInvalid)
		_, _, err = db.CreateKey(ctx, tenant.ID, "forged", forge.RoleMember, "ana") // its holds would count as forge's own
		wantKind(t, err, forge.KindInvalid)
		_, _, err = db.CreateKey(ctx, tenant.ID, "ana", "root", "ana")
		wantKind(t, err, forge.KindInvalid)
		_, _, err = db.CreateKey(ctx, "01ABSENT", "ana", forge.RoleMember, "ana")
		wantKind(t, err, forge.KindNotFound)
	})
}
