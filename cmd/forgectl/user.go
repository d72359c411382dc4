package main

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) userCommand() *cli.Command {
	about := []cli.Flag{
		&cli.StringFlag{Name: "role", Usage: joinAny(forge.Roles)},
		&cli.StringFlag{Name: "max-priority", Usage: "highest priority that the user may ask for, 0 to 100; default gives the site's back"},
		&cli.StringFlag{Name: "unix-uid", Usage: "the uid that is this user on the unix socket; none takes it away"},
	}
	return &cli.Command{Name: "user", Usage: "make users, change what they may do; for admins", Subcommands: []*cli.Command{
		{Name: "create", Usage: "make a user of the tenant", ArgsUsage: "USER", Flags: about, Action: func(c *cli.Context) error {
			args, change, err := parseUser(c)
			if err != nil {
				return err
			}
			r := api.CreateUserRequest{Name: args[0], MaxPriority: known(change.MaxPriority), UnixUID: known(change.UnixUID)}
			if change.Role != nil {
				r.Role = *change.Role
			}
			return a.userDone(c.Context, "made", "forgectl key create --user "+args[0], func(ctx context.Context, cl *client.Client) (forge.User, error) { return cl.CreateUser(ctx, r) })
		}},
		{Name: "list", Usage: "list users", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.userList(c.Context)
		}},
		{Name: "show", Usage: "show a user", ArgsUsage: "USER", Action: func(c *cli.Context) error {
			args, err := positionals(c, "USER")
			if err != nil {
				return err
			}
			return a.userShow(c.Context, args[0])
		}},
		{Name: "edit", Usage: "change what a user may do; what is not given stays", ArgsUsage: "USER", Flags: append(slices.Clone(about), boundFlags()...), Action: func(c *cli.Context) error {
			args, change, err := parseUser(c)
			if err != nil {
				return err
			}
			for flag, v := range map[string]**int{"max-gpus": &change.MaxGPUs, "max-running": &change.MaxRunning, "max-queued": &change.MaxQueued} {
				if *v, err = boundOf(c, flag); err != nil {
					return err
				}
			}
			if change == (api.UpdateUserRequest{}) {
				return forge.Invalidf("", "nothing to change was given").WithHint("give --role, --max-priority, --unix-uid, --max-gpus, --max-running or --max-queued")
			}
			return a.userDone(c.Context, "changed", "", func(ctx context.Context, cl *client.Client) (forge.User, error) {
				return cl.UpdateUser(ctx, args[0], change)
			})
		}},
		{Name: "disable", Usage: "let none of a user's keys work, until it is enabled again; its runs go on", ArgsUsage: "USER", Flags: []cli.Flag{reasonFlag()},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "USER")
				if err != nil {
					return err
				}
				why, err := reason(c)
				if err != nil {
					return err
				}
				return a.userDone(c.Context, "disabled", "forgectl user enable "+args[0], func(ctx context.Context, cl *client.Client) (forge.User, error) {
					return cl.DisableUser(ctx, args[0], why)
				})
			}},
		{Name: "enable", Usage: "let a disabled user in again", ArgsUsage: "USER", Action: func(c *cli.Context) error {
			args, err := positionals(c, "USER")
			if err != nil {
				return err
			}
			return a.userDone(c.Context, "enabled", "", func(ctx context.Context, cl *client.Client) (forge.User, error) { return cl.EnableUser(ctx, args[0]) })
		}},
	}}
}

func reasonFlag() cli.Flag {
	return &cli.StringFlag{Name: "reason", Usage: "why, for the audit trail: " + joinAny(forge.RevokeReasons), Value: string(forge.WhyRequested)}
}

func reason(c *cli.Context) (forge.Why, error) {
	why := forge.Why(c.String("reason"))
	if !slices.Contains(forge.RevokeReasons, why) {
		return "", forge.Invalidf("reason", "%q is no reason; there are %s%s", why, joinAny(forge.RevokeReasons), didYouMean(string(why), texts(forge.RevokeReasons)))
	}
	return why, nil
}

