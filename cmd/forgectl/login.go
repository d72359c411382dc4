package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// soon is when an expiry becomes worth a word.
const soon = 7 * 24 * time.Hour

func (a *app) loginCommand() *cli.Command {
	return &cli.Command{Name: "login", Usage: "keep a server and the key for it; reads the key from the terminal or standard input", ArgsUsage: "[SERVER]",
		Description: "forgectl login https://gpu.example.org:7433\n\nThe key is checked before anything is kept. It is never taken from the command line, where ps and the shell's history show it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "name of the context", DefaultText: "the server's host, or local"},
			&cli.StringFlag{Name: "key-file", Usage: "a file of mode 0600 that holds the key; it is named, not copied"},
			&cli.StringFlag{Name: "ca", Usage: "file of certificates that may sign the server's"},
			&cli.StringFlag{Name: "fingerprint", Usage: "SHA-256 of the server's certificate, as its operator says it"},
			&cli.BoolFlag{Name: "munge", Usage: "no key: let munge say who you are, and get a key that ends by itself"},
			&cli.StringFlag{Name: "socket", Usage: "with --munge: socket of munged", DefaultText: "munge's own"},
		},
		Action: func(c *cli.Context) error {
			server := ""
			if c.Args().Present() {
				args, err := positionals(c, "SERVER")
				if err != nil {
					return err
				}
				server = args[0]
			}
			how := keyFrom{munge: c.Bool("munge"), socket: c.String("socket")}
			switch {
			case how.socket != "" && !how.munge:
				return forge.Invalidf("socket", "is munged's, for --munge; the server's own is its address: unix:///path")
			case how.munge && (a.key != "" || c.String("key-file") != ""):
				return forge.Invalidf("munge", "makes a key; leave --key and --key-file out")
			}
			t := target{Server: server, KeyFile: c.String("key-file"), CA: c.String("ca"), Fingerprint: c.String("fingerprint"), Tenant: a.tenant}
			return a.login(c.Context, c.String("name"), t, how)
		}}
}

// keyFrom says how a login comes by its key.
type keyFrom struct {
	munge  bool
	socket string // of munged
}

func (a *app) login(ctx context.Context, name string, t target, how keyFrom) error {
	if err := a.aim(&t); err != nil {
		return err
	}
	if name == "" {
		name = first(a.context, contextName(t.Server))
	}
	if err := forge.CheckName(name); err != nil {
		return forge.Invalidf("name", "%w", err)
	}
	if err := a.trust(ctx, &t); err != nil {
		return err
	}
	var key string
	var err error
	if how.munge {
		key, err = a.mungeKey(ctx, t, how.socket)
	} else {
		key, err = a.loginKey(&t)
	}
	if err != nil {
		return err
	}
	cl, err := a.open(place{server: t.Server, key: key, tenant: t.Tenant, ca: t.CA, fingerprint: t.Fingerprint})
	if err != nil {
		return err
	}
	who, err := cl.WhoAmI(ctx)
	if err != nil {
		return err
	}
	if t.KeyFile == "" {
		t.Key = key
	}
	if err := a.changeConfig(func(c *config) error {
		if c.Contexts == nil {
			c.Contexts = map[string]*target{}
		}
		c.Contexts[name], c.Current = &t, name
		return nil
	}); err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		err = p.json(contextView(name, &t, true))
	case modeTSV:
		p.table().row(name, t.Server, who.User, string(who.Role), who.Tenant.Name)
	default:
		p.line("logged in to %s as %s (%s of tenant %s); context %s is in use", clean(t.Server), clean(who.User), who.Role, clean(who.Tenant.Name), clean(name))
	}
	a.warnExpiry(who.Key)
	a.warnOverruled(name)
	return p.done(err)
}

