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
	mu         sync.Mutex
	now        time.Time
	nextID     int
	secrets    map[string]forge.KeyID
	keys       []forge.Key
	tenants    []forge.Tenant
	users      []forge.User
	done       map[onceKey]onceDone
	underWay   map[underWayKey]string // operation
	far        api.Progress
	datasets   []forge.Dataset
	models     []forge.Model
	history    []forge.StageChange
	aliases    []fakeAlias
	runs       []*api.RunDetail
	logs       map[logName]string
	metrics    map[forge.RunID]api.Metrics
	saves      map[forge.RunID][]forge.Checkpoint
	whys       map[forge.RunID]api.Why
	samples    map[forge.RunID][]api.Sample
	queue      *api.Queue
	nodes      []api.NodeView
	gpus       []api.NodeGPUs
	gpuPast    map[string]api.GPUHistory // by UUID
	clusters   []api.ClusterView
	seat       api.RunSeat
	nodeEvents []forge.NodeEvent

	archives   map[string][]byte       // by digest
	snapshots  map[string]api.Snapshot // by tenant and digest
	batchQueue string                  // has all that wait
	checks     []api.Check
	failures   map[string]api.NodeDetail // by node
	notReady   []string
	events     []forge.Event
	changed    chan struct{}
	fail       map[string]error
	hook       func(op string)
	calls      map[string]int
	evals      []fakeEval
	schedules  []api.ScheduleDetail
	removed    map[forge.ScheduleID]bool
	files      map[string][]byte // of datasets, by tenant and digest
	rows       map[forge.DatasetVersionID][]byte
	impact     *forge.Impact
	herald     []*fakeHook
}

type logName struct {
	run     forge.RunID
	attempt int
	rank    int
	stream  string
}

// New makes a site where nothing is, at a time that stands still.
func New(now time.Time) *Fake {
	f := &Fake{now: now, secrets: map[string]forge.KeyID{MemberSecret: "K1", OperatorSecret: "K2", RevokedSecret: "K3", StrangerSecret: "K4"}, changed: make(chan struct{}),
		logs: map[logName]string{}, metrics: map[forge.RunID]api.Metrics{}, saves: map[forge.RunID][]forge.Checkpoint{},
		whys: map[forge.RunID]api.Why{}, done: map[onceKey]onceDone{}, underWay: map[underWayKey]string{}, fail: map[string]error{}, calls: map[string]int{}, removed: map[forge.ScheduleID]bool{}}
	f.tenants = []forge.Tenant{{ID: "T1", Name: "default", CreatedAt: now, Weight: 1}, {ID: "T2", Name: "other", CreatedAt: now, Weight: 1}}
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
	return api.Services{Auth: f, Once: f, Tenants: f, Users: f, Datasets: f, Models: f, Registry: f, Gates: f, Progress: f, Runs: f, Estimates: f, Holds: f, Priority: f, RunData: f, Measures: f, Samples: f, Pipelines: f, Keys: f, Logins: f, Site: f, Clusters: f, Nodes: f, NodeHolds: f, GPUs: f, Events: f, Recipes: f, Evals: f, Schedules: f, Costs: f, Snapshots: f, Bundles: f, GC: f, Hooks: f}
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
