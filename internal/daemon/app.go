package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/slurm"
	"github.com/forge-ml/forge-ml/store"
)

// Options is all that New needs; main fills it, tests fill it with fakes.
type Options struct {
	Config  Config
	Log     zerolog.Logger
	Version string
	// Clusters overrides what Config.Clusters would open. For tests.
	Clusters []Cluster

	// ReadConfig reads the configuration anew when Reload says so; nil: it never changes.
	ReadConfig func() (Config, error)
	Reload     <-chan struct{}
	// Relog puts another log configuration in force; nil: the log stays as it is.
	Relog     func(LogConfig)
	hookTimes *hookTimes // nil: the defaults. For tests
	watcher   gpuWatcher // nil: NVML's. For tests

	// Hurry closes when whoever asked for a stop does not want to wait.
	Hurry <-chan struct{}
}

// Cluster is one executor and what the daemon must know about it.
type Cluster struct {
	Name      forge.ClusterName
	Kind      string // direct | slurm
	Executor  Executor
	Files     Files
	RunRoot   string
	PollEvery time.Duration
	Modules   bool   // recipes with a Python module can run here
	Python    string // kind direct: the interpreter of the training environment, on this host

	Binding    forge.Binding // "": forge.BindPlan
	AsUser     bool          // jobs and run directories belong to people, and RunRoot has their account in it
	MaxPending int           // forge.BindEager: of one user's attempts that wait in the cluster's own queue; 0: no limit
	NiceStep   int           // clusters with a batch system: nice per point of priority below the highest

	GPUs        *gpuReader     // kind direct: asks for this host's GPUs; nil: nobody does
	Slurm       *slurm.Options // kind slurm: what runs may ask of it, and how their jobs look; nil elsewhere
	UserRuntime bool           // runs may name the software that they start in

	UserPrograms bool   // runs may bring the program that they are
	ArtifactRoot string // where registered outputs are copied to; "": they stay in RunRoot
}

// Daemon is a running forged.
type Daemon struct {
	log        zerolog.Logger
	version    string
	db         *store.DB
	submitTo   func(forge.Principal) submitter
	world      *world
	prices     atomic.Pointer[forge.Prices]
	settings   atomic.Pointer[settings] // what a reload may replace; read through live
	code       string                   // digest of the embedded training package
	self       string                   // path of this program
	pythonPath string
	prober     *nvml.Prober
	watcher    gpuWatcher // of this host's GPUs
	board      *gpuBoard
	strangers  strangers // on GPUs of this host
	held       heldUp
	gpus       *gpuHealth

	readConfig func() (Config, error)
	relog      func(LogConfig)
	askReload  <-chan struct{}
	hurry      <-chan struct{}
	stopping   chan struct{} // closed when a stop begins

	kickPlan   chan struct{}
	kickOutbox chan struct{}
	unhanded   unhanded
	batchSlots chan struct{} // held by who hands something to a batch system
	kickWatch  chan struct{}

	kickSchedules chan struct{}
	kickVerdicts  chan struct{}
	judging       judging
	tail          *tail
	runIDs        runIDs
	outlooks      outlooks
	forecasts     forecasts
	whatIf        chan struct{} // holds one while somebody looks ahead
	cursors       cursors
	reading       registrations
	scans         turns
	desk          mungeDesk
	pre           prechecks
	oldShapes     shapes
	accounts      accounts
	ready         atomic.Bool
	planFault     atomic.Pointer[string]
	doctor        doctor
	checking      checking
	planned       atomic.Int64            // turns of the plan loop
	refused       atomic.Pointer[string]  // why the last reload was
	requests      atomic.Int64            // being answered now
	ground        atomic.Pointer[terrain] // see terrain.go
	lookLock      sync.Mutex
	looked        looked                   // under lookLock
	warm          *scheduler.Planner       // under lookLock; nil: the next plan makes one
	warmBy        scheduler.Policy         // of warm
	settling      atomic.Pointer[[]string] // what a restored database still waits for: see restore_settle.go
	reports       *reports
	herald        *herald
	damage        atomic.Pointer[string] // what is broken in the database: see integrity.go

	using        sync.RWMutex // held for reading by whoever is about to store that something on disk is used; what removes takes it whole, or waits for another time
	collecting   sync.Mutex   // held by the one gc that is under way
	copyLock     sync.Mutex   // orders the removal of copies of datasets and the making of them
	indexing     sync.Map     // dataset versions whose rows are being indexed
	snapshotLock sync.Mutex   // orders the removal of old snapshots and the use of them

	doors doors // only Run and the reload loop touch it
	http  *http.Server
	meter *meter
	stop  stopStack
	wg    sync.WaitGroup
	turns roster // the loops that have not ended
	fatal chan error
}

