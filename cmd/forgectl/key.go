package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) keyCommand() *cli.Command {
	return &cli.Command{Name: "key", Usage: "make, list and revoke API keys", Subcommands: []*cli.Command{
		{Name: "create", Usage: "make a key for a user; its secret is shown once", ArgsUsage: "USER",
			Flags: []cli.Flag{&cli.StringFlag{Name: "role", Usage: "member or operator", Value: string(forge.RoleMember)}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "USER")
				if err != nil {
					return err
				}
				return a.keyCreate(c.Context, api.CreateKeyRequest{User: args[0], Role: forge.Role(c.String("role"))})
			}},
		{Name: "list", Usage: "list keys, never a secret", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.keyList(c.Context)
		}},
		{Name: "revoke", Usage: "revoke a key at once and for good", ArgsUsage: "KEY-ID", Action: func(c *cli.Context) error {
			args, err := positionals(c, "KEY-ID")
			if err != nil {
				return err
			}
			return a.keyRevoke(c.Context, args[0])
		}},
	}}
}

// keyCreate prints the secret alone on standard output, so that it can go straight into a
// file; what there is to say about it goes to standard error.
func (a *app) keyCreate(ctx context.Context, r api.CreateKeyRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.CreateKey(ctx, r)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(k))
	}
	p.line("%s", clean(k.Secret))
	err = p.done(nil)
	fmt.Fprintf(a.Err, "key %s for %s, role %s; this is the only time that its secret is shown\nhint: export FORGE_API_KEY=…, or keep it in a file of mode 0600\n",
		clean(string(k.ID)), clean(k.User), clean(string(k.Role)))
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
	t := p.table("KEY", "USER", "ROLE", "PREFIX", "CREATED", "REVOKED")
	for k, err := range all {
		if err != nil {
			return p.done(err)
		}
		var revoked time.Time
		if k.RevokedAt != nil {
			revoked = *k.RevokedAt
		}
		t.row(string(k.ID), k.User, string(k.Role), k.Prefix, p.time(k.CreatedAt), p.time(revoked))
	}
	t.flush()
	return p.done(nil)
}

func (a *app) keyRevoke(ctx context.Context, id string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.RevokeKey(ctx, id, forge.WhyRequested)
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
