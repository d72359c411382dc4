package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	doctorTimeout = 5 * time.Second
	skewWarn      = 5 * time.Second // answers carry whole seconds
	skewFail      = 5 * time.Minute
)

// The marks of a check for people.
const (
	markOK      = "✓"
	markWarn    = "!"
	markFail    = "✗"
	markUnknown = "?"
)

var marks = map[api.CheckStatus]string{api.CheckOK: markOK, api.CheckWarn: markWarn, api.CheckFail: markFail, api.CheckUnknown: markUnknown}

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{Name: "doctor", Usage: "look at what commonly breaks, and say how to repair it",
		Description: "Looks at the configuration, the way to the server, clocks, versions and the key; for operators the server looks at itself as well. " +
			"Where the server of this host is down, at what it left.\n\nExit code 1 when a check failed; a warning is none.",
		Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.doctor(c.Context)
		}}
}

// doctor collects; the first check that the others rest on ends it.
func (a *app) doctor(ctx context.Context) error {
	a.timeout = doctorTimeout
	d := &examination{app: a}
	d.all(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	return a.printChecks(d.checks)
}

// printChecks ends with an error when one failed.
func (a *app) printChecks(checks []api.Check) error {
	p := a.printer()
	if p.mode == modeJSON {
		if err := p.done(jsonList(p, each(checks))); err != nil {
			return err
		}
	} else {
		t := p.table("STATUS", "CHECK", "FOUND")
		if !p.people() {
			t = p.table("STATUS", "CHECK", "FOUND", "FIX", "MEANS")
		}
		for _, c := range checks {
			if !p.people() {
				t.row(string(c.Status), c.Name, c.Found, c.Fix, c.Means)
				continue
			}
			t.row(marks[c.Status], c.Name, c.Found)
			if c.Means != "" {
				t.row("", "", c.Means)
			}
			if c.Fix != "" {
				t.row("", "", fixMark+c.Fix)
			}
		}
		t.flush()
		if err := p.done(nil); err != nil {
			return err
		}
	}
	failed := 0
	for _, c := range checks {
		if c.Status == api.CheckFail {
			failed++
		}
	}
	if failed > 0 {
		return forge.Errorf(forge.KindInternal, "", "%d of %s failed", failed, plural(len(checks), "check"))
	}
	return nil
}

// examination is one visit.
type examination struct {
	*app
	checks []api.Check
}

func (d *examination) say(name string, status api.CheckStatus, fix, found string, args ...any) {
	d.checks = append(d.checks, api.Check{Name: name, Status: status, Found: fmt.Sprintf(found, args...), Fix: fix})
}

func (d *examination) all(ctx context.Context) {
	if !d.config() {
		return
	}
	w, err := d.where()
	if err != nil {
		d.say("context", api.CheckFail, forge.HintOf(err), "%s", err)
		return
	}
	as := "no context"
	if w.context != "" {
		as = "context " + w.context
	}
	d.say("context", api.CheckOK, "", "%s, chosen by %s (%s)", w.server, w.from, as)
	cl, err := d.open(w)
	if err != nil {
		d.say("server", api.CheckFail, forge.HintOf(err), "%s", err)
		return
	}
	v, err := cl.Version(ctx)
	path, local := socketPath(w.server)
	if _, answered := cl.Ahead(); !d.reached(w, answered, err) {
		if local {
			d.stateDir(filepath.Dir(path))
		}
		return
	}
	d.clock(cl)
	if err == nil {
		d.versions(v)
	}
	d.key(ctx, cl, w)
}

// config looks at the file that holds keys.
func (d *examination) config() bool {
	path := d.configPath()
	_, err := d.loadConfig()
	switch _, there := os.Lstat(path); {
	case err != nil:
		d.say("config_file", api.CheckFail, forge.HintOf(err), "%s", err)
		return false
	case path == "" || errors.Is(there, fs.ErrNotExist):
		d.say("config_file", api.CheckOK, "", "there is none at %s; none is needed on the server's own host", path)
	default:
		d.say("config_file", api.CheckOK, "", "%s is yours alone, with %s", path, plural(len(d.cfg.Contexts), "context"))
	}
	return true
}

// reached says whether somebody answered, whatever the answer was.
func (d *examination) reached(w place, answered bool, err error) bool {
	path, local := socketPath(w.server)
	var verify *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case answered:
		d.say("server", api.CheckOK, "", "forged answers at %s", w.server)
		return true
	case errors.Is(err, fs.ErrPermission):
		d.say("server", api.CheckFail, "ask whoever runs forged for access to it, or use its HTTPS address: forgectl login https://HOST:7433", "%s", closedDoor(path))
	case local && errors.Is(err, fs.ErrNotExist):
		d.say("server", api.CheckFail, "systemctl start forged, or: forged serve --state-dir "+filepath.Dir(path), "there is no socket at %s: no forged has been started there", path)
	case local && errors.Is(err, syscall.ECONNREFUSED):
		d.say("server", api.CheckFail, "systemctl start forged, or: forged serve --state-dir "+filepath.Dir(path), "the socket %s was left by a forged that is gone: nobody listens", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		d.say("server", api.CheckFail, "on the server: systemctl status forged, and listen in its configuration", "nobody listens at %s", w.server)
	case errors.As(err, &dns):
		d.say("server", api.CheckFail, "correct the address: forgectl login SERVER", "the name %s is not known here", dns.Name)
	case errors.Is(err, client.ErrFingerprint):
		d.say("tls", api.CheckFail, "on the server: forged tls fingerprint; if it was changed: forgectl login "+w.server+" --fingerprint HEX", "%s", err)
	case errors.As(err, &verify):
		d.say("tls", api.CheckFail, "compare fingerprints with the operator, then: forgectl login "+w.server+" --fingerprint HEX, or --ca FILE", "the certificate of %s is not trusted: %s", w.server, verify.Err)
	case errors.Is(err, http.ErrSchemeMismatch):
		d.say("tls", api.CheckFail, "forgectl login "+strings.Replace(w.server, "https:", "http:", 1), "%s speaks no TLS", w.server)
	default:
		d.say("server", api.CheckFail, forge.HintOf(err), "%s", err)
	}
	return false
}

// closedDoor names the first part of a path that may not be passed.
func closedDoor(path string) string {
	for at := 1; at < len(path); at++ {
		if path[at] != '/' {
			continue
		}
		if _, err := os.Stat(path[:at] + "/."); errors.Is(err, fs.ErrPermission) {
			return fmt.Sprintf("the directory %s of the socket may not be entered by this user", path[:at])
		}
	}
	return fmt.Sprintf("the socket %s may not be opened by this user", path)
}

func (d *examination) clock(cl *client.Client) {
	ahead, known := cl.Ahead()
	off := ahead.Abs()
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	const fix = "timedatectl status, on both hosts: one of them does not follow a time server"
	switch {
	case !known:
		d.say("server_clock", api.CheckUnknown, "", "the server does not say what time it is")
	case off >= skewFail:
		d.say("server_clock", api.CheckFail, fix, "the server's clock is %s %s ours; keys expire and times are shown wrongly", span(off), word)
	case off >= skewWarn:
		d.say("server_clock", api.CheckWarn, fix, "the server's clock is %s %s ours", span(off), word)
	default:
		d.say("server_clock", api.CheckOK, "", "less than %s", span(skewWarn))
	}
}

// versions holds the two levels of the API against each other. A forged that names none is of the first.
func (d *examination) versions(v api.Version) {
	theirs, oldest := max(v.API, 1), max(v.Oldest, 1)
	both := fmt.Sprintf("forgectl %s (API level %d), forged %s (level %d, understands %d and newer)", version, api.Level, v.Version, theirs, oldest)
	switch {
	case api.Level < oldest:
		d.say("versions", api.CheckFail, "install the forgectl that came with forged "+v.Version, "this forgectl is too old: %s", both)
	case api.Level > theirs:
		d.say("versions", api.CheckWarn, "upgrade forged, or use the forgectl that came with it", "forged is older, so newer commands are refused: %s", both)
	default:
		d.say("versions", api.CheckOK, "", "%s", both)
	}
}

// key looks at who we are there, and lets the server look at itself where we may ask it to.
func (d *examination) key(ctx context.Context, cl *client.Client, w place) {
	who, err := cl.WhoAmI(ctx)
	if forge.KindOf(err) == forge.KindUnauthorized && err != nil {
		fix := "forgectl login " + w.server
		if w.key == "" {
			d.say("key", api.CheckFail, fix, "there is no key for %s, and it does not know this user otherwise", w.server)
		} else {
			d.say("key", api.CheckFail, fix+"; an admin makes a new key with: forgectl key create --user NAME", "the key is not accepted: it is wrong, expired or revoked, or its user is disabled")
		}
		return
	}
	if err != nil {
		d.say("key", api.CheckUnknown, forge.HintOf(err), "%s", err)
		return
	}
	k := who.Key
	switch {
	case k == nil:
		d.say("key", api.CheckOK, "", "known by %s, no key is needed", who.Via)
	case k.ExpiresAt == nil:
		d.say("key", api.CheckOK, "", "key %s works and never expires", k.ID)
	case k.ExpiresAt.Sub(d.Now()) < soon:
		d.say("key", api.CheckWarn, "forgectl key rotate "+string(k.ID), "key %s expires %s", k.ID, ago(d.Now(), *k.ExpiresAt))
	default:
		d.say("key", api.CheckOK, "", "key %s works and expires %s", k.ID, ago(d.Now(), *k.ExpiresAt))
	}
	d.say("role", api.CheckOK, "", "%s is %s of tenant %s", who.User, who.Role, who.Tenant.Name)
	if who.Role != forge.RoleOperator {
		d.say("server_checks", api.CheckUnknown, "", "only operators may ask the server to look at itself")
		return
	}
	checks, err := cl.Doctor(ctx)
	if err != nil {
		d.say("server_checks", api.CheckUnknown, forge.HintOf(err), "the server did not look at itself: %s", err)
	}
	d.checks = append(d.checks, checks...)
}
