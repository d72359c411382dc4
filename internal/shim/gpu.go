package shim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/nvml"
)

const (
	// gpuLinger is how much later than a rank that failed by itself the driver may still say why.
	gpuLinger = 200 * time.Millisecond
	// gpuFarewell is how long the process that asks the driver may take to die.
	gpuFarewell = 100 * time.Millisecond
	// gpuLookNow is how long a look may take that is asked for because of what the driver said.
	gpuLookNow = 10 * time.Second
	// keptGPUEvents is how many of the newest come with the last word.
	keptGPUEvents = 20
)

// gpuWatch looks at the GPUs of this node's ranks, in a process of its own, and judges what it sees. Nothing waits for it: ranks start before
// it, and a driver that hangs is a look that says so.
type gpuWatch struct {
	rules  *health.Table
	node   *health.Node
	record *gpuRecord
	own    []ownGPU
	settle func([]forge.GPUReading) ([]ownGPU, error) // where a batch system has chosen; nil: own is known
	found  chan forge.Finding                         // for the loop
	log    zerolog.Logger

	stop context.CancelFunc
	done chan struct{} // nothing more is told

	mu     sync.Mutex
	state  forge.NVMLState
	events []forge.GPUEvent
	asking []rundir.Process // those that ask the driver
}

// ownGPU is a GPU of the ranks.
type ownGPU struct {
	slot         int
	uuid, parent string
	mig          *int // of a MIG instance: id of its GPU instance, once a look has told it
}

// says whether an event is about this one. Of a MIG instance the driver names the GPU that it is a part of.
func (o ownGPU) said(e forge.GPUEvent) bool {
	return o.uuid == e.UUID || o.parent != "" && o.parent == e.UUID && (e.MIGID == nil || o.mig == nil || *o.mig == *e.MIGID)
}

// watchGPUs begins to look, if there is something to look at. The ranks run by now.
func (s *shim) watchGPUs() {
	o := s.launch.Options.GPU
	if o == nil || s.launch.Spec.NoGPU() {
		return
	}
	w := &gpuWatch{found: make(chan forge.Finding, 64), done: make(chan struct{}), log: s.log}
	if s.job != nil {
		w.settle = s.job.ownGPUs
	} else if w.own = placedGPUs(s.launch, s.node); len(w.own) == 0 {
		return // CPU slots
	}
	var err error
	if w.rules, err = health.New(o.Rules); err != nil { // forged has checked them; one of another version may know more
		s.log.Warn().Err(err).Msg("the site's rules of GPU health are not understood here: the built-in ones hold")
		w.rules, _ = health.New(forge.HealthRules{Patience: o.Rules.Patience})
	}
	w.node = w.rules.Watch()
	w.node.Gang(s.launch.Spec.Gang.GPUs())
	every := o.SampleEvery
	if every <= 0 {
		every = nvml.DefaultEvery
	}
	w.record = newGPURecord(s.at, s.node, every, s.job != nil, s.log)
	ctx, stop := context.WithCancel(context.Background())
	w.stop, s.gpus = stop, w
	s.writes.Go(func() { w.record.run(ctx.Done()) })
	go func() {
		defer close(w.done)
		w.run(ctx, nvml.WatchOptions{Every: every, LibraryPath: o.LibraryPath, Child: w.child, Log: s.log})
	}()
}

// run asks for all GPUs of the host as long as it is not known which are the ranks', and for those alone from then on.
func (w *gpuWatch) run(ctx context.Context, o nvml.WatchOptions) {
	if w.settle != nil {
		w.watch(ctx, o)
		w.settle = nil
	}
	if len(w.own) > 0 && ctx.Err() == nil {
		o.UUIDs = uuidsOf(w.own)
		w.watch(ctx, o)
	}
}

func (w *gpuWatch) watch(ctx context.Context, o nvml.WatchOptions) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	watcher := nvml.NewWatcher(o)
	watcher.Run(ctx, func(n nvml.News) {
		if w.news(n) {
			enough()
		}
		if slices.ContainsFunc(n.Events, health.LookNow) {
			go func() { // what comes of it is told here, too
				ctx, cancel := context.WithTimeout(ctx, gpuLookNow)
				defer cancel()
				_, _ = watcher.Now(ctx)
			}()
		}
	})
}

// news takes in what the watcher tells. True: it has told all that there is to learn from it.
func (w *gpuWatch) news(n nvml.News) (enough bool) {
	if l := n.Look; l != nil {
		if w.settle != nil && l.State == forge.NVMLOK {
			var err error
			if w.own, err = w.settle(l.GPUs); err == nil {
				return true // the next look is of these alone; whoever sees one may rely on events being heard
			}
			w.log.Warn().Err(err).Msg("the GPUs of this job are not watched")
			w.own = nil
			w.look(forge.GPULook{At: l.At, State: forge.NVMLError, Detail: err.Error(), Driver: l.Driver})
			return true
		}
		w.look(*l)
		if l.State == forge.NVMLNoDriver {
			w.log.Warn().Str("why", l.Detail).Msg("GPUs are not watched")
		}
		return l.State == forge.NVMLNoDriver
	}
	for _, e := range n.Events {
		if slices.ContainsFunc(w.own, func(o ownGPU) bool { return o.said(e) }) {
			w.event(e)
		}
	}
	return false
}

