package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/server"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// Options is all that New needs; main fills it, tests fill it with fakes.
type Options struct {
	Config  Config
	Log     zerolog.Logger
	Version string
	// Clusters overrides what Config.Clusters would open. For tests.
	Clusters []Cluster
}

// Cluster is one executor and what the daemon must know about it.
type Cluster struct {
	Name      forge.ClusterName
	Kind      string // direct
	Executor  Executor
	Files     Files
	RunRoot   string
	PollEvery time.Duration
	Modules   bool // recipes with a Python module can run here
}

// Daemon is a running forged.
type Daemon struct {
	cfg      Config
	log      zerolog.Logger
	version  string
	db       *store.DB
	submitTo func(forge.Principal) submitter
	world    *world
	clusters map[forge.ClusterName]*Cluster
	order    []forge.ClusterName
	recipes  recipes.Library
	policy   scheduler.Policy
	code     string // digest of the embedded training package

	kickPlan   chan struct{}
	kickOutbox chan struct{}
	kickWatch  chan struct{}
	events     *notifier
	cursors    cursors
	ready      atomic.Bool
	planFault  atomic.Pointer[string]
	settling   atomic.Pointer[[]string] // what a restored database still waits for: see restore_settle.go
	doctor     doctor
	damage     atomic.Pointer[string] // what is broken in the database: see integrity.go

	listeners []net.Listener
	handler   http.Handler
	stop      stopStack
	wg        sync.WaitGroup
	fatal     chan error
}

const (
	dbFile     = "forge.db"
	addrFile   = "forged.addr" // the TCP address that was bound, for port 0
	pythonDir  = "python"
	stopBudget = 10 * time.Second
)

// New opens everything in one straight line and serves nothing yet. What was opened is closed
// again when a later step fails.
func New(ctx context.Context, o Options) (_ *Daemon, err error) {
	d := &Daemon{
		cfg: o.Config, log: o.Log, version: o.Version,
		kickPlan: make(chan struct{}, 1), kickOutbox: make(chan struct{}, 1), kickWatch: make(chan struct{}, 1),
		events: newNotifier(), cursors: cursors{m: map[string]*cursor{}}, policy: scheduler.DefaultPolicy(), fatal: make(chan error, 1),
		clusters: map[forge.ClusterName]*Cluster{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop.run(d.log))
		}
	}()
	if err := prepareStateDir(d.cfg.StateDir); err != nil {
		return nil, err
	}
	lock, err := lockState(d.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	d.stop.push("state lock", lock.release)

	if d.recipes, err = recipes.Builtin(); err != nil {
		return nil, err
	}
	if d.cfg.RecipesDir != "" {
		if d.recipes, err = d.recipes.With(d.cfg.RecipesDir); err != nil {
			return nil, err
		}
	}
	pythonPath, err := recipes.ExtractPython(filepath.Join(d.cfg.StateDir, pythonDir))
	if err != nil {
		return nil, err
	}
	d.code = recipes.PythonDigest()

	dbPath := filepath.Join(d.cfg.StateDir, dbFile)
	if err := databasePresent(d.cfg.StateDir, dbPath); err != nil {
		return nil, err
	}
	if d.db, err = store.Open(ctx, dbPath, store.Options{Log: d.log, OnCommit: d.onCommit}); err != nil {
		return nil, sayWayOut(d.cfg.StateDir, err)
	}
	d.stop.push("database", d.db.Close)
	if err := d.checkNow(ctx); err != nil {
		return nil, err
	}
	d.submitTo = func(p forge.Principal) submitter { return d.db.For(p) }

	w, err := d.db.World(ctx)
	if err != nil {
		return nil, err
	}
	d.world = newWorld(w, d.runByID)

	list := o.Clusters
	if list == nil {
		if list, err = openClusters(d.cfg, pythonPath, d.log); err != nil {
			return nil, err
		}
	}
	for _, c := range list {
		d.clusters[c.Name] = &c
		d.order = append(d.order, c.Name)
	}
	d.handler = server.New(api.Services{Auth: d, Once: d, Tenants: tenants{d}, Users: users{d}, Datasets: datasets{d}, Models: models{d}, Runs: runs{d}, Holds: holds{d}, RunData: rundata{d},
		Keys: keys{d}, Site: site{d}, Clusters: clusters{d}, Events: events{d}},
		server.Options{Log: d.log, Version: d.version, MaxBody: d.cfg.Limits.MaxBodyBytes})
	if err := d.listen(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Run serves until ctx ends, then stops gracefully: requests are drained, loops joined, the
// database closed. Attempts go on: their shims need no daemon.
func (d *Daemon) Run(ctx context.Context) error {
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.stop.push("loops", func() error { cancel(); d.wg.Wait(); return nil })
	d.adopt(loops)
	d.refreshNodes(loops)
	d.afterRestore(loops, func() {
		d.loop(loops, "plan", d.planLoop)
		d.loop(loops, "outbox", d.outboxLoop)
		d.loop(loops, "watch", d.watchLoop)
	})
	d.loop(loops, "nodes", d.nodesLoop)
	d.loop(loops, "check", d.checkBeside)
	d.serve(loops)
	d.ready.Store(true)
	d.log.Info().Str("socket", d.cfg.Listen.Socket).Str("version", d.version).Msg("serving")

	var err error
	select {
	case <-ctx.Done():
		d.log.Info().Msg("stopping; attempts go on without us")
	case err = <-d.fatal:
	}
	d.ready.Store(false)
	return errors.Join(err, d.stop.run(d.log))
}

func (d *Daemon) loop(ctx context.Context, name string, f func(context.Context)) {
	d.wg.Go(func() {
		f(ctx)
		d.log.Debug().Str("loop", name).Msg("loop ended")
	})
}

// onCommit runs in the store's writer, in commit order, before the callers are told.
func (d *Daemon) onCommit(deltas []forge.Delta) {
	if d.world == nil { // migrations, before the world is built
		return
	}
	if d.world.apply(deltas) {
		kick(d.kickPlan)
	}
	for _, x := range deltas {
		if x.Event != nil {
			d.events.notify()
			break
		}
	}
}

func (d *Daemon) runByID(id forge.RunID) (forge.Run, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := d.db.RunByID(ctx, id)
	return r, err == nil
}

// Authenticate implements api.Auth.
func (d *Daemon) Authenticate(ctx context.Context, secret string) (forge.Principal, error) {
	return d.db.Authenticate(ctx, secret)
}

// kick wakes a loop without ever waiting for it.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// notifier wakes everyone who waits for a change, by closing a channel.
type notifier struct {
	mu sync.Mutex
	ch chan struct{}
}

func newNotifier() *notifier { return &notifier{ch: make(chan struct{})} }

func (n *notifier) changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ch
}

func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.ch)
	n.ch = make(chan struct{})
}
