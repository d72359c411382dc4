package main

import (
	"fmt"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	socketFile = "forged.sock"
	keyFile    = "operator.key"
	maxKeyFile = 512
)

// place is where a command goes, and as whom.
type place struct {
	server      string
	key         string
	tenant      string
	ca          string
	fingerprint string
	context     string // whose server it is; empty: of no context
	from        string // what said so, for people
}

// connect finds the server and the key: flags, then the environment, then the current context,
// then the state directory of a forged on this host.
func (a *app) connect() (*client.Client, error) {
	w, err := a.where()
	if err != nil {
		return nil, err
	}
	return a.open(w)
}

func (a *app) open(w place) (*client.Client, error) {
	if !plain(w.key) || strings.Contains(w.key, " ") {
		return nil, forge.Invalidf("key", "holds characters that no key has").WithHint("a key is one word; is it the right file?")
	}
	return client.New(client.Options{Address: w.server, Key: w.key, Tenant: w.tenant, CAFile: expandHome(w.ca, a.Getenv("HOME")), Fingerprint: w.fingerprint, UserAgent: "forgectl/" + version, Timeout: a.timeout})
}

// where resolves every word on its own. What a context holds is for its own server alone: its key
// must not travel to an address that somebody typed, or that a forgotten variable names.
func (a *app) where() (place, error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return place{}, err
	}
	w, ctx, err := a.pick(cfg)
	if err != nil {
		return w, err
	}
	asked := a.context != "" && ctx != nil // a context named on the command line outranks the environment
	if ctx != nil {
		w.ca, w.fingerprint = ctx.CA, ctx.Fingerprint
		if asked {
			w.tenant = ctx.Tenant
			if w.key, err = a.contextKey(ctx); err != nil && a.key == "" {
				return w, err
			}
		}
	}
	w.tenant = first(a.tenant, w.tenant, a.Getenv("FORGE_TENANT"))
	w.key = first(a.key, w.key, a.Getenv("FORGE_API_KEY"))
	if ctx != nil {
		w.tenant = first(w.tenant, ctx.Tenant)
		if w.key == "" {
			if w.key, err = a.contextKey(ctx); err != nil {
				return w, err
			}
		}
	}
	// The key file is for its own socket only, for the same reason.
	if path, local := socketPath(w.server); w.key == "" && local {
		if w.key, err = a.readKey(filepath.Join(filepath.Dir(path), keyFile)); err != nil {
			return w, err
		}
	}
	w.key = strings.TrimSpace(w.key)
	return w, nil
}

// pick finds the server, and the context that it belongs to.
func (a *app) pick(cfg *config) (place, *target, error) {
	name, from := "", ""
	switch {
	case a.server != "":
		name, from = a.server, "--server"
	case a.context != "":
		t, err := cfg.context(a.context, "context")
		if err != nil {
			return place{}, nil, err
		}
		return place{server: t.Server, context: a.context, from: "--context"}, t, nil
	case a.Getenv("FORGE_SERVER") != "":
		name, from = a.Getenv("FORGE_SERVER"), "FORGE_SERVER"
	case a.Getenv("FORGE_CONTEXT") != "":
		ctx := a.Getenv("FORGE_CONTEXT")
		t, err := cfg.context(ctx, "FORGE_CONTEXT")
		if err != nil {
			return place{}, nil, err
		}
		return place{server: t.Server, context: ctx, from: "FORGE_CONTEXT"}, t, nil
	case a.Getenv("FORGE_STATE") != "":
		abs, err := filepath.Abs(a.Getenv("FORGE_STATE"))
		if err != nil {
			return place{}, nil, fmt.Errorf("FORGE_STATE %q: %w", a.Getenv("FORGE_STATE"), err)
		}
		return place{server: "unix://" + filepath.Join(abs, socketFile), from: "FORGE_STATE"}, nil, nil
	case cfg.Current != "":
		return place{server: cfg.Contexts[cfg.Current].Server, context: cfg.Current, from: "the current context"}, cfg.Contexts[cfg.Current], nil
	default:
		s, err := a.localSocket()
		return place{server: s, from: "the default of this host"}, nil, err
	}
	w := place{server: name, from: from}
	// The address of the context in use, typed out, still is that context's.
	for _, n := range []string{a.context, a.Getenv("FORGE_CONTEXT"), cfg.Current} {
		if t := cfg.Contexts[n]; t != nil && sameServer(t.Server, name) {
			w.context = n
			return w, t, nil
		}
	}
	return w, nil, nil
}

func (a *app) localSocket() (string, error) {
	if d := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return "unix://" + filepath.Join(d, "forge", socketFile), nil
	}
	home := a.Getenv("HOME")
	if home == "" {
		return "", forge.Invalidf("server", "is not known: HOME is not set").WithHint("give it with --server or FORGE_SERVER")
	}
	return "unix://" + filepath.Join(home, ".local", "state", "forge", socketFile), nil
}

func (a *app) contextKey(t *target) (string, error) {
	if t.KeyFile == "" {
		return t.Key, nil
	}
	b, err := a.readSecret(expandHome(t.KeyFile, a.Getenv("HOME")), "key_file", maxKeyFile, true)
	if err == nil && len(b) == 0 {
		err = forge.Invalidf("key_file", "%s, which the context names, holds no key", t.KeyFile).WithHint("forgectl login %s", t.Server)
	}
	return strings.TrimSpace(string(b)), err
}

func expandHome(path, home string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && home != "" {
		return filepath.Join(home, rest)
	}
	return path
}

func sameServer(a, b string) bool {
	tidy := func(s string) string { return strings.TrimPrefix(strings.TrimRight(s, "/"), "unix://") }
	return tidy(a) == tidy(b)
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func socketPath(server string) (string, bool) {
	if p, ok := strings.CutPrefix(server, "unix://"); ok {
		return p, true
	}
	return server, strings.HasPrefix(server, "/")
}

// readKey reads the key that forged init left for this host's operator. Absent, or not ours to read,
// is no error: the server says what it wants, and may know us by our uid.
func (a *app) readKey(path string) (string, error) {
	b, err := a.readSecret(path, "key", maxKeyFile, false)
	return string(b), err
}
