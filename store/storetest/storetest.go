// Package storetest opens real stores for tests and builds the values that most tests need, so
// that a test states only what it is about. Builders take options that change one thing:
//
//	db := storetest.Open(t)
//	acme := storetest.Tenant(t, db, "acme")
//	storetest.Nodes(t, db, storetest.Node("gpu-1", 8))
//	run := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
//	a := storetest.Place(t, db, run, "gpu-1", 0, 1)
package storetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// Cluster is the cluster of all builders.
const Cluster forge.ClusterName = "local"

// Open opens a fresh store in the test's directory and closes it when the test ends.
func Open(t testing.TB) *store.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forge.db")
	Fresh(t, path)
	return OpenAt(t, path, store.Options{Log: zerolog.Nop()})
}

// Fresh puts an empty database of the newest schema at path, byte for byte one that store.Open made and Close left. To make each
// one anew takes a tenth of a second and a write to the disk for each migration, and few tests are about that.
func Fresh(t testing.TB, path string) {
	t.Helper()
	empty, err := migrated()
	if err == nil {
		err = os.WriteFile(path, empty, 0o600)
	}
	if err != nil {
		t.Fatalf("make a store: %v", err)
	}
}

var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "storetest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "forge.db")
	db, err := store.Open(context.Background(), path, store.Options{Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// OpenAt opens a store at a path of the test's choice, for tests that reopen or watch deltas.
func OpenAt(t testing.TB, path string, opt store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), path, opt)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return db
}

// Principal makes a tenant of that name with a member called "ana" and returns who she is.
func Principal(t testing.TB, db *store.DB, name string) forge.Principal {
	t.Helper()
	tenant, err := db.CreateTenant(context.Background(), name)
	if err != nil {
		t.Fatalf("create tenant: %v", err)
	}
	return User(t, db, tenant.ID, "ana", forge.RoleMember)
}

// User makes a user of a role with a key and returns who that is.
func User(t testing.TB, db *store.DB, tenant forge.TenantID, name string, role forge.Role) forge.Principal {
	t.Helper()
	ctx := context.Background()
	_, secret, err := db.CreateKey(ctx, tenant, name, role, "test")
	if err != nil {
		t.Fatalf("create key: %v", err)
	}
	p, err := db.Authenticate(ctx, secret)
	if err != nil {
		t.Fatalf("authenticate: %v", err)
	}
	return p
}

// Tenant makes a tenant of that name and returns its handle.
func Tenant(t testing.TB, db *store.DB, name string) *store.Tenant {
	t.Helper()
	return db.For(Principal(t, db, name))
}

// Spec builds a small run: lora_sft on one node with one slot, one CPU and 64 MiB.
func Spec(opts ...func(*forge.RunSpec)) forge.RunSpec {
	s := forge.RunSpec{
		Recipe: "lora_sft", RecipeSHA256: strings.Repeat("a", 64), Launch: forge.LaunchRank,
		Entry:    forge.Entry{Module: "forge_train.lora_sft"},
		Params:   map[string]any{"lora.r": 16.0, "train.learning_rate": 1e-4},
		Origins:  map[string]string{"lora.r": "set", "train.learning_rate": "default"},
		Gang:     forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 1, MemoryMiBPerGPU: 64},
		Priority: forge.DefaultPriority, Grace: forge.Duration(forge.DefaultGrace),
	}
	for _, o := range opts {
		o(&s)
	}
	return s
}

// Gang asks for nodes × GPUs per node.
func Gang(nodes, gpus int) func(*forge.RunSpec) {
	return func(s *forge.RunSpec) { s.Gang.Nodes, s.Gang.GPUsPerNode = nodes, gpus }
}

// Priority sets the priority.
func Priority(p int) func(*forge.RunSpec) { return func(s *forge.RunSpec) { s.Priority = p } }

// After makes the run wait for others.
func After(runs ...forge.RunID) func(*forge.RunSpec) {
	return func(s *forge.RunSpec) { s.After = runs }
}

// Register asks for the output to be registered.
func Register(model string) func(*forge.RunSpec) {
	return func(s *forge.RunSpec) { s.Register = model }
}