// aim completes the address.
func (a *app) aim(t *target) error {
	if t.Server == "" {
		t.Server = a.server
	}
	if t.Server == "" {
		w, err := a.where()
		if err != nil {
			return err
		}
		t.Server = w.server
	}
	for _, path := range []*string{&t.KeyFile, &t.CA} {
		if *path == "" {
			continue
		}
		abs, err := absolute(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	if u, err := url.Parse(t.Server); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
		fmt.Fprintf(a.Err, "warning: %s is not encrypted: everyone on the way can read the key; an operator turns on TLS with listen.tls in forged's configuration\n", clean(t.Server))
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// contextName is what a server is called when nobody says: its host.
func contextName(server string) string {
	if _, local := socketPath(server); local {
		return "local"
	}
	if u, err := url.Parse(server); err == nil && u.Hostname() != "" {
		return strings.ToLower(strings.Trim(strings.Map(func(r rune) rune {
			if r == ':' || r == '%' {
				return '-'
			}
			return r
		}, u.Hostname()), "-"))
	}
	return "default"
}

// loginKey asks for the key: the file, the terminal without echo, or a line of standard input.
func (a *app) loginKey(t *target) (string, error) {
	if a.key != "" {
		fmt.Fprintln(a.Err, "warning: a key on the command line can be seen in ps and in the shell's history; it is safer on standard input")
		return a.key, nil
	}
	if t.KeyFile != "" {
		return a.contextKey(t)
	}
	socket, local := socketPath(t.Server)
	var key string
	var err error
	if a.Secret != nil {
		hint := ""
		if local {
			hint = " (empty: who you are on this host)"
		}
		fmt.Fprintf(a.Err, "key for %s%s: ", clean(t.Server), hint)
		key, err = a.Secret()
		fmt.Fprintln(a.Err)
	} else {
		key, err = bufio.NewReader(io.LimitReader(a.In, maxKeyFile)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		return "", forge.Invalidf("key", "cannot be read: %w", err)
	}
	key = strings.TrimSpace(key)
	if key != "" || !local {
		if key == "" {
			return "", forge.Invalidf("key", "is empty").WithHint("forgectl login %s < FILE, or --key-file FILE; an admin makes one with: forgectl key create --user NAME", t.Server)
		}
		return key, nil
	}
	// On the unix socket the kernel says who we are; the operator's own key file counts as given.
	if path := filepath.Join(filepath.Dir(socket), keyFile); t.KeyFile == "" {
		if key, err = a.readKey(path); err == nil && key != "" {
			t.KeyFile = path
		}
	}
	return key, err
}

func (a *app) warnExpiry(k *forge.Key) {
	if k == nil || k.ExpiresAt == nil || k.ExpiresAt.Sub(a.Now()) > soon {
		return
	}
	if k.Name == api.MungeKeyName { // short by design: a word only near its end
		if k.ExpiresAt.Sub(a.Now()) < mungeSoon {
			fmt.Fprintf(a.Err, "warning: this key expires %s\nhint: forgectl login --munge\n", ago(a.Now(), *k.ExpiresAt))
		}
		return
	}
	fmt.Fprintf(a.Err, "warning: this key expires %s\nhint: forgectl key rotate %s\n", ago(a.Now(), *k.ExpiresAt), clean(string(k.ID)))
}

// warnOverruled says when a variable of this shell goes before what was just chosen.
func (a *app) warnOverruled(name string) {
	for _, v := range []string{"FORGE_SERVER", "FORGE_CONTEXT", "FORGE_API_KEY", "FORGE_STATE"} {
		if set := a.Getenv(v); set != "" && !(v == "FORGE_CONTEXT" && set == name) {
			fmt.Fprintf(a.Err, "warning: %s is set in this shell and goes before the context\nhint: unset %s, or give --context %s\n", v, v, clean(name))
			return
		}
	}
}

func (a *app) logoutCommand() *cli.Command {
	return &cli.Command{Name: "logout", Usage: "forget the key of a context; the key itself goes on working", ArgsUsage: "[CONTEXT]", Action: func(c *cli.Context) error {
		name := a.context
		if c.Args().Present() {
			args, err := positionals(c, "CONTEXT")
			if err != nil {
				return err
			}
			name = args[0]
		}
		return a.logout(name)
	}}
}

func (a *app) logout(name string) error {
	had := false
	err := a.changeConfig(func(c *config) error {
		if name = first(name, c.Current); name == "" {
			return forge.Errorf(forge.KindPrecondition, "", "no context is in use").WithHint("forgectl context list")
		}
		t, err := c.context(name, "context")
		if err != nil {
			return err
		}
		had = t.Key != "" || t.KeyFile != ""
		t.Key, t.KeyFile = "", ""
		return nil
	})
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		err = p.json(map[string]any{"context": name, "had_key": had})
	case modeTSV:
		p.table().row(name, "logged_out")
	default:
		p.line("context %s has no key any more", clean(name))
		p.line("next: the key still works wherever else it is kept; to end it: forgectl key revoke KEY-ID")
	}
	return p.done(err)
}

func (a *app) whoamiCommand() *cli.Command {
	return &cli.Command{Name: "whoami", Usage: "say where you are, and who you are there", Action: func(c *cli.Context) error {
		if _, err := positionals(c); err != nil {
			return err
		}
		return a.whoami(c.Context)
	}}
}

// whoamiOut is the server's answer and where it came from.
type whoamiOut struct {
	api.WhoAmI
	Server  string `json:"server"`
	Context string `json:"context,omitempty"`
}

func (a *app) whoami(ctx context.Context) error {
	w, err := a.where()
	if err != nil {
		return err
	}
	cl, err := a.open(w)
	if err != nil {
		return err
	}
	who, err := cl.WhoAmI(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(whoamiOut{who, w.server, w.context}))
	}
	key, expires := "", ""
	if k := who.Key; k != nil {
		key = string(k.ID)
		if k.ExpiresAt != nil {
			expires = p.time(*k.ExpiresAt)
		}
	}
	p.fields("user", who.User, "role", string(who.Role), "tenant", who.Tenant.Name, "home", who.Home, "known by", string(who.Via), "key", key, "expires", expires,
		"max priority", fmt.Sprint(who.MaxPriority), "server", w.server, "context", w.context, "chosen by", w.from)
	a.warnExpiry(who.Key)
	return p.done(nil)
}
