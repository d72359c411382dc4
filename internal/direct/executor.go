package direct

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
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

// Options is how this host starts ranks.
type Options struct {
	Cluster    forge.ClusterName
	NodeName   forge.NodeName
	Self       string   // path of forged; empty: the running program
	ShimArgs   []string // what makes it a shim; nil: "shim"
	RunRoot    string   // every run directory lies in it
	PythonPath string   // where the training package is
	With       With     // what Change may replace
	Network    string   // rundir.NetworkHost (default) or rundir.NetworkNone
	PortMin    int
	PortMax    int
	NeedOutput bool // ranks that exit 0 must leave something in output/

	CPUSlots  int // CPU slots standing in for GPUs
	CPUs      int // 0: all that the host has
	MemoryMiB int64
	GPUs      func(ctx context.Context) ([]forge.GPU, error) // nil: none

	// Holders is a look at the GPUs, with these among them, that is begun after the call. An error, or a look whose state is not ok, proves nothing: what
	// they held stays allocated. nil: attempts are over when their processes are gone.
	Holders     func(ctx context.Context, uuids []string) (forge.GPULook, error)
	GPUPatience time.Duration // how long memory may be held by no process, and a driver be silent, before an attempt is over all the same; 0: 30 s and 2 min

	Log zerolog.Logger
}

// With is what later attempts start with. It may change while forged runs.
type With struct {
	Python     string // interpreter for entries that are modules
	Env        map[string]string
	ShimSocket string            // where systemd starts shims; empty: they are forked
	Labels     map[string]string // of this host, as a node
	LogLimit   int64             // bytes that stdout and stderr of a rank may each take; 0: any number
	GPU        *GPUWatch         // how shims look at the GPUs of their ranks; nil: they do not
}

// GPUWatch is how shims look at GPUs.
type GPUWatch = rundir.GPUWatch

// Executor starts and watches attempts on this host. It is safe for concurrent use.
type Executor struct {
	o    Options
	with atomic.Pointer[With]
	log  zerolog.Logger
	wake chan struct{}
	done chan struct{}
	life context.Context // ends with Close
	stop context.CancelFunc

	// stripes serialise what changes an attempt: Submit, Find and Signal of one never overlap. A fixed
	// number of them, since a map of locks would grow with every attempt there ever was.
	stripes [64]sync.Mutex

	mu    sync.Mutex
	known map[forge.ExternalID]*attempt
	files rundir.Files

	notify *notifier
	tasks  sync.WaitGroup
}

// attempt is what never changes of a launched attempt, so that it is read once.
type attempt struct {
	at        rundir.Attempt
	run       forge.RunID
	runNumber int64
	perNode   []int
	grace     time.Duration // from a stop to the ranks' KILL
	made      time.Time     // when its launch was written
	ours      map[int]bool  // nodes whose shim this process started, and it lives
	watched   map[int]bool  // nodes whose shim's end wakes us
	left      *rundir.Sweep // what outlives its shims
	uuids     []string      // of its GPUs
	emptying  emptying      // under the executor's mu
}

// New prepares the executor; Close ends its watching, never an attempt.
func New(o Options) (*Executor, error) {
	switch {
	case !filepath.IsAbs(o.RunRoot):
		return nil, forge.Invalidf("run_root", "%q: want an absolute path", o.RunRoot)
	case o.NodeName == "":
		return nil, forge.Invalidf("node_name", "a direct cluster needs a node name")
	case o.Network != "" && o.Network != rundir.NetworkHost && o.Network != rundir.NetworkNone:
		return nil, forge.Invalidf("network", "%q: want %q or %q", o.Network, rundir.NetworkHost, rundir.NetworkNone)
	case o.PortMin < 0 || o.PortMax > 65535 || o.PortMax < o.PortMin:
		return nil, forge.Invalidf("ports", "%d-%d is not a range of ports", o.PortMin, o.PortMax)
	case o.CPUSlots < 0:
		return nil, forge.Invalidf("cpu_slots", "%d: want 0 or more", o.CPUSlots)
	}
	if o.Self == "" {
		o.Self = "/proc/self/exe" // the same program even after its file was replaced
	}
	if o.ShimArgs == nil {
		o.ShimArgs = []string{"shim"}
	}
	e := &Executor{
		o: o, log: o.Log.With().Str("cluster", string(o.Cluster)).Logger(), wake: make(chan struct{}, 1), done: make(chan struct{}),
		known: map[forge.ExternalID]*attempt{},
	}
	e.life, e.stop = context.WithCancel(context.Background())
	e.with.Store(&o.With)
	e.notify = e.newNotifier()
	return e, nil
}

