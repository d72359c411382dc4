package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// follower reads the stream of one key over connections that are cut, and remembers what it got.
type follower struct {
	name    string
	query   string
	secret  string
	cutting int  // reads at most so many events of one connection; 0: as long as it lasts
	late    bool // reads nothing until all is written
	got     []int64
}

// trailSite is a daemon that comes and goes under one trail.
type trailSite struct {
	socket  atomic.Pointer[string]
	written chan struct{} // closed when all is written
}

func (s *trailSite) get(ctx context.Context, f *follower) (*http.Response, error) {
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", *s.socket.Load())
	}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://forged/v1/events"+f.query, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(api.HeaderKey, f.secret)
	if n := len(f.got); n > 0 {
		r.Header.Set(api.HeaderLastEventID, strconv.FormatInt(f.got[n-1], 10))
	}
	return hc.Do(r)
}

// follow goes on until it has got the event with the message "last".
func (s *trailSite) follow(ctx context.Context, f *follower, random *rand.Rand) error {
	for ctx.Err() == nil {
		resp, err := s.get(ctx, f)
		if err != nil { // between two daemons
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		done, err := s.listen(f, resp, random)
		_ = resp.Body.Close()
		if err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%s: %w after %d events", f.name, ctx.Err(), len(f.got))
}

func (s *trailSite) listen(f *follower, resp *http.Response, random *rand.Rand) (done bool, err error) {
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %s", f.name, resp.Status)
	}
	if f.late {
		<-s.written
	}
	left := -1
	if f.cutting > 0 {
		left = random.IntN(f.cutting)
	}
	for lines := bufio.NewScanner(resp.Body); left != 0 && lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e forge.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return false, nil // cut inside a line by a daemon that died
		}
		f.got = append(f.got, e.Seq)
		left--
		if e.Message == "last" {
			return true, nil
		}
	}
	return false, nil
}

