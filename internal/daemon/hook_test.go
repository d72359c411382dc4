package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

var quickHooks = hookTimes{connect: 2 * time.Second, whole: time.Second, backoffMin: 5 * time.Millisecond, backoffMax: 20 * time.Millisecond, holdBack: time.Hour,
	giveUp: time.Hour, forget: time.Hour, refusals: 3, gather: time.Millisecond, sweep: 20 * time.Millisecond}

// post is what a receiver was sent.
type post struct {
	header http.Header
	body   string
	path   string
}

func (p post) parsed(t *testing.T) (b api.HookBody) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.body), &b); err != nil {
		t.Fatalf("%v in %s", err, p.body)
	}
	return b
}

// receiver is a real HTTP server that answers as the test says.
type receiver struct {
	*httptest.Server
	got chan post
}

func receive(t *testing.T, tls bool, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{got: make(chan post, 100)}
	h := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		r.got <- post{q.Header, string(b), q.URL.Path}
		if answer != nil {
			answer(w, q)
		}
	})
	if tls {
		r.Server = httptest.NewTLSServer(h)
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

// host is how hooks.allow_hosts names the receiver.
func (r *receiver) host() string { return strings.TrimPrefix(r.URL, "https://") }

func (r *receiver) next(t *testing.T) post {
	t.Helper()
	select {
	case p := <-r.got:
		return p
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		return post{}
	}
}

// startHooks is a daemon with short times and a configuration of hooks.
func startHooks(t *testing.T, times hookTimes, cfg HooksConfig) *rig {
	t.Helper()
	cfg.resolve()
	return start(t, 1, func(o *Options) { o.Config.Hooks, o.hookTimes = cfg, &times })
}

func (r *rig) hook(t *testing.T, name string, q api.CreateHookRequest) api.CreatedHook {
	t.Helper()
	q.Name = name
	if q.On == nil {
		q.On = []string{"stage"}
	}
	h, err := hooks{r.Daemon}.CreateHook(t.Context(), r.op, q)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (r *rig) staged(t *testing.T, tenant forge.TenantID, model string) {
	t.Helper()
	if err := r.db.AddEvent(t.Context(), forge.Event{Tenant: tenant, Type: forge.EventModelStage, Message: model + " is in production", Data: map[string]any{"model": model}}); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) deliveries(t *testing.T, name string) []forge.HookDelivery {
	t.Helper()
	l, err := hooks{r.Daemon}.HookDeliveries(t.Context(), r.op, api.HookName{Hook: name}, api.HookListing{})
	if err != nil {
		t.Fatal(err)
	}
	return l.Items
}

// settled waits until the newest delivery of a hook is final.
func (r *rig) settled(t *testing.T, name string, state forge.DeliveryState) forge.HookDelivery {
	t.Helper()
	var d forge.HookDelivery
	comes(t, "a delivery that is "+string(state), func() bool {
		all := r.deliveries(t, name)
		if len(all) > 0 {
			d = all[0]
		}
		return d.State == state
	})
	return d
}

func comes(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

func TestAWebhookIsSignedAndOfItsTenantAlone(t *testing.T) {
	in := receive(t, true, nil)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: in.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startHooks(t, quickHooks, HooksConfig{AllowHosts: []string{in.host()}, CA: ca})
	other, err := r.db.CreateTenant(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	r.staged(t, r.op.Tenant, "before@1")
	h := r.hook(t, "chat", api.CreateHookRequest{URL: in.URL + "/in?token=t0p", Match: "bot*"})
	r.staged(t, other.ID, "bot@7")
	r.staged(t, r.op.Tenant, "tiny@1")
	r.staged(t, r.op.Tenant, "bot-2@3")
	p := in.next(t)
	body := p.parsed(t)
	if body.Event.Data["model"] != "bot-2@3" || body.Tenant != forge.DefaultTenant || body.Hook != "chat" || body.ID != p.header.Get(headerDelivery) || !strings.Contains(body.Text, "bot-2@3 is in production") {
		t.Errorf("got %s", p.body)
	}
	mac := hmac.New(sha256.New, []byte(h.Secret))
	mac.Write([]byte(p.header.Get(headerTimestamp) + "." + p.body))
	if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); p.header.Get(headerSignature) != want {
		t.Errorf("signature %s, want %s", p.header.Get(headerSignature), want)
	}
	if got := p.header.Get(headerEvent); got != "model.stage_changed" {
		t.Errorf("event %s", got)
	}
	if d := r.settled(t, "chat", forge.DeliveryDone); d.ID != body.ID || d.Status != 200 || d.Tries != 1 {
		t.Errorf("%+v", d)
	}
	if all := r.deliveries(t, "chat"); len(all) != 1 {
		t.Errorf("%d deliveries, want the one: %+v", len(all), all)
	}
	t.Run("its secret and the path of its URL stand in no event, and the secret in no table", func(t *testing.T) {
		events, err := r.db.EventsAfter(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(events)
		if strings.Contains(string(text), "t0p") || strings.Contains(string(text), h.Secret) {
			t.Errorf("the trail has it: %s", text)
		}
		for _, name := range []string{dbFile, dbFile + "-wal"} {
			b, _ := os.ReadFile(filepath.Join(r.live().cfg.StateDir, name))
			if strings.Contains(string(b), h.Secret) {
				t.Errorf("%s has it", name)
			}
		}
		if st, err := os.Stat(filepath.Join(r.live().cfg.StateDir, hookSecretFile)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	})
	t.Run("a request that is repeated is answered with the hook and without the secret", func(t *testing.T) {
		p := r.op
		p.Once = forge.Once{Op: "create-hook", Key: "k", Digest: "d"}
		q := api.CreateHookRequest{Name: "twice", On: []string{"hold"}, URL: in.URL}
		first, err := hooks{r.Daemon}.CreateHook(t.Context(), p, q)
		if err != nil || first.Secret == "" {
			t.Fatalf("%+v, %v", first, err)
		}
		again, err := hooks{r.Daemon}.CreateHook(t.Context(), p, q)
		if err != nil || again.ID != first.ID || again.Secret != "" {
			t.Errorf("%+v, %v", again, err)
		}
	})
	t.Run("a removed hook is told of nothing more", func(t *testing.T) {
		if _, err := (hooks{r.Daemon}).RemoveHook(t.Context(), r.op, api.HookName{Hook: "chat"}); err != nil {
			t.Fatal(err)
		}
		r.hook(t, "after", api.CreateHookRequest{URL: in.URL + "/after"})
		r.staged(t, r.op.Tenant, "bot@4")
		if p := in.next(t); p.path != "/after" {
			t.Errorf("it came to %s", p.path)
		}
	})
	t.Run("a paused one keeps what comes until it is resumed", func(t *testing.T) {
		s, n := hooks{r.Daemon}, api.HookName{Hook: "after"}
		if _, err := s.PauseHook(t.Context(), r.op, n); err != nil {
			t.Fatal(err)
		}
		r.hook(t, "beside", api.CreateHookRequest{URL: in.URL + "/beside"})
		r.staged(t, r.op.Tenant, "bot@5")
		if p := in.next(t); p.path != "/beside" {
			t.Errorf("it came to %s", p.path)
		}
		if _, err := s.ResumeHook(t.Context(), r.op, n); err != nil {
			t.Fatal(err)
		}
		if p := in.next(t); p.path != "/after" || p.parsed(t).Event.Data["model"] != "bot@5" {
			t.Errorf("%s to %s", p.body, p.path)
		}
	})
}

func TestHowReceiversMayAnswer(t *testing.T) {
	elsewhere := receive(t, false, nil)
	times := 0
	hooksOf := map[string]http.HandlerFunc{
		"again": func(w http.ResponseWriter, _ *http.Request) {
			if times++; times == 1 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		},
		"away":    func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, elsewhere.URL, http.StatusFound) },
		"bad":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"endless": endless,
		"closed":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hang":    func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() },
	}
	cfg := HooksConfig{AllowHosts: []string{elsewhere.URL}}
	in := map[string]*receiver{}
	for name, answer := range hooksOf {
		in[name] = receive(t, false, answer)
		cfg.AllowHosts = append(cfg.AllowHosts, in[name].URL)
	}
	unknown := receive(t, true, nil)
	unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
	cfg.AllowHosts = append(cfg.AllowHosts, unknown.host())
	r := startHooks(t, quickHooks, cfg)
	first := map[string]post{}
	for name := range hooksOf {
		r.hook(t, name, api.CreateHookRequest{URL: in[name].URL})
	}
	r.staged(t, r.op.Tenant, "bot@1")
	for name := range hooksOf {
		first[name] = in[name].next(t)
	}
	again := func(t *testing.T, name string) {
		t.Helper()
		if p := in[name].next(t); p.body != first[name].body || p.header.Get(headerDelivery) != first[name].header.Get(headerDelivery) {
			t.Errorf("the second try is another one: %s and %s", first[name].body, p.body)
		}
	}
	givenUp := func(t *testing.T, name string, status int, says string) {
		t.Helper()
		if d := r.settled(t, name, forge.DeliveryFailed); d.Tries != 3 || d.Status != status || !strings.Contains(d.Error, says) {
			t.Errorf("%+v", d)
		}
		if n := r.failures(t, name); n != 1 {
			t.Errorf("the trail tells of %d", n)
		}
	}
	retried := func(t *testing.T, name, says string) {
		t.Helper()
		again(t, name)
		comes(t, "what was wrong", func() bool { return strings.Contains(r.deliveries(t, name)[0].Error, says) })
		if d := r.deliveries(t, name)[0]; d.State != forge.DeliveryWaiting {
			t.Errorf("%+v", d)
		}
	}
	t.Run("500 and then 200 is tried again", func(t *testing.T) {
		again(t, "again")
		if d := r.settled(t, "again", forge.DeliveryDone); d.Tries != 2 || d.Error != "" {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a redirect is not followed, and says so", func(t *testing.T) {
		givenUp(t, "away", http.StatusFound, "redirects are not followed")
		if len(elsewhere.got) > 0 {
			t.Error("it was followed")
		}
	})
	t.Run("400 is given up after three tries", func(t *testing.T) { givenUp(t, "bad", http.StatusBadRequest, "answered 400") })
	t.Run("a body without an end is not read to its end", func(t *testing.T) { r.settled(t, "endless", forge.DeliveryDone) })
	t.Run("a connection that is closed is tried again", func(t *testing.T) { retried(t, "closed", "closed before it answered") })
	t.Run("one who hangs is left after its time", func(t *testing.T) { retried(t, "hang", "did not answer within") })
	t.Run("a certificate that nobody knows is refused", func(t *testing.T) {
		r.hook(t, "unknown", api.CreateHookRequest{URL: unknown.URL})
		d, err := hooks{r.Daemon}.TestHook(t.Context(), r.op, api.HookName{Hook: "unknown"})
		if err != nil || d.State != forge.DeliveryFailed || !strings.Contains(d.Error, "certificate") || len(unknown.got) != 0 {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("the page for Prometheus counts them and names nobody", func(t *testing.T) {
		w := httptest.NewRecorder()
		r.meter.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, want := range []string{`forge_hook_deliveries_total{result="delivered"} 2`, `forge_hook_deliveries_total{result="given_up"} 2`, "forge_hook_backlog 2"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("there is no %s", want)
			}
		}
	})
	t.Run("the doctor tells of those that fail for a day", func(t *testing.T) {
		if f := r.hookTrouble(t.Context(), time.Now().Add(hookFailWarn-time.Hour)); f.status != api.CheckOK {
			t.Errorf("%+v", f)
		}
		if f := r.hookTrouble(t.Context(), time.Now().Add(hookFailWarn+time.Hour)); f.status != api.CheckWarn || !strings.HasPrefix(f.found, "4 hooks") {
			t.Errorf("%+v", f)
		}
	})
}

// failures counts what the trail says was given up of a hook.
func (r *rig) failures(t *testing.T, name string) (n int) {
	t.Helper()
	failed, err := r.db.For(r.op).Events(context.Background(), store.EventFilter{Types: []forge.EventType{forge.EventHookFailed}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range failed {
		if f, _ := e.Data["deliveries"].(float64); e.Data["hook"] == name {
			n += int(f)
		}
	}
	return n
}

// endless writes until nobody reads any more.
func endless(w http.ResponseWriter, q *http.Request) {
	for q.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 8<<10)); err != nil {
			return
		}
	}
}

// TestReceiversThatHangKeepNobody: more of them than there are senders for hooks that fail, and one that takes everything.
func TestReceiversThatHangKeepNobody(t *testing.T) {
	hang := receive(t, false, func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
	in := receive(t, false, nil)
	slow := quickHooks
	slow.whole = time.Minute
	r := startHooks(t, slow, HooksConfig{AllowHosts: []string{in.URL, hang.URL}})
	const n = hookSenders/2 + 8
	for i := range n {
		r.hook(t, fmt.Sprintf("hang-%d", i), api.CreateHookRequest{URL: hang.URL, On: []string{"hold"}})
	}
	comes(t, "the loop knows the hooks", func() bool { r.herald.mu.Lock(); defer r.herald.mu.Unlock(); return len(r.herald.at) == n })
	r.herald.mu.Lock()
	for _, k := range r.herald.at {
		k.failing = true // as after their first try
	}
	r.herald.mu.Unlock()
	if err := r.db.AddEvent(t.Context(), forge.Event{Tenant: r.op.Tenant, Type: forge.EventRunHeld, Message: "held"}); err != nil {
		t.Fatal(err)
	}
	for range hookSenders / 2 {
		hang.next(t)
	}
	r.hook(t, "chat", api.CreateHookRequest{URL: in.URL})
	r.staged(t, r.op.Tenant, "bot@1")
	in.next(t)
	if len(hang.got) != 0 {
		t.Errorf("%d more hang than may", len(hang.got))
	}
}

func TestDeliveriesKeepTheirOrderUntilOneFailsForTooLong(t *testing.T) {
	in := receive(t, false, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get(headerEvent) == string(forge.EventRunHeld) {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	times := quickHooks
	times.holdBack = 100 * time.Millisecond
	r := startHooks(t, times, HooksConfig{AllowHosts: []string{in.URL}})
	r.hook(t, "chat", api.CreateHookRequest{URL: in.URL, On: []string{"hold", "stage"}})
	began := time.Now()
	if err := r.db.AddEvent(t.Context(), forge.Event{Tenant: r.op.Tenant, Type: forge.EventRunHeld, Message: "held"}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r.staged(t, r.op.Tenant, fmt.Sprintf("bot@%d", i))
	}
	var models []string
	held := 0
	for len(models) < 3 {
		p := in.next(t)
		if p.header.Get(headerEvent) == string(forge.EventRunHeld) {
			held++
			continue
		}
		if took := time.Since(began); len(models) == 0 && took < times.holdBack {
			t.Errorf("those behind it went after %s", took)
		}
		models = append(models, fmt.Sprint(p.parsed(t).Event.Data["model"]))
	}
	if held < 2 || !slices.Equal(models, []string{"bot@0", "bot@1", "bot@2"}) {
		t.Errorf("%d tries of the first, then %v", held, models)
	}
	comes(t, "the first is tried again beside them", func() bool { return in.next(t).header.Get(headerEvent) == string(forge.EventRunHeld) })
}

// TestARestartGoesOn: what was waiting, and what happened while no forged ran, is delivered by the next.
func TestARestartGoesOn(t *testing.T) {
	up := make(chan struct{})
	in := receive(t, false, func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-up:
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	change := func(o *Options) {
		o.Config.Hooks, o.hookTimes = HooksConfig{AllowHosts: []string{in.URL}}, &quickHooks
	}
	r := start(t, 1, change)
	r.hook(t, "chat", api.CreateHookRequest{URL: in.URL})
	r.staged(t, r.op.Tenant, "bot@1")
	first := in.next(t)
	dir := r.live().cfg.StateDir
	r.stop()
	close(up)
	for len(in.got) > 0 {
		<-in.got
	}
	again := serveOn(t, dir, r.fake, change)
	if p := in.next(t); p.body != first.body {
		t.Errorf("got %s, want %s", p.body, first.body)
	}
	again.op = r.op
	again.staged(t, r.op.Tenant, "bot@2")
	if m := in.next(t).parsed(t).Event.Data["model"]; m != "bot@2" {
		t.Errorf("then %v", m)
	}
	again.settled(t, "chat", forge.DeliveryDone)
}

func TestWhatNobodyTakesIsGivenUpOnceForAll(t *testing.T) {
	in := receive(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	times := quickHooks
	times.giveUp = 200 * time.Millisecond
	r := startHooks(t, times, HooksConfig{AllowHosts: []string{in.URL}})
	r.hook(t, "chat", api.CreateHookRequest{URL: in.URL, On: []string{"stage", "hook.added"}})
	for i := range 5 {
		r.staged(t, r.op.Tenant, fmt.Sprintf("bot@%d", i))
	}
	comes(t, "all are given up", func() bool {
		for _, d := range r.deliveries(t, "chat") {
			if d.State != forge.DeliveryFailed {
				return false
			}
		}
		return true
	})
	comes(t, "the trail says so", func() bool { return r.failures(t, "chat") == 5 })
	if n, err := r.db.HookBacklog(t.Context()); err != nil || n != 0 {
		t.Errorf("%d wait, %v", n, err)
	}
}
