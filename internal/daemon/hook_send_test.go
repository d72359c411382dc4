package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// program writes a script into a directory of the test's.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgramsAndMail(t *testing.T) {
	t.Setenv("FORGE_TEST_SECRET", "not for programs")
	post, err := os.ReadFile("testdata/sendmail")
	if err != nil {
		t.Fatal(err)
	}
	sendmail := program(t, string(post))
	seen := filepath.Join(t.TempDir(), "seen")
	r := startHooks(t, quickHooks, HooksConfig{
		Commands: map[string]HookCommandConfig{
			"keep":   {Argv: []string{program(t, `{ env; printf 'arg %s\n' "$@"; cat; } > `+seen+`.part; mv `+seen+`.part `+seen+"\n"), "a b; $(id)"}, Tenants: []string{forge.DefaultTenant}},
			"loud":   {Argv: []string{program(t, "head -c 100000 /dev/zero | tr '\\0' x; exit 3\n")}, Tenants: []string{forge.DefaultTenant}},
			"slow":   {Argv: []string{program(t, "sleep 60 & sleep 60\n")}, Tenants: []string{forge.DefaultTenant}, Timeout: forge.Duration(100 * time.Millisecond)},
			"gone":   {Argv: []string{"/nowhere/program"}, Tenants: []string{forge.DefaultTenant}},
			"others": {Argv: []string{"/bin/true"}, Tenants: []string{"other"}},
		},
		Sendmail: sendmail, MailFrom: "forge@example.org", MailDomains: []string{"example.org", "*.example.com"},
	})
	s := hooks{r.Daemon}
	test := func(t *testing.T, name string) forge.HookDelivery {
		t.Helper()
		r.hook(t, name, api.CreateHookRequest{Command: name})
		d, err := s.TestHook(t.Context(), r.op, api.HookName{Hook: name})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Run("a program gets the event, its own arguments and nothing of forged's environment", func(t *testing.T) {
		d := test(t, "keep")
		got, err := os.ReadFile(seen)
		if err != nil || d.State != forge.DeliveryDone {
			t.Fatalf("%v, %+v", err, d)
		}
		text := string(got)
		var body api.HookBody
		if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &body); err != nil || body.ID != d.ID || body.Event.Type != forge.EventHookTest {
			t.Errorf("%v in %s", err, text)
		}
		if !strings.Contains(text, "arg a b; $(id)\n") || strings.Contains(text, "not for programs") || !strings.Contains(text, "FORGE_DELIVERY="+d.ID+"\n") {
			t.Errorf("got %s", text)
		}
	})
	t.Run("of what it prints 4 KiB are kept, and its exit code", func(t *testing.T) {
		if d := test(t, "loud"); d.State != forge.DeliveryFailed || d.Status != 3 || len(d.Output) != 4<<10 {
			t.Errorf("%s, %d, %d bytes", d.State, d.Status, len(d.Output))
		}
	})
	t.Run("one that does not end is killed with all that it started", func(t *testing.T) {
		began := time.Now()
		if d := test(t, "slow"); !strings.Contains(d.Error, "did not end in its time") || time.Since(began) > 5*time.Second {
			t.Errorf("%+v after %s", d, time.Since(began))
		}
	})
	t.Run("one that is not there says so", func(t *testing.T) {
		if d := test(t, "gone"); !strings.Contains(d.Error, "no such file") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a tenant that is not named may not, and learns nothing of the program", func(t *testing.T) {
		_, err := s.CreateHook(t.Context(), r.op, api.CreateHookRequest{Name: "x", On: []string{"stage"}, Command: "others"})
		_, none := s.CreateHook(t.Context(), r.op, api.CreateHookRequest{Name: "x", On: []string{"stage"}, Command: "nobody"})
		if err == nil || none == nil || strings.ReplaceAll(err.Error(), "others", "nobody") != none.Error() {
			t.Errorf("%v\n%v", err, none)
		}
		if _, err := s.CreateHook(t.Context(), r.op, api.CreateHookRequest{Name: "x", On: []string{"node"}, Command: "others", Site: true}); err != nil {
			t.Errorf("the site itself: %v", err)
		}
	})
	t.Run("mail has one recipient and headers that no event can add to", func(t *testing.T) {
		r.hook(t, "ops", api.CreateHookRequest{Mail: "ops@example.org", On: []string{"stage"}})
		r.staged(t, r.op.Tenant, "bot@1 ist jetzt älter\r\nBcc: all@example.org\r\n\r\nhello")
		r.settled(t, "ops", forge.DeliveryDone)
		dir := filepath.Dir(sendmail)
		args, err := os.ReadFile(filepath.Join(dir, "args"))
		if err != nil || string(args) != "-i\n-f\nforge@example.org\n--\nops@example.org\n" {
			t.Errorf("%q, %v", args, err)
		}
		f, err := os.Open(filepath.Join(dir, "mail"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := mail.ReadMessage(f)
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil || !strings.Contains(subject, "älter Bcc: all@example.org hello") || m.Header.Get("Bcc") != "" || m.Header.Get("To") != "ops@example.org" || m.Header.Get("Auto-Submitted") != "auto-generated" {
			t.Errorf("%q, %v, %v", subject, err, m.Header)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil || !strings.Contains(string(body), "event    model.stage_changed\n") || !strings.Contains(string(body), "tenant   default\n") {
			t.Errorf("%v, %s", err, body)
		}
	})
	t.Run("addresses that are not allowed, or none", func(t *testing.T) {
		for _, to := range []string{"ops@elsewhere.org", "ops@example.com", "a@example.org,b@example.org", "ops@example.org\nBcc: x@example.org", "-oX@example.org", "Ops <ops@example.org>", "|x@example.org", "ops", ""} {
			if _, err := s.CreateHook(t.Context(), r.op, api.CreateHookRequest{Name: "x", On: []string{"stage"}, Mail: to}); forge.KindOf(err) != forge.KindInvalid {
				t.Errorf("%q: %v", to, err)
			}
		}
		if _, err := s.CreateHook(t.Context(), r.op, api.CreateHookRequest{Name: "deep", On: []string{"stage"}, Mail: "ops@it.example.com"}); err != nil {
			t.Error(err)
		}
	})
	t.Run("who may not, may not", func(t *testing.T) {
		p := r.op
		p.Role = forge.RoleAdmin
		if _, err := s.CreateHook(t.Context(), p, api.CreateHookRequest{Name: "x", On: []string{"node"}, Mail: "ops@example.org", Site: true}); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("an admin, for the site: %v", err)
		}
		if _, err := s.Hooks(t.Context(), p, api.HookListing{Site: true}); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("an admin lists the site's: %v", err)
		}
		p.Role = forge.RoleMember
		if _, err := s.CreateHook(t.Context(), p, api.CreateHookRequest{Name: "x", On: []string{"stage"}, Mail: "ops@example.org"}); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("a member: %v", err)
		}
	})
	t.Run("the site hears of nodes that are not well, and of no tenant", func(t *testing.T) {
		h, err := s.CreateHook(t.Context(), r.op, api.CreateHookRequest{Name: "sick", On: []string{"node", "budget"}, Mail: "ops@example.org", Site: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []forge.Event{{Type: forge.EventNodeChanged, Reason: "ready", Message: "n1 is ready"}, {Tenant: r.op.Tenant, Type: forge.EventBudgetSpent, Message: "spent"},
			{Type: forge.EventNodeChanged, Reason: "unknown", Message: "n1 is unknown"}} {
			if err := r.db.AddEvent(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		comes(t, "it is told", func() bool {
			l, err := s.HookDeliveries(t.Context(), r.op, api.HookName{Hook: string(h.ID), Site: true}, api.HookListing{})
			if err != nil {
				t.Fatal(err)
			}
			return len(l.Items) == 1 && l.Items[0].State == forge.DeliveryDone
		})
	})
}

func TestWhereWebhooksMayGo(t *testing.T) {
	cfg := HooksConfig{AllowHosts: []string{"hooks.slack.com", "*.example.org", "http://intranet:8080", "10.0.0.5", "[::1]:8443"}}
	for text, want := range map[string]struct{ named, ok bool }{
		"https://hooks.slack.com/services/T/B/x": {true, true}, "https://HOOKS.slack.com:443/": {true, true}, "http://hooks.slack.com/": {}, "https://hooks.slack.com:8443/": {},
		"https://a.example.org/": {false, true}, "https://a.b.example.org/": {false, true}, "https://example.org/": {}, "https://badexample.org/": {}, "https://a.example.org.evil.net/": {},
		"http://intranet:8080/x": {true, true}, "http://intranet/x": {}, "https://intranet:8080/": {}, "https://10.0.0.5/": {true, true}, "https://10.0.0.6/": {}, "https://[::1]:8443/": {true, true},
	} {
		u, err := cfg.parseHookURL(text)
		if (err == nil) != want.ok {
			t.Errorf("%s: %v", text, err)
		} else if err == nil {
			if named, _ := cfg.allows(u); named != want.named {
				t.Errorf("%s: named %t", text, named)
			}
		} else if strings.Contains(err.Error(), "services") {
			t.Errorf("the path is in %v", err)
		}
	}
	for _, text := range []string{"https://me:pw@hooks.slack.com/", "ftp://hooks.slack.com/", "hooks.slack.com", "https:///x", "https://hooks.slack.com/#x", "https://hooks.slack.com@evil.net/", "file:///etc/passwd", ""} {
		if _, err := cfg.parseHookURL(text); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, entry := range []string{"*", "*.org", "a*.example.org", "https://x/path", "ftp://x", "me@x", ""} {
		if _, err := parseHostRule(entry); err == nil {
			t.Errorf("%q is taken", entry)
		}
	}
}

func TestAddressesThatWebhooksDoNotReach(t *testing.T) {
	for text, want := range map[string][2]bool{ // not named, named
		"93.184.216.34": {true, true}, "2606:2800:220:1::1": {true, true},
		"127.0.0.1": {false, true}, "::1": {false, true}, "10.1.2.3": {false, true}, "172.16.0.1": {false, true}, "192.168.1.1": {false, true}, "169.254.169.254": {false, true},
		"fe80::1%eth0": {false, true}, "fd00::1": {false, true}, "100.64.0.1": {false, true}, "::ffff:127.0.0.1": {false, true}, "::ffff:10.0.0.1": {false, true}, "64:ff9b::7f00:1": {false, true}, "2002:7f00:1::": {false, true},
		"0.0.0.0": {false, false}, "::": {false, false}, "224.0.0.1": {false, false}, "ff02::1": {false, false},
	} {
		a := netip.MustParseAddr(text)
		if got := [2]bool{reachable(a, false), reachable(a, true)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := &herald{times: quickHooks}
	// A name that led elsewhere when it was looked at, and here when it is dialled, is what localhost is to a rule with a *.
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if c, err := h.dial(HooksConfig{}, false)(t.Context(), "tcp", net.JoinHostPort("localhost", port)); !errors.Is(err, errOwnNetwork) {
		t.Errorf("%v, %v", c, err)
	}
	c, err := h.dial(HooksConfig{}, true)(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatalf("a host that is named: %v", err)
	}
	_ = c.Close()
}

func TestWhenAFailedTryIsRepeated(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	h := &herald{times: defaultHookTimes, chance: func() float64 { return 0.5 }}
	d := func(tries int, age time.Duration) forge.HookDelivery {
		return forge.HookDelivery{Tries: tries, MadeAt: now.Add(-age)}
	}
	for name, c := range map[string]struct {
		d    forge.HookDelivery
		o    outcome
		want time.Duration // 0: never
	}{
		"the first":                                 {d(0, 0), outcome{}, 10 * time.Second},
		"the third":                                 {d(2, 0), outcome{}, 40 * time.Second},
		"never later than an hour":                  {d(40, 0), outcome{}, time.Hour},
		"not after a day":                           {d(30, 24*time.Hour), outcome{}, 0},
		"a refusal twice":                           {d(1, 0), outcome{refuse: true}, 20 * time.Second},
		"a refusal three times":                     {d(2, 0), outcome{refuse: true}, 0},
		"as late as it is asked for":                {d(0, 0), outcome{after: 5 * time.Minute}, 5 * time.Minute},
		"not as early as it is asked for":           {d(5, 0), outcome{after: time.Second}, 320 * time.Second},
		"an hour at most, however long it asks for": {d(0, 0), outcome{after: 1000 * time.Hour}, time.Hour},
	} {
		at := h.next(now, c.d, c.o)
		if got := at.Sub(now); c.want == 0 != at.IsZero() || c.want != 0 && got != c.want {
			t.Errorf("%s: %s, want %s", name, at, c.want)
		}
	}
	for text, want := range map[string]time.Duration{"120": 2 * time.Minute, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0, "-5": 0, "soon": 0, "": 0} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", text, got, want)
		}
	}
}

// TestTheSnippetOfTheDocsTellsGoodFromBad runs what docs/hooks.md gives receivers.
func TestTheSnippetOfTheDocsTellsGoodFromBad(t *testing.T) {
	page, err := os.ReadFile("../../docs/hooks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```python\n")
	snippet, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/hooks.md has no Python in it")
	}
	s := signer{root: []byte("root")}
	body := []byte(`{"id":"01X","text":"ä"}`)
	stamp, good := s.sign("01H", time.Now(), body)
	old, late := s.sign("01H", time.Now().Add(-10*time.Minute), body)
	_, other := s.sign("01J", time.Now(), body)
	type call struct{ Name, Stamp, Signature, Body, Want string }
	calls := []call{
		{"what was signed", stamp, good, string(body), "True"},
		{"another body", stamp, good, string(body) + " ", "False"},
		{"another secret", stamp, other, string(body), "False"},
		{"what is old", old, late, string(body), "False"},
		{"another time", old, good, string(body), "False"},
		{"no signature", stamp, "", string(body), "False"},
		{"no time", "", good, string(body), "False"},
	}
	in, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-I", "-S", "-c", snippet+`
import json, sys
for c in json.load(sys.stdin):
    print(verified(sys.argv[1], c["Stamp"], c["Signature"], c["Body"].encode()))
`, s.secret("01H"))
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.CombinedOutput()
	got := strings.Fields(string(out))
	if err != nil || len(got) != len(calls) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, c := range calls {
		if got[i] != c.Want {
			t.Errorf("%s: %s", c.Name, got[i])
		}
	}
}
