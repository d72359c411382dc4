package server_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// local is a server at whose other end the kernel has named a uid.
func local(t *testing.T, uid uint32, change ...func(*server.Options)) *site {
	t.Helper()
	s := &site{Fake: apitest.New(now), log: &syncBuffer{}}
	o := server.Options{Log: zerolog.New(s.log)}
	for _, c := range change {
		c(&o)
	}
	ts := httptest.NewUnstartedServer(server.New(s.Services(), o))
	ts.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return server.WithPeer(ctx, uid) }
	ts.Start()
	t.Cleanup(ts.Close)
	s.url = ts.URL
	n := int64(1000)
	s.AddUser(forge.User{ID: "U10", Tenant: "T2", Name: "lin", Role: forge.RoleViewer, UnixUID: &n})
	return s
}

func TestTheKernelNamesWhoIsAtTheSocket(t *testing.T) {
	s := local(t, 1000)
	t.Run("a uid that is a user's needs no key", func(t *testing.T) {
		status, _, body := s.call(t, "GET", "/v1/whoami", "", api.HeaderKey, "")
		if status != 200 || !strings.Contains(body, `"user":"lin"`) {
			t.Errorf("got %d %s", status, body)
		}
	})
	t.Run("a key outranks the uid", func(t *testing.T) {
		if _, _, body := s.call(t, "GET", "/v1/whoami", ""); !strings.Contains(body, `"user":"ada"`) {
			t.Errorf("got %s", body)
		}
	})
	t.Run("a bad key is not saved by the uid", func(t *testing.T) {
		if p, _ := s.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, apitest.RevokedSecret); p.Status != 401 {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("no header makes a uid", func(t *testing.T) {
		tcp := start(t)
		for _, h := range []string{"X-Peer-Uid", "X-Forwarded-For", "X-Remote-User", "X-Unix-Uid"} {
			if p, _ := tcp.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, "", h, "1000"); p.Status != 401 {
				t.Errorf("%s: got %+v", h, p)
			}
		}
	})
	t.Run("a uid that is nobody's is refused as a missing key is", func(t *testing.T) {
		nobody, tcp := local(t, 4711), start(t)
		a, _ := nobody.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, "")
		b, _ := tcp.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, "")
		if a != b || a.Status != 401 {
			t.Errorf("got %+v and %+v", a, b)
		}
	})
}

func TestOnlyAnOperatorNamesATenant(t *testing.T) {
	s := start(t)
	refusals := map[string]bool{}
	for _, tenant := range []string{"T1", "other", "nowhere"} {
		_, _, body := s.call(t, "GET", "/v1/whoami", "", api.HeaderTenant, tenant)
		refusals[body] = true
		if !strings.Contains(body, `"kind":"forbidden"`) || !strings.Contains(body, `"field":"X-Tenant-ID"`) {
			t.Errorf("a member who names %s: %s", tenant, body)
		}
	}
	if len(refusals) != 1 {
		t.Errorf("the refusal tells which tenants there are: %v", refusals)
	}
	if s.Calls("ActIn") != 0 {
		t.Error("it was looked whether there is such a tenant")
	}
	if _, _, body := s.call(t, "GET", "/v1/whoami", "", api.HeaderKey, apitest.OperatorSecret, api.HeaderTenant, "other"); !strings.Contains(body, `"name":"other"`) {
		t.Errorf("an operator: %s", body)
	}
	if p, _ := s.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, apitest.OperatorSecret, api.HeaderTenant, "nowhere"); p.Status != 404 {
		t.Errorf("an operator, no such tenant: %+v", p)
	}
	for name, v := range map[string]string{"too long": strings.Repeat("x", 65), "not ASCII": "t\u00fcr"} {
		if p, _ := s.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, apitest.OperatorSecret, api.HeaderTenant, v); p.Status != 422 || p.Field != api.HeaderTenant {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestGuessingIsThrottledAndHitsNobodyElse(t *testing.T) {
	s := start(t)
	s.call(t, "GET", "/v1/whoami", "") // a key that has been good
	var last int
	for i := range 40 {
		last, _, _ = s.call(t, "GET", "/v1/whoami", "", api.HeaderKey, fmt.Sprintf("fk_guess_%d", i))
	}
	if last != 429 {
		t.Fatalf("the 40th guess is answered with %d", last)
	}
	asked := s.Calls("Authenticate")
	p, h := s.problem(t, "GET", "/v1/whoami", "", api.HeaderKey, "fk_guess")
	if p.Kind != forge.KindUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("got %+v, Retry-After %q", p, h.Get("Retry-After"))
	}
	if s.Calls("Authenticate") != asked {
		t.Error("the guess was looked up all the same")
	}
	if status, _, body := s.call(t, "GET", "/v1/whoami", ""); status != 200 {
		t.Errorf("a good key from the same address: %d %s", status, body)
	}
}

func TestRequestsAreCountedByKey(t *testing.T) {
	s := start(t, func(o *server.Options) { o.Rate, o.Burst = 0.1, 3 })
	for i := range 3 {
		if status, _, body := s.call(t, "GET", "/v1/version", ""); status != 200 {
			t.Fatalf("request %d: %d %s", i, status, body)
		}
	}
	p, h := s.problem(t, "GET", "/v1/version", "")
	if p.Status != 429 || p.Kind != forge.KindUnavailable || !strings.Contains(p.Hint, "limits.requests_per_second") || !strings.Contains(p.Detail, "0.1") {
		t.Errorf("got %+v", p)
	}
	if h.Get("Retry-After") != "10" {
		t.Errorf("Retry-After %q, and one comes every 10 s", h.Get("Retry-After"))
	}
	if status, _, _ := s.call(t, "GET", "/v1/version", "", api.HeaderKey, apitest.OperatorSecret); status != 200 {
		t.Errorf("another key pays for it: %d", status)
	}
	if status, _, _ := s.call(t, "GET", "/healthz", ""); status != 200 {
		t.Errorf("health is counted: %d", status)
	}
}

