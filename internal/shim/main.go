package shim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Exit codes of a shim. They are for people and for executors that see nothing else: what counts
// is exit.json.
const (
	exitRecorded = 0 // exit.json says how it went
	exitFailed   = 1 // no record could be written
	exitUsage    = 2
	exitNotOurs  = 3 // another shim of this attempt and node was first
)

// launchPatience is how long a node of a network filesystem may not see yet what forged has written.
const launchPatience = 10 * time.Second

// shim is one shim's state. Everything happens on one goroutine, locked to its thread.
type shim struct {
	at        rundir.Attempt
	node      int
	job       *job // nil: this host's own, or another's without a queue
	self      rundir.Process
	launch    rundir.LaunchFile
	perNode   []int
	master    rundir.Master
	resume    forge.Resume
	secrets   []string // KEY=VALUE for ranks, of the user's own file; never written anywhere
	gang      gang
	peers     peers
	oom       oomCounter
	events    events
	printed   printed
	gpus      *gpuWatch      // nil: nothing is watched
	writes    sync.WaitGroup // exit records on their way to the disk
	refreshed atomic.Int64   // when the attempt's directory was last opened, in ns
	swept     int            // leftovers ended so far
	group     ranksGroup
	began     time.Time
	log       zerolog.Logger
}

// Main is `forged shim`: it starts the ranks of one attempt on one node, watches them to their end
// and returns the exit code of the process. It must be the only user of the process: it collects
// every child and never unlocks its thread.
//
// Called with rundir.StartFlag it first learns what to start from the connection on its standard input.
func Main(ctx context.Context, args []string) int {
	if len(args) == 1 && args[0] == rundir.StartFlag {
		fmt.Fprintln(os.Stderr, "forged shim:", fromSocket())
		return exitUsage
	}
	runtime.LockOSThread()
	began := time.Now().UTC()
	ev := listen(ctx)
	o, err := parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "forged shim:", err)
		return exitUsage
	}
	s := &shim{
		at: rundir.At(o.runDir, o.attempt), node: o.node, began: began, events: ev,
		log: zerolog.New(os.Stderr).With().Timestamp().Int("attempt", o.attempt).Logger(),
	}
	if !o.slurm {
		s.log = s.log.With().Int("node", o.node).Logger()
	}
	s.gang.byUID = -1
	if o.slurm {
		if s.job, err = readJob(os.LookupEnv); err != nil {
			fmt.Fprintln(os.Stderr, "forged shim:", err)
			return exitUsage
		}
		s.node = s.job.node
		s.log = s.log.With().Int("node", s.node).Str("job", s.job.holder).Logger()
		if code, ok := s.takeJob(); !ok {
			return code
		}
	}
	launchErr := s.insist("no launch", launchPatience, func() (err error) { s.launch, err = rundir.ReadLaunch(s.at); return err })
	if launchErr == nil {
		s.log = s.log.With().Str("run", string(s.launch.Run)).Int64("run_number", s.launch.Number).Logger()
	}
	netErr := error(nil)
	if launchErr == nil && s.launch.Options.Network == rundir.NetworkNone {
		netErr = isolate(o.inside)
		if errors.Is(netErr, errNeedsUserNamespace) {
			var code int
			if code, netErr = rerun(args); netErr == nil {
				return code
			}
		}
	}
	return s.run(ctx, errors.Join(launchErr, netErr), launchErr == nil)
}