func texts[T ~string](items []T) []string {
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = string(it)
	}
	return out
}

// unset is how a change says "take it away" on the wire.
const unset = -1

func parseUser(c *cli.Context) ([]string, api.UpdateUserRequest, error) {
	var r api.UpdateUserRequest
	args, err := positionals(c, "USER")
	if err != nil {
		return nil, r, err
	}
	if c.IsSet("role") {
		role, err := parseRole(c.String("role"))
		if err != nil {
			return nil, r, err
		}
		r.Role = &role
	}
	if c.IsSet("max-priority") {
		n, err := strconv.Atoi(c.String("max-priority"))
		if c.String("max-priority") == "default" {
			n, err = unset, nil
		} else if err != nil || n < forge.MinPriority || n > forge.MaxPriority {
			return nil, r, forge.Invalidf("max-priority", "%q is no priority; want %d to %d, or default", c.String("max-priority"), forge.MinPriority, forge.MaxPriority)
		}
		r.MaxPriority = &n
	}
	if c.IsSet("unix-uid") {
		n, err := strconv.ParseUint(c.String("unix-uid"), 10, 32)
		uid := int64(n)
		if c.String("unix-uid") == "none" {
			uid = unset
		} else if err != nil {
			return nil, r, forge.Invalidf("unix-uid", "%q is no uid; want a number, or none", c.String("unix-uid")).WithHint("id -u NAME says it")
		}
		r.UnixUID = &uid
	}
	return args, r, nil
}

func parseRole(s string) (forge.Role, error) {
	if !slices.Contains(forge.Roles, forge.Role(s)) {
		return "", forge.Invalidf("role", "%q is no role; there are %s%s", s, joinAny(forge.Roles), didYouMean(s, texts(forge.Roles)))
	}
	return forge.Role(s), nil
}

// known drops what means "none" where there is nothing to take away yet.
func known[T int | int64](v *T) *T {
	if v == nil || *v < 0 {
		return nil
	}
	return v
}

func (a *app) userDone(ctx context.Context, what, next string, do func(context.Context, *client.Client) (forge.User, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	u, err := do(ctx, cl)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(u))
	case modeTSV:
		p.table().row(string(u.ID), u.Name, string(u.Role), what)
	default:
		p.line("user %s (%s) is %s", clean(u.Name), clean(string(u.Role)), what)
		if next != "" {
			p.line("next: %s", clean(next))
		}
	}
	return p.done(nil)
}

func (a *app) userList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, cl.Users)
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("USER", "ROLE", ">MAX_PRIORITY", ">UID", "CREATED:2", "DISABLED", "ID:1")
	for u, err := range all {
		if err != nil {
			return p.done(err)
		}
		t.row(u.Name, string(u.Role), p.orDash(priorityText(u.MaxPriority)), p.orDash(uidText(u.UnixUID)), p.time(u.CreatedAt), p.timeOf(u.DisabledAt), string(u.ID))
	}
	t.flush()
	return p.done(nil)
}

func priorityText(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func uidText(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// timeOf is time for one that may be missing.
func (p *printer) timeOf(t *time.Time) string {
	if t == nil {
		return p.time(time.Time{})
	}
	return p.time(*t)
}

func (a *app) userShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	u, err := cl.User(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(u))
	}
	disabled := ""
	if u.DisabledAt != nil {
		disabled = p.time(*u.DisabledAt)
	}
	p.fields("user", u.Name, "id", string(u.ID), "role", string(u.Role), "max priority", priorityText(u.MaxPriority), "unix uid", uidText(u.UnixUID),
		"max gpus", bounded(u.Quota.MaxGPUs), "max running", bounded(u.Quota.MaxRunning), "max queued", bounded(u.Quota.MaxQueued), "created", p.time(u.CreatedAt), "disabled", disabled)
	return p.done(nil)
}