// Nothing is missed and nothing comes twice: whoever cuts its connection, is slow, is away, or loses its daemon.
func TestFollowersGetEveryEventOfTheirsOnceAndInOrder(t *testing.T) {
	const (
		daemons = 4
		writers = 6
		each    = 180 // events of a writer and a daemon: more than the tail holds, altogether
	)
	if daemons*writers*each < 2*tailLength {
		t.Fatal("no follower ever falls out of the tail")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := start(t, 1)
	dir, fake := r.live().cfg.StateDir, r.fake
	site := &trailSite{written: make(chan struct{})}
	site.socket.Store(&r.live().cfg.Listen.Socket)

	var tenants []forge.Principal
	var followers []*follower
	run := map[forge.TenantID]forge.Run{}
	follow := func(p forge.Principal, secret, query, name string) {
		followers = append(followers,
			&follower{name: name + " to the end", secret: secret, query: query},
			&follower{name: name + " with cuts", secret: secret, query: query, cutting: 200},
			&follower{name: name + " too late", secret: secret, query: query, late: true})
		tenants = append(tenants, p, p, p)
	}
	for _, name := range []string{"acme", "rival"} {
		tenant, err := r.db.CreateTenant(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		_, secret, err := r.db.CreateKey(ctx, tenant.ID, "ana", forge.RoleMember, "test")
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Authenticate(ctx, secret)
		if err != nil {
			t.Fatal(err)
		}
		if run[p.Tenant], err = r.db.For(p).SubmitRun(ctx, store.NewRun{Spec: script(99)}); err != nil {
			t.Fatal(err)
		}
		follow(p, secret, "", name)
		follow(p, secret, "?run=1", name+", one run")
		follow(p, secret, "?type=node.changed,run.held&actor=kim", name+", filtered")
	}
	_, secret, err := r.db.CreateKey(ctx, r.op.Tenant, "root", forge.RoleOperator, "test")
	if err != nil {
		t.Fatal(err)
	}
	follow(r.op, secret, "", "operator")

	var following, writing sync.WaitGroup
	failed := make(chan error, len(followers)+writers)
	for i, f := range followers {
		following.Go(func() { failed <- site.follow(ctx, f, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	random := rand.New(rand.NewPCG(seed, 1<<32))
	for n := range daemons {
		for w := range writers {
			mine := rand.New(rand.NewPCG(random.Uint64(), uint64(w)))
			writing.Go(func() {
				for range each {
					if err := r.db.AddEvent(ctx, anyEvent(mine, tenants, run, "in the middle")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writing.Wait()
		if n < daemons-1 {
			r.stop()
			r = serveOn(t, dir, executortest.NewFake(fakeNode(1)))
			r.fake = fake
			site.socket.Store(&r.live().cfg.Listen.Socket)
		}
	}
	// Each follower knows its end by an event that is in all its filters.
	for _, p := range []forge.Principal{tenants[0], tenants[len(tenants)/2], r.opOf(t, secret)} {
		e := forge.Event{Tenant: p.Tenant, Actor: "kim", Type: forge.EventNodeChanged, Message: "last"}
		if x, ok := run[p.Tenant]; ok {
			e.Run, e.Number = x.ID, x.Number
		}
		if err := r.db.AddEvent(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	close(site.written)
	following.Wait()
	for range followers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	for i, f := range followers {
		q := store.EventFilter{}
		if strings.Contains(f.query, "run=") {
			q.Run = run[tenants[i].Tenant].ID
		}
		if strings.Contains(f.query, "type=") {
			q.Types, q.Actor = []forge.EventType{forge.EventNodeChanged, forge.EventRunHeld}, "kim"
		}
		if want := seqs(t, r.db.For(tenants[i]), q); !slices.Equal(f.got, want) {
			t.Errorf("%s got %d events, want %d; first difference at %d", f.name, len(f.got), len(want), firstDifference(f.got, want))
		}
	}
}

func (r *rig) opOf(t *testing.T, secret string) forge.Principal {
	t.Helper()
	p, err := r.Authenticate(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// anyEvent is of one of the tenants, of the site, of a run or of none, by one of two.
func anyEvent(random *rand.Rand, tenants []forge.Principal, run map[forge.TenantID]forge.Run, message string) forge.Event {
	e := forge.Event{Actor: []string{"kim", "lee"}[random.IntN(2)], Message: message,
		Type: []forge.EventType{forge.EventNodeChanged, forge.EventRunHeld, forge.EventModelRegistered}[random.IntN(3)]}
	if random.IntN(5) == 0 {
		return e
	}
	e.Tenant = tenants[random.IntN(len(tenants))].Tenant
	if x, ok := run[e.Tenant]; ok && random.IntN(2) == 0 {
		e.Run, e.Number = x.ID, x.Number
	}
	return e
}

// seqs reads the trail from the tables, up to the event called last.
func seqs(t *testing.T, tenant *store.Tenant, f store.EventFilter) []int64 {
	t.Helper()
	var out []int64
	for {
		page, err := tenant.Events(t.Context(), f, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			out = append(out, e.Seq)
			if e.Message == "last" {
				return out
			}
		}
		if len(page) == 0 {
			return out
		}
		f.After = out[len(out)-1]
	}
}

func firstDifference(a, b []int64) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// The tail answers by the same rule as the tables, to the letter of the events.
func TestTailAndTablesGiveTheSameEvents(t *testing.T) {
	ctx := t.Context()
	r := start(t, 1)
	other, err := r.db.CreateTenant(ctx, "other")
	if err != nil {
		t.Fatal(err)
	}
	member := forge.Principal{Tenant: other.ID, User: "ana", Role: forge.RoleMember}
	all := []forge.Principal{r.op, member, {Tenant: other.ID, User: "root", Role: forge.RoleOperator}, {Tenant: r.op.Tenant, User: "vi", Role: forge.RoleViewer}, {}}
	run := map[forge.TenantID]forge.Run{r.op.Tenant: r.submit(t, script(99))}
	if run[other.ID], err = r.db.For(member).SubmitRun(ctx, store.NewRun{Spec: script(99)}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	first, _ := r.tail.next()
	for n := range 200 {
		e := anyEvent(random, all[:2], run, "a \x00 byte, and one \xff that is no text")
		e.Data = map[string]any{"n": n, "list": []string{"a"}}
		e.Time = time.Now().Add(time.Duration(random.IntN(10)) * time.Second)
		if err := r.db.AddEvent(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	compared := 0
	for range 500 {
		p := all[random.IntN(len(all))]
		f := store.EventFilter{After: first + random.Int64N(220)}
		if random.IntN(3) == 0 {
			f.Run = run[[]forge.TenantID{r.op.Tenant, other.ID}[random.IntN(2)]].ID
		}
		if random.IntN(3) == 0 {
			f.Types = []forge.EventType{forge.EventRunHeld, forge.EventKeyCreated}
		}
		if random.IntN(3) == 0 {
			f.Actor = "kim"
		}
		if random.IntN(3) == 0 {
			f.Since = time.Now().Add(time.Duration(random.IntN(10)) * time.Second)
		}
		tenant := r.db.For(p)
		limit := 1 + random.IntN(50)
		fresh, ok := r.tail.after(f.After, limit, func(e *forge.Event) bool { return tenant.Sees(f, e) })
		if !ok {
			t.Fatalf("the tail does not reach back to %d", f.After)
		}
		stored, err := tenant.Events(ctx, f, limit)
		if err != nil {
			t.Fatal(err)
		}
		got, want := onWire(t, fresh), onWire(t, stored)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v %+v: the tail gives\n%s\nthe tables\n%s", p, f, got, want)
		}
		compared += len(want)
	}
	if compared < 1000 {
		t.Errorf("only %d events were compared", compared)
	}
}

func onWire(t *testing.T, events []forge.Event) []string {
	t.Helper()
	out := []string{}
	for _, e := range events {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s", e.Tenant, b))
	}
	return out
}