const (
	dbFile    = "forge.db"
	addrFile  = "forged.addr" // the TCP address that was bound, for port 0
	pythonDir = "python"
)

// New opens everything in one straight line and serves nothing yet. What was opened is closed
// again when a later step fails.
func New(ctx context.Context, o Options) (_ *Daemon, err error) {
	d := &Daemon{
		log: o.Log, version: o.Version, readConfig: o.ReadConfig, relog: o.Relog, askReload: o.Reload, hurry: o.Hurry, stopping: make(chan struct{}),
		kickPlan: make(chan struct{}, 1), kickOutbox: make(chan struct{}, 1), batchSlots: make(chan struct{}, batchWorkers), kickWatch: make(chan struct{}, 1),
		cursors: cursors{m: map[string]*cursor{}}, desk: mungeDesk{used: map[[32]byte]time.Time{}, slots: make(chan struct{}, mungeAtOnce)}, fatal: make(chan error, 1),
		whatIf: make(chan struct{}, 1), pre: newPrechecks(), kickSchedules: make(chan struct{}, 1), kickVerdicts: make(chan struct{}, 1),
	}
	d.judging = d.judges()
	d.meter = newMeter(o.Version)
	d.forecasts.failed = func(err error) {
		d.log.Warn().Err(err).Msg("the queue could not be played on; answers have no expected starts")
	}
	d.meter.registry.MustRegister(siteFacts{d})
	d.meter.gpus = d.gpuFamilies
	if d.relog == nil {
		d.relog = func(LogConfig) {}
	}
	if d.readConfig == nil {
		d.readConfig = func() (Config, error) { return o.Config, nil }
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop.run(d.log))
		}
	}()
	dir := o.Config.StateDir
	if err := prepareStateDir(dir); err != nil {
		return nil, err
	}
	lock, err := lockState(dir)
	if err != nil {
		return nil, err
	}
	d.stop.push("state lock", lock.release)

	if d.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("own path: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, scansDir)); err != nil { // of a forged that was killed while it read
		return nil, stateDirError(dir, err)
	}
	gpus := o.Config.GPUs
	d.prober = &nvml.Prober{Self: d.self, Timeout: nvmlTimeout, LibraryPath: gpus.LibraryPath}
	d.watcher = nvml.NewWatcher(nvml.WatchOptions{Self: d.self, Every: gpus.SampleEvery.D(), LibraryPath: gpus.LibraryPath, Log: d.log})
	if o.watcher != nil {
		d.watcher = o.watcher
	}
	d.board, d.gpus = newGPUBoard(), newGPUHealth(d)
	d.board.every = gpus.SampleEvery.D()
	if d.pythonPath, err = recipes.ExtractPython(filepath.Join(dir, pythonDir)); err != nil {
		return nil, err
	}
	d.code = recipes.PythonDigest()

	dbPath := filepath.Join(dir, dbFile)
	if err := databasePresent(dir, dbPath); err != nil {
		return nil, err
	}
	if d.db, err = store.Open(ctx, dbPath, store.Options{Log: d.log, OnCommit: d.onCommit}); err != nil {
		return nil, sayWayOut(dir, err)
	}
	d.stop.push("database", d.db.Close)
	if err := d.checkNow(ctx, dir); err != nil {
		return nil, err
	}
	d.submitTo = func(p forge.Principal) submitter { return d.db.For(p) }

	w, err := d.db.World(ctx)
	if err != nil {
		return nil, err
	}
	d.tail = newTail(w.LastSeq, tailLength)
	d.world = newWorld(w, d.runByID)
	d.world.onEnd = d.meter.ended

	if d.reports, err = newReports(d, dir); err != nil {
		return nil, err
	}
	if d.herald, err = newHerald(d, dir, o.hookTimes); err != nil {
		return nil, err
	}
	var undo stopStack // executors hold nothing that has to be let go of at a stop
	defer func() {
		if err != nil {
			err = errors.Join(err, undo.run(d.log))
		}
	}()
	s, err := d.build(o.Config, nil, o.Clusters, &undo)
	if err != nil {
		return nil, err
	}
	d.settings.Store(s)
	d.world.setQueues(queuesOf(s))
	d.setHalfLife(s)
	d.setPrices(s)
	was, err := d.readPast(ctx)
	if err != nil {
		return nil, err
	}
	d.world.learn(d.policy(), was, time.Now())
	d.http = d.newServer()
	if d.doors, err = d.bind(ctx, o.Config, nil, &d.stop); err != nil {
		return nil, err
	}
	return d, nil
}