func TestAKeyFollowsEventsABoundedNumberOfTimes(t *testing.T) {
	opened := make(chan int, 8)
	s := start(t, func(o *server.Options) { o.Streams = 1; o.Followers = func(n int) { opened <- n } })
	ctx, leave := context.WithCancel(t.Context())
	follow := func(ctx context.Context) (*http.Response, error) {
		r, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/v1/events", nil)
		r.Header.Set(api.HeaderKey, apitest.MemberSecret)
		return http.DefaultClient.Do(r)
	}
	first, err := follow(ctx)
	if err != nil || first.StatusCode != 200 {
		t.Fatal(first, err)
	}
	defer first.Body.Close()
	if p, _ := s.problem(t, "GET", "/v1/events", ""); p.Status != 429 || !strings.Contains(p.Hint, "streams_per_key") {
		t.Errorf("the second: %+v", p)
	}
	leave()
	if a, b := <-opened, <-opened; a != 1 || b != -1 {
		t.Errorf("told of %d and %d", a, b)
	}
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for { // the place is free once the first handler has returned
		again, err := follow(deadline)
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode == 200 {
			return
		}
	}
}

func TestARequestMayBeRepeatedUnderItsKey(t *testing.T) {
	s := start(t)
	body := `{"name":"physics"}`
	op := []string{api.HeaderKey, apitest.OperatorSecret, api.HeaderOnce, "once 1"}
	status, h, first := s.call(t, "POST", "/v1/tenants", body, op...)
	if status != 201 || h.Get(api.HeaderReplayed) != "" {
		t.Fatalf("got %d %s", status, first)
	}
	status, h, again := s.call(t, "POST", "/v1/tenants", body, op...)
	if status != 201 || h.Get(api.HeaderReplayed) != "true" || again != first {
		t.Errorf("the same again: %d, replayed %q: %s", status, h.Get(api.HeaderReplayed), again)
	}
	if n := s.Calls("CreateTenant"); n != 1 {
		t.Errorf("it was carried out %d times", n)
	}
	for name, other := range map[string]string{"another body": `{"name":"physics2"}`, "the same meaning in other bytes": `{"name": "physics"}`} {
		if p, _ := s.problem(t, "POST", "/v1/tenants", other, op...); p.Status != 409 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, _ := s.problem(t, "POST", "/v1/tenants", body, append(op, api.HeaderTenant, "other")...); p.Status != 409 {
		t.Errorf("in another tenant it is another request: %+v", p)
	}
	for name, key := range map[string]string{"longer than 128": strings.Repeat("k", 129), "not ASCII": "schl\u00fcssel", "a tab": "a\tb"} {
		if p, _ := s.problem(t, "POST", "/v1/tenants", body, api.HeaderKey, apitest.OperatorSecret, api.HeaderOnce, key); p.Status != 422 || p.Field != api.HeaderOnce {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// twice sends a header two times, which net/http's client would do as well; raw shows the bytes.
func twice(t *testing.T, s *site, header, a, b string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /v1/version HTTP/1.1\r\nHost: x\r\n%s: %s\r\n%s: %s\r\nConnection: close\r\n\r\n", header, a, header, b)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestAHeaderThatDecidesIsThereOnce(t *testing.T) {
	s := start(t)
	for _, h := range []string{api.HeaderKey, api.HeaderTenant, api.HeaderOnce, "Content-Type"} {
		if line := twice(t, s, h, apitest.MemberSecret, apitest.OperatorSecret); !strings.Contains(line, " 422 ") {
			t.Errorf("%s: %s", h, line)
		}
	}
}

func TestALoginNeedsNoKeyAndNothingElseDoes(t *testing.T) {
	s := start(t)
	uid := int64(1000)
	s.AddUser(forge.User{ID: "U10", Tenant: "T2", Name: "lin", Role: forge.RoleViewer, UnixUID: &uid})
	good := `{"credential":"MUNGE:1000:"}`
	for name, key := range map[string]string{"without a key": "", "with a bad one, which is not looked at": apitest.RevokedSecret} {
		if status, _, body := s.call(t, "POST", "/v1/login/munge", good, api.HeaderKey, key); status != 201 || !strings.Contains(body, `"user":"lin"`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if p, _ := s.problem(t, "POST", "/v1/login/munge", `{"credential":"MUNGE:other:"}`, api.HeaderKey, apitest.OperatorSecret); p.Status != 401 {
		t.Errorf("a good key helps no bad credential: %+v", p)
	}
	if p, _ := s.problem(t, "POST", "/v1/login/munge", good, api.HeaderKey, "", api.HeaderTenant, "default"); p.Status != 403 {
		t.Errorf("it names a tenant: %+v", p)
	}
	for _, at := range []string{"GET /v1/login/munge", "POST /v1/login", "POST /v1/login/munge/", "POST /v1/login/kerberos"} {
		method, path, _ := strings.Cut(at, " ")
		if p, _ := s.problem(t, method, path, "", api.HeaderKey, ""); p.Status != 401 {
			t.Errorf("%s: %+v", at, p)
		}
	}
	var last int
	for range 70 {
		last, _, _ = s.call(t, "POST", "/v1/login/munge", `{"credential":"MUNGE:guess:"}`, api.HeaderKey, "")
	}
	if last != 429 {
		t.Errorf("the 70th try is answered with %d", last)
	}
	if status, _, _ := s.call(t, "GET", "/v1/whoami", ""); status != 200 {
		t.Errorf("a key from the same address pays for it: %d", status)
	}
}
