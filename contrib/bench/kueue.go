package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/daemon"
)

// Kueue's own large-scale test: 10 cohorts of 100 queues, each with a quota of 20 that it lends and a bound of 120, and in each queue 50 workloads
// of three classes. Here a queue is a tenant, a cohort is nodes with a label, and a unit of quota a GPU.
const (
	kueueCohorts  = 10
	kueueTenants  = 100 // of each cohort
	kueueQuota    = 20
	kueueBorrow   = 100
	kueueWall     = 1179.4 // s, mean of Kueue's own runs
	kueueUse      = 38.6   // % of the quota
	kueueSeconds  = 60
	kueueLeastUse = 90
	kueueGiveUp   = 20 * time.Minute
)

var kueueClasses = []struct {
	count    int
	every    time.Duration
	runtime  time.Duration
	priority int // Kueue's 50, 100, 200 below what a member may ask for
	gpus     int
}{
	{35, 60 * time.Millisecond, 150 * time.Millisecond, 15, 1},
	{11, 300 * time.Millisecond, 350 * time.Millisecond, 30, 5},
	{4, 700 * time.Millisecond, 700 * time.Millisecond, 60, 20},
}

// kueueLoad submits them over HTTP, each tenant with its own key, to a whole daemon whose executor only keeps time, and waits until all have ended.
// The use of the quota is that of all GPUs, as the store has them, over the time in which runs waited.
func kueueLoad(ctx context.Context, e env) (figures []figure, err error) {
	dir, err := os.MkdirTemp("", "forge")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	state := filepath.Join(dir, "state")
	if _, err := daemon.Init(ctx, state, "admin", daemon.NoUID); err != nil {
		return nil, err
	}
	recipe := "name: noop\ndoc: Nothing, for as long as it takes\nlaunch: rank\nentry:\n  command: [\"/bin/true\"]\ndatasets: []\nneeds_dataset: false\nneeds_base: false\noutput: false\n" +
		"gang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}\nlimits: {time_limit: 10m, start_timeout: 1m, stall_timeout: 1m, grace: 2s}\nparams: []\n"
	recipes := filepath.Join(dir, "recipes")
	conf := fmt.Sprintf("listen:\n  tcp: 127.0.0.1:0\nrecipes_dir: %q\npolicy: {preset: default}\nlimits:\n  requests_per_second: 0\n  streams_per_key: 0\nclusters:\n  - {name: %s, kind: direct, node: host-1, cpu_slots: 1}\n", recipes, worldCluster)
	if err := errors.Join(os.Mkdir(recipes, 0o755), os.WriteFile(filepath.Join(recipes, "noop.yaml"), []byte(recipe), 0o644), os.WriteFile(filepath.Join(state, "config.yaml"), []byte(conf), 0o600)); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(state, "forge.db")+"?_busy_timeout=10000&_synchronous=OFF")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	queues := kueueTenants / e.shrink
	keys := make([]string, kueueCohorts*queues)
	for i := range keys {
		if keys[i], err = addTenant(ctx, db, fmt.Sprintf("queue-%04d", i)); err != nil {
			return nil, err
		}
	}
	if _, err := db.ExecContext(ctx, `UPDATE tenants SET quota_gpus = ?, max_gpus = ? WHERE name LIKE 'queue-%'`, kueueQuota, kueueQuota+kueueBorrow); err != nil {
		return nil, err
	}
	cfg, err := daemon.LoadConfig("", state)
	if err != nil {
		return nil, err
	}
	runs := kueueRuns(len(keys))
	x := newTimekeeper(queues)
	log, err := os.Create(filepath.Join(dir, "forged.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	d, err := daemon.New(ctx, daemon.Options{Config: cfg, Log: zerolog.New(log).Level(zerolog.WarnLevel), Version: "bench",
		Clusters: []daemon.Cluster{{Name: worldCluster, Kind: daemon.KindDirect, Executor: x, Files: x, RunRoot: filepath.Join(dir, "runs"), PollEvery: 50 * time.Millisecond, Modules: true}}})
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancelCause(ctx)
	over := make(chan error, 1)
	go func() { over <- d.Run(serving) }()
	defer func() {
		stop(errors.New("the figure is taken"))
		err = errors.Join(err, <-over)
	}()
	addr, err := kueueAddr(ctx, state)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- kueueSubmit(ctx, addr, keys, queues, began) }()
	var held, possible float64
	var last time.Time
	for {
		var pending, ended, slots int
		if err := db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM runs WHERE state = 'pending'), (SELECT count(*) FROM runs WHERE state IN ('completed', 'failed', 'cancelled')), (SELECT count(*) FROM allocations)`).Scan(&pending, &ended, &slots); err != nil {
			return nil, err
		}
		if now := time.Now(); pending > 0 {
			if !last.IsZero() {
				held, possible = held+float64(slots)*now.Sub(last).Seconds(), possible+float64(len(keys))*kueueQuota*now.Sub(last).Seconds()
			}
			last = now
		}
		if e.verbose && int(time.Since(began).Seconds())%10 == 0 {
			fmt.Printf("  %3.0f s: %d wait, %d have ended, %d GPUs are held\n", time.Since(began).Seconds(), pending, ended, slots)
		}
		select {
		case err := <-sent:
			if err != nil {
				return nil, err
			}
			sent = nil
		case err := <-over:
			over <- nil
			return nil, fmt.Errorf("the daemon stopped: %w", err)
		case <-time.After(500 * time.Millisecond):
		}
		if sent == nil && ended == runs {
			break
		}
		if time.Since(began) > kueueGiveUp {
			return nil, fmt.Errorf("%d of %d runs had ended after %s", ended, runs, kueueGiveUp)
		}
	}
	wall, use := time.Since(began).Seconds(), 100*held/possible
	var failed int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM runs WHERE state != 'completed'`).Scan(&failed); err != nil || failed > 0 {
		return nil, errors.Join(err, fmt.Errorf("%d runs did not complete", failed))
	}
	fmt.Printf("  %d runs of %d tenants in %.1f s (%.0f/s); while runs waited %.1f %% of the quota was in use, at least %d %% is asked for (Kueue %.1f %%)\n", runs, len(keys), wall, float64(runs)/wall, use, kueueLeastUse, kueueUse)
	if e.verbose {
		var attempts, preempted int
		if err := db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(reason = 'checkpointed_preempt'), 0) FROM attempts`).Scan(&attempts, &preempted); err != nil {
			return nil, err
		}
		fmt.Printf("  %d attempts, of which %d made room for another run\n", attempts, preempted)
	}
	if e.shrink > 1 {
		return nil, nil // it says nothing of Kueue's size
	}
	f := atMost("kueue_load", wall, "s", "kueue", kueueWall, kueueSeconds/kueueWall)
	f.target = fmt.Sprintf("<=%ds,use>%d%%", kueueSeconds, kueueLeastUse)
	f.ok = f.ok && use > kueueLeastUse
	return []figure{f}, nil
}

func kueueRuns(tenants int) int {
	n := 0
	for _, c := range kueueClasses {
		n += c.count
	}
	return n * tenants
}

func kueueAddr(ctx context.Context, state string) (string, error) {
	for range 600 {
		if b, err := os.ReadFile(filepath.Join(state, "forged.addr")); err == nil && len(b) > 0 {
			return "http://" + strings.TrimSpace(string(b)), nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return "", errors.New("the daemon does not listen")
}

// kueueSubmit submits each workload when the generator makes it, or as soon after that as the daemon takes it.
func kueueSubmit(ctx context.Context, addr string, keys []string, queues int, began time.Time) error {
	type submit struct {
		at   time.Duration
		key  string
		body string
	}
	var all []submit
	for q, key := range keys {
		for _, c := range kueueClasses {
			body := fmt.Sprintf(`{"recipe":"noop","gpus":%d,"priority":%d,"where":{"labels":{"cohort":"c%d"}}}`, c.gpus, c.priority, q/queues)
			for i := range c.count {
				all = append(all, submit{time.Duration(i) * c.every, key, body})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b submit) int { return cmp.Compare(a.at, b.at) })
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}, Timeout: 5 * time.Minute}
	defer hc.CloseIdleConnections()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				time.Sleep(time.Until(began.Add(all[i].at)))
				if err := post(ctx, hc, addr, all[i].key, all[i].body); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// timekeeper is an executor whose attempts do nothing for as long as their class says, and end well.
type timekeeper struct {
	mu       sync.Mutex
	nodes    []forge.Node
	attempts map[forge.ExternalID]*timed
	wake     chan struct{}
}

type timed struct {
	started, ends time.Time
	ranks         int
	stopped       bool
}

func newTimekeeper(queues int) *timekeeper {
	x := &timekeeper{attempts: map[forge.ExternalID]*timed{}, wake: make(chan struct{}, 1)}
	for i := range kueueCohorts * queues {
		n := forge.Node{Name: forge.NodeName(fmt.Sprintf("n%04d", i)), Cluster: worldCluster, CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady, Labels: map[string]string{"cohort": fmt.Sprint("c", i/queues)}}
		for s := range kueueQuota {
			n.GPUs = append(n.GPUs, forge.GPU{Slot: s, Kind: forge.GPUDevice, Type: "H100", MemoryMiB: 81920})
		}
		x.nodes = append(x.nodes, n)
	}
	return x
}

// Submit implements the daemon's Executor, as do the next ones.
func (x *timekeeper) Submit(_ context.Context, l forge.Launch) (forge.ExternalID, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id := forge.ExternalID("timed:" + l.Key)
	if x.attempts[id] == nil {
		a := &timed{started: time.Now(), ranks: l.Spec.Gang.GPUs()}
		for _, c := range kueueClasses {
			if c.gpus == l.Spec.Gang.GPUs() {
				a.ends = a.started.Add(c.runtime)
				time.AfterFunc(c.runtime, x.nudge)
			}
		}
		x.attempts[id] = a
	}
	return id, nil
}

func (x *timekeeper) nudge() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// Wake says that an attempt has ended.
func (x *timekeeper) Wake() <-chan struct{} { return x.wake }

func (x *timekeeper) Find(_ context.Context, key, _ string) forge.Lookup {
	x.mu.Lock()
	defer x.mu.Unlock()
	if id := forge.ExternalID("timed:" + key); x.attempts[id] != nil {
		return forge.Lookup{State: forge.LookupFound, ID: id, Evidence: "it was submitted"}
	}
	return forge.Lookup{State: forge.LookupAbsent, Evidence: "never submitted"}
}

func (x *timekeeper) Poll(_ context.Context, ids []forge.ExternalID) ([]forge.Observation, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	out := make([]forge.Observation, len(ids))
	for i, id := range ids {
		o := forge.Observation{ID: id, AsOf: now, State: forge.ObservUnknown, ByUID: -1}
		if a := x.attempts[id]; a != nil {
			o.State, o.StartedAt, o.Resume = forge.ObservRunning, a.started, &forge.Resume{}
			if a.stopped || !now.Before(a.ends) {
				code := 0
				if a.stopped {
					code = 85
				}
				o.State, o.Cause, o.Released = forge.ObservExited, forge.StopRankExit, true
				for rank := range a.ranks {
					o.Exits = append(o.Exits, forge.RankExit{Rank: rank, Code: code})
				}
			}
		}
		out[i] = o
	}
	return out, nil
}

func (x *timekeeper) Signal(_ context.Context, id forge.ExternalID, _ forge.SignalKind) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a := x.attempts[id]; a != nil {
		a.stopped = true
	}
	x.nudge()
	return nil
}

func (x *timekeeper) Nodes(context.Context) ([]forge.Node, error) { return slices.Clone(x.nodes), nil }

// Read implements the daemon's Files, as do the next two: there are none.
func (x *timekeeper) Read(_ context.Context, _ forge.ExternalID, _ string, offset int64, _ int) (forge.Chunk, error) {
	return forge.Chunk{Next: offset}, nil
}

func (x *timekeeper) Checkpoints(context.Context, forge.RunID, string, bool) ([]forge.Checkpoint, error) {
	return nil, nil
}

func (x *timekeeper) CheckInputs(context.Context, forge.Manifest) error { return nil }