// Change replaces what later attempts start with. Those that were started are not touched.
func (e *Executor) Change(w With) { e.with.Store(&w) }

// logOf is the log of one attempt: each of its lines can be found by the run.
func (e *Executor) logOf(a *attempt) *zerolog.Logger {
	l := e.log.With().Str("run", string(a.run)).Int64("run_number", a.runNumber).Int("attempt", a.at.Number).Logger()
	return &l
}

// Close stops watching. Attempts go on.
func (e *Executor) Close() error {
	close(e.done)
	e.stop()
	err := e.notify.close()
	e.tasks.Wait()
	return err
}

const idPrefix = "direct:"

func externalID(at rundir.Attempt) forge.ExternalID {
	return forge.ExternalID(idPrefix + at.RunDir + "#" + strconv.Itoa(at.Number))
}

// parseID is the inverse, and refuses every directory that is not a run of ours.
func (e *Executor) parseID(id forge.ExternalID) (rundir.Attempt, error) {
	rest, ok := strings.CutPrefix(string(id), idPrefix)
	i := strings.LastIndexByte(rest, '#')
	if !ok || i < 0 {
		return rundir.Attempt{}, forge.Errorf(forge.KindNotFound, "direct.id", "%.200q is not an attempt of a direct cluster", string(id))
	}
	n, err := strconv.Atoi(rest[i+1:])
	if err != nil || n < 1 {
		return rundir.Attempt{}, forge.Errorf(forge.KindNotFound, "direct.id", "%.200q names no attempt", string(id))
	}
	at := rundir.At(rest[:i], n)
	return at, e.confined(at.RunDir)
}

// confined: a run directory is a direct child of the run root.
func (e *Executor) confined(runDir string) error {
	if filepath.Dir(runDir) != filepath.Clean(e.o.RunRoot) || filepath.Clean(runDir) != runDir {
		return forge.Errorf(forge.KindInvalid, "direct.id", "run directory %.200q does not lie in %s", runDir, e.o.RunRoot)
	}
	return nil
}

// attempt returns what is known of an attempt, from its launch.json the first time.
func (e *Executor) attempt(id forge.ExternalID) (*attempt, error) {
	e.mu.Lock()
	a := e.known[id]
	e.mu.Unlock()
	if a != nil {
		return a, nil
	}
	at, err := e.parseID(id)
	if err != nil {
		return nil, err
	}
	l, err := rundir.ReadLaunch(at)
	if err != nil {
		return nil, fmt.Errorf("attempt %d of %s: %w", at.Number, at.RunDir, err)
	}
	made := time.Now()
	if st, err := os.Stat(at.LaunchPath()); err == nil {
		made = st.ModTime()
	}
	return e.learn(l.Launch, made), nil
}

func (e *Executor) learn(l forge.Launch, made time.Time) *attempt {
	at := rundir.At(l.RunDir, l.Attempt)
	_, perNode := rundir.Ranks(l)
	e.mu.Lock()
	defer e.mu.Unlock()
	id := externalID(at)
	if a := e.known[id]; a != nil {
		return a
	}
	a := &attempt{at: at, run: l.Run, runNumber: l.Number, perNode: perNode, grace: l.Spec.Grace.D(), made: made, ours: map[int]bool{}, watched: map[int]bool{},
		left: rundir.NewSweep(rundir.Marker{Run: l.Run, Attempt: at.Number, Node: -1}), uuids: uuidsOf(l)}
	e.known[id] = a
	return a
}

func (e *Executor) forget(a *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, externalID(a.at))
}

func (e *Executor) lockKey(at rundir.Attempt) (unlock func()) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(externalID(at)))
	m := &e.stripes[h.Sum32()%uint32(len(e.stripes))]
	m.Lock()
	return m.Unlock
}

var errNoRoot = errors.New("the run root is not there")

// rootPresent tells a missing run from a filesystem that is not mounted.
func (e *Executor) rootPresent() error {
	st, err := os.Stat(e.o.RunRoot)
	if err == nil && !st.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errNoRoot, e.o.RunRoot, err)
	}
	return nil
}
