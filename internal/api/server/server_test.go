package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// site is a server over a fake, and what it logged.
type site struct {
	*apitest.Fake
	url string
	log *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T, change ...func(*server.Options)) *site {
	t.Helper()
	s := &site{Fake: apitest.New(now), log: &syncBuffer{}}
	stop := make(chan struct{})
	o := server.Options{Log: zerolog.New(s.log), Version: "1.2.3", Stop: stop}
	for _, c := range change {
		c(&o)
	}
	ts := httptest.NewServer(server.New(s.Services(), o))
	t.Cleanup(func() { close(stop); ts.Close() })
	s.url = ts.URL
	return s
}

// call makes a request as a member and gives back the status, the headers and the body.
func (s *site) call(t *testing.T, method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(api.HeaderKey, apitest.MemberSecret)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// problem makes a request that must be refused.
func (s *site) problem(t *testing.T, method, path, body string, headers ...string) (api.Problem, http.Header) {
	t.Helper()
	status, h, text := s.call(t, method, path, body, headers...)
	var p api.Problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%s %s: %d is not a problem: %s", method, path, status, text)
	}
	if ct := h.Get("Content-Type"); ct != api.ProblemType {
		t.Errorf("%s %s: content type %q", method, path, ct)
	}
	if p.Status != status || p.Type == "" || p.Title == "" || p.Detail == "" || p.Kind == "" {
		t.Errorf("%s %s: %d: the problem is not whole: %s", method, path, status, text)
	}
	return p, h
}

func (s *site) addRun(number int64, state forge.RunState) forge.RunID {
	id := forge.RunID(fmt.Sprintf("01RUN%021d", number))
	s.AddRun(api.RunDetail{Run: forge.Run{ID: id, Number: number, User: "ada", State: state, SubmittedAt: now,
		Spec: forge.RunSpec{Recipe: "lora_sft", Params: map[string]any{}, Origins: map[string]string{}, Gang: forge.Gang{Nodes: 1, GPUsPerNode: 2}}}})
	return id
}

func TestKeys(t *testing.T) {
	s := start(t)
	var texts []string
	for name, secret := range map[string]string{"no key": "", "an unknown key": "fk_nobody", "a revoked key": apitest.RevokedSecret, "a key of a megabyte": strings.Repeat("k", 4096)} {
		t.Run(name+" is refused", func(t *testing.T) {
			p, h := s.problem(t, "GET", "/v1/runs", "", api.HeaderKey, secret)
			if p.Status != 401 || p.Kind != forge.KindUnauthorized || p.Hint == "" {
				t.Errorf("got %+v", p)
			}
			if h.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			texts = append(texts, p.Detail+p.Hint)
		})
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("the text tells why a key is refused: %q and %q", text, texts[0])
		}
	}
	for _, path := range []string{"/v1/version", "/v1/events", "/v1/nothing", "/v1", "/v1/runs/1/log"} {
		t.Run("nothing under /v1 answers without a key: "+path, func(t *testing.T) {
			if p, _ := s.problem(t, "GET", path, "", api.HeaderKey, ""); p.Status != 401 {
				t.Errorf("got %d", p.Status)
			}
		})
	}
	t.Run("health and the description need no key", func(t *testing.T) {
		for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/openapi.yaml"} {
			if status, _, body := s.call(t, "GET", path, "", api.HeaderKey, ""); status != 200 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	})
	t.Run("an authentication that cannot decide is not a refusal", func(t *testing.T) {
		s.Fail("Authenticate", forge.Errorf(forge.KindUnavailable, "", "the store is busy"))
		defer s.Fail("Authenticate", nil)
		if p, _ := s.problem(t, "GET", "/v1/runs", ""); p.Status != 503 {
			t.Errorf("got %d", p.Status)
		}
	})
	t.Run("a member may not make an operator's key, an operator may", func(t *testing.T) {
		body := `{"role":"operator"}`
		if p, _ := s.problem(t, "POST", "/v1/keys", body); p.Kind != forge.KindForbidden || p.Field != "role" {
			t.Errorf("got %+v", p)
		}
		if status, _, text := s.call(t, "POST", "/v1/keys", body, api.HeaderKey, apitest.OperatorSecret); status != 201 {
			t.Errorf("got %d %s", status, text)
		}
	})
	t.Run("a member may not resume a cluster, an operator may", func(t *testing.T) {
		s.SetClusters(api.ClusterView{Cluster: forge.Cluster{Name: "local", Paused: &forge.Pause{Reason: "five runs held", Since: now}}})
		if p, _ := s.problem(t, "POST", "/v1/clusters/local/resume", ""); p.Kind != forge.KindForbidden || p.Hint == "" {
			t.Errorf("got %+v", p)
		}
		if status, _, text := s.call(t, "POST", "/v1/clusters/local/resume", "", api.HeaderKey, apitest.OperatorSecret); status != 200 {
			t.Errorf("got %d %s", status, text)
		}
	})
	t.Run("another tenant's run is not found", func(t *testing.T) {
		s.addRun(1, forge.RunPending)
		if p, _ := s.problem(t, "GET", "/v1/runs/1", "", api.HeaderKey, apitest.StrangerSecret); p.Status != 404 {
			t.Errorf("got %d", p.Status)
		}
	})
}

