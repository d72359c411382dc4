package apitest

import (
	"cmp"
	"context"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (f *Fake) keyByID(id forge.KeyID) *forge.Key {
	for i := range f.keys {
		if f.keys[i].ID == id {
			return &f.keys[i]
		}
	}
	return nil
}

func (f *Fake) userOf(k *forge.Key) *forge.User {
	for i := range f.users {
		if u := &f.users[i]; u.Tenant == k.Tenant && u.Name == k.User {
			return u
		}
	}
	return nil
}

// lesser is what a key acts as: a user's role bounds those of its keys.
func lesser(a, b forge.Role) forge.Role {
	if a.Includes(b) {
		return b
	}
	return a
}

func (f *Fake) ended(k *forge.Key) bool {
	return k.RevokedAt != nil || k.ExpiresAt != nil && !k.ExpiresAt.After(f.now)
}

// Authenticate implements api.Auth.
func (f *Fake) Authenticate(_ context.Context, secret string) (forge.Principal, error) {
	leave, err := f.enter("Authenticate")
	if err != nil {
		return forge.Principal{}, err
	}
	defer leave()
	k := f.keyByID(f.secrets[secret])
	if k == nil || f.ended(k) || f.userOf(k).DisabledAt != nil {
		return forge.Principal{}, forge.Errorf(forge.KindUnauthorized, "", "the API key is not valid")
	}
	u := f.userOf(k)
	return forge.Principal{Tenant: u.Tenant, Home: u.Tenant, User: u.Name, UserID: u.ID, Key: k.ID, Role: lesser(k.Role, u.Role), MaxPriority: u.MaxPriority, Via: forge.ViaKey}, nil
}

// mayGive holds that nobody gives a role above their own, and that operators are made at home.
func mayGive(p forge.Principal, role forge.Role) error {
	refused := func(format string, args ...any) error {
		return (&forge.Error{Kind: forge.KindForbidden, Field: "role", Err: fmt.Errorf(format, args...)}).WithHint("ask somebody of that role")
	}
	switch {
	case role == "":
	case !p.Role.Includes(role):
		return refused("%s is above your own role, which is %s", role, p.Role)
	case role == forge.RoleOperator && p.Home != p.Tenant:
		return refused("operators are users of your own tenant, not of one that you visit")
	}
	return nil
}

// CreateKey implements api.Keys.
func (f *Fake) CreateKey(_ context.Context, p forge.Principal, r api.CreateKeyRequest) (api.CreatedKey, error) {
	leave, err := f.enter("CreateKey")
	if err != nil {
		return api.CreatedKey{}, err
	}
	defer leave()
	admin := p.Role.Includes(forge.RoleAdmin)
	if r.User == "" && p.Home == p.Tenant {
		r.User = p.User
	}
	if err := forge.CheckName(r.User); err != nil {
		return api.CreatedKey{}, forge.Invalidf("user", "%w", err)
	}
	if r.User != p.User && !admin {
		return api.CreatedKey{}, (&forge.Error{Kind: forge.KindForbidden, Field: "user", Err: fmt.Errorf("a %s makes keys for itself (%s) only", p.Role, p.User)}).
			WithHint("ask an admin of the tenant")
	}
	if err := mayGive(p, r.Role); err != nil {
		return api.CreatedKey{}, err
	}
	u := f.userOf(&forge.Key{Tenant: p.Tenant, User: r.User})
	if u == nil {
		made := forge.User{ID: forge.UserID(f.id("U")), Tenant: p.Tenant, Name: r.User, Role: cmp.Or(r.Role, forge.RoleMember), CreatedAt: f.now}
		f.users = append(f.users, made)
		u = &made
	}
	role := cmp.Or(r.Role, lesser(u.Role, p.Role))
	switch {
	case u.ID != p.UserID && !p.Role.Includes(u.Role):
		return api.CreatedKey{}, forge.Errorf(forge.KindForbidden, "key.create", "user %s is %s; only somebody of that role may do this", u.Name, u.Role)
	case !u.Role.Includes(role):
		return api.CreatedKey{}, forge.Invalidf("role", "%s is above the role of user %s, which is %s", role, u.Name, u.Role)
	case u.DisabledAt != nil:
		return api.CreatedKey{}, forge.Errorf(forge.KindPrecondition, "key.create", "user %s is disabled", u.Name).WithHint("forgectl user enable %s", u.Name)
	}
	k := forge.Key{Tenant: p.Tenant, User: u.Name, Name: r.Name, Role: role}
	if r.ExpiresIn > 0 {
		at := f.now.Add(r.ExpiresIn.D())
		k.ExpiresAt = &at
	}
	return f.addKey(p, k), nil
}

func (f *Fake) addKey(p forge.Principal, k forge.Key) api.CreatedKey {
	k.ID, k.Prefix, k.CreatedAt = forge.KeyID(f.id("K")), "fk_new", f.now
	secret := "fk_new_" + string(k.ID)
	f.keys, f.secrets[secret] = append(f.keys, k), k.ID
	f.remember(p, string(k.ID))
	return api.CreatedKey{Key: k, Secret: secret}
}

func (f *Fake) seesKey(p forge.Principal, k forge.Key) bool {
	return k.Tenant == p.Tenant && (p.Role.Includes(forge.RoleAdmin) || k.User == p.User)
}

// Keys implements api.Keys: oldest first.
func (f *Fake) Keys(_ context.Context, p forge.Principal, l api.Listing) (api.List[forge.Key], error) {
	leave, err := f.enter("Keys")
	if err != nil {
		return api.List[forge.Key]{}, err
	}
	defer leave()
	var seen []forge.Key
	for _, k := range f.keys {
		if f.seesKey(p, k) {
			seen = append(seen, k)
		}
	}
	return pageOf(seen, func(k forge.Key) string { return string(k.ID) }, l.Limit, l.Cursor, bound(p, "keys"))
}

// Key implements api.Keys.
func (f *Fake) Key(_ context.Context, p forge.Principal, id string) (forge.Key, error) {
	leave, err := f.enter("Key")
	if err != nil {
		return forge.Key{}, err
	}
	defer leave()
	k := f.keyByID(forge.KeyID(id))
	if k == nil || !f.seesKey(p, *k) {
		return forge.Key{}, notFound("key", id)
	}
	return *k, nil
}

// keyToChange finds a key that the principal may end: none that can do more than it.
func (f *Fake) keyToChange(p forge.Principal, id string) (*forge.Key, error) {
	k := f.keyByID(forge.KeyID(id))
	if k == nil || !f.seesKey(p, *k) {
		return nil, notFound("key", id)
	}
	if u := f.userOf(k); !p.Role.Includes(lesser(k.Role, u.Role)) || u.ID != p.UserID && !p.Role.Includes(u.Role) {
		return nil, forge.Errorf(forge.KindForbidden, "key.revoke", "key %s… acts as %s for %s; you act as %s", k.Prefix, k.Role, k.User, p.Role)
	}
	return k, nil
}

// RotateKey implements api.Keys.
func (f *Fake) RotateKey(_ context.Context, p forge.Principal, id string, overlap time.Duration) (api.CreatedKey, error) {
	leave, err := f.enter("RotateKey")
	if err != nil {
		return api.CreatedKey{}, err
	}
	defer leave()
	old, err := f.keyToChange(p, id)
	if err != nil {
		return api.CreatedKey{}, err
	}
	if f.ended(old) {
		return api.CreatedKey{}, forge.Errorf(forge.KindPrecondition, "key.rotate", "key %s… has ended already", old.Prefix).WithHint("forgectl key create %s makes a new one", old.User)
	}
	k := forge.Key{Tenant: old.Tenant, User: old.User, Name: old.Name, Role: lesser(old.Role, f.userOf(old).Role), Replaces: old.ID}
	if old.ExpiresAt != nil {
		at := f.now.Add(old.ExpiresAt.Sub(old.CreatedAt))
		k.ExpiresAt = &at
	}
	if until := f.now.Add(overlap); overlap <= 0 {
		old.RevokedAt = &f.now
	} else if old.ExpiresAt == nil || until.Before(*old.ExpiresAt) {
		old.ExpiresAt = &until
	}
	return f.addKey(p, k), nil
}

// RevokeKey implements api.Keys.
func (f *Fake) RevokeKey(_ context.Context, p forge.Principal, id string, _ forge.Why) (forge.Key, error) {
	leave, err := f.enter("RevokeKey")
	if err != nil {
		return forge.Key{}, err
	}
	defer leave()
	k, err := f.keyToChange(p, id)
	if err != nil {
		return forge.Key{}, err
	}
	if k.RevokedAt == nil {
		if k.Role == forge.RoleOperator && f.operatorKeys() == 1 {
			return forge.Key{}, forge.Errorf(forge.KindPrecondition, "key.revoke", "key %s… is the last that opens the site to an operator", k.Prefix).
				WithHint("forgectl key rotate %s replaces it at once", k.ID)
		}
		k.RevokedAt = &f.now
	}
	f.remember(p, string(k.ID))
	return *k, nil
}

func (f *Fake) operatorKeys() (n int) {
	for i := range f.keys {
		k := &f.keys[i]
		if u := f.userOf(k); k.Role == forge.RoleOperator && u.Role == forge.RoleOperator && u.DisabledAt == nil && !f.ended(k) {
			n++
		}
	}
	return n
}

// LoginMunge implements api.Logins: the fake's munged vouches for uid 1000 in the one credential "MUNGE:1000:".
func (f *Fake) LoginMunge(_ context.Context, r api.LoginMungeRequest) (api.CreatedKey, error) {
	leave, err := f.enter("LoginMunge")
	if err != nil {
		return api.CreatedKey{}, err
	}
	defer leave()
	for i := range f.users {
		if u := &f.users[i]; r.Credential == "MUNGE:1000:" && u.UnixUID != nil && *u.UnixUID == 1000 {
			until := f.now.Add(12 * time.Hour)
			return f.addKey(forge.Principal{}, forge.Key{Tenant: u.Tenant, User: u.Name, Name: api.MungeKeyName, Role: u.Role, ExpiresAt: &until}), nil
		}
	}
	return api.CreatedKey{}, forge.Errorf(forge.KindUnauthorized, "", "the credential is not valid")
}
