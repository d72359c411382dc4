package client_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// rude carries requests out and cuts the connection instead of answering, the first drops times.
type rude struct {
	http.Handler
	mu    sync.Mutex
	drops int
	keys  []string
}

func (r *rude) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	drop := r.drops > 0
	if drop {
		r.drops--
	}
	r.keys = append(r.keys, req.Header.Get(api.HeaderOnce))
	r.mu.Unlock()
	if !drop {
		r.Handler.ServeHTTP(w, req)
		return
	}
	r.Handler.ServeHTTP(httptest.NewRecorder(), req)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// sent are the keys of the requests so far.
func (r *rude) sent() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys)
}

func startRude(t *testing.T, drops int) (*apitest.Fake, *rude, *httptest.Server) {
	t.Helper()
	f := apitest.New(now)
	r := &rude{Handler: server.New(f.Services(), server.Options{Version: "1.2.3"}), drops: drops}
	ts := httptest.NewServer(r)
	t.Cleanup(ts.Close)
	return f, r, ts
}

func TestASubmissionWhoseAnswerWasLostIsCarriedOutOnce(t *testing.T) {
	f, r, ts := startRude(t, 2)
	c := connect(t, ts.URL)
	_, err := f.AddDataset(t.Context(), forge.Principal{Tenant: "T1", User: "ada"}, api.AddDatasetRequest{Name: "chat", Paths: []string{"/data/chat.jsonl"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.SubmitRun(t.Context(), api.SubmitRunRequest{Recipe: "lora_sft", Dataset: "chat"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Run.Number != 1 {
		t.Errorf("run %d", s.Run.Number)
	}
	l, err := c.Runs(t.Context(), api.RunFilter{})
	if err != nil || len(l.Items) != 1 {
		t.Errorf("%d runs, %v", len(l.Items), err)
	}
	sent := r.sent()
	if len(sent) < 3 || len(sent[0]) != 32 || sent[1] != sent[0] || sent[2] != sent[0] {
		t.Errorf("keys %q: want one of 128 bits, the same each time", sent)
	}
}

func TestEveryRequestThatChangesSomethingHasAKeyOfItsOwn(t *testing.T) {
	_, r, ts := startRude(t, 0)
	c := connect(t, ts.URL, func(o *client.Options) { o.Key = apitest.OperatorSecret })
	ctx := t.Context()
	for range 2 {
		_, _ = c.CreateUser(ctx, api.CreateUserRequest{Name: "zoe"})
		_, _ = c.CreateKey(ctx, api.CreateKeyRequest{})
		_, _ = c.CancelRun(ctx, "1", forge.CancelTerm)
	}
	seen := r.sent()
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 6 || slices.Contains(seen, "") {
		t.Errorf("keys %q", r.sent())
	}
}

func TestARegistrationIsSentUnderTheKeyThatItsCallerDrew(t *testing.T) {
	_, r, ts := startRude(t, 1)
	c, once := connect(t, ts.URL), client.NewOnce()
	_, err := c.AddDataset(t.Context(), api.AddDatasetRequest{Name: "chat", Paths: []string{"/data/chat.jsonl"}}, once)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.ImportModel(t.Context(), api.ImportModelRequest{Name: "tiny", Path: "/models/tiny"}, ""); err != nil {
		t.Fatal(err)
	}
	sent := r.sent()
	if len(sent) != 3 || sent[0] != string(once) || sent[1] != string(once) || len(sent[2]) != 32 || sent[2] == string(once) {
		t.Errorf("keys %q, and the caller's was %s: want it twice, and one of its own for the other", sent, once)
	}
}

func TestAServerThatNeverAnswersIsGivenUp(t *testing.T) {
	_, r, ts := startRude(t, 1<<20)
	c := connect(t, ts.URL, func(o *client.Options) { o.Insist = 400 * time.Millisecond })
	began := time.Now()
	_, err := c.SubmitRun(t.Context(), api.SubmitRunRequest{Recipe: "lora_sft"})
	if forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "was lost before it answered") {
		t.Errorf("got %v", err)
	}
	if n := len(r.sent()); n < 3 || n > 20 {
		t.Errorf("sent %d times in %s", n, time.Since(began))
	}
}

func TestAServerThatIsNotThereIsSaidAtOnce(t *testing.T) {
	began := time.Now()
	_, err := connect(t, "unix://"+filepath.Join(t.TempDir(), "none.sock")).SubmitRun(t.Context(), api.SubmitRunRequest{})
	if forge.KindOf(err) != forge.KindUnavailable || time.Since(began) > time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}

// A daemon that is restarted between a request and its answer is away for a moment.
func TestARestartBetweenTheRequestAndItsAnswerIsBorneWith(t *testing.T) {
	f := apitest.New(now)
	r := &rude{Handler: server.New(f.Services(), server.Options{}), drops: 1}
	path := filepath.Join(t.TempDir(), "forged.sock")
	serve := func(h http.Handler) *http.Server {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Error(err)
			return nil
		}
		s := &http.Server{Handler: h}
		go func() { _ = s.Serve(l) }()
		return s
	}
	var first *http.Server
	served := make(chan struct{})
	first = serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		<-served
		r.ServeHTTP(w, req)
		go func() {
			_ = first.Close()
			time.AfterFunc(150*time.Millisecond, func() { serve(r) })
		}()
	}))
	close(served)
	k, err := connect(t, "unix://"+path).CreateKey(t.Context(), api.CreateKeyRequest{Name: "once"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := f.Keys(t.Context(), forge.Principal{Tenant: "T1", User: "ada", UserID: "U1", Role: forge.RoleAdmin}, api.Listing{Name: ""})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, it := range l.Items {
		if it.Prefix == k.Prefix {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d keys were made", made)
	}
}