// Run serves until ctx ends, then stops gracefully: requests are drained, loops joined, the
// database closed. Attempts go on: their shims need no daemon.
func (d *Daemon) Run(ctx context.Context) error {
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var err error
	d.stop.push("last event", func() error { d.recordStop(ctx, err); return nil })
	d.stop.push("loops", func() error { cancel(); d.join(); return nil })
	d.recordStart(loops)
	d.adopt(loops)
	d.refreshNodes(loops)
	d.afterRestore(loops, func() {
		d.loop(loops, "plan", d.planLoop)
		d.loop(loops, "outbox", d.outboxLoop)
		d.loop(loops, "watch", d.watchLoop)
		d.loop(loops, "hooks", d.herald.loop)
		d.loop(loops, "schedules", d.schedulesLoop)
		d.loop(loops, "verdicts", d.verdictsLoop)
	})
	d.loop(loops, "nodes", d.nodesLoop)
	d.loop(loops, "gpus", d.gpusLoop)
	d.loop(loops, "gpu history", d.gpuHistoryLoop)
	d.loop(loops, "job map", d.jobMapLoop)
	d.loop(loops, "gpu streams", d.gpuStreamsLoop)
	d.loop(loops, "check", d.checkBeside)
	d.loop(loops, "snapshots", d.snapshotsLoop)
	d.loop(loops, "datasets", d.datasetsLoop)
	d.loop(loops, "watchdog", d.watchdogLoop)
	d.loop(loops, "budgets", d.budgetsLoop)
	d.stop.push("requests", d.drain)
	d.ready.Store(true) // before the first request can be answered
	d.useDoors(d.doors)
	d.loop(loops, "reload", d.reloadLoop) // from here on the doors are its own
	d.log.Info().Str("socket", d.live().cfg.Listen.Socket).Str("version", d.version).Msg("serving")
	d.tellStatus()
	d.tell("READY=1")

	select {
	case <-ctx.Done():
		d.log.Info().Str("why", context.Cause(ctx).Error()).Msg("stopping; attempts go on without us, and a second signal hurries")
	case err = <-d.fatal:
		d.log.Error().Err(err).Msg("stopping; attempts go on without us")
	}
	d.ready.Store(false)
	d.tell("STOPPING=1\nSTATUS=stopping; attempts go on")
	close(d.stopping)
	return errors.Join(err, d.stop.run(d.log))
}

func (d *Daemon) loop(ctx context.Context, name string, f func(context.Context)) {
	d.turns.add(name)
	d.wg.Go(func() {
		defer d.turns.remove(name)
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
	d.tail.add(deltas)
}

func (d *Daemon) runByID(id forge.RunID) (forge.Run, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := d.db.RunByID(ctx, id)
	return r, err == nil
}

// kick wakes a loop without ever waiting for it.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
