package apitest

import (
	"context"
	"fmt"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// The secrets that New knows.
const (
	MemberSecret   = "fk_member_0123456789abcdef"
	OperatorSecret = "fk_operator_0123456789abcdef"
	RevokedSecret  = "fk_revoked_0123456789abcdef"
	StrangerSecret = "fk_stranger_0123456789abcdef" // a member of another tenant
)

// Fake is a site in memory. Its methods are api.Services; the exported others set it up.
type Fake struct {
	mu       sync.Mutex
	now      time.Time
	nextID   int
	secrets  map[string]forge.Principal
	revoked  map[forge.KeyID]bool
	keys     []forge.Key
	tenants  []forge.Tenant
	users    []forge.User
	done     map[onceKey]onceDone
	datasets []forge.Dataset
	models   []forge.Model
	runs     []*api.RunDetail
	logs     map[logName]string
	metrics  map[forge.RunID]api.Metrics
	saves    map[forge.RunID][]forge.Checkpoint
	whys     map[forge.RunID]api.Why
	queue    *api.Queue
	nodes    []api.NodeView
	clusters []api.ClusterView
	notReady []string
	events   []forge.Event
	changed  chan struct{}
	fail     map[string]error
	hook     func(op string)
	calls    map[string]int
}

type logName struct {
	run     forge.RunID
	attempt int
	rank    int
	stream  string
}

// New makes a site where nothing is, at a time that stands still.
func New(now time.Time) *Fake {
	f := &Fake{now: now, secrets: map[string]forge.Principal{}, revoked: map[forge.KeyID]bool{}, changed: make(chan struct{}),
		logs: map[logName]string{}, metrics: map[forge.RunID]api.Metrics{}, saves: map[forge.RunID][]forge.Checkpoint{},
		whys: map[forge.RunID]api.Why{}, done: map[onceKey]onceDone{}, fail: map[string]error{}, calls: map[string]int{}}
	f.secrets[MemberSecret] = forge.Principal{Tenant: "T1", User: "ada", UserID: "U1", Key: "K1", Role: forge.RoleMember}
	f.secrets[OperatorSecret] = forge.Principal{Tenant: "T1", User: "root", UserID: "U2", Key: "K2", Role: forge.RoleOperator}
	f.secrets[RevokedSecret] = forge.Principal{Tenant: "T1", User: "eve", UserID: "U3", Key: "K3", Role: forge.RoleMember}
	f.secrets[StrangerSecret] = forge.Principal{Tenant: "T2", User: "bob", UserID: "U4", Key: "K4", Role: forge.RoleMember}
	f.revoked["K3"] = true
	f.tenants = []forge.Tenant{{ID: "T1", Name: "default", CreatedAt: now}, {ID: "T2", Name: "other", CreatedAt: now}}
	f.users = []forge.User{{ID: "U1", Tenant: "T1", Name: "ada", Role: forge.RoleMember, CreatedAt: now}, {ID: "U2", Tenant: "T1", Name: "root", Role: forge.RoleOperator, CreatedAt: now},
		{ID: "U3", Tenant: "T1", Name: "eve", Role: forge.RoleMember, CreatedAt: now}, {ID: "U4", Tenant: "T2", Name: "bob", Role: forge.RoleMember, CreatedAt: now}}
	revokedAt := now.Add(-time.Hour)
	f.keys = []forge.Key{
		{ID: "K1", Tenant: "T1", User: "ada", Role: forge.RoleMember, Prefix: "fk_member", CreatedAt: now.Add(-24 * time.Hour)},
		{ID: "K2", Tenant: "T1", User: "root", Role: forge.RoleOperator, Prefix: "fk_operat", CreatedAt: now.Add(-48 * time.Hour)},
		{ID: "K3", Tenant: "T1", User: "eve", Role: forge.RoleMember, Prefix: "fk_revoke", CreatedAt: now.Add(-24 * time.Hour), RevokedAt: &revokedAt},
		{ID: "K4", Tenant: "T2", User: "bob", Role: forge.RoleMember, Prefix: "fk_strang", CreatedAt: now.Add(-24 * time.Hour)},
	}
	return f
}

// Services gives the fake to a server.
func (f *Fake) Services() api.Services {
	return api.Services{Auth: f, Once: f, Tenants: f, Users: f, Datasets: f, Models: f, Runs: f, Holds: f, RunData: f, Keys: f, Site: f, Clusters: f, Events: f}
}

// Fail makes a method answer an error from now on; nil ends it.
func (f *Fake) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

// Hook is called at the start of every method, outside the lock, with its name.
func (f *Fake) Hook(h func(method string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = h
}

// Calls says how often a method was called.
func (f *Fake) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// SetNotReady says why the site is not ready.
func (f *Fake) SetNotReady(why ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notReady = why
}

// SetNodes says which nodes there are.
func (f *Fake) SetNodes(nodes ...api.NodeView) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = nodes
}

func (f *Fake) enter(method string) (func(), error) {
	f.mu.Lock()
	hook := f.hook
	f.calls[method]++
	f.mu.Unlock()
	if hook != nil {
		hook(method)
	}
	f.mu.Lock()
	if err := f.fail[method]; err != nil {
		f.mu.Unlock()
		return nil, err
	}
	return f.mu.Unlock, nil
}

func (f *Fake) id(kind string) string {
	f.nextID++
	return fmt.Sprintf("01%s%022d", kind, f.nextID)
}

func notFound(what, name string) error {
	return forge.Errorf(forge.KindNotFound, "", "there is no %s %q", what, name)
}

// Authenticate implements api.Auth.
func (f *Fake) Authenticate(_ context.Context, secret string) (forge.Principal, error) {
	leave, err := f.enter("Authenticate")
	if err != nil {
		return forge.Principal{}, err
	}
	defer leave()
	p, ok := f.secrets[secret]
	if !ok || f.revoked[p.Key] {
		return forge.Principal{}, forge.Errorf(forge.KindUnauthorized, "", "unknown key")
	}
	return p, nil
}

// CreateKey implements api.Keys.
func (f *Fake) CreateKey(_ context.Context, p forge.Principal, r api.CreateKeyRequest) (api.CreatedKey, error) {
	leave, err := f.enter("CreateKey")
	if err != nil {
		return api.CreatedKey{}, err
	}
	defer leave()
	if r.User == "" {
		r.User = p.User
	}
	if r.Role == "" {
		r.Role = forge.RoleMember
	}
	if !p.Role.Includes(r.Role) {
		return api.CreatedKey{}, (&forge.Error{Kind: forge.KindForbidden, Field: "role", Err: fmt.Errorf("a %s makes no key of role %s", p.Role, r.Role)}).
			WithHint("ask an operator")
	}
	if err := forge.CheckName(r.User); err != nil {
		return api.CreatedKey{}, forge.Invalidf("user", "%w", err)
	}
	k := forge.Key{ID: forge.KeyID(f.id("K")), Tenant: p.Tenant, User: r.User, Role: r.Role, Prefix: "fk_new", CreatedAt: f.now}
	secret := "fk_new_" + string(k.ID)
	f.keys = append(f.keys, k)
	f.secrets[secret] = forge.Principal{Tenant: p.Tenant, User: r.User, UserID: "U9", Key: k.ID, Role: r.Role}
	f.remember(p, string(k.ID))
	return api.CreatedKey{Key: k, Secret: secret}, nil
}

// Keys implements api.Keys.
func (f *Fake) Keys(_ context.Context, p forge.Principal, l api.Listing) (api.List[forge.Key], error) {
	leave, err := f.enter("Keys")
	if err != nil {
		return api.List[forge.Key]{}, err
	}
	defer leave()
	return paged(f.keys, l, func(k forge.Key) (string, bool) { return string(k.ID), k.Tenant == p.Tenant }), nil
}

// Key implements api.Keys.
func (f *Fake) Key(_ context.Context, p forge.Principal, id string) (forge.Key, error) {
	leave, err := f.enter("Key")
	if err != nil {
		return forge.Key{}, err
	}
	defer leave()
	for _, k := range f.keys {
		if string(k.ID) == id && k.Tenant == p.Tenant {
			return k, nil
		}
	}
	return forge.Key{}, notFound("key", id)
}

// RotateKey implements api.Keys.
func (f *Fake) RotateKey(ctx context.Context, p forge.Principal, id string, _ time.Duration) (api.CreatedKey, error) {
	old, err := f.RevokeKey(ctx, p, id, forge.WhyRotated)
	if err != nil {
		return api.CreatedKey{}, err
	}
	return f.CreateKey(ctx, p, api.CreateKeyRequest{User: old.User, Role: old.Role, Name: old.Name})
}

// RevokeKey implements api.Keys.
func (f *Fake) RevokeKey(_ context.Context, p forge.Principal, id string, _ forge.Why) (forge.Key, error) {
	leave, err := f.enter("RevokeKey")
	if err != nil {
		return forge.Key{}, err
	}
	defer leave()
	for i := range f.keys {
		if k := &f.keys[i]; string(k.ID) == id && k.Tenant == p.Tenant {
			f.revoked[k.ID] = true
			k.RevokedAt = &f.now
			return *k, nil
		}
	}
	return forge.Key{}, notFound("key", id)
}

// Nodes implements api.Site.
func (f *Fake) Nodes(context.Context, forge.Principal) ([]api.NodeView, error) {
	leave, err := f.enter("Nodes")
	if err != nil {
		return nil, err
	}
	defer leave()
	return f.nodes, nil
}

// Ready implements api.Site.
func (f *Fake) Ready(context.Context) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notReady
}
