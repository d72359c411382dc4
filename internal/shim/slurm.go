package shim

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// keptOfSlurm is what a rank sees of Slurm, and nothing more. What says which task of a step one is
// (SLURM_PROCID, SLURM_NTASKS) is left out on purpose: a rank is no task of a step, and libraries that
// look for these would take it for one.
var keptOfSlurm = []string{
	"SLURM_CLUSTER_NAME", "SLURM_JOB_ACCOUNT", "SLURM_JOB_END_TIME", "SLURM_JOB_ID", "SLURM_JOB_NODELIST",
	"SLURM_JOB_NUM_NODES", "SLURM_JOB_PARTITION", "SLURM_JOB_QOS", "SLURM_CONF", "SLURM_NODEID", "SLURM_TMPDIR", "SLURMD_NODENAME", "TMPDIR",
}

// job is the allocation that this shim runs in, by Slurm's own word.
type job struct {
	holder   string // id and restart count: the same for all its shims, and another one after a requeue
	requeued bool
	node     int // index of this node in the step; 0 when Slurm does not say
	nodes    int
	name     forge.NodeName
	slots    []int  // GPUs of the node, by Slurm's numbers
	counted  bool   // these numbers are the node's own, and not counted anew for a job that is confined to its devices
	visible  string // CUDA_VISIBLE_DEVICES as Slurm gave it
	ends     time.Time
	kept     map[string]string
}

// slurmEnv is the environment that Slurm gave to the shim. It names the variable in every complaint:
// whoever reads it has nothing else to go by.
type slurmEnv func(name string) (string, bool)

func (get slurmEnv) number(names ...string) (int, error) {
	for _, name := range names {
		v, ok := get(name)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%s=%q: want a number", name, v)
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s is not set: --slurm is for shims that srun starts", strings.Join(names, " or "))
}

// readJob says which job this is. Without that nothing of the attempt may be touched.
func readJob(get slurmEnv) (*job, error) {
	id, err := get.number("SLURM_JOB_ID", "SLURM_JOBID")
	if err != nil {
		return nil, err
	}
	restarts := 0
	if _, ok := get("SLURM_RESTART_COUNT"); ok {
		if restarts, err = get.number("SLURM_RESTART_COUNT"); err != nil {
			return nil, err
		}
	}
	j := &job{holder: fmt.Sprintf("%d.%d", id, restarts), requeued: restarts > 0, kept: map[string]string{}}
	for _, name := range keptOfSlurm {
		if v, ok := get(name); ok && v != "" {
			j.kept[name] = v
		}
	}
	// One task per node, so that the number of the task is the node's where a wrapper hid the other.
	if n, err := get.number("SLURM_NODEID", "SLURM_PROCID"); err == nil {
		j.node = n
	}
	return j, nil
}

// readSeat reads the rest, and holds it against what the attempt asked for.
func (j *job) readSeat(get slurmEnv, spec *forge.RunSpec) error {
	g := spec.Gang
	var err error
	if j.node, err = get.number("SLURM_NODEID", "SLURM_PROCID"); err != nil {
		return err
	}
	if j.nodes, err = get.number("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"); err != nil {
		return err
	}
	if j.nodes != g.Nodes || j.node >= j.nodes {
		return fmt.Errorf("SLURM_NODEID=%d of %d nodes (SLURM_STEP_NUM_NODES, SLURM_JOB_NUM_NODES); the run asked for %d", j.node, j.nodes, g.Nodes)
	}
	name, _ := get("SLURMD_NODENAME")
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return fmt.Errorf("SLURMD_NODENAME is not set, and the host has no name: %w", err)
		}
	}
	j.name = forge.NodeName(name)
	if v, ok := get("SLURM_JOB_END_TIME"); ok {
		// An end that lies beyond every limit is Slurm's "never".
		if sec, err := strconv.ParseInt(v, 10, 64); err == nil && sec > 0 && time.Until(time.Unix(sec, 0)) < 5*365*24*time.Hour {
			j.ends = time.Unix(sec, 0)
		}
	}
	if spec.NoGPU() {
		return nil
	}
	return j.readGPUs(get, g.GPUsPerNode)
}

// readGPUs takes the numbers from where they are this node's own. SLURM_JOB_GPUS comes last: srun hands on the
// one of the first node. Devices that gres.conf names wrongly are allocated and not visible: an empty
// CUDA_VISIBLE_DEVICES is a complaint and never "all of them".
func (j *job) readGPUs(get slurmEnv, want int) error {
	visible, ok := get("CUDA_VISIBLE_DEVICES")
	if !ok {
		if visible, ok = get("SLURM_STEP_GPUS"); !ok {
			visible, ok = get("SLURM_JOB_GPUS")
		}
	}
	if !ok {
		return fmt.Errorf("CUDA_VISIBLE_DEVICES, SLURM_STEP_GPUS and SLURM_JOB_GPUS are not set: Slurm gave this node no GPU, and the run asked for %d", want)
	}
	seen := splitList(visible)
	if len(seen) != want {
		return fmt.Errorf("CUDA_VISIBLE_DEVICES=%q names %d GPUs, and the run asked for %d on each node; is every File= of gres.conf a device?", visible, len(seen), want)
	}
	j.visible = strings.Join(seen, ",")
	for _, name := range []string{"SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"} {
		if v, ok := get(name); ok {
			if slots := numbers(splitList(v)); len(slots) == want {
				j.slots, j.counted = slots, name == "SLURM_STEP_GPUS" || name == "SLURM_JOB_GPUS" && j.nodes == 1 || !countedAnew(slots)
				return nil
			}
		}
	}
	for i := range want { // UUIDs and MIG names: by their order
		j.slots = append(j.slots, i)
	}
	return nil
}