// options is the command line.
type options struct {
	runDir        string
	attempt, node int
	slurm         bool
	inside        bool
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("shim", flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	fs.StringVar(&o.runDir, "run-dir", "", "run directory, absolute")
	fs.IntVar(&o.attempt, "attempt", 0, "number of the attempt")
	fs.IntVar(&o.node, "node", 0, "index of this node in the placement")
	fs.BoolVar(&o.slurm, "slurm", false, "started by srun, which says what node this is")
	fs.BoolVar(&o.inside, inNamespace[2:], false, "already inside namespaces of its own")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	switch {
	case !filepath.IsAbs(o.runDir):
		return o, fmt.Errorf("--run-dir %q: want an absolute path", o.runDir)
	case o.attempt < 1:
		return o, fmt.Errorf("--attempt %d: attempts start at 1", o.attempt)
	case o.node < 0:
		return o, fmt.Errorf("--node %d: nodes start at 0", o.node)
	case o.slurm && o.node != 0:
		return o, errors.New("--node with --slurm: Slurm says what node this is")
	case fs.NArg() > 0:
		return o, fmt.Errorf("%q: no argument is expected", fs.Arg(0))
	}
	return o, nil
}

// run is the way of a shim: lock, prepare, start, watch, finish.
func (s *shim) run(ctx context.Context, early error, haveLaunch bool) int {
	for _, dir := range []string{filepath.Dir(s.at.NodeDir(s.node)), s.at.NodeDir(s.node)} {
		if err := s.insist("no place to work in", recordPatience, func() error { return rundir.MakeDir(dir) }); err != nil {
			s.log.Error().Err(err).Msg("no place to work in")
			return exitFailed
		}
	}
	self, err := rundir.Identify(os.Getpid())
	if err != nil {
		s.log.Error().Err(err).Msg("own identity not known")
		return exitFailed
	}
	s.self = self
	lock, err := s.lock()
	if err != nil {
		s.log.Warn().Err(err).Msg("not started")
		if errors.Is(err, rundir.ErrLockHeld) || errors.Is(err, rundir.ErrLockUsed) {
			return exitNotOurs
		}
		return exitFailed
	}
	defer lock.Close()
	crash.At("shim.after_lock")

	if err := s.claim(); err != nil {
		return s.end(err)
	}
	crash.At("shim.after_claim")
	if early != nil {
		cause := forge.StopLaunch
		if haveLaunch {
			cause = forge.StopNodeEnv
		}
		return s.end(refuse(cause, "%v", early))
	}
	if err := s.adopt(); err != nil {
		return s.end(err)
	}
	if err := s.prepare(ctx); err != nil {
		return s.end(err)
	}
	if err := becomeSubreaper(); err != nil {
		return s.end(refuse(forge.StopLaunch, "cannot become the reaper of the ranks: %v", err))
	}
	s.printed.limit = s.launch.Options.LogLimit
	if err := s.startRanks(); err != nil {
		s.abandon()
		return s.end(err)
	}
	s.gang.live = time.Now()
	if err := s.publish(); err != nil {
		s.gang.ask(levelKill, forge.StopLaunch, err.Error(), time.Now())
	}
	crash.At("shim.ranks_started")
	s.boundPrinted()
	if s.launch.Report != nil {
		go s.report()
	}
	s.watchGPUs()
	s.watch()
	return s.end(nil)
}

// lock takes the life-long lock, and with it the mark by which a second shim does not start the ranks again.
func (s *shim) lock() (*rundir.Lock, error) {
	if s.job == nil {
		return rundir.AcquireLock(s.at.LockPath(s.node), s.self)
	}
	var lock *rundir.Lock
	var locked error
	err := s.insist("no lock", recordPatience, func() (err error) {
		lock, locked, err = rundir.MarkLock(s.at.LockPath(s.node), s.self)
		return err
	})
	if locked != nil {
		s.log.Info().Err(locked).Msg("no lock on this filesystem; the mark is enough")
	}
	return lock, err
}

// adopt takes over what the launch says, after checking that it is whole.
func (s *shim) adopt() error {
	if s.job != nil {
		if err := s.sitDown(); err != nil {
			return err
		}
	}
	l := s.launch
	_, s.perNode = rundir.Ranks(l.Launch)
	slots := 0
	for _, share := range l.Placement {
		slots += len(share.Slots)
	}
	switch {
	case l.Run == "":
		return refuse(forge.StopLaunch, "launch.json names no run")
	case s.node >= len(l.Placement):
		return refuse(forge.StopLaunch, "node %d of a placement on %d nodes", s.node, len(l.Placement))
	case s.job == nil && len(l.Devices) != slots:
		return refuse(forge.StopLaunch, "launch.json places %d slots and describes %d devices", slots, len(l.Devices))
	case s.perNode[s.node] == 0:
		return refuse(forge.StopLaunch, "launch.json places no slot on node %d", s.node)
	case l.Attempt != s.at.Number || l.RunDir != s.at.RunDir:
		return refuse(forge.StopLaunch, "launch.json is of attempt %d in %s", l.Attempt, l.RunDir)
	case l.Options.Network == rundir.NetworkNone && len(l.Placement) > 1:
		return refuse(forge.StopNodeEnv, "network none keeps ranks on %d nodes from finding each other; set network: host for this cluster", len(l.Placement))
	}
	s.peers = peers{at: s.at, self: s.node, n: len(s.perNode), zero: true, locks: s.job == nil}
	s.gang.node = l.Placement[s.node].Node
	s.gang.began = s.began
	s.gang.limit = l.Spec.TimeLimit.D()
	s.gang.grace = l.Spec.Grace.D()
	if lead := min(l.SaveLead.D(), s.gang.limit/2); s.job == nil && lead > 0 {
		// Our own limit, with the grace behind it: what saves have taken comes off its front.
		s.gang.limit, s.gang.limitGrace = s.gang.limit-lead, lead+s.gang.grace
	}
	if s.job != nil {
		s.gang.limit, s.gang.limitGrace = saveIn(s.gang.limit, l.SaveLead.D(), s.began, s.job.ends)
	}
	if s.node == 0 {
		// Rank 0 reports for all: elsewhere its files are seen late, over a network filesystem.
		s.gang.start, s.gang.stall = l.Spec.StartTimeout.D(), l.Spec.StallTimeout.D()
	}
	s.oom = newOOMCounter()
	return nil
}

// publish writes what others wait for, live.json last. On a single node nobody but forged waits, so
// all of it comes after the ranks' start and costs them nothing.
func (s *shim) publish() error {
	live := rundir.Live{Process: s.self, StartedAt: time.Now().UTC(), Cgroup: s.group.path}
	if s.job != nil {
		live.Node, live.Slots = s.job.name, s.job.slots
	}
	for _, m := range s.gang.members {
		p, err := rundir.Identify(m.pid) // not collected yet: there even if it has ended
		if err != nil {
			return fmt.Errorf("identify rank %d: %w", m.rank, err)
		}
		live.Ranks = append(live.Ranks, rundir.LiveRank{Rank: m.rank, PID: p.PID, StartTime: p.StartTime})
	}
	var set []rundir.Content
	if len(s.perNode) == 1 {
		for _, c := range []struct {
			path string
			v    any
		}{{s.at.ResumePath(), s.resume}, {s.at.MasterPath(), s.master}} {
			f, err := rundir.JSON(c.path, c.v)
			if err != nil {
				return err
			}
			set = append(set, f)
		}
	}
	f, err := rundir.JSON(s.at.LivePath(s.node), live)
	if err != nil {
		return err
	}
	if err := rundir.WriteDurable(append(set, f)...); err != nil {
		return fmt.Errorf("live.json not written: %w", err)
	}
	return nil
}

// events are the signals that the shim listens to, from its first instruction on: a TERM must never
// end it before it has recorded why.
type events struct{ child, look, limit, term chan os.Signal }

func listen(ctx context.Context) events {
	e := events{child: make(chan os.Signal, 1), look: make(chan os.Signal, 1), limit: make(chan os.Signal, 1), term: make(chan os.Signal, 4)}
	signal.Notify(e.child, syscall.SIGCHLD)
	// CONT is how Slurm is asked to have shims look: where it signals every process of a step, ranks do not mind it.
	signal.Notify(e.look, syscall.SIGUSR1, syscall.SIGCONT)
	signal.Notify(e.limit, syscall.SIGUSR2) // a batch system's word that its limit is near
	signal.Notify(e.term, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { e.term <- syscall.SIGTERM })
	return e
}

// deafToLimit has what is forked meanwhile ignore the warning of a batch system, until it installs a handler of its
// own. Slurm may signal every process of a step, and the default is to die: before the save that the warning is for.
func (e events) deafToLimit() (restore func()) {
	signal.Ignore(syscall.SIGUSR2)
	return func() { signal.Notify(e.limit, syscall.SIGUSR2) }
}
