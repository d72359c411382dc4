package store_test

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// site is a store with a clock that a test turns, an operator "root", an admin "ann" and a member "max" of one tenant.
type site struct {
	*store.DB
	clock            *atomic.Int64
	root, ann, max   forge.Principal
	admin, own, oper *store.Tenant
}

func openSite(t *testing.T) *site {
	t.Helper()
	clock := &atomic.Int64{}
	clock.Store(time.Date(2026, 11, 25, 10, 0, 30, 0, time.UTC).UnixNano())
	path := filepath.Join(t.TempDir(), "forge.db")
	storetest.Fresh(t, path)
	db := storetest.OpenAt(t, path, store.Options{Now: func() time.Time { return time.Unix(0, clock.Load()) }})
	tenant, err := db.CreateTenant(ctx, "acme")
	must(t, err)
	s := &site{DB: db, clock: clock}
	s.root = storetest.User(t, db, tenant.ID, "root", forge.RoleOperator)
	s.ann = storetest.User(t, db, tenant.ID, "ann", forge.RoleAdmin)
	s.max = storetest.User(t, db, tenant.ID, "max", forge.RoleMember)
	s.oper, s.admin, s.own = db.For(s.root), db.For(s.ann), db.For(s.max)
	return s
}

func (s *site) pass(d time.Duration) { s.clock.Add(int64(d)) }

func (s *site) refused(t *testing.T, secret string) {
	t.Helper()
	_, err := s.Authenticate(ctx, secret)
	_, unknown := s.Authenticate(ctx, "forge_"+strings.Repeat("0", 64))
	wantKind(t, err, forge.KindUnauthorized)
	if err.Error() != unknown.Error() || forge.HintOf(err) != forge.HintOf(unknown) {
		t.Fatalf("%q tells it from an unknown key: %q", err, unknown)
	}
}

func (s *site) accepted(t *testing.T, secret string) forge.Principal {
	t.Helper()
	p, err := s.Authenticate(ctx, secret)
	must(t, err)
	return p
}

func (s *site) make(t *testing.T, n store.NewKey) (forge.Key, string) {
	t.Helper()
	k, secret, err := s.oper.CreateKey(ctx, n)
	must(t, err)
	return k, secret
}

