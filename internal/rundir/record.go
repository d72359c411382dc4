package rundir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Limits on what is read of one file.
const (
	maxRecord = 1 << 20
	maxLaunch = 256 << 20 // manifests of inputs with very many files
)

// LaunchFile is launch.json: the attempt, and beside it what is the cluster's and not the run's.
type LaunchFile struct {
	forge.Launch
	Options LaunchOptions `json:"options"`
	// Archive opens the archive of Spec.Source where it is no file that the one who prepares could open; nil: SourceFile.
	Archive func() (io.ReadCloser, error) `json:"-"`
}

// LaunchOptions is how this cluster starts ranks.
type LaunchOptions struct {
	Python     string            `json:"python,omitempty"`      // interpreter for Entry.Module
	PythonPath string            `json:"python_path,omitempty"` // where the training package is
	Env        map[string]string `json:"env,omitempty"`         // added to every rank's environment
	PortMin    int               `json:"port_min,omitempty"`    // range for MASTER_PORT; 0,0: any free port
	PortMax    int               `json:"port_max,omitempty"`
	Network    string            `json:"network,omitempty"`     // NetworkHost or NetworkNone
	NeedOutput bool              `json:"need_output,omitempty"` // ranks that exit 0 must leave something in output/
	Source     []string          `json:"source,omitempty"`      // lines of shell before each rank; one that fails keeps it from starting
	Wrap       []string          `json:"wrap,omitempty"`        // words in front of the rank's command: a container's
	Inherit    bool              `json:"inherit,omitempty"`     // a script has cleared the environment and then set up the software: ranks begin with what it made
	LogLimit   int64             `json:"log_limit,omitempty"`   // bytes that stdout and stderr of a rank may each take; 0: any number
	Batch      string            `json:"batch,omitempty"`       // BatchSlurm: the shim finds its seat in that system's environment
	GPU        *GPUWatch         `json:"gpu,omitempty"`         // nil: the shim does not look at the GPUs
}

// GPUWatch is how the shim looks at the GPUs of its ranks.
type GPUWatch struct {
	SampleEvery time.Duration     `json:"sample_every_ns,omitempty"` // how often it leaves a look in gpus.json
	LibraryPath string            `json:"library_path,omitempty"`    // directory of libnvidia-ml.so.1; "": the loader finds it
	Rules       forge.HealthRules `json:"rules,omitzero"`            // the site's changes to the built-in ones
}

// The networks that ranks may get.
const (
	NetworkHost = "host"
	NetworkNone = "none" // loopback only, shared by the ranks of a node
)

// BatchSlurm in LaunchOptions.Batch: a shim per node is started by srun.
const BatchSlurm = "slurm"

// Stop is what forged asked of an attempt.
type Stop struct {
	Signal forge.SignalKind `json:"signal"`
	Intent forge.Intent     `json:"intent,omitempty"`
	At     time.Time        `json:"at"`
}

// Strength orders what can be asked; unknown words are the weakest, as docs/run-contract.md reads them.
func Strength(s forge.SignalKind) int {
	switch s {
	case forge.SignalKill:
		return 3
	case forge.SignalCancel:
		return 2
	}
	return 1
}

// Live is a shim's word that all its ranks have started.
type Live struct {
	Process
	StartedAt time.Time  `json:"started_at"`
	Ranks     []LiveRank `json:"ranks"`
	Cgroup    Cgroup     `json:"cgroup,omitempty"` // of the ranks alone, where the shim may make one

	// Where a batch system has chosen the seat.
	Node  forge.NodeName `json:"node,omitempty"`
	Slots []int          `json:"slots,omitempty"` // GPUs of the node, by the batch system's own numbers
}

// Processes are the ranks, which may have lost their marker and run on.
func (l Live) Processes() []Process {
	out := make([]Process, len(l.Ranks))
	for i, r := range l.Ranks {
		out[i] = Process{PID: r.PID, StartTime: r.StartTime, BootID: l.BootID}
	}
	return out
}

