package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

// house is a real daemon with a door to the network, and what it logged.
type house struct {
	*Daemon
	secret, addr string
	log          *lines
}

// openHouse serves with short patience: what takes seconds on a site takes milliseconds here.
func openHouse(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	dir := shortDir(t)
	made, err := Init(t.Context(), dir, "admin", NoUID)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{StateDir: dir, Policy: PolicyConfig{Preset: "fair"}, Listen: ListenConfig{Socket: filepath.Join("/tmp", fmt.Sprintf("h%d.sock", time.Now().UnixNano())), TCP: "127.0.0.1:0"}}
	for _, f := range change {
		f(&c)
	}
	cfg, err := c.resolve()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{secret: made.Secret, log: &lines{}}
	fake := executortest.NewFake(fakeNode(1))
	h.Daemon, err = New(t.Context(), Options{Config: cfg, Log: zerolog.New(h.log), Version: "test",
		Clusters: []Cluster{{Name: "local", Kind: KindDirect, Executor: fake, Files: fake, RunRoot: dir + "/runs", PollEvery: 50 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	h.http.ReadHeaderTimeout, h.http.ReadTimeout = 300*time.Millisecond, 300*time.Millisecond
	h.addr = h.doors[doorTCP].Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

// raw sends bytes and gives back what comes until the daemon closes the connection, or a second
// has been enough.
func (h *house) raw(t *testing.T, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			break // it has closed already: what it said is what counts
		}
	}
	b, _ := io.ReadAll(c)
	return string(b)
}

func (h *house) get(path string, more ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: " + h.secret + "\r\n" + strings.Join(more, "") + "\r\n"
}

func (h *house) post(path, body string, more ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: %s\r\nContent-Length: %d\r\n%s\r\n%s", path, h.secret, len(body), strings.Join(more, ""), body)
}

func TestHostileRequestsAreAnsweredAndBounded(t *testing.T) {
	h := openHouse(t)
	chunk := "10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n"
	for _, c := range []struct {
		name   string
		send   []string
		status string // of the answer; empty: the connection is closed
		says   string
	}{
		{"a header of a megabyte", []string{h.get("/v1/version", "X-Big: "+strings.Repeat("x", 1<<20)+"\r\n")}, "431", ""},
		{"headers that never end", []string{"GET /v1/version HTTP/1.1\r\nHost: x\r\n", "X-A: 1\r\n"}, "", ""},
		{"a body that never comes", []string{"POST /v1/runs HTTP/1.1\r\nHost: x\r\nX-API-Key: " + h.secret + "\r\nContent-Length: 100\r\n\r\n{"}, "408", "in time"},
		{"a chunked body without end", append([]string{"POST /v1/runs HTTP/1.1\r\nHost: x\r\nX-API-Key: " + h.secret + "\r\nTransfer-Encoding: chunked\r\n\r\n"}, slices.Repeat([]string{chunk}, 40)...), "413", "1048576"},
		{"a length and chunks", []string{"POST /v1/runs HTTP/1.1\r\nHost: x\r\nX-API-Key: " + h.secret + "\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n"}, "4", ""},
		{"two lengths", []string{"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"}, "400", ""},
		{"a million levels of JSON", []string{h.post("/v1/runs", strings.Repeat("[", 1e6))}, "422", "32 levels"},
		{"a key given twice in JSON", []string{h.post("/v1/runs", `{"recipe":"a","recipe":"b"}`)}, "422", `"recipe\" is given twice`},
		{"NUL in a body", []string{h.post("/v1/tenants", `{"name":"a\u0000b"}`)}, "422", "U+0000"},
		{"an escape sequence in a body", []string{h.post("/v1/tenants", `{"name":"\u001b[2J"}`)}, "422", "U+001B"},
		{"NUL in a query", []string{h.get("/v1/runs?name=%00")}, "422", "U+0000"},
		{"bytes that are no UTF-8 in a query", []string{h.get("/v1/runs?name=%ff")}, "422", "not UTF-8"},
		{"a query with a broken escape", []string{h.get("/v1/runs?name=%zz")}, "422", "hexadecimal"},
		{"a parameter given twice", []string{h.get("/v1/runs?limit=1&limit=2")}, "422", "2 times"},
		{"a page of a billion", []string{h.get("/v1/runs?limit=1000000000")}, "422", "1000"},
		{"a page of minus one", []string{h.get("/v1/runs?limit=-1")}, "422", ">= 1"},
		{"1e999999", []string{h.post("/v1/runs", `{"recipe":"x","nodes":1e999999}`)}, "422", "1e999999"},
		{"a cursor that is garbage", []string{h.get("/v1/runs?cursor=AAAA%21%21")}, "422", "cursor"},
		{"an encoded slash in a name", []string{h.get("/v1/runs/..%2f..%2fetc")}, "404", ""},
		{"dots in a path", []string{h.get("/v1/runs/%2e%2e/keys")}, "404", ". or .. parts"},
		{"an empty part in a path", []string{h.get("//v1/runs")}, "404", ". or .. parts"},
		{"a control character in a path", []string{h.get("/v1/runs/%1b%5b2J")}, "422", "U+001B"},
		{"another content type", []string{h.post("/v1/runs", "a: b", "Content-Type: application/yaml\r\n")}, "415", "application/json"},
		{"two content types", []string{h.post("/v1/runs", "{}", "Content-Type: application/json\r\nContent-Type: text/plain\r\n")}, "422", "more than once"},
		{"a compressed body", []string{h.post("/v1/runs", "{}", "Content-Encoding: gzip\r\n")}, "415", "gzip"},
		{"two keys", []string{h.get("/v1/version", "X-API-Key: other\r\n")}, "422", "more than once"},
		{"HTTP/1.0", []string{"GET /v1/version HTTP/1.0\r\nX-API-Key: " + h.secret + "\r\n\r\n"}, "200", "version"},
		{"HTTP/1.1 without a host", []string{"GET /v1/version HTTP/1.1\r\n\r\n"}, "400", ""},
		{"HTTP/9.9", []string{"GET /v1/version HTTP/9.9\r\nHost: x\r\n\r\n"}, "505", ""},
		{"no HTTP at all", []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"}, "400", ""},
		{"a method that is none of ours", []string{strings.Replace(h.get("/v1/runs"), "GET", "BREW", 1)}, "405", "POST"},
		{"OPTIONS", []string{strings.Replace(h.get("/v1/runs"), "GET", "OPTIONS", 1)}, "405", "POST"},
		{"TRACE", []string{strings.Replace(h.get("/v1/runs"), "GET", "TRACE", 1)}, "405", ""},
		{"CONNECT", []string{"CONNECT /v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: " + h.secret + "\r\n\r\n"}, "405", ""},
		{"HEAD", []string{strings.Replace(h.get("/v1/runs"), "GET", "HEAD", 1)}, "200", ""},
		{"HEAD of a stream that never ends", []string{strings.Replace(h.get("/v1/events"), "GET", "HEAD", 1)}, "405", ""},
		{"a line break in a header", []string{h.get("/v1/version", "X-Tenant-ID: a\r\n b\r\n")}, "4", ""},
		{"a bare CR in a header", []string{h.get("/v1/version", "X-Tenant-ID: a\rX-API-Key: b\r\n")}, "400", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.name == "a body that never comes" {
				t.Skip("not in test-fast: ten seconds of patience")
			}
			t.Parallel()
			got := h.raw(t, c.send...)
			if c.status == "" {
				if got != "" && !strings.HasPrefix(got, "HTTP/1.1 408") {
					t.Errorf("answered: %.300s", got)
				}
				return
			}
			line, _, _ := strings.Cut(got, "\r\n")
			if _, code, _ := strings.Cut(line, " "); !strings.HasPrefix(code, c.status) {
				t.Fatalf("got %.300q", got)
			}
			if !strings.Contains(got, c.says) {
				t.Errorf("does not say %q: %.600s", c.says, got)
			}
			if strings.ContainsAny(got, "\x00\x1b") {
				t.Errorf("carries the input on to the terminal: %q", got)
			}
		})
	}
	t.Cleanup(func() { // after the parallel cases
		if log := h.log.String(); strings.ContainsAny(log, "\x00\x1b") || strings.Contains(log, h.secret) || strings.Contains(log, "panic") {
			t.Errorf("the log: %.2000q", log)
		}
	})
}

func TestTheSocketSaysWhoIsThere(t *testing.T) {
	h := openHouse(t, func(c *Config) { c.Listen.SocketMode = "0666" })
	path := h.live().cfg.Listen.Socket
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	hc := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	whoami := func() (int, string) {
		resp, err := hc.Get("http://forged/v1/whoami")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if status, body := whoami(); status != 401 {
		t.Errorf("a uid that is nobody's: %d %s", status, body)
	}
	op, err := h.Authenticate(t.Context(), h.secret)
	if err != nil {
		t.Fatal(err)
	}
	uid := int64(os.Getuid())
	if _, err := (users{h.Daemon}).CreateUser(t.Context(), op, api.CreateUserRequest{Name: "me", Role: forge.RoleViewer, UnixUID: &uid}); err != nil {
		t.Fatal(err)
	}
	if status, body := whoami(); status != 200 || !strings.Contains(body, `"user":"me"`) || !strings.Contains(body, `"via":"socket"`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestAGeneratedCertificateIsKeptAndRenewed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Now()
	make := func(at time.Time, names ...string) string {
		t.Helper()
		c, err := ownCertificate(dir, names, at)
		if err != nil {
			t.Fatal(err)
		}
		return fingerprint(c)
	}
	first := make(now, "forge.example.org", "10.1.2.3")
	if st, err := os.Stat(filepath.Join(dir, pairFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", st, err)
	}
	if again := make(now, "10.1.2.3", "forge.example.org"); again != first {
		t.Error("the second start made another")
	}
	if late := make(now.Add(certLife-certRenew+time.Hour), "forge.example.org", "10.1.2.3"); late == first {
		t.Error("it is not renewed before its end")
	}
	if named := make(now, "other.example.org"); named == first {
		t.Error("other names take another certificate")
	}
	if err := os.WriteFile(filepath.Join(dir, pairFile), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ownCertificate(dir, nil, now); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a broken file: %v", err)
	}
}

func TestTCPIsServedWithTLS(t *testing.T) {
	h := openHouse(t, func(c *Config) { c.Listen.TLS = TLSConfig{Generate: true, Names: []string{"forge.example.org"}} })
	public, err := os.ReadFile(filepath.Join(h.live().cfg.StateDir, tlsDir, certFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	hc := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "forge.example.org"}}}
	resp, err := hc.Get("https://" + h.addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("%d, TLS %x", resp.StatusCode, resp.TLS.Version)
	}
	if got := h.raw(t, h.get("/readyz")); !strings.HasPrefix(got, "HTTP/1.0 400") || strings.Contains(got, `"ok"`) {
		t.Errorf("without TLS: %.200q", got)
	}
	if c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	block, _ := pem.Decode(public)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.IsCA {
		t.Errorf("it is an authority: %v", err)
	}
	fp, _, err := TLSFingerprint(h.live().cfg)
	if err != nil || !strings.Contains(h.log.String(), fp) {
		t.Errorf("the fingerprint %s is not in the log: %v", fp, err)
	}
	// Another certificate comes into force without a new listener.
	fresh := *h.live()
	if fresh.certificate, err = ownCertificate(t.TempDir(), []string{"forge.example.org"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	h.settings.Store(&fresh)
	c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0].Raw; !bytes.Equal(got, fresh.certificate.Certificate[0]) {
		t.Error("the old certificate is still shown")
	}
}

func TestWhatListensIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		l    ListenConfig
		says string
	}{
		"another address without TLS": {ListenConfig{TCP: "0.0.0.0:7433"}, "without TLS"},
		"a mode that opens to none":   {ListenConfig{SocketMode: "0066"}, "listen.socket_mode"},
		"a mode with x":               {ListenConfig{SocketMode: "0777"}, "listen.socket_mode"},
		"a mode that is none":         {ListenConfig{SocketMode: "rw"}, "listen.socket_mode"},
		"cert without key":            {ListenConfig{TLS: TLSConfig{Cert: "/c.pem"}}, "go together"},
		"given and generated":         {ListenConfig{TLS: TLSConfig{Cert: "/c", Key: "/k", Generate: true}}, "not both"},
		"a name that is none":         {ListenConfig{TLS: TLSConfig{Generate: true, Names: []string{"a b"}}}, "host name"},
		"TLS and no TCP":              {ListenConfig{TCP: TCPOff, TLS: TLSConfig{Generate: true}}, "nothing to serve"},
	} {
		if _, err := (Config{StateDir: "/s", Listen: c.l}).resolve(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Config{StateDir: "/s", Listen: ListenConfig{TCP: "0.0.0.0:7433", TLS: TLSConfig{Generate: true}}}).resolve(); err != nil {
		t.Errorf("with TLS: %v", err)
	}
}

func TestMetricsNameNobody(t *testing.T) {
	h := openHouse(t)
	op, err := h.Authenticate(t.Context(), h.secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (users{h.Daemon}).CreateUser(t.Context(), op, api.CreateUserRequest{Name: "very-secret-name"}); err != nil {
		t.Fatal(err)
	}
	h.raw(t, h.get("/v1/users/very-secret-name"))
	h.raw(t, h.get("/v1/nothing/very-secret-name"))
	got := h.raw(t, "GET /metrics HTTP/1.0\r\n\r\n")
	for _, want := range []string{`forge_http_requests_total{class="2xx",op="get-user"} 1`, `op="none"`, `forge_runs{state="pending"} 0`, "forge_queue_depth 0",
		`forge_gpus{cluster="local",free="yes",type="cpu"} 1`, "forge_plan_seconds_bucket", "forge_outbox_rows 0", "forge_outbox_oldest_seconds 0", "forge_store_commits_total", "forge_store_closures_total",
		"forge_store_commit_seconds_total", "forge_event_followers 0", "forge_attempts_unknown 0", `forge_build_info{go="go`, "forge_ready 1", "process_resident_memory_bytes"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, name := range []string{"very-secret-name", string(op.Tenant), "default", op.User + `"`} {
		if strings.Contains(got, name) {
			t.Errorf("%q is shown", name)
		}
	}
	sc := bufio.NewScanner(strings.NewReader(got))
	for sc.Scan() {
		if n := strings.Count(sc.Text(), "="); n > 3 {
			t.Errorf("a series with many labels: %s", sc.Text())
		}
	}
	off := false
	quiet := openHouse(t, func(c *Config) { c.Listen.Metrics = &off })
	if got := quiet.raw(t, quiet.get("/metrics")); !strings.HasPrefix(got, "HTTP/1.1 404") {
		t.Errorf("switched off: %.200s", got)
	}
}
