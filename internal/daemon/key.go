package daemon

import (
	"context"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

const (
	maxKeyLife    = 10 * 365 * 24 * time.Hour
	maxKeyOverlap = 30 * 24 * time.Hour
	maxKeyName    = 64
)

// keys implements api.Keys.
type keys struct{ d *Daemon }

// CreateKey makes a key for who asks, or for another user when an admin asks.
func (s keys) CreateKey(ctx context.Context, p forge.Principal, r api.CreateKeyRequest) (api.CreatedKey, error) {
	const op = "key.create"
	if r.User == "" {
		if p.Home != p.Tenant {
			return api.CreatedKey{}, forge.Invalidf("user", "you are no user of this tenant; name one").WithHint("forgectl user list")
		}
		r.User = p.User
	}
	if err := forge.CheckName(r.User); err != nil {
		return api.CreatedKey{}, forge.Invalidf("user", "%v", err)
	}
	if r.User != p.User && !p.Role.Includes(forge.RoleAdmin) {
		return api.CreatedKey{}, (&forge.Error{Kind: forge.KindForbidden, Op: op, Field: "user", Err: fmt.Errorf("a %s makes keys for itself (%s) only", p.Role, p.User)}).
			WithHint("ask an admin of the tenant")
	}
	if err := mayGive(p, op, r.Role); err != nil {
		return api.CreatedKey{}, err
	}
	if err := checkText("name", r.Name, maxKeyName); err != nil {
		return api.CreatedKey{}, err
	}
	if d := r.ExpiresIn.D(); d < 0 || d > maxKeyLife {
		return api.CreatedKey{}, forge.Invalidf("expires_in", "%s: want more than 0 and at most %s, or nothing for a key that does not expire", r.ExpiresIn, forge.Duration(maxKeyLife))
	}
	k, secret, err := s.d.db.For(p).CreateKey(ctx, store.NewKey{User: r.User, Role: r.Role, Name: r.Name, Life: r.ExpiresIn.D()})
	return api.CreatedKey{Key: k, Secret: secret}, err
}

func (s keys) Keys(ctx context.Context, p forge.Principal, l api.Listing) (api.List[forge.Key], error) {
	items, next, err := s.d.db.For(p).Keys(ctx, store.Listing(l))
	return api.List[forge.Key]{Items: items, Next: next}, err
}

func (s keys) Key(ctx context.Context, p forge.Principal, id string) (forge.Key, error) {
	return s.d.db.For(p).Key(ctx, id)
}

// RotateKey replaces a key.
func (s keys) RotateKey(ctx context.Context, p forge.Principal, id string, overlap time.Duration) (api.CreatedKey, error) {
	if overlap < 0 || overlap > maxKeyOverlap {
		return api.CreatedKey{}, forge.Invalidf("overlap", "%s: want 0 to %s", forge.Duration(overlap), forge.Duration(maxKeyOverlap))
	}
	k, secret, err := s.d.db.For(p).RotateKey(ctx, id, overlap)
	return api.CreatedKey{Key: k, Secret: secret}, err
}

// RevokeKey takes effect with the next request. A key that a member may not see does not exist for it.
func (s keys) RevokeKey(ctx context.Context, p forge.Principal, id string, why forge.Why) (forge.Key, error) {
	return s.d.db.For(p).RevokeKey(ctx, id, why)
}
