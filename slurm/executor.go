package slurm

import (
	"context"
	"hash/fnv"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Executor hands attempts to one Slurm cluster and watches them. It is safe for concurrent use.
type Executor struct {
	o    Options
	with atomic.Pointer[With]
	hand Hand
	self bool // identity self: forged itself owns jobs and files
	me   string
	log  zerolog.Logger
	pace pace

	wake   chan struct{}
	nudges sync.Map        // of a later look: when, in ms
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	notify *notifier
	near   bool  // everything that happens in the run root happens on this machine
	rules  rules // of its partitions

	// stripes serialise what changes an attempt: Submit, Find and Signal of one never overlap.
	stripes [64]sync.Mutex

	mu    sync.Mutex
	known map[forge.ExternalID]*attempt
	asker asker
	asked map[string]time.Time // jobs of attempts that nobody asks for, and when their records were last read
}

// attempt is what is known of one, beside its records.
type attempt struct {
	id      forge.ExternalID
	at      rundir.Attempt
	account string
	run     forge.RunID
	name    string // of its job

	made   time.Time // when this process learned of it; an answer of before says nothing about it
	polled time.Time // when somebody last asked for it

	records Records
	blind   string    // why they could not be read just now
	looked  time.Time // when they were read; zero: never, or something has happened since

	watching []string  // directories that inotify tells of
	touched  time.Time // when one of them was last changed, where inotify does not see that

	job     *entry    // as Slurm last showed it
	jobAt   time.Time // when that was asked
	missing int       // good answers in a row that did not have it
	gone    bool      // Slurm knows no such job, by its own word
	asks    int       // how often the accounting was asked who cancelled it
	asked   time.Time // when last
	strays  []entry   // other jobs of its name, which must not go on
	endSeen time.Time // since when one side says that it is over
	stuck   time.Time // since when its reason to wait is one that never clears
	over    bool      // it was judged to be over, with proof
	acted   time.Time // when something was last done about it, so that it is not at every look
}

// New prepares the executor; Close ends its watching, never an attempt.
func New(o Options) (*Executor, error) {
	switch {
	case o.Cluster == "":
		return nil, forge.Invalidf("cluster", "a cluster needs a name")
	case !filepath.IsAbs(o.RunRoot) || filepath.Clean(o.RunRoot) != o.RunRoot:
		return nil, forge.Invalidf("run_root", "%q: want a clean absolute path", o.RunRoot)
	case !filepath.IsAbs(o.Shim):
		return nil, forge.Invalidf("shim", "%q: want the absolute path of forged on the nodes", o.Shim)
	case o.PortMin < 0 || o.PortMax > 65535 || o.PortMax < o.PortMin:
		return nil, forge.Invalidf("ports", "%d-%d is not a range of ports", o.PortMin, o.PortMax)
	}
	if o.PollEvery <= 0 {
		o.PollEvery = 10 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Executor{
		o: o, pace: usual, hand: o.Hand, self: o.Hand == nil, log: o.Log.With().Str("cluster", string(o.Cluster)).Logger(),
		wake: make(chan struct{}, 1), ctx: ctx, cancel: cancel, known: map[forge.ExternalID]*attempt{}, asked: map[string]time.Time{},
	}
	if e.self {
		e.hand = NewOwn(o.Tools)
	}
	e.me = strconv.Itoa(os.Getuid()) // a uid without a name is good for squeue, too
	if u, err := user.Current(); err == nil {
		e.me = u.Username
	}
	e.with.Store(&o.With)
	e.notify = e.newNotifier()
	e.near = e.self && local(filepath.Dir(e.runRoot("")))
	e.tasks.Go(e.tick)
	return e, nil
}

// Change replaces what later attempts start with. Those that were submitted are not touched.
func (e *Executor) Change(w With) { e.with.Store(&w) }

// options are the ones in force.
func (e *Executor) options() Options {
	o := e.o
	o.With = *e.with.Load()
	return o
}

// Close stops watching. Attempts go on.
func (e *Executor) Close() error {
	e.cancel()
	err := e.notify.close()
	e.tasks.Wait()
	return err
}

// Nodes lists where ranks can run.
func (e *Executor) Nodes(ctx context.Context) ([]forge.Node, error) {
	return listNodes(ctx, e.options())
}

const idPrefix = "slurm:"

// externalID names an attempt for good: whose it is and where it lies. The id of a job is not part of it: the one that counts
// is the one that the claim names.
func externalID(account string, at rundir.Attempt) forge.ExternalID {
	return forge.ExternalID(idPrefix + account + ":" + at.RunDir + "#" + strconv.Itoa(at.Number))
}

// parseID is the inverse, and refuses every directory that is not a run of ours.
func (e *Executor) parseID(id forge.ExternalID) (account string, at rundir.Attempt, err error) {
	rest, ok := strings.CutPrefix(string(id), idPrefix)
	account, rest, ok2 := strings.Cut(rest, ":")
	i := strings.LastIndexByte(rest, '#')
	if !ok || !ok2 || i < 0 {
		return "", at, forge.Errorf(forge.KindNotFound, "slurm.id", "%.200q is not an attempt of a Slurm cluster", string(id))
	}
	n, err := strconv.Atoi(rest[i+1:])
	if err != nil || n < 1 {
		return "", at, forge.Errorf(forge.KindNotFound, "slurm.id", "%.200q names no attempt", string(id))
	}
	at = rundir.At(rest[:i], n)
	return account, at, e.confined(account, at.RunDir)
}

// accountMark stands for the owner of the jobs in a run root.
const accountMark = "{account}"

// runRoot is where the run directories of an account lie.
func (e *Executor) runRoot(account string) string {
	if account == "" {
		account = e.me
	}
	return strings.ReplaceAll(e.o.RunRoot, accountMark, account)
}

// confined: a run directory is a direct child of its account's run root.
func (e *Executor) confined(account, runDir string) error {
	if strings.ContainsAny(account, "/\x00:#") || account == ".." || account == "." {
		return forge.Errorf(forge.KindInvalid, "slurm.id", "%.100q is not the name of an account", account)
	}
	if root := e.runRoot(account); filepath.Dir(runDir) != root || filepath.Clean(runDir) != runDir {
		return forge.Errorf(forge.KindInvalid, "slurm.id", "run directory %.200q does not lie in %s", runDir, root)
	}
	return nil
}

// attempt returns what is known of an attempt; it is made up from its id the first time.
func (e *Executor) attempt(id forge.ExternalID) (*attempt, error) {
	e.mu.Lock()
	a := e.known[id]
	e.mu.Unlock()
	if a != nil {
		return a, nil
	}
	account, at, err := e.parseID(id)
	if err != nil {
		return nil, err
	}
	return e.learn(account, at), nil
}

func (e *Executor) learn(account string, at rundir.Attempt) *attempt {
	id := externalID(account, at)
	run := forge.RunID(filepath.Base(at.RunDir))
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.known[id]; a != nil {
		return a
	}
	now := time.Now()
	a := &attempt{id: id, at: at, account: account, run: run, name: JobName(e.o.Cluster, run, at.Number), made: now, polled: now}
	e.known[id] = a
	return a
}

// keepKnown is how long an attempt that nobody asks for is remembered: a few looks after its end.
const keepKnown = 5 * time.Minute

// forget drops what nobody has asked for lately. Locked by mu.
func (e *Executor) forget(now time.Time) {
	for id, a := range e.known {
		if now.Sub(a.polled) > keepKnown {
			delete(e.known, id)
			e.notify.remove(id)
		}
	}
}

// logOf is the log of one attempt: each of its lines can be found by the run.
func (e *Executor) logOf(a *attempt) *zerolog.Logger {
	c := e.log.With().Str("run", string(a.run)).Int("attempt", a.at.Number)
	if l := a.records.Launched; l != nil {
		c = c.Int64("run_number", l.RunNumber)
	}
	l := c.Logger()
	return &l
}

func (e *Executor) lockKey(id forge.ExternalID) (unlock func()) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	m := &e.stripes[h.Sum32()%uint32(len(e.stripes))]
	m.Lock()
	return m.Unlock
}