// splitList reads "0,1,4-6".
func splitList(v string) []string {
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		low, high, isRange := strings.Cut(part, "-")
		a, aerr := strconv.Atoi(low)
		b, berr := strconv.Atoi(high)
		switch {
		case part == "":
		case isRange && aerr == nil && berr == nil && a >= 0 && b >= a && b-a < 1024:
			for n := a; n <= b; n++ {
				out = append(out, strconv.Itoa(n))
			}
		default:
			out = append(out, part)
		}
	}
	return out
}

// numbers is nil when one of the words is none.
func numbers(words []string) []int {
	var out []int
	for _, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 || slices.Contains(out, n) {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// takeJob claims the attempt for this job, before anything of the attempt is touched: a job that came a second time
// must leave no trace in the records of the first. ok false: the shim ends with the code.
func (s *shim) takeJob() (code int, ok bool) {
	if s.job.requeued {
		s.log.Warn().Str("job", s.job.holder).Msg("requeued: an attempt starts once, the next one is a job of its own")
		return forge.ExitSuperseded, false
	}
	err := s.insist("the attempt cannot be claimed", recordPatience, func() error {
		return rundir.ClaimForShim(s.at, s.job.holder, time.Now())
	})
	switch {
	case err == nil:
		return 0, true
	case errors.Is(err, rundir.ErrRevoked), errors.Is(err, rundir.ErrClaimed):
		s.log.Warn().Err(err).Str("job", s.job.holder).Msg("not ours")
		return forge.ExitSuperseded, false
	}
	s.log.Error().Err(err).Msg("the attempt cannot be claimed")
	return exitFailed, false
}

// insist tries again, where a batch system has given this node to us and would only give us another one, while the
// run directory is full or away. A TERM ends the patience.
func (s *shim) insist(what string, patience time.Duration, f func() error) error {
	began := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := f()
		if errors.Is(err, fs.ErrNotExist) {
			patience = min(patience, launchPatience)
		}
		if err == nil || s.job == nil || !passing(err) || time.Since(began) > patience {
			return err
		}
		s.log.Warn().Err(err).Msg(what + ", trying again")
		select {
		case <-s.events.term:
			return errors.Join(err, errors.New("the shim was sent SIGTERM meanwhile"))
		case <-time.After(pause):
		}
	}
}

// passing says whether an error of a shared filesystem may be over in a while: a full disk, a server that is
// restarted, a directory that this node has not heard of yet.
func passing(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT, syscall.EAGAIN, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sitDown replaces the placement of the launch, which knows at most the nodes, by what Slurm gave. Of the other
// nodes only the shape is known, and needed.
func (s *shim) sitDown() error {
	g := s.launch.Spec.Gang
	if err := s.job.readSeat(os.LookupEnv, &s.launch.Spec); err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	shares := make([]forge.Share, s.job.nodes)
	for i := range shares {
		shares[i].Slots = make([]int, g.GPUsPerNode)
		for slot := range shares[i].Slots {
			shares[i].Slots[slot] = slot
		}
	}
	shares[s.node] = forge.Share{Node: s.job.name, Slots: s.job.slots}
	s.launch.Placement, s.launch.Devices = shares, nil
	return nil
}

// defaultLead is how long before Slurm's limit a save begins where nobody has measured one.
const defaultLead = time.Minute

// saveIn says how long after its start an attempt has to save, so that the save is over when Slurm kills, and how long the
// save may take then. Short limits get at most half of their time for it. Zero: there is no limit.
func saveIn(limit, lead time.Duration, began, ends time.Time) (after, grace time.Duration) {
	total := limit
	if left := ends.Sub(began); !ends.IsZero() && left > 0 && (total == 0 || left < total) {
		total = left
	}
	if total <= 0 {
		return 0, 0
	}
	lead = min(cmp.Or(lead, defaultLead), total/2)
	return total - lead, lead - min(lead/8, 5*time.Second) // our KILL comes first: it leaves a record
}

// fenceEvery is how soon a node that was cut off sees that the run has gone on elsewhere.
const fenceEvery = 2 * time.Second

// watchFence says once that a newer attempt holds the fence. It reads beside the loop: a filesystem that hangs, which is what
// being cut off is like, must not stop limits from being enforced.
func watchFence(at rundir.Attempt, every time.Duration, done <-chan struct{}) <-chan int {
	ahead := make(chan int, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if n, err := rundir.ReadFence(at.RunDir); err == nil && n > at.Number {
				ahead <- n
				return
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return ahead
}

// peersEnd is how long the other nodes may take to say how they ended, beyond the grace of their ranks.
const peersEnd = 10 * time.Second

// jobCode is what people see of the end in Slurm's own listings and mails; forged goes by the record. srun ends all other
// tasks at a code that is not 0: so it comes when every other node has left its word, or not at all.
func (s *shim) jobCode(x rundir.Exit) int {
	code := failure(x)
	if code == 0 {
		return exitRecorded
	}
	for deadline := time.Now().Add(s.gang.grace + peersEnd); !s.peers.allEnded(); time.Sleep(peerEvery) {
		if s.peers.n == 0 || time.Now().After(deadline) {
			return exitRecorded
		}
		s.peers.look(time.Now())
	}
	return code
}

// failure is the code of the rank that failed here; 0 when none did by itself. To be stopped is no failure.
func failure(x rundir.Exit) int {
	for _, r := range x.Ranks {
		if r.Code != 0 && r.Code != forge.ExitCheckpointed && !r.ByShim {
			return r.Code & 0xff
		}
	}
	switch x.Cause {
	case forge.StopLaunch, forge.StopNodeEnv, forge.StopInputs, forge.StopStartTimeout, forge.StopStall, forge.StopGPUFault, forge.StopGPUError:
		return exitFailed
	}
	return 0
}
