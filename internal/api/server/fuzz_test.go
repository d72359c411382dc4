package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// The fuzz targets of the API, one for each way in: FuzzCheckJSON (what is looked at before decoding),
// FuzzBody (the body of every operation that takes one), FuzzQuery (the query of every GET, cursors among
// it), FuzzPath (the path), FuzzHeader (every header that decides something). Their seeds run in go test; make
// test-long runs each for some seconds.
//
// What is held: no input makes the server fail (5xx), a refusal is a whole problem, and nothing that a terminal
// would act upon comes back in it.

// target is a site with something of everything; streams end after their first page.
func target() (http.Handler, *huma.OpenAPI, *syncBuffer) {
	f := apitest.New(now)
	f.AddRun(api.RunDetail{Run: forge.Run{ID: "01RUN", Number: 1, User: "ada", State: forge.RunPending, SubmittedAt: now,
		Spec: forge.RunSpec{Recipe: "lora_sft", Params: map[string]any{}, Origins: map[string]string{}, Gang: forge.Gang{Nodes: 1, GPUsPerNode: 2}}}})
	over := make(chan struct{})
	close(over)
	log := &syncBuffer{}
	o := server.Options{Log: zerolog.New(log), Stop: over}
	return server.New(f.Services(), o), server.Describe(f.Services(), o), log
}

// ops lists operations by method, with their parameters filled in.
func opsOf(o *huma.OpenAPI, methods ...string) []string {
	var out []string
	for name := range operations(o) {
		method, path, _ := strings.Cut(name, " ")
		if slices.Contains(methods, method) {
			for _, p := range []string{"{run}", "{key}", "{user}", "{tenant}", "{cluster}", "{name}"} {
				path = strings.ReplaceAll(path, p, "1")
			}
			out = append(out, method+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

func ask(t *testing.T, h http.Handler, method, target, body string, header http.Header) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return // net/http refuses it as well
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL, r.RequestURI = u, target
	r.Header.Set(api.HeaderKey, apitest.OperatorSecret)
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Fatalf("%s %q %q %v: %d %s", method, target, body, header, w.Code, w.Body)
	}
	if w.Code < 400 {
		return
	}
	var p api.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Detail == "" || p.Kind == "" || w.Header().Get("Content-Type") != api.ProblemType {
		t.Fatalf("%s %q %q %v: %d is no whole problem: %s", method, target, body, header, w.Code, w.Body)
	}
	if i := strings.IndexFunc(p.Detail+p.Field+p.Hint, func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == 0x202e }); i >= 0 {
		t.Fatalf("%s %q %q %v: the refusal carries a control character: %q", method, target, body, header, p.Detail+p.Field+p.Hint)
	}
}

func FuzzBody(f *testing.F) {
	h, o, _ := target()
	ops := opsOf(o, "POST", "PATCH")
	for i := range ops {
		for _, s := range []string{`{}`, ``, `null`, `[]`, `{"name":"x"}`, `{"name":"x","path":"/x"}`, `{"recipe":"lora_sft","nodes":1e2}`, `{"recipe":"lora_sft","params":{"a":{"b":[1]}},"set":["k=v"]}`,
			`{"recipe":"lora_sft","nodes":99999999999999999999}`, `{"reason":"\u0000"}`, `{"overlap":"-9999999h"}`, `{"expires_in":1e300}`, `{"role":"king"}`, `{"priority":1.5}`,
			`{"attempt":1,"points":[{"step":3,"time":"2026-11-26T10:00:00Z","values":{"loss":1e-3,"nan":null}},{"step":9e18,"values":{"":1}}]}`} {
			f.Add(uint(i), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, i uint, body []byte) {
		method, path, _ := strings.Cut(ops[i%uint(len(ops))], " ")
		ask(t, h, method, path, string(body), nil)
	})
}

func FuzzQuery(f *testing.F) {
	h, o, _ := target()
	ops := opsOf(o, "GET")
	for i := range ops {
		for _, s := range []string{"", "limit=1&cursor=x", "limit=-1", "limit=99999999999999999999", "limit=1&limit=2", "cursor=%00", "cursor=" + strings.Repeat("A", 600), "state=running,,x", "since=yesterday",
			"since=9999-12-31T23:59:59Z", "%zz", "a;b", "sort=-loss", "offset=-1&max=0", "keys=a,b&points=1", "after=1e9", "name=%1b%5b2J", "run=..%2f..", "\xff=\xff"} {
			f.Add(uint(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, i uint, query string) {
		method, path, _ := strings.Cut(ops[i%uint(len(ops))], " ")
		ask(t, h, method, path+"?"+query, "", nil)
	})
}

func FuzzPath(f *testing.F) {
	h, _, _ := target()
	for _, s := range []string{"/v1/runs/1", "/v1/runs/%2e%2e/keys", "/v1/runs/a%2Fb", "/v1/runs/%00", "/v1//runs", "/v1/runs/%ff", "/v1/runs/../keys", "/V1/runs", "/v1", "/", "//v1/runs", "/v1/users/%1b%5b2J", "/v1/runs/\u202e",
		"/v1/datasets/" + strings.Repeat("x", 300), "/openapi.json/", "*", "/v1/runs/1;a=b", "/v1/runs/1/", "/v1/models/..", "/v1/runs/%252e%252e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			ask(t, h, method, path, "", nil)
		}
	})
}

func FuzzHeader(f *testing.F) {
	h, _, log := target()
	names := []string{api.HeaderKey, api.HeaderTenant, api.HeaderOnce, api.HeaderLastEventID, "Content-Type", "Content-Encoding", "Accept"}
	for i := range names {
		for _, s := range []string{"", "x", "T2", "application/json; charset=utf-8", "application/json; charset=latin1", "text/plain", "gzip", "\x00", "\x1b[2J", strings.Repeat("k", 5000), "99999999999999999999", "-1", "a\r\nX-API-Key: b", "\xff"} {
			f.Add(uint(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, i uint, value string) {
		header := http.Header{http.CanonicalHeaderKey(names[i%uint(len(names))]): {value}}
		ask(t, h, "POST", "/v1/runs/1/hold", `{"reason":"x"}`, header)
		ask(t, h, "GET", "/v1/events", "", header)
		if strings.Contains(log.String(), "\x1b") {
			t.Fatal("an escape sequence is in the log")
		}
	})
}
