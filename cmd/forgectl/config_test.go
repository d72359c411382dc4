package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// atHome is an app whose configuration is a file of this user.
func atHome(t *testing.T, text string) (*app, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if text != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := quiet()
	a.UID = os.Getuid()
	a.Getenv = func(k string) string { return map[string]string{"FORGE_CONFIG": path, "HOME": filepath.Dir(path)}[k] }
	return a, path
}

const oneContext = "current: a\ncontexts: {a: {server: 'http://x:1', key: secret}}\n"

func TestAConfigurationThatIsNotOursAloneIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, a *app, path string)
		says string
	}{
		{"readable by the group", func(t *testing.T, _ *app, path string) { must(t, os.Chmod(path, 0o640)) }, "can be read by others (mode 0640)"},
		{"readable by all", func(t *testing.T, _ *app, path string) { must(t, os.Chmod(path, 0o604)) }, "can be read by others (mode 0604)"},
		{"of another user", func(_ *testing.T, a *app, _ string) { a.UID++ }, "belongs to uid"},
		{"a link of another user to a file of ours", func(t *testing.T, a *app, path string) {
			must(t, os.Rename(path, path+".real"))
			must(t, os.Symlink(path+".real", path))
			a.UID++
		}, "is a link that belongs to uid"},
		{"a directory", func(t *testing.T, _ *app, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, "is not a file"},
		{"too large", func(t *testing.T, _ *app, path string) {
			must(t, os.WriteFile(path, []byte(strings.Repeat("#", maxConfig+1)), 0o600))
		}, "is larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, path := atHome(t, oneContext)
			c.do(t, a, path)
			_, err := a.loadConfig()
			if forge.KindOf(err) != forge.KindInvalid || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
	t.Run("a link of ours to a file of ours is good, and stays", func(t *testing.T) {
		a, path := atHome(t, oneContext)
		must(t, os.Rename(path, path+".real"))
		must(t, os.Symlink(path+".real", path))
		must(t, a.changeConfig(func(c *config) error { c.Contexts["b"] = &target{Server: "http://y:1"}; return nil }))
		st, err := os.Lstat(path)
		must(t, err)
		if st.Mode()&os.ModeSymlink == 0 {
			t.Error("the link is gone")
		}
		b, _ := os.ReadFile(path + ".real")
		if !strings.Contains(string(b), "http://y:1") {
			t.Errorf("it holds %s", b)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAConfigurationIsDecodedStrictly(t *testing.T) {
	for text, says := range map[string]string{
		"currrent: a\n": `line 1: unknown field "currrent"`,
		"contexts:\n  a: {server: x}\n  a: {server: y}\n":       "line 3",
		"contexts: {a: {key: x}}\n":                             "names no server",
		"contexts: {a: {server: x, key: x, key_file: y}}\n":     "both key and key_file",
		"contexts: {a: {server: x}}\ncurrent: b\n":              `"b" is not among the contexts a`,
		"contexts: [a]\n":                                       "line 1",
		"contexts: {a: {server: x, password: y}}\ncurrent: a\n": `unknown field "password"`,
	} {
		_, err := parseConfig("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", text, err, says)
		}
	}
}

func TestAFailedChangeLeavesTheConfigurationAsItWas(t *testing.T) {
	a, path := atHome(t, oneContext)
	no := errors.New("no")
	if err := a.changeConfig(func(c *config) error { c.Current = ""; return no }); !errors.Is(err, no) {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != oneContext {
		t.Errorf("it holds %s", b)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.config-*"); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestTwoChangesAtOnceLoseNone(t *testing.T) {
	first, path := atHome(t, oneContext)
	errs := make(chan error, 20)
	for i := range 20 {
		a := *first
		go func() {
			errs <- a.changeConfig(func(c *config) error { c.Contexts[string(rune('b'+i))] = &target{Server: "http://x:1"}; return nil })
		}()
	}
	for range 20 {
		must(t, <-errs)
	}
	b, _ := os.ReadFile(path)
	if c, err := parseConfig(path, b); err != nil || len(c.Contexts) != 21 {
		t.Errorf("%d contexts, %v", len(c.Contexts), err)
	}
}

// A server with a certificate that nobody signed, as forged makes one.
func startTLS(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	f := apitest.New(scriptNow)
	ts := httptest.NewUnstartedServer(server.New(f.Services(), server.Options{Version: "1"}))
	ts.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that were broken off
	ts.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	ts.StartTLS()
	t.Cleanup(ts.Close)
	return ts, client.Fingerprint(ts.Certificate().Raw)
}

func login(t *testing.T, a *app, answer, key string, args ...string) (int, string) {
	t.Helper()
	var errOut strings.Builder
	a.Err, a.Out, a.In = &errOut, io.Discard, strings.NewReader(answer)
	if answer != "" {
		a.Secret = func() (string, error) { return key, nil }
	} else {
		a.In = strings.NewReader(key)
	}
	code := run(context.Background(), append([]string{"forgectl", "login"}, args...), a.Streams)
	return code, errOut.String()
}

func TestACertificateThatNobodySignedIsPinned(t *testing.T) {
	ts, print := startTLS(t)
	t.Run("not by itself", func(t *testing.T) {
		a, path := atHome(t, "")
		code, said := login(t, a, "", apitest.MemberSecret, ts.URL)
		if code != 2 || !strings.Contains(said, print) || !strings.Contains(said, "--fingerprint") {
			t.Errorf("exit %d: %s", code, said)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("something was kept")
		}
	})
	t.Run("not when the person says no", func(t *testing.T) {
		a, _ := atHome(t, "")
		if code, said := login(t, a, "no\n", apitest.MemberSecret, ts.URL); code != 2 || !strings.Contains(said, "is this what the operator says it is?") {
			t.Errorf("exit %d: %s", code, said)
		}
	})
	for name, how := range map[string][]string{"when the person says yes": {"yes\n", ts.URL}, "by its fingerprint": {"", ts.URL, "--fingerprint", strings.ToLower(strings.ReplaceAll(print, ":", ""))}} {
		t.Run(name, func(t *testing.T) {
			a, _ := atHome(t, "")
			if code, said := login(t, a, how[0], apitest.MemberSecret, how[1:]...); code != 0 {
				t.Fatalf("exit %d: %s", code, said)
			}
			if code := run(t.Context(), []string{"forgectl", "whoami"}, a.Streams); code != 0 {
				t.Errorf("whoami exits %d", code)
			}
			// A server with another certificate at that address is not given the key.
			must(t, a.changeConfig(func(c *config) error {
				for _, x := range c.Contexts {
					x.Fingerprint = strings.Repeat("AB:", 31) + "AB"
				}
				return nil
			}))
			var said strings.Builder
			a.Err = &said
			if code := run(t.Context(), []string{"forgectl", "whoami"}, a.Streams); code != 8 || !strings.Contains(said.String(), "another certificate than the one that is pinned") {
				t.Errorf("with another pinned whoami exits %d: %s", code, said.String())
			}
		})
	}
	t.Run("a wrong fingerprint sends no key", func(t *testing.T) {
		a, _ := atHome(t, "")
		asked := 0
		inner := ts.Config.Handler
		ts.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; inner.ServeHTTP(w, r) })
		if code, said := login(t, a, "", apitest.MemberSecret, ts.URL, "--fingerprint", strings.Repeat("00", 32)); code != 8 || asked > 0 {
			t.Errorf("exit %d, %d requests: %s", code, asked, said)
		}
	})
}
