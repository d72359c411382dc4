package daemon

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// What the roles may do is in docs/adr/0011-who-may-do-what.md. The server refuses by the role that an operation
// needs at least; here is what depends on whom or what it is about. What depends on a row that others change
// meanwhile is decided in the store, in the write itself.

// least holds that the principal has a role at least.
func least(p forge.Principal, op string, role forge.Role, what string) error {
	if p.Role.Includes(role) {
		return nil
	}
	return forge.Errorf(forge.KindForbidden, op, "%s needs the role %s; yours is %s", what, role, p.Role).
		WithHint("forgectl whoami says who you are here; an admin of the tenant or an operator of the site can do it")
}

// mayGive holds that nobody gives a role above their own, and that operators are made at home: all of them are
// users of the tenant that forged init made, and no other tenant's admin has one among the people that it manages.
func mayGive(p forge.Principal, op string, role forge.Role) error {
	if role == "" {
		return nil
	}
	if !role.Includes(forge.RoleViewer) {
		return forge.Invalidf("role", "role %q does not exist; want one of %v", role, forge.Roles)
	}
	if !p.Role.Includes(role) {
		return (&forge.Error{Kind: forge.KindForbidden, Op: op, Field: "role", Err: fmt.Errorf("%s is above your own role, which is %s", role, p.Role)}).
			WithHint("ask somebody of that role")
	}
	if role == forge.RoleOperator && p.Home != p.Tenant {
		return (&forge.Error{Kind: forge.KindForbidden, Op: op, Field: "role", Err: fmt.Errorf("operators are users of your own tenant, not of one that you visit")}).
			WithHint("do the same without naming a tenant; an operator acts in every tenant")
	}
	return nil
}

// mayActOn holds that members act on their own runs only. Whose a run is never changes.
func (d *Daemon) mayActOn(ctx context.Context, p forge.Principal, op, run string) error {
	if p.Role.Includes(forge.RoleAdmin) {
		return nil
	}
	_, err := d.ownRun(ctx, p, op, run)
	return err
}

// ownRun finds a run that the principal may act on.
func (d *Daemon) ownRun(ctx context.Context, p forge.Principal, op, run string) (forge.Run, error) {
	if err := least(p, op, forge.RoleMember, "acting on runs"); err != nil {
		return forge.Run{}, err
	}
	r, err := d.db.For(p).Run(ctx, run)
	if err != nil || r.User == p.Actor() || p.Role.Includes(forge.RoleAdmin) {
		return r, err
	}
	return forge.Run{}, forge.Errorf(forge.KindForbidden, op, "run %d is %s's; members act on their own runs only", r.Number, r.User).
		WithHint("ask %s, or an admin of the tenant", r.User)
}

// maxPriority is the highest priority that the principal may ask for.
func (d *Daemon) maxPriority(p forge.Principal) int {
	switch {
	case p.MaxPriority != nil:
		return *p.MaxPriority
	case p.Role.Includes(forge.RoleAdmin):
		return forge.MaxPriority
	}
	return *d.live().cfg.Limits.MemberMaxPriority
}

// mayAskFor holds that nobody asks for a priority above their cap.
func (d *Daemon) mayAskFor(p forge.Principal, op string, priority int) error {
	limit := d.maxPriority(p)
	if priority <= limit {
		return nil
	}
	return (&forge.Error{Kind: forge.KindForbidden, Op: op, Field: "priority", Err: fmt.Errorf("%d is above the highest that you may ask for, %d", priority, limit)}).
		WithHint("ask for %d or less; an admin raises it: forgectl user edit %s --max-priority %d", limit, p.User, priority)
}