// Submit submits a run that must succeed.
func Submit(t testing.TB, tenant *store.Tenant, spec forge.RunSpec) forge.Run {
	t.Helper()
	run, err := tenant.SubmitRun(context.Background(), store.NewRun{Spec: spec})
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	return run
}

// Node builds a ready node of Cluster with so many CPU slots, 64 CPUs and 64 GiB.
func Node(name forge.NodeName, slots int) forge.Node {
	n := forge.Node{Name: name, Cluster: Cluster, CPUs: 64, MemoryMiB: 64 * 1024, State: forge.NodeReady}
	for i := range slots {
		n.GPUs = append(n.GPUs, forge.GPU{Slot: i, Kind: forge.GPUCPUSlot, Type: "cpu"})
	}
	return n
}

// Nodes records nodes of Cluster; those that it does not name become unknown.
func Nodes(t testing.TB, db *store.DB, nodes ...forge.Node) {
	t.Helper()
	if err := db.RecordNodes(context.Background(), Cluster, nodes, time.Now()); err != nil {
		t.Fatalf("record nodes: %v", err)
	}
}

// Placement builds the decision that starts the run's next attempt on slots of one node.
func Placement(run forge.Run, node forge.NodeName, slots ...int) forge.Place {
	g := run.Spec.Gang
	return forge.Place{Run: run.ID, RunVersion: run.Version, Attempt: run.Attempt + 1, Cluster: Cluster,
		Shares: []forge.Share{{Node: node, Slots: slots, CPUs: g.CPUsPerNode(), MemoryMiB: g.MemoryMiBPerNode()}}}
}

// Place applies a placement that must hold and returns the attempt.
func Place(t testing.TB, db *store.DB, run forge.Run, node forge.NodeName, slots ...int) forge.Attempt {
	t.Helper()
	ctx := context.Background()
	run, err := db.RunByID(ctx, run.ID) // the version may have grown since the caller read it
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	placed, refused, err := db.Apply(ctx, forge.Plan{Place: []forge.Place{Placement(run, node, slots...)}},
		store.ApplyOptions{RunDir: func(id forge.RunID, _ forge.ClusterName) string { return "/runs/" + string(id) }})
	if err != nil || len(refused) > 0 || len(placed) != 1 {
		t.Fatalf("place: placed %v, refused %v, err %v", placed, refused, err)
	}
	return placed[0]
}

// Running takes an attempt that Place returned to running.
func Running(t testing.TB, db *store.DB, a forge.Attempt) {
	t.Helper()
	ctx := context.Background()
	if err := db.AttemptLaunching(ctx, a.Run, a.Number); err != nil {
		t.Fatalf("launching: %v", err)
	}
	if err := db.AttemptSubmitted(ctx, a.Run, a.Number, forge.ExternalID(forge.AttemptKey(a.Run, a.Number)), Row(t, db, a, store.OutboxLaunch)); err != nil {
		t.Fatalf("submitted: %v", err)
	}
	if err := db.AttemptRunning(ctx, a.Run, a.Number, time.Now(), nil); err != nil {
		t.Fatalf("running: %v", err)
	}
}

// Finish takes an open attempt through exited to ended.
func Finish(t testing.TB, db *store.DB, a forge.Attempt, reason forge.EndReason, next forge.RunState) forge.Run {
	t.Helper()
	ctx := context.Background()
	if err := db.AttemptExited(ctx, store.Exit{Run: a.Run, Attempt: a.Number, At: time.Now()}); err != nil {
		t.Fatalf("exited: %v", err)
	}
	run, _, err := db.AttemptEnded(ctx, store.End{Run: a.Run, Attempt: a.Number, Reason: reason, Next: next, OutboxID: Row(t, db, a, store.OutboxFinish)})
	if err != nil {
		t.Fatalf("ended: %v", err)
	}
	return run
}

// Row finds the id of the outbox row of a kind for an attempt; 0 when there is none.
func Row(t testing.TB, db *store.DB, a forge.Attempt, kind store.OutboxKind) int64 {
	t.Helper()
	rows, err := db.Outbox(context.Background())
	if err != nil {
		t.Fatalf("outbox: %v", err)
	}
	for _, r := range rows {
		if r.Run == a.Run && r.Attempt == a.Number && r.Kind == kind {
			return r.ID
		}
	}
	return 0
}
