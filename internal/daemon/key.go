package daemon

import (
	"context"
	"time"

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
	case p.Role != forge.RoleOperator && (r.Role != forge.RoleMember || r.User != p.User):
		return api.CreatedKey{}, forge.Errorf(forge.KindForbidden, "key.create", "a member makes member keys for itself (%s) only", p.User).
			WithHint("ask an operator")
	}
	k, secret, err := s.d.db.For(p).CreateKey(ctx, r.User, r.Role)
	return api.CreatedKey{Key: k, Secret: secret}, err
}

// Keys lists all keys of the tenant to operators, a member's own to members.
func (s keys) Keys(ctx context.Context, p forge.Principal, _ api.Listing) (api.List[forge.Key], error) {
	all, err := s.d.db.For(p).Keys(ctx)
	if err != nil || p.Role == forge.RoleOperator {
		return api.List[forge.Key]{Items: all}, err
	}
	own := all[:0]
	for _, k := range all {
		if k.User == p.User {
			own = append(own, k)
		}
	}
	return api.List[forge.Key]{Items: own}, nil
}

// Key shows a key that the principal may see.
func (s keys) Key(ctx context.Context, p forge.Principal, id string) (forge.Key, error) {
	visible, err := s.Keys(ctx, p, api.Listing{})
	if err != nil {
		return forge.Key{}, err
	}
	for _, k := range visible.Items {
		if string(k.ID) == id {
			return k, nil
		}
	}
	return forge.Key{}, forge.Errorf(forge.KindNotFound, "key.show", "there is no key %q", id).WithHint("forgectl key list")
}

// RotateKey replaces a key.
func (s keys) RotateKey(context.Context, forge.Principal, string, time.Duration) (api.CreatedKey, error) {
	return api.CreatedKey{}, errComing("key.rotate")
}

// RevokeKey takes effect with the next request. A key that a member may not see does not exist
// for it.
func (s keys) RevokeKey(ctx context.Context, p forge.Principal, id string, _ forge.Why) (forge.Key, error) {
	if _, err := s.Key(ctx, p, id); err != nil {
		return forge.Key{}, err
	}
	return s.d.db.For(p).RevokeKey(ctx, forge.KeyID(id))
}