// LiveRank is one started rank.
type LiveRank struct {
	Rank      int    `json:"rank"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
}

// Exit is a shim's last word.
type Exit struct {
	Cause     forge.StopCause   `json:"cause"`
	Detail    string            `json:"detail,omitempty"`
	ByUID     int               `json:"by_uid"` // -1: nobody, or not known
	Ranks     []forge.RankExit  `json:"ranks"`
	Leftovers int               `json:"leftovers"`            // processes that outlived their ranks and were ended
	GPUEvents []forge.GPUEvent  `json:"gpu_events,omitempty"` // what the driver said of the ranks' GPUs, the last ones
	GPUFault  *forge.Finding    `json:"gpu_fault,omitempty"`  // what the gang was ended for
	Pattern   *forge.PatternHit `json:"pattern,omitempty"`    // the line of a failed rank's output that explains it
	Gone      []int             `json:"gone,omitempty"`       // other nodes that gave no sign of life while this one waited for them
	EndedAt   time.Time         `json:"ended_at"`
}

// Tells says that x explains the end of a gang better than y: a cause of its own before "a rank
// exited", which on the other nodes is only what followed, and the earlier one before the later.
func Tells(x, y Exit) bool {
	own := func(e Exit) bool { return e.Cause != forge.StopRankExit }
	if own(x) != own(y) {
		return own(x)
	}
	return x.EndedAt.Before(y.EndedAt)
}

// Explain adds what shims know of the end beside its cause: what the driver said of the GPUs, the GPU that it is put down to, which is one of the
// node whose last word counts, and what the rank that failed first had printed. What the others printed followed.
func Explain(o *forge.Observation, all []Exit, first *Exit) {
	var failed *forge.RankExit
	for _, x := range all {
		o.GPUEvents = append(o.GPUEvents, x.GPUEvents...)
		for _, r := range x.Ranks {
			if r.Code != 0 && r.Code != forge.ExitCheckpointed && !r.ByShim && (failed == nil || r.EndedAt.Before(failed.EndedAt)) {
				failed = &r
				o.Pattern = nil
				if x.Pattern != nil && x.Pattern.Rank == r.Rank {
					o.Pattern = x.Pattern
				}
			}
		}
	}
	slices.SortStableFunc(o.GPUEvents, func(a, b forge.GPUEvent) int { return a.At.Compare(b.At) })
	if first == nil || first.GPUFault == nil || len(first.Ranks) == 0 {
		return
	}
	o.GPUFault = &forge.GPUBlame{Node: first.Ranks[0].Node, Finding: *first.GPUFault}
	if first.Cause == forge.StopGPUFault {
		o.Suspects = []forge.NodeName{o.GPUFault.Node}
	}
}

// Master is where the ranks of all nodes meet.
type Master struct {
	Addr string `json:"addr"`
	Port int    `json:"port"`
}

// The readers. A file that is not there is fs.ErrNotExist.
func ReadLaunch(a Attempt) (LaunchFile, error) {
	return readJSON[LaunchFile](a.LaunchPath(), maxLaunch)
}
func ReadStop(a Attempt) (Stop, error) { return readJSON[Stop](a.StopPath(), maxRecord) }
func ReadResume(a Attempt) (forge.Resume, error) {
	return readJSON[forge.Resume](a.ResumePath(), maxRecord)
}
func ReadMaster(a Attempt) (Master, error) { return readJSON[Master](a.MasterPath(), maxRecord) }
func ReadLive(a Attempt, node int) (Live, error) {
	return readJSON[Live](a.LivePath(node), maxRecord)
}
func ReadExit(a Attempt, node int) (Exit, error) {
	return readJSON[Exit](a.ExitPath(node), maxRecord)
}
func ReadRankExit(a Attempt, rank int) (forge.RankExit, error) {
	return readJSON[forge.RankExit](a.RankExitPath(rank), maxRecord)
}
func ReadStatus(a Attempt) (forge.StatusFile, error) {
	return readJSON[forge.StatusFile](a.StatusPath(), maxRecord)
}
func ReadOutput(a Attempt) (forge.Manifest, error) {
	return readJSON[forge.Manifest](a.OutputPath(), maxLaunch)
}

// Prepare makes the directories of an attempt and writes, durably, all that a shim needs: the
// spec once, the rank's configuration, the launch, and the fence. ErrFenceAhead: a newer attempt was
// there before, nothing is written. Everything is synced in one go; the fence is renamed last.
func Prepare(l LaunchFile) error { return PrepareFor(l, Owner{}) }

// PrepareFor is Prepare for files that are made as an owner has it.
func PrepareFor(l LaunchFile, o Owner) error {
	a := At(l.RunDir, l.Attempt)
	fence, err := ReadFence(l.RunDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case fence > l.Attempt:
		return fmt.Errorf("attempt %d, fence %d: %w", l.Attempt, fence, ErrFenceAhead)
	}
	made, err := makeDirs(a, o)
	if err != nil {
		return err
	}
	if err := putSource(l); err != nil {
		return err
	}
	var set []Content
	add := func(path string, v any, once bool) {
		if _, serr := os.Lstat(path); once && serr == nil {
			return
		}
		c, jerr := JSON(path, v)
		set, err = append(set, c), errors.Join(err, jerr)
	}
	add(SpecPath(l.RunDir), l.Spec, true)
	add(a.ConfigPath(), l.Config, false)
	add(a.LaunchPath(), l, false)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(layoutPath(l.RunDir)); err != nil {
		set = append(set, Content{Path: layoutPath(l.RunDir), Data: []byte(fmt.Sprintln(Layout))})
	}
	if fence < l.Attempt {
		set = append(set, fenceContent(l.RunDir, l.Attempt))
	}
	errs := make([]error, 2)
	each(2, func(i int) {
		if i == 0 {
			errs[0] = WriteDurable(set...)
			return
		}
		for _, d := range made {
			errs[1] = errors.Join(errs[1], SyncDir(d))
		}
	})
	return errors.Join(errs...)
}

// makeDirs makes the attempt's directory and what is above it up to the run root, which must exist:
// a missing run root is a filesystem that is not mounted. It returns the parents of new names.
func makeDirs(a Attempt, o Owner) (parents []string, err error) {
	for _, step := range []struct{ parent, dir string }{
		{filepath.Dir(a.RunDir), a.RunDir},
		{a.RunDir, attemptsDir(a.RunDir)},
		{attemptsDir(a.RunDir), a.Dir()},
	} {
		mkdir := makeLike
		if step.dir == a.RunDir {
			mkdir = func(dir string) error { return os.Mkdir(dir, dirMode) }
		}
		switch err := mkdir(step.dir); {
		case err == nil:
			parents = append(parents, step.parent)
		case !errors.Is(err, fs.ErrExist):
			return nil, fmt.Errorf("make attempt directory: %w", err)
		}
		if step.dir == a.RunDir {
			if err := o.own(a.RunDir); err != nil {
				return nil, fmt.Errorf("make attempt directory: %w", err)
			}
		}
	}
	for _, d := range []string{a.path("nodes"), a.path("ranks"), a.CheckpointDir(), a.OutputDir()} {
		if err := makeLike(d); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make attempt directory: %w", err)
		}
	}
	return parents, nil
}

// MakeAttemptDir makes an attempt's directory without a launch in it: the place for a revoked claim.
func MakeAttemptDir(a Attempt) error {
	parents, err := makeDirs(a, Owner{})
	for _, d := range parents {
		err = errors.Join(err, SyncDir(d))
	}
	return err
}

// MakeDir makes one directory below an attempt; it may exist.
func MakeDir(path string) error {
	if err := makeLike(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// CreateAppend opens a file that a process may append its output to.
func CreateAppend(path string) (*os.File, error) {
	return openLike(path, os.O_WRONLY|os.O_APPEND)
}

// Append adds to a file of which nothing is needed after a power loss. Ranks can write beside it: no link is followed, and nothing but a
// regular file is written to, since a FIFO would block for ever.
func Append(path string, data []byte) error {
	f, err := openLike(path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	return errors.Join(err, f.Close())
}

// Tail reads the end of what a rank has printed. The file is the rank's: it is opened as readBounded does.
func Tail(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	from := max(0, st.Size()-limit)
	data := make([]byte, st.Size()-from)
	n, err := f.ReadAt(data, from)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}
