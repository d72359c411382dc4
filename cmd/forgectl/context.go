package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

func (a *app) contextCommand() *cli.Command {
	one := func(do func(string) error) cli.ActionFunc {
		return func(c *cli.Context) error {
			args, err := positionals(c, "CONTEXT")
			if err != nil {
				return err
			}
			return do(args[0])
		}
	}
	return &cli.Command{Name: "context", Usage: "choose between the servers that you logged in to", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list contexts, never a key", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.contextList()
		}},
		{Name: "use", Usage: "use a context from now on", ArgsUsage: "CONTEXT", Action: one(a.contextUse)},
		{Name: "show", Usage: "show a context, never its key", ArgsUsage: "[CONTEXT]", Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return a.contextShow("")
			}
			return one(a.contextShow)(c)
		}},
		{Name: "rm", Usage: "forget a context and its key", ArgsUsage: "CONTEXT", Action: one(a.contextRemove)},
	}}
}

// contextOut is a context as it is shown: of a key only the first characters, which tell keys apart.
type contextOut struct {
	Name        string `json:"name"`
	Current     bool   `json:"current"`
	Server      string `json:"server"`
	Key         string `json:"key_prefix,omitempty"`
	KeyFile     string `json:"key_file,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	CA          string `json:"ca,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// keyPrefix is as much of a key as the server shows of it.
const keyPrefix = 12

func contextView(name string, t *target, current bool) contextOut {
	out := contextOut{Name: name, Current: current, Server: t.Server, KeyFile: t.KeyFile, Tenant: t.Tenant, CA: t.CA, Fingerprint: t.Fingerprint}
	if len(t.Key) > 2*keyPrefix {
		out.Key = t.Key[:keyPrefix]
	}
	return out
}

func (c contextOut) keyText() string {
	if c.Key != "" {
		return c.Key + "…"
	}
	return c.KeyFile
}

func (a *app) contextList() error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	var all []contextOut
	for _, n := range cfg.names() {
		all = append(all, contextView(n, cfg.Contexts[n], n == cfg.Current))
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(all)))
	}
	t := p.table("CURRENT", "CONTEXT", "SERVER", "TENANT", "KEY:2", "TRUST:1")
	for _, c := range all {
		mark := map[bool]string{true: "*"}[c.Current]
		t.row(mark, c.Name, c.Server, p.orDash(c.Tenant), p.orDash(c.keyText()), p.orDash(trustText(c)))
	}
	t.flush()
	a.nothing(p, len(all), "no contexts", "forgectl login SERVER")
	return p.done(nil)
}

func trustText(c contextOut) string {
	switch {
	case c.Fingerprint != "":
		return "sha256 " + short(c.Fingerprint) + "…"
	case c.CA != "":
		return c.CA
	case strings.HasPrefix(c.Server, "https:"):
		return "system"
	}
	return ""
}

func (a *app) contextUse(name string) error {
	var out contextOut
	if err := a.changeConfig(func(c *config) error {
		t, err := c.context(name, "context")
		if err != nil {
			return err
		}
		c.Current = name
		out = contextView(name, t, true)
		return nil
	}); err != nil {
		return err
	}
	err := a.contextSaid(out, "in use", "context "+name+" is in use: "+out.Server)
	a.warnOverruled(name)
	return err
}

func (a *app) contextRemove(name string) error {
	var out contextOut
	if err := a.changeConfig(func(c *config) error {
		t, err := c.context(name, "context")
		if err != nil {
			return err
		}
		out = contextView(name, t, false)
		delete(c.Contexts, name)
		if c.Current == name {
			c.Current = ""
		}
		return nil
	}); err != nil {
		return err
	}
	return a.contextSaid(out, "removed", "context "+name+" is forgotten; its key still works wherever else it is kept")
}

func (a *app) contextSaid(c contextOut, word, sentence string) error {
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(c))
	case modeTSV:
		p.table().row(c.Name, strings.ReplaceAll(word, " ", "_"))
	default:
		p.line("%s", clean(sentence))
	}
	return p.done(nil)
}

func (a *app) contextShow(name string) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	if name = first(name, a.context, cfg.Current); name == "" {
		return forge.Errorf(forge.KindPrecondition, "", "no context is in use").WithHint("forgectl context use NAME, or forgectl login SERVER")
	}
	t, err := cfg.context(name, "context")
	if err != nil {
		return err
	}
	c := contextView(name, t, name == cfg.Current)
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(c))
	}
	p.fields("context", c.Name, "server", c.Server, "key", c.keyText(), "tenant", c.Tenant, "ca", c.CA, "fingerprint", c.Fingerprint, "config", a.configPath())
	return p.done(nil)
}