func (w *gpuWatch) look(l forge.GPULook) {
	ours := []forge.GPUReading{}
	busy := map[string]bool{}
	for i, o := range w.own {
		busy[o.uuid] = true
		if k := slices.IndexFunc(l.GPUs, func(g forge.GPUReading) bool { return g.UUID == o.uuid }); k >= 0 {
			ours = append(ours, l.GPUs[k])
			if l.GPUs[k].MIGID != nil {
				w.own[i].mig, w.own[i].parent = l.GPUs[k].MIGID, l.GPUs[k].Parent
			}
		}
	}
	l.GPUs = ours
	w.mu.Lock()
	w.state = l.State
	w.mu.Unlock()
	if l.State == forge.NVMLOK { // anything else says nothing of the GPUs, and ends nothing
		w.find(w.node.Look(l, health.Seen{Expected: uuidsOf(w.own), Busy: busy}))
	}
	w.record.look(l)
}

func (w *gpuWatch) event(e forge.GPUEvent) {
	w.mu.Lock()
	if w.events = append(w.events, e); len(w.events) > keptGPUEvents {
		w.events = slices.Clone(w.events[1:])
	}
	w.mu.Unlock()
	w.find(w.node.Event(e))
	w.record.event(e)
}

// find hands over what is to be done. It never waits: of sixty-four findings that nobody has come to look at, the first is the one that counts.
func (w *gpuWatch) find(all []forge.Finding) {
	for _, f := range all {
		if f.Over || f.Run != forge.RunElsewhere && f.Run != forge.RunFails {
			continue
		}
		f.Words = w.words(f)
		select {
		case w.found <- f:
		default:
		}
	}
}

// words name the GPU as people know it.
func (w *gpuWatch) words(f forge.Finding) string {
	said := f.Words
	if f.XID != 0 {
		said = fmt.Sprintf("XID %d (%s)", f.XID, w.rules.XID(f.XID).Words)
	}
	for _, o := range w.own {
		if o.uuid == f.UUID || o.parent == f.UUID && f.UUID != "" {
			return fmt.Sprintf("%s on GPU %d (%s)", said, o.slot, o.uuid)
		}
	}
	return said
}

func (w *gpuWatch) child(pid int) {
	p, err := rundir.Identify(pid)
	if err != nil {
		return // gone already
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asking = append(w.asking, p)
	w.asking = w.asking[max(0, len(w.asking)-4):] // the next one is started when the one before is gone, or is left to hang
}

// spared says that a process is one that asks the driver, and no leftover of the ranks. It is ended all the same; that it may hang in
// the driver must not make the end of the attempt wait.
func (w *gpuWatch) spared(pid int) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := rundir.Identify(pid)
	if err != nil || !slices.Contains(w.asking, p) {
		return false
	}
	_ = p.Signal(syscall.SIGKILL)
	return true
}

// news of GPUs, for the loop; nil where nothing is watched.
func (w *gpuWatch) findings() <-chan forge.Finding {
	if w == nil {
		return nil
	}
	return w.found
}

func (s *shim) heard(f forge.Finding) {
	s.log.Warn().Str("rule", f.Rule).Str("gpu", f.UUID).Str("run_act", string(f.Run)).Msg(f.Words)
	s.gang.gpu(f, s.gpus.rules.Patience(), time.Now())
}

// endGPUs ends the looking, and has the driver's last words told first: a program may die of what the driver says a moment later.
func (s *shim) endGPUs() {
	w := s.gpus
	if w == nil {
		return
	}
	w.mu.Lock()
	sees := w.state == forge.NVMLOK
	w.mu.Unlock()
	var late <-chan time.Time
	if sees && s.gang.cause == forge.StopRankExit && s.gang.failed() != nil && s.gang.fault == nil {
		late = time.After(gpuLinger)
	}
	for more := true; more; {
		select {
		case f := <-w.found:
			s.heard(f)
			continue
		default:
		}
		if more = late != nil && s.gang.fault == nil; more {
			select {
			case f := <-w.found:
				s.heard(f)
			case <-late:
				late = nil
			}
		}
	}
	w.stop()
	w.mu.Lock()
	for _, p := range w.asking {
		_ = p.Signal(syscall.SIGKILL) // it only reads: the end of an attempt does not wait for its manners
	}
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(gpuFarewell): // it hangs in the driver
	}
}

// said are the newest words of the driver about the ranks' GPUs.
func (w *gpuWatch) said() []forge.GPUEvent {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// placedGPUs are the devices placed on one node; CPU slots are none.
func placedGPUs(l rundir.LaunchFile, node int) []ownGPU {
	first := 0
	for _, share := range l.Placement[:node] {
		first += len(share.Slots)
	}
	var out []ownGPU
	for _, d := range l.Devices[first : first+len(l.Placement[node].Slots)] {
		if d.Kind == forge.GPUDevice && d.UUID != "" {
			out = append(out, ownGPU{slot: d.Slot, uuid: d.UUID, parent: d.Parent})
		}
	}
	return out
}

func uuidsOf(own []ownGPU) []string {
	var out []string
	for _, o := range own {
		out = append(out, o.uuid)
	}
	return out
}
