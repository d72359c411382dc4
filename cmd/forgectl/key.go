package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) keyCommand() *cli.Command {
	return &cli.Command{Name: "key", Usage: "make, list, rotate and revoke API keys", Subcommands: []*cli.Command{
		{Name: "create", Usage: "make a key; its secret is shown once", ArgsUsage: "[USER]",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "user", Usage: "whose key, instead of the argument", DefaultText: "yours"},
				&cli.StringFlag{Name: "role", Usage: joinAny(forge.Roles) + "; at most the user's", DefaultText: "the user's"},
				&cli.StringFlag{Name: "name", Usage: "what it is for, in your words"},
				&cli.StringFlag{Name: "expires", Usage: "when it ends by itself: 30d, 12h", DefaultText: "never"},
			},
			Action: func(c *cli.Context) error {
				r, err := parseKeyCreate(c)
				if err != nil {
					return err
				}
				return a.keyCreate(c.Context, r)
			}},
		{Name: "list", Usage: "list keys, never a secret", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.keyList(c.Context)
		}},
		{Name: "show", Usage: "show a key, never its secret", ArgsUsage: "KEY-ID", Action: func(c *cli.Context) error {
			args, err := positionals(c, "KEY-ID")
			if err != nil {
				return err
			}
			return a.keyShow(c.Context, args[0])
		}},
		{Name: "rotate", Usage: "replace a key by a new one with the same name, role and lifetime", ArgsUsage: "KEY-ID",
			Flags: []cli.Flag{&cli.StringFlag{Name: "overlap", Usage: "how long the old one goes on working: 1d, 2h", DefaultText: "not at all"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "KEY-ID")
				if err != nil {
					return err
				}
				overlap, err := lifetime(c, "overlap")
				if err != nil {
					return err
				}
				return a.keyRotate(c.Context, args[0], overlap)
			}},
		{Name: "revoke", Usage: "revoke a key at once and for good; runs that it submitted go on", ArgsUsage: "KEY-ID", Flags: []cli.Flag{reasonFlag()},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "KEY-ID")
				if err != nil {
					return err
				}
				why, err := reason(c)
				if err != nil {
					return err
				}
				return a.keyRevoke(c.Context, args[0], why)
			}},
	}}
}

func parseKeyCreate(c *cli.Context) (api.CreateKeyRequest, error) {
	r := api.CreateKeyRequest{User: c.String("user"), Name: c.String("name")}
	if c.Args().Present() {
		args, err := positionals(c, "USER")
		if err != nil {
			return r, err
		}
		if r.User != "" && r.User != args[0] {
			return r, forge.Invalidf("user", "is %q and %q at once", args[0], r.User)
		}
		r.User = args[0]
	}
	if c.IsSet("role") {
		role, err := parseRole(c.String("role"))
		if err != nil {
			return r, err
		}
		r.Role = role
	}
	d, err := lifetime(c, "expires")
	r.ExpiresIn = forge.Duration(d)
	return r, err
}

// lifetime reads a duration for which days are the natural unit, which Go's form does not have.
func lifetime(c *cli.Context, name string) (time.Duration, error) {
	if !c.IsSet(name) {
		return 0, nil
	}
	text := c.String(name)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := forge.ParseDuration(text)
	if err != nil {
		return 0, forge.Invalidf(name, "%w; or days (\"30d\")", err)
	}
	return d, nil
}

func (a *app) keyCreate(ctx context.Context, r api.CreateKeyRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.CreateKey(ctx, r)
	if err != nil {
		return err
	}
	return a.keyMade(k, "")
}

func (a *app) keyRotate(ctx context.Context, id string, overlap time.Duration) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.RotateKey(ctx, id, overlap)
	if err != nil {
		return err
	}
	old := "key " + id + " does not work any more"
	if overlap > 0 {
		old = "key " + id + " works for another " + span(overlap)
	}
	return a.keyMade(k, old)
}

// keyMade prints the secret alone on standard output, so that it can go straight into a
// file; what there is to say about it goes to standard error.
func (a *app) keyMade(k api.CreatedKey, old string) error {
	if k.Secret == "" {
		// The first answer was lost on the way, and a secret is said once.
		return forge.Errorf(forge.KindUnavailable, "", "key %s was made, and the answer with its secret was lost", k.ID).
			WithHint("forgectl key rotate %s gives it a new secret", k.ID)
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(k))
	}
	p.line("%s", clean(k.Secret))
	err := p.done(nil)
	about := fmt.Sprintf("key %s for %s, role %s", k.ID, k.User, k.Role)
	if k.ExpiresAt != nil {
		about += ", expires " + k.ExpiresAt.UTC().Format(time.RFC3339)
	}
	if old != "" {
		about += "; " + old
	}
	fmt.Fprintf(a.Err, "%s; this is the only time that its secret is shown\nhint: forgectl login, and give it there; or keep it in a file of mode 0600\n", clean(about))
	return err
}

func (a *app) keyList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, cl.Keys)
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("KEY", "USER", "ROLE", "PREFIX", "CREATED:2", "REVOKED", "EXPIRES", "USED:1", "NAME")
	for k, err := range all {
		if err != nil {
			return p.done(err)
		}
		t.row(string(k.ID), k.User, string(k.Role), k.Prefix, p.time(k.CreatedAt), p.timeOf(k.RevokedAt), p.timeOf(k.ExpiresAt), p.timeOf(k.LastUsedAt), k.Name)
	}
	t.flush()
	return p.done(nil)
}

func (a *app) keyShow(ctx context.Context, id string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.Key(ctx, id)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(k))
	}
	state := "works"
	switch {
	case k.RevokedAt != nil:
		state = "revoked"
	case k.ExpiresAt != nil && !k.ExpiresAt.After(p.now):
		state = "expired"
	}
	or := func(t *time.Time, none string) string {
		if t != nil {
			return p.time(*t)
		}
		if p.people() {
			return none
		}
		return ""
	}
	p.fields("key", string(k.ID), "state", state, "user", k.User, "role", string(k.Role), "name", k.Name, "prefix", k.Prefix, "created", p.time(k.CreatedAt),
		"expires", or(k.ExpiresAt, "never"), "used", or(k.LastUsedAt, "never"), "revoked", or(k.RevokedAt, ""), "replaces", string(k.Replaces))
	return p.done(nil)
}

func (a *app) keyRevoke(ctx context.Context, id string, why forge.Why) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.RevokeKey(ctx, id, why)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(k))
	case modeTSV:
		p.table().row(string(k.ID), "revoked")
	default:
		p.line("key %s of %s is revoked", clean(string(k.ID)), clean(k.User))
	}
	return p.done(nil)
}
