package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// keys implements api.Keys.
type keys struct{ d *Daemon }

func (s keys) CreateKey(ctx context.Context, p forge.Principal, r api.CreateKeyRequest) (api.CreatedKey, error) {
	if err := forge.CheckName(r.User); err != nil {
		return api.CreatedKey{}, forge.Invalidf("user", "%v", err)
	}
	if r.Role == "" {
		r.Role = forge.RoleMember
	}
	switch {
	case r.Role != forge.RoleMember && r.Role != forge.RoleOperator:
		return api.CreatedKey{}, forge.Invalidf("role", "%q: want member or operator", r.Role)
	case p.Role != forge.RoleOperator && (r.Role != forge.RoleMember || r.User != p.User):
		return api.CreatedKey{}, forge.Errorf(forge.KindForbidden, "key.create", "a member makes member keys for itself (%s) only", p.User).
			WithHint("ask an operator")
	}
	k, secret, err := s.d.db.For(p).CreateKey(ctx, r.User, r.Role)
	return api.CreatedKey{Key: k, Secret: secret}, err
}

// Keys lists all keys of the tenant to operators, a member's own to members.
func (s keys) Keys(ctx context.Context, p forge.Principal) ([]forge.Key, error) {
	all, err := s.d.db.For(p).Keys(ctx)
	if err != nil || p.Role == forge.RoleOperator {
		return all, err
	}
	own := all[:0]
	for _, k := range all {
		if k.User == p.User {
			own = append(own, k)
		}
	}
	return own, nil
}

// RevokeKey takes effect with the next request. A key that a member may not see does not exist
// for it.
func (s keys) RevokeKey(ctx context.Context, p forge.Principal, id string) (forge.Key, error) {
	if p.Role != forge.RoleOperator {
		visible, err := s.Keys(ctx, p)
		if err != nil {
			return forge.Key{}, err
		}
		found := false
		for _, k := range visible {
			found = found || string(k.ID) == id
		}
		if !found {
			return forge.Key{}, forge.Errorf(forge.KindNotFound, "key.revoke", "no key %q", id)
		}
	}
	return s.d.db.For(p).RevokeKey(ctx, forge.KeyID(id))
}