func TestErrors(t *testing.T) {
	s := start(t, func(o *server.Options) { o.MaxBody = 4096 })
	s.addRun(1, forge.RunPending)
	for _, k := range forge.Kinds {
		t.Run("kind "+string(k)+" has its status", func(t *testing.T) {
			s.Fail("Run", &forge.Error{Kind: k, Field: "a.b", Err: errors.New("what is wrong"), Hint: "what to do"})
			defer s.Fail("Run", nil)
			p, _ := s.problem(t, "GET", "/v1/runs/1", "")
			if p.Kind != k || p.Status != api.StatusOf(k) {
				t.Errorf("got %+v", p)
			}
			if k != forge.KindInternal && (p.Field != "a.b" || p.Detail != "what is wrong" || p.Hint != "what to do") {
				t.Errorf("got %+v", p)
			}
		})
	}
	secret := "password is swordfish"
	for name, err := range map[string]error{"a plain error": errors.New(secret), "a KindInternal": forge.Errorf(forge.KindInternal, "op", "%s", secret),
		"a kind that nobody knows": &forge.Error{Kind: "weird", Err: errors.New(secret), Hint: secret, Field: secret}} {
		t.Run("the text of "+name+" stays in the log", func(t *testing.T) {
			s.Fail("Run", err)
			defer s.Fail("Run", nil)
			_, h, text := s.call(t, "GET", "/v1/runs/1", "")
			if strings.Contains(text, "swordfish") {
				t.Errorf("leaked: %s", text)
			}
			id := h.Get(api.HeaderRequestID)
			if id == "" || !strings.Contains(text, id) {
				t.Errorf("the user cannot name the request %q: %s", id, text)
			}
			if !strings.Contains(s.log.String(), "swordfish") || !strings.Contains(s.log.String(), id) {
				t.Error("the log does not have it")
			}
		})
	}
	t.Run("a panic is an internal error", func(t *testing.T) {
		s.Hook(func(m string) {
			if m == "Why" {
				panic(secret)
			}
		})
		defer s.Hook(nil)
		p, _ := s.problem(t, "GET", "/v1/runs/1/why", "")
		if p.Status != 500 || strings.Contains(p.Detail, "swordfish") {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("the log line names request, user and status, and no key", func(t *testing.T) {
		s.call(t, "GET", "/v1/runs/1", "")
		log := s.log.String()
		for _, want := range []string{`"user":"ada"`, `"status":200`, `"path":"/v1/runs/1"`, `"took"`} {
			if !strings.Contains(log, want) {
				t.Errorf("no %s in the log", want)
			}
		}
		if strings.Contains(log, apitest.MemberSecret) {
			t.Error("a key is in the log")
		}
	})
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		field, says              string
	}{
		{"an unknown field names those there are", "POST", "/v1/runs", `{"recipe":"lora_sft","gpuz":2}`, 422, "gpuz", "gpus_per_node"},
		{"a missing field is named", "POST", "/v1/datasets", `{"name":"x"}`, 422, "paths", "required"},
		{"a wrong type is named", "POST", "/v1/runs", `{"recipe":"lora_sft","nodes":"two"}`, 422, "nodes", "integer"},
		{"a value out of range is named with the range", "POST", "/v1/runs", `{"recipe":"lora_sft","nodes":-1}`, 422, "nodes", ">= 0"},
		{"a value outside a set is named with the set", "POST", "/v1/keys", `{"user":"x","role":"king"}`, 422, "role", "viewer, member, admin, operator"},
		{"a bad query is named with the set", "GET", "/v1/runs?state=sleeping", "", 422, "state", "running"},
		{"an unknown query parameter is refused", "GET", "/v1/runs?colour=red", "", 422, "colour", "unknown"},
		{"a limit out of range is refused", "GET", "/v1/runs?limit=100000", "", 422, "limit", "1000"},
		{"a number that does not fit", "POST", "/v1/runs", `{"recipe":"lora_sft","nodes":99999999999999999999}`, 422, "nodes", "whole number"},
		{"a whole number with an exponent", "POST", "/v1/runs", `{"recipe":"lora_sft","nodes":1e2}`, 422, "nodes", "without exponent"},
		{"a duration that is none", "POST", "/v1/runs", `{"recipe":"lora_sft","time_limit":"soon"}`, 422, "", "Go's form"},
		{"a body that is not JSON", "POST", "/v1/runs", `{"recipe":`, 422, "", "unexpected end"},
		{"a body over the limit", "POST", "/v1/runs", `{"recipe":"` + strings.Repeat("x", 8192) + `"}`, 413, "", "4096"},
		{"a reason longer than a page", "POST", "/v1/runs/1/hold", `{"reason":"` + strings.Repeat("x", 501) + `"}`, 422, "reason", "500"},
		{"a metric that is a word is named", "POST", "/v1/runs/1/metrics", `{"attempt":1,"points":[{"step":1,"values":{"loss":"NaN"}}]}`, 422, "points[0].values.loss", "number"},
		{"a batch without points is refused", "POST", "/v1/runs/1/metrics", `{"attempt":1,"points":[]}`, 422, "points", "1"},
		{"metrics without an attempt are refused", "POST", "/v1/runs/1/metrics", `{"points":[{"step":1,"values":{"loss":1}}]}`, 422, "attempt", "required"},
		{"an operation's own refusal", "POST", "/v1/runs", `{"recipe":"lora_sft","set":["lora.rr=1"]}`, 422, "params.lora.rr", "lora.r"},
		{"a path that is nothing", "GET", "/v1/nothing", "", 404, "", "/v1/nothing"},
		{"a method that is not there", "PUT", "/v1/runs", "{}", 405, "", "POST"},
		{"a Last-Event-ID that is no number", "GET", "/v1/events", "", 422, api.HeaderLastEventID, "whole number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := s.problem(t, c.method, c.path, c.body, api.HeaderLastEventID, "abc")
			if p.Status != c.status || p.Field != c.field || !strings.Contains(p.Detail, c.says) {
				t.Errorf("got %d, field %q: %s", p.Status, p.Field, p.Detail)
			}
		})
	}
	t.Run("a body of another type is refused", func(t *testing.T) {
		p, _ := s.problem(t, "POST", "/v1/runs", "recipe: lora_sft", "Content-Type", "application/yaml")
		if p.Status/100 != 4 {
			t.Errorf("got %d", p.Status)
		}
	})
}

func TestHoldNeedsNoBody(t *testing.T) {
	s := start(t)
	s.addRun(1, forge.RunPending)
	if status, _, text := s.call(t, "POST", "/v1/runs/1/hold", ""); status != 200 || !strings.Contains(text, `"by":"ada","reason":""`) {
		t.Errorf("got %d %s", status, text)
	}
	if p, _ := s.problem(t, "POST", "/v1/runs/1/hold", ""); p.Kind != forge.KindPrecondition || !strings.Contains(p.Hint, "run release 1") {
		t.Errorf("got %+v", p)
	}
}

func TestReady(t *testing.T) {
	s := start(t)
	s.SetNotReady("the store is not open", "no executor answers")
	status, _, body := s.call(t, "GET", "/readyz", "", api.HeaderKey, "")
	if status != 503 || !strings.Contains(body, "no executor answers") {
		t.Errorf("got %d %s", status, body)
	}
	if status, _, _ := s.call(t, "GET", "/healthz", ""); status != 200 {
		t.Errorf("a daemon that is not ready still lives: %d", status)
	}
}

// slowDatasets hashes for a while, and gives up when it is told to.
type slowDatasets struct{ *apitest.Fake }

func (slowDatasets) AddDataset(ctx context.Context, _ forge.Principal, r api.AddDatasetRequest) (api.DatasetAdded, error) {
	select {
	case <-ctx.Done():
		return api.DatasetAdded{}, forge.Errorf(forge.KindUnavailable, "", "cancelled")
	case <-time.After(300 * time.Millisecond):
		return api.DatasetAdded{DatasetVersion: forge.DatasetVersion{Name: r.Name}}, nil
	}
}

// The trap: net/http watches the connection during a handler and takes an expired read
// deadline for a client that has gone.
func TestLongHandlerOutlivesTheBodyTimeout(t *testing.T) {
	s := start(t)
	services := s.Services()
	services.Datasets = slowDatasets{s.Fake}
	ts := httptest.NewServer(server.New(services, server.Options{BodyTimeout: 50 * time.Millisecond}))
	defer ts.Close()
	s.url = ts.URL
	status, _, body := s.call(t, "POST", "/v1/datasets", `{"name":"chat","paths":["/data/chat.jsonl"]}`)
	if status != 201 {
		t.Errorf("got %d %s", status, body)
	}
}

func TestSlowBodyIsGivenUp(t *testing.T) {
	s := start(t, func(o *server.Options) { o.BodyTimeout = 50 * time.Millisecond })
	r, w := io.Pipe()
	defer w.Close()
	req, _ := http.NewRequest("POST", s.url+"/v1/runs", r)
	req.Header.Set(api.HeaderKey, apitest.MemberSecret)
	go w.Write([]byte(`{"recipe"`))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("got %d", resp.StatusCode)
	}
}