func TestKeysLetIn(t *testing.T) {
	s := openSite(t)
	t.Run("the secret is long, shown once, and nowhere in the database", func(t *testing.T) {
		key, secret := s.make(t, store.NewKey{User: "max", Name: "laptop"})
		if len(secret) != len("forge_")+64 || !strings.HasPrefix(secret, key.Prefix) || len(key.Prefix) > 12 || key.Name != "laptop" || key.Role != forge.RoleMember {
			t.Fatalf("secret of %d characters, key %+v", len(secret), key)
		}
		hash, err := s.Text(ctx, `SELECT hash FROM api_keys WHERE id = '`+string(key.ID)+`'`)
		must(t, err)
		if strings.Contains(secret, hash) || len(hash) != 64 {
			t.Fatalf("hash %q", hash)
		}
	})
	t.Run("it names its principal, at first and from the cache", func(t *testing.T) {
		key, secret := s.make(t, store.NewKey{User: "max"})
		for range 2 {
			p := s.accepted(t, secret)
			want := forge.Principal{Tenant: s.max.Tenant, Home: s.max.Tenant, User: "max", UserID: s.max.UserID, Key: key.ID, Role: forge.RoleMember, Via: forge.ViaKey}
			if p != want {
				t.Fatalf("got %+v, want %+v", p, want)
			}
		}
	})
	t.Run("it ends when its time is over, also in the cache, and says what an unknown one says", func(t *testing.T) {
		key, secret := s.make(t, store.NewKey{User: "max", Life: time.Hour})
		if key.ExpiresAt == nil || key.ExpiresAt.Sub(key.CreatedAt) != time.Hour {
			t.Fatalf("got %+v", key)
		}
		s.pass(time.Hour - 1)
		s.accepted(t, secret)
		s.pass(1)
		s.refused(t, secret)
	})
	t.Run("it ends when it is revoked, with its reason in the trail; twice changes nothing", func(t *testing.T) {
		key, secret := s.make(t, store.NewKey{User: "max"})
		s.accepted(t, secret)
		gone, err := s.own.RevokeKey(ctx, string(key.ID), forge.WhyLeaked)
		must(t, err)
		s.refused(t, secret)
		s.pass(time.Second)
		again, err := s.own.RevokeKey(ctx, string(key.ID), forge.WhyUnused)
		must(t, err)
		if !again.RevokedAt.Equal(*gone.RevokedAt) {
			t.Fatal("revoking twice moved the time")
		}
		wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'key.revoked' AND actor = 'max' AND reason = 'leaked' AND tenant IS NOT NULL`, 1)
		_, err = s.own.RevokeKey(ctx, string(key.ID), "bored")
		wantKind(t, err, forge.KindInvalid)
	})
	t.Run("it ends while its user is disabled", func(t *testing.T) {
		_, secret := s.make(t, store.NewKey{User: "max"})
		s.accepted(t, secret)
		_, err := s.admin.DisableUser(ctx, "max", forge.WhyLeft)
		must(t, err)
		s.refused(t, secret)
		_, _, err = s.admin.CreateKey(ctx, store.NewKey{User: "max"})
		wantKind(t, err, forge.KindPrecondition)
		_, err = s.admin.EnableUser(ctx, "max")
		must(t, err)
		s.accepted(t, secret)
		wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'user.disabled' AND actor = 'ann' AND reason = 'left'`, 1)
	})
	t.Run("it acts with the lesser of its own role and its user's, from the moment that either changes", func(t *testing.T) {
		_, strong := s.make(t, store.NewKey{User: "eva", Role: forge.RoleAdmin})
		_, weak := s.make(t, store.NewKey{User: "eva", Role: forge.RoleViewer})
		if got := s.accepted(t, strong).Role; got != forge.RoleAdmin {
			t.Fatalf("got %s", got)
		}
		limit := 70
		_, err := s.oper.UpdateUser(ctx, "eva", store.UserChange{Role: ptr(forge.RoleMember), MaxPriority: &limit})
		must(t, err)
		if p := s.accepted(t, strong); p.Role != forge.RoleMember || *p.MaxPriority != 70 {
			t.Fatalf("got %+v", p)
		}
		if got := s.accepted(t, weak).Role; got != forge.RoleViewer {
			t.Fatalf("got %s", got)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestAUidLetsInOnTheSocket(t *testing.T) {
	s := openSite(t)
	_, err := s.AuthenticatePeer(ctx, 1000)
	wantKind(t, err, forge.KindUnauthorized)
	_, err = s.oper.UpdateUser(ctx, "max", store.UserChange{UnixUID: ptr(int64(1000))})
	must(t, err)
	p, err := s.AuthenticatePeer(ctx, 1000)
	must(t, err)
	if want := (forge.Principal{Tenant: s.max.Tenant, Home: s.max.Tenant, User: "max", UserID: s.max.UserID, Role: forge.RoleMember, Via: forge.ViaSocket}); p != want {
		t.Fatalf("got %+v, want %+v", p, want)
	}
	t.Run("a uid is one user of the whole site, and whose is not said", func(t *testing.T) {
		lab, err := s.oper.CreateTenant(ctx, "lab")
		must(t, err)
		boss := s.For(storetest.User(t, s.DB, lab.ID, "boss", forge.RoleAdmin))
		_, err = boss.CreateUser(ctx, forge.User{Name: "mole", UnixUID: ptr(int64(1000))})
		wantKind(t, err, forge.KindConflict)
		_, mine := s.admin.UpdateUser(ctx, "ann", store.UserChange{UnixUID: ptr(int64(1000))})
		if err.Error() != mine.Error() || strings.Contains(err.Error(), "max") || strings.Contains(err.Error(), "acme") {
			t.Fatalf("got %q in another tenant, %q in one's own", err, mine)
		}
		_, err = boss.CreateUser(ctx, forge.User{Name: "mole", UnixUID: ptr(int64(1 << 32))})
		wantKind(t, err, forge.KindInvalid)
	})
	_, err = s.admin.DisableUser(ctx, "max", forge.WhyLeft)
	must(t, err)
	_, err = s.AuthenticatePeer(ctx, 1000)
	wantKind(t, err, forge.KindUnauthorized)
	_, err = s.admin.EnableUser(ctx, "max")
	must(t, err)
	_, err = s.admin.UpdateUser(ctx, "max", store.UserChange{UnixUID: ptr(int64(store.Unset))})
	must(t, err)
	_, err = s.AuthenticatePeer(ctx, 1000)
	wantKind(t, err, forge.KindUnauthorized)
}

func TestRotation(t *testing.T) {
	s := openSite(t)
	old, secret := s.make(t, store.NewKey{User: "max", Name: "ci", Role: forge.RoleViewer, Life: 24 * time.Hour})
	s.pass(20 * time.Hour)
	fresh, next, err := s.own.RotateKey(ctx, string(old.ID), time.Hour)
	must(t, err)
	t.Run("the new key has the name, role and lifetime of the old, and names it", func(t *testing.T) {
		if fresh.Name != "ci" || fresh.Role != forge.RoleViewer || fresh.Replaces != old.ID || fresh.ExpiresAt.Sub(fresh.CreatedAt) != 24*time.Hour {
			t.Fatalf("got %+v", fresh)
		}
		wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'key.rotated' AND actor = 'max' AND reason = 'rotated' AND json_extract(data, '$.replaces') = '`+string(old.ID)+`'`, 1)
	})
	t.Run("both work during the overlap, then only the new one", func(t *testing.T) {
		s.accepted(t, secret)
		s.pass(time.Hour)
		s.refused(t, secret)
		s.accepted(t, next)
	})
	t.Run("an overlap does not outlive the old key", func(t *testing.T) {
		k, _ := s.make(t, store.NewKey{User: "max", Life: time.Minute})
		_, _, err := s.own.RotateKey(ctx, string(k.ID), time.Hour)
		must(t, err)
		got, err := s.own.Key(ctx, string(k.ID))
		must(t, err)
		if !got.ExpiresAt.Equal(*k.ExpiresAt) {
			t.Fatalf("ends at %s, was %s", got.ExpiresAt, k.ExpiresAt)
		}
	})
	t.Run("without an overlap the old one ends at once", func(t *testing.T) {
		_, last, err := s.own.RotateKey(ctx, string(fresh.ID), 0)
		must(t, err)
		s.refused(t, next)
		s.accepted(t, last)
	})
	t.Run("what has ended or was replaced is not rotated", func(t *testing.T) {
		k, _ := s.make(t, store.NewKey{User: "max"})
		_, _, err := s.own.RotateKey(ctx, string(k.ID), time.Hour)
		must(t, err)
		for _, id := range []forge.KeyID{old.ID, fresh.ID, k.ID} {
			_, _, err := s.own.RotateKey(ctx, string(id), 0)
			wantKind(t, err, forge.KindPrecondition)
		}
	})
}

func TestNobodyMakesOrTakesMoreThanTheyHave(t *testing.T) {
	s := openSite(t)
	_, weak := s.make(t, store.NewKey{User: "ann", Role: forge.RoleViewer})
	viewer := s.For(s.accepted(t, weak)) // ann is an admin; this key of hers is not
	strong, _ := s.make(t, store.NewKey{User: "ann"})
	opers, _ := s.make(t, store.NewKey{User: "root", Role: forge.RoleViewer})
	for name, c := range map[string]struct {
		err  error
		want forge.Kind
	}{
		"a key above the maker's role":               {second(viewer.CreateKey(ctx, store.NewKey{User: "ann", Role: forge.RoleAdmin})), forge.KindForbidden},
		"a key above the user's role":                {second(s.admin.CreateKey(ctx, store.NewKey{User: "max", Role: forge.RoleAdmin})), forge.KindInvalid},
		"a key for somebody above":                   {second(s.admin.CreateKey(ctx, store.NewKey{User: "root", Role: forge.RoleViewer})), forge.KindForbidden},
		"a key for nobody, by a member":              {second(s.own.CreateKey(ctx, store.NewKey{User: "nobody"})), forge.KindNotFound},
		"a key of a role that does not exist":        {second(s.admin.CreateKey(ctx, store.NewKey{User: "max", Role: "root"})), forge.KindForbidden},
		"rotating a stronger key of one's own":       {second(viewer.RotateKey(ctx, string(strong.ID), 0)), forge.KindForbidden},
		"revoking a stronger key of one's own":       {first(viewer.RevokeKey(ctx, string(strong.ID), forge.WhyLeaked)), forge.KindForbidden},
		"rotating a weak key of somebody above":      {second(s.admin.RotateKey(ctx, string(opers.ID), 0)), forge.KindForbidden},
		"another member's key":                       {first(s.own.RevokeKey(ctx, string(strong.ID), forge.WhyLeaked)), forge.KindNotFound},
		"disabling somebody above":                   {first(s.admin.DisableUser(ctx, "root", forge.WhyLeft)), forge.KindForbidden},
		"demoting somebody above":                    {first(s.admin.UpdateUser(ctx, "root", store.UserChange{Role: ptr(forge.RoleViewer)})), forge.KindForbidden},
		"a role that does not exist":                 {first(s.admin.UpdateUser(ctx, "max", store.UserChange{Role: ptr(forge.Role("root"))})), forge.KindInvalid},
		"a priority that does not exist":             {first(s.admin.UpdateUser(ctx, "max", store.UserChange{MaxPriority: ptr(101)})), forge.KindInvalid},
		"a name that is taken":                       {first(s.admin.CreateUser(ctx, forge.User{Name: "max"})), forge.KindConflict},
		"a name that is forge's own":                 {first(s.admin.CreateUser(ctx, forge.User{Name: "forged"})), forge.KindInvalid}, // its holds would count as forge's own
		"a name that is none":                        {first(s.admin.CreateUser(ctx, forge.User{Name: "M\u0430x\n"})), forge.KindInvalid},
		"disabling for no reason that there is":      {first(s.admin.DisableUser(ctx, "max", forge.WhyRotated)), forge.KindInvalid},
		"a tenant that does not exist, at bootstrap": {second(s.CreateKey(ctx, "01ABSENT", "ana", forge.RoleMember, "ana")), forge.KindNotFound},
	} {
		t.Run(name, func(t *testing.T) { wantKind(t, c.err, c.want) })
	}
	t.Run("without a role a key has as much as its user and its maker both have", func(t *testing.T) {
		k, _, err := viewer.CreateKey(ctx, store.NewKey{User: "ann"})
		must(t, err)
		if k.Role != forge.RoleViewer {
			t.Fatalf("got %s", k.Role)
		}
	})
	t.Run("an admin's key for somebody new makes the user", func(t *testing.T) {
		k, _, err := s.admin.CreateKey(ctx, store.NewKey{User: "kim"})
		must(t, err)
		u, err := s.admin.User(ctx, "kim")
		must(t, err)
		if k.Role != forge.RoleMember || u.Role != forge.RoleMember {
			t.Fatalf("got %+v, %+v", k, u)
		}
	})
	t.Run("members see themselves and their own keys, admins all", func(t *testing.T) {
		_, err := s.own.User(ctx, "ann")
		wantKind(t, err, forge.KindNotFound)
		users, _, err := s.own.Users(ctx, store.Listing{})
		must(t, err)
		keys, _, err := s.own.Keys(ctx, store.Listing{})
		must(t, err)
		if len(users) != 1 || users[0].Name != "max" || len(keys) != 1 {
			t.Fatalf("got %+v, %+v", users, keys)
		}
		if users, _, err = s.admin.Users(ctx, store.Listing{}); err != nil || len(users) != 4 {
			t.Fatalf("got %+v, %v", users, err)
		}
	})
}

func first[T any](_ T, err error) error          { return err }
func second[T, U any](_ T, _ U, err error) error { return err }

func TestNobodyLocksOutTheSite(t *testing.T) {
	s := openSite(t)
	last := string(s.root.Key)
	for name, err := range map[string]error{
		"revoking the last key":      first(s.oper.RevokeKey(ctx, last, forge.WhyLeaked)),
		"disabling the last one":     first(s.oper.DisableUser(ctx, "root", forge.WhyLeft)),
		"demoting the last operator": first(s.oper.UpdateUser(ctx, "root", store.UserChange{Role: ptr(forge.RoleAdmin)})),
	} {
		t.Run(name, func(t *testing.T) {
			wantKind(t, err, forge.KindPrecondition)
			if forge.HintOf(err) == "" {
				t.Fatalf("%v has no way out", err)
			}
		})
	}
	t.Run("an operator who cannot come in does not count", func(t *testing.T) {
		_, err := s.oper.CreateUser(ctx, forge.User{Name: "deputy", Role: forge.RoleOperator})
		must(t, err)
		_, err = s.oper.DisableUser(ctx, "root", forge.WhyLeft)
		wantKind(t, err, forge.KindPrecondition)
	})
	t.Run("one who comes in by uid does", func(t *testing.T) {
		_, err := s.oper.UpdateUser(ctx, "deputy", store.UserChange{UnixUID: ptr(int64(7))})
		must(t, err)
		_, err = s.oper.DisableUser(ctx, "root", forge.WhyLeft)
		must(t, err)
		p, err := s.AuthenticatePeer(ctx, 7)
		must(t, err)
		_, err = s.For(p).UpdateUser(ctx, "deputy", store.UserChange{UnixUID: ptr(int64(store.Unset))})
		wantKind(t, err, forge.KindPrecondition)
		_, err = s.For(p).EnableUser(ctx, "root")
		must(t, err)
	})
	t.Run("a rotation leaves a key, and with a second one the first may go", func(t *testing.T) {
		_, secret, err := s.oper.RotateKey(ctx, last, 0)
		must(t, err)
		p := s.accepted(t, secret)
		_, _, err = s.For(p).CreateKey(ctx, store.NewKey{User: "deputy"})
		must(t, err)
		_, err = s.For(p).RevokeKey(ctx, string(p.Key), forge.WhyUnused)
		must(t, err)
	})
}

func TestLastUse(t *testing.T) {
	s := openSite(t)
	k, secret := s.make(t, store.NewKey{User: "max"})
	written := func() int64 {
		n, err := s.Int(ctx, `SELECT last_used_at FROM api_keys WHERE id = '`+string(k.ID)+`'`)
		must(t, err)
		return n
	}
	used := func() time.Time {
		got, err := s.own.Key(ctx, string(k.ID))
		must(t, err)
		if got.LastUsedAt == nil {
			return time.Time{}
		}
		return *got.LastUsedAt
	}
	if !used().IsZero() {
		t.Fatalf("used at %s before its first use", used())
	}
	before := s.Stats().Commits
	for range 100 {
		s.accepted(t, secret)
	}
	minute := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	if !used().Equal(minute) || written() != 0 || s.Stats().Commits != before {
		t.Fatalf("used at %s, written %d, %d commits", used(), written(), s.Stats().Commits-before)
	}
	s.FlushUsage()
	if written() != minute.UnixNano() || s.Stats().Commits != before+1 {
		t.Fatalf("written %d", written())
	}
	s.accepted(t, secret)
	s.FlushUsage()
	if s.Stats().Commits != before+1 {
		t.Fatal("a second use in the same minute was written")
	}
	s.pass(time.Minute)
	s.accepted(t, secret)
	if !used().Equal(minute.Add(time.Minute)) {
		t.Fatalf("used at %s", used())
	}
}

func TestBootstrapLetsInAgain(t *testing.T) {
	s := openSite(t)
	_, err := s.oper.DisableUser(ctx, "max", forge.WhyLeft)
	must(t, err)
	_, secret, err := s.CreateKey(ctx, s.max.Tenant, "max", forge.RoleOperator, "forged")
	must(t, err)
	if p := s.accepted(t, secret); p.Role != forge.RoleOperator {
		t.Fatalf("got %+v", p)
	}
	wantInt(t, s.DB, `SELECT count(*) FROM events WHERE type = 'user.changed' AND reason = 'bootstrap' AND actor = 'forged'`, 1)
}
