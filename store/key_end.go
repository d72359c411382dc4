package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// RotateKey makes a new key with the name, role and lifetime of an old one, which ends at once, or goes on working for overlap. The secret is
// returned this once. KindNotFound; KindForbidden for a key that can do more than the principal; KindPrecondition
// for one that has ended or was replaced, or whose user is disabled.
func (t *Tenant) RotateKey(ctx context.Context, id string, overlap time.Duration) (forge.Key, string, error) {
	const op = "key.rotate"
	return t.makeKey(ctx, op, func(tx *tx, secret string) (*keyRow, error) {
		old, err := tx.keyToChange(op, t.p, id)
		if err != nil {
			return nil, err
		}
		now := stampOf(tx.now)
		var newer string
		if err := tx.one(`SELECT coalesce(max(id), '') FROM api_keys WHERE replaces = ?`, []any{string(old.ID)}, &newer); err != nil {
			return nil, err
		}
		switch {
		case old.RevokedAt != 0 || old.expired(now):
			return nil, forge.Errorf(forge.KindPrecondition, op, "key %s… has ended already", old.Prefix).WithHint("forgectl key create %s makes a new one", old.User)
		case newer != "":
			return nil, forge.Errorf(forge.KindPrecondition, op, "key %s… was replaced already", old.Prefix).WithHint("forgectl key rotate %s replaces the newer one", newer)
		case old.UserDisabled != 0:
			return nil, disabledUser(op, old.User)
		}
		row := &keyRow{Tenant: old.Tenant, UserID: old.UserID, Role: old.acts(), Name: old.Name, User: old.User, UserRole: old.UserRole, Replaces: old.ID}
		if old.ExpiresAt != 0 {
			row.ExpiresAt = now + old.ExpiresAt - old.CreatedAt
		}
		if err := tx.insertKey(t.p, row, secret, forge.WhyRotated); err != nil {
			return nil, err
		}
		what := "which ends now"
		if overlap <= 0 {
			_, err = tx.exec(`UPDATE api_keys SET revoked_at = ? WHERE id = ?`, int64(now), string(old.ID))
		} else {
			until := now + stamp(overlap)
			if old.ExpiresAt != 0 {
				until = min(until, old.ExpiresAt)
			}
			what = "which works until " + until.time().Format(time.RFC3339)
			_, err = tx.exec(`UPDATE api_keys SET expires_at = ? WHERE id = ?`, int64(until), string(old.ID))
		}
		if err != nil {
			return nil, err
		}
		return row, tx.keyEvent(t.p, row, forge.EventKeyRotated, forge.WhyRotated, fmt.Sprintf("of %s replaces %s…, %s", row.User, old.Prefix, what))
	})
}

// RevokeKey ends a key at once; revoking it again changes nothing. KindNotFound; KindForbidden for a key that can do
// more than the principal; KindPrecondition for the last that opens the site to an operator; KindInvalid for
// a reason that does not exist.
func (t *Tenant) RevokeKey(ctx context.Context, id string, why forge.Why) (forge.Key, error) {
	const op = "key.revoke"
	if err := checkReason(op, why); err != nil {
		return forge.Key{}, err
	}
	var row *keyRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if row, err = tx.keyToChange(op, t.p, id); err != nil || row.RevokedAt != 0 {
				return id, err
			}
			return id, tx.revoke(t.p, row, why)
		}, func(ref string) (err error) { row, err = tx.key(t.p, ref); return err })
	})
	if err != nil {
		return forge.Key{}, err
	}
	t.db.keys.forget()
	return row.forge(&t.db.usage), nil
}

func (t *tx) revoke(p forge.Principal, row *keyRow, why forge.Why) error {
	now := stampOf(t.now)
	opened := row.acts() == forge.RoleOperator && row.UserDisabled == 0 && !row.expired(now)
	row.RevokedAt = now
	if _, err := t.exec(`UPDATE api_keys SET revoked_at = ? WHERE id = ?`, int64(now), string(row.ID)); err != nil {
		return err
	}
	if opened {
		var left int
		if err := t.one(`SELECT count(*) FROM api_keys k JOIN users u ON u.id = k.user_id WHERE u.role = 'operator' AND u.disabled_at = 0 AND `+validOperatorKey,
			[]any{int64(now)}, &left); err != nil {
			return err
		}
		if left == 0 {
			return forge.Errorf(forge.KindPrecondition, "key.revoke", "key %s… is the last that opens the site to an operator", row.Prefix).
				WithHint("forgectl key rotate %s replaces it at once", row.ID)
		}
	}
	return t.keyEvent(p, row, forge.EventKeyRevoked, why, "of "+row.User+" revoked")
}

func checkReason(op string, why forge.Why) error {
	if !slices.Contains(forge.RevokeReasons, why) {
		return forge.Invalidf("reason", "%q is not a reason for this; want one of %v", why, forge.RevokeReasons).WithOp(op)
	}
	return nil
}
