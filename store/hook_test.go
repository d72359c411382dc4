package store_test

import (
	"fmt"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// hookAdmin is an admin of a new tenant.
func hookAdmin(t *testing.T, db *store.DB, name string) forge.Principal {
	t.Helper()
	p := storetest.Principal(t, db, name)
	return storetest.User(t, db, p.Tenant, "adm", forge.RoleAdmin)
}

func TestHooks(t *testing.T) {
	db := storetest.Open(t)
	acme, other := hookAdmin(t, db, "acme"), hookAdmin(t, db, "other")
	h := forge.Hook{Name: "chat", Kind: forge.HookWebhook, Target: "https://example.org/secret", On: []string{"stage"}}
	made, _, err := db.For(acme).CreateHook(ctx, h)
	must(t, err)

	t.Run("a name is taken in its tenant alone, and free again after a removal", func(t *testing.T) {
		_, _, err := db.For(acme).CreateHook(ctx, h)
		wantKind(t, err, forge.KindConflict)
		theirs, _, err := db.For(other).CreateHook(ctx, h)
		must(t, err)
		_, err = db.For(other).RemoveHook(ctx, "chat", false)
		must(t, err)
		_, _, err = db.For(other).CreateHook(ctx, h)
		must(t, err)
		_, err = db.For(other).RemovedHook(ctx, string(theirs.ID))
		must(t, err)
	})
	t.Run("another tenant's hook is not there, by the same words as one that never was", func(t *testing.T) {
		_, theirs := db.For(other).Hook(ctx, string(made.ID), false)
		_, none := db.For(other).Hook(ctx, "01ZZZZZZZZZZZZZZZZZZZZZZZZ", false)
		wantKind(t, theirs, forge.KindNotFound)
		if fmt.Sprint(theirs) != fmt.Sprintf("there is no hook %q", made.ID) || fmt.Sprint(none) != `there is no hook "01ZZZZZZZZZZZZZZZZZZZZZZZZ"` {
			t.Errorf("%v\n%v", theirs, none)
		}
		_, err := db.For(other).RemovedHook(ctx, string(made.ID))
		wantKind(t, err, forge.KindNotFound)
	})
	t.Run("admins alone see them, and operators alone the site's", func(t *testing.T) {
		member := acme
		member.Role = forge.RoleMember
		_, _, err := db.For(member).Hooks(ctx, store.Listing{}, false)
		wantKind(t, err, forge.KindForbidden)
		_, _, err = db.For(acme).Hooks(ctx, store.Listing{}, true)
		wantKind(t, err, forge.KindForbidden)
		site := h
		site.Site, site.On = true, []string{"node"}
		_, _, err = db.For(acme).CreateHook(ctx, site)
		wantKind(t, err, forge.KindForbidden)
	})
	t.Run("a tenant's hook hears of no node, a site's of no run", func(t *testing.T) {
		for _, c := range []struct {
			on   string
			site bool
		}{{"node", false}, {"daemon.stopped", false}, {"run_end", true}, {"hook.failed", false}, {"run.*", false}, {"", false}} {
			wantKind(t, forge.CheckHookOn([]string{c.on}, c.site), forge.KindInvalid)
		}
	})
	t.Run("a hundred are the most", func(t *testing.T) {
		many := hookAdmin(t, db, "many")
		for i := range 100 {
			h.Name = fmt.Sprintf("h%d", i)
			_, _, err := db.For(many).CreateHook(ctx, h)
			must(t, err)
		}
		h.Name = "more"
		_, _, err := db.For(many).CreateHook(ctx, h)
		wantKind(t, err, forge.KindPrecondition)
	})
}

func TestDeliveriesAreMadeOnce(t *testing.T) {
	db := storetest.Open(t)
	acme := hookAdmin(t, db, "acme")
	h, _, err := db.For(acme).CreateHook(ctx, forge.Hook{Name: "chat", Kind: forge.HookMail, Target: "a@example.org", On: []string{"stage"}})
	must(t, err)
	work, err := db.HooksAtWork(ctx)
	must(t, err)
	if len(work) != 1 || work[0].TenantName != "acme" {
		t.Fatalf("%+v", work)
	}
	for range 3 {
		must(t, db.AddEvent(ctx, forge.Event{Tenant: acme.Tenant, Type: forge.EventModelStage, Message: "moved"}))
	}
	events, err := db.EventsAfter(ctx, work[0].Cursor, 10)
	must(t, err)
	if len(events) != 3 {
		t.Fatalf("it looks from its own birth on: %+v", events)
	}
	last := events[2].Seq
	for range 2 { // the second is of a forged that did not hear that the first was done
		must(t, db.MakeDeliveries(ctx, []store.Heard{{Hook: h.ID, Cursor: last, Of: events}}))
	}
	wantInt(t, db, `SELECT count(*) FROM hook_deliveries`, 3)
	now := time.Now()
	d, e, _, err := db.NextDelivery(ctx, h.ID, now, time.Minute)
	must(t, err)
	if d == nil || e.Seq != events[0].Seq {
		t.Fatalf("%+v, %+v", d, e)
	}

	t.Run("one that failed keeps those behind it, until it has for too long", func(t *testing.T) {
		must(t, db.DeliveryTried(ctx, d.ID, store.Tried{At: now, Error: "it answered 500", NextAt: now.Add(time.Hour)}))
		none, _, wake, err := db.NextDelivery(ctx, h.ID, now.Add(30*time.Second), time.Minute)
		must(t, err)
		if none != nil || wake.Sub(now).Round(time.Second) != time.Minute {
			t.Errorf("%+v, %s", none, wake.Sub(now))
		}
		next, e, _, err := db.NextDelivery(ctx, h.ID, now.Add(61*time.Second), time.Minute)
		must(t, err)
		if next == nil || e.Seq != events[1].Seq {
			t.Errorf("%+v, %+v", next, e)
		}
		back, e, _, err := db.NextDelivery(ctx, h.ID, now.Add(time.Hour), time.Minute)
		must(t, err)
		if back == nil || e.Seq != events[1].Seq {
			t.Errorf("those that were not tried go first: %+v, %+v", back, e)
		}
	})
	t.Run("what is too old is given up at once, with one event", func(t *testing.T) {
		n, err := db.GiveUpDeliveries(ctx, time.Now().Add(time.Minute), now.Add(-time.Hour))
		must(t, err)
		if n != 3 {
			t.Errorf("%d", n)
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'hook.failed'`, 1)
		n, err = db.GiveUpDeliveries(ctx, time.Now().Add(time.Minute), time.Now().Add(time.Minute))
		must(t, err)
		if n != 0 {
			t.Errorf("%d", n)
		}
		wantInt(t, db, `SELECT count(*) FROM hook_deliveries`, 0)
	})
	t.Run("one that was paused for long goes on with the last day", func(t *testing.T) {
		_, err := db.For(acme).PauseHook(ctx, "chat", false)
		must(t, err)
		must(t, db.AddEvent(ctx, forge.Event{Time: time.Now().Add(-25 * time.Hour), Tenant: acme.Tenant, Type: forge.EventModelStage, Message: "old"}))
		must(t, db.AddEvent(ctx, forge.Event{Tenant: acme.Tenant, Type: forge.EventModelStage, Message: "new"}))
		if work, err := db.HooksAtWork(ctx); err != nil || len(work) != 0 {
			t.Errorf("%+v, %v", work, err)
		}
		_, err = db.For(acme).ResumeHook(ctx, "chat", false)
		must(t, err)
		work, err := db.HooksAtWork(ctx)
		must(t, err)
		events, err := db.EventsAfter(ctx, work[0].Cursor, 10)
		must(t, err)
		if events[0].Message != "new" {
			t.Errorf("%+v", events)
		}
	})
}
