package store_test

import (
	"reflect"
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
	dv, _, err := s.acme.AddDataset(ctx, datasetVersion("chat", "one"))
	must(t, err)
	mv, err := s.acme.AddModelVersion(ctx, modelVersion("bot", "one"))
	must(t, err)
	keys, _, err := s.acme.Keys(ctx, store.Listing{})
	must(t, err)
	must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Rows: []forge.MetricRow{row(1, 1)}, Saves: []forge.Checkpoint{{Attempt: 1, Step: 1}}}))
	them := storetest.Principal(t, s.db, "rival")
	rival, admin := s.db.For(them), s.db.For(storetest.User(t, s.db, them.Tenant, "root", forge.RoleAdmin))
	home, err := s.db.TenantByName(ctx, "acme")
	must(t, err)
	ours := storetest.User(t, s.db, home.ID, "zoe", forge.RoleMember)

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
		"priority":    {string(s.run.ID), func(n string) error { _, err := rival.SetPriority(ctx, n, 70); return err }},
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
			_, _, err := rival.AddDataset(ctx, v)
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
		"dataset version by id": {string(dv.ID), func(n string) error { _, err := rival.DatasetVersionByID(ctx, forge.DatasetVersionID(n)); return err }},
		"model version by id":   {string(mv.ID), func(n string) error { _, err := rival.ModelVersionByID(ctx, forge.ModelVersionID(n)); return err }},
		"retry": {string(s.run.ID), func(n string) error {
			_, err := admin.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(), Parent: forge.RunID(n)})
			return err
		}},
		"tenant by id":   {string(ours.Tenant), func(n string) error { _, err := admin.Tenant(ctx, n); return err }},
		"tenant by name": {"acme", func(n string) error { _, err := admin.Tenant(ctx, n); return err }},
		"user by id":     {string(ours.UserID), func(n string) error { _, err := admin.User(ctx, n); return err }},
		"user by name":   {"zoe", func(n string) error { _, err := admin.User(ctx, n); return err }},
		"user update": {string(ours.UserID), func(n string) error {
			_, err := admin.UpdateUser(ctx, n, store.UserChange{MaxPriority: new(int)})
			return err
		}},
		"user disable": {string(ours.UserID), func(n string) error { _, err := admin.DisableUser(ctx, n, forge.WhyLeft); return err }},
		"user enable":  {string(ours.UserID), func(n string) error { _, err := admin.EnableUser(ctx, n); return err }},
		"key show":     {string(keys[0].ID), func(n string) error { _, err := admin.Key(ctx, n); return err }},
		"key rotate":   {string(keys[0].ID), func(n string) error { _, _, err := admin.RotateKey(ctx, n, 0); return err }},
		"key revoke":   {string(keys[0].ID), func(n string) error { _, err := admin.RevokeKey(ctx, n, forge.WhyRequested); return err }},
		"key":          {string(keys[0].ID), func(n string) error { _, err := rival.RevokeKey(ctx, n, forge.WhyRequested); return err }},
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
	t.Run("listings and events hold nothing of others", func(t *testing.T) {
		runs, _, err := rival.Runs(ctx, store.RunFilter{})
		must(t, err)
		datasets, _, err := rival.Datasets(ctx, store.Listing{})
		must(t, err)
		models, _, err := rival.Models(ctx, store.Listing{})
		must(t, err)
		own, _, err := rival.Keys(ctx, store.Listing{})
		must(t, err)
		users, _, err := admin.Users(ctx, store.Listing{})
		must(t, err)
		tenants, _, err := admin.Tenants(ctx, store.Listing{})
		must(t, err)
		keys, _, err := admin.Keys(ctx, store.Listing{})
		must(t, err)
		if len(runs) != 1 || len(datasets) != 0 || len(models) != 0 || len(own) != 1 || len(users) != 2 || len(tenants) != 1 || len(keys) != 2 {
			t.Fatalf("got %d runs, %d datasets, %d models, %d and %d keys, %d users, %d tenants", len(runs), len(datasets), len(models), len(own), len(keys), len(users), len(tenants))
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
	for _, name := range []string{"", "Not A Name", "new\nline", "\u0430cme", "a\x00b", "../etc", "-rf", strings.Repeat("a", 65)} { // the fourth begins in Cyrillic
		_, err = db.CreateTenant(ctx, name)
		wantKind(t, err, forge.KindInvalid)
	}
	got, err := db.TenantByName(ctx, "acme")
	must(t, err)
	if !reflect.DeepEqual(got, first) {
		t.Fatalf("got %+v, want %+v", got, first)
	}
	_, err = db.TenantByName(ctx, "nobody")
	wantKind(t, err, forge.KindNotFound)
	t.Run("an operator makes one: the site's trail and its own begin with it, and there the maker is named as an operator", func(t *testing.T) {
		root := storetest.User(t, db, first.ID, "root", forge.RoleOperator)
		made, err := db.For(root).CreateTenant(ctx, "lab")
		must(t, err)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'tenant.created' AND tenant IS NULL AND actor = 'root' AND reason = 'requested' AND message LIKE '%lab%'`, 1)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'tenant.created' AND tenant = '`+string(made.ID)+`' AND actor = 'root (operator)'`, 1)
		for _, name := range []string{"lab", string(made.ID)} {
			got, err := db.For(root).Tenant(ctx, name)
			must(t, err)
			if !reflect.DeepEqual(got, made) {
				t.Fatalf("got %+v", got)
			}
		}
		all, _, err := db.For(root).Tenants(ctx, store.Listing{Sort: "-name"})
		must(t, err)
		if len(all) != 2 || all[0].Name != "lab" {
			t.Fatalf("got %+v", all)
		}
	})
}
