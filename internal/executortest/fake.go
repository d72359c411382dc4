package executortest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Fake is an executor in memory. An attempt whose command is a Program acts it out by itself, in
// real (or synctest's) time; every other attempt does nothing until the test says so: Start, Emit,
// Save, Exit, Lose. It passes the same suite as the real ones.
type Fake struct {
	mu       sync.Mutex
	nodes    []forge.Node
	attempts map[string]*fakeAttempt // by key
	revoked  map[string]bool
	saves    map[forge.RunID][]forge.Checkpoint
	launches []forge.Launch
	silent   bool
	refusals []refusal
	pids     int
	jobs     int
	dead     map[int]bool
	wake     chan struct{}
}

type refusal struct {
	err     error
	started bool
}

// fakeAttempt is one attempt as the Fake keeps it.
type fakeAttempt struct {
	launch  forge.Launch
	ranks   int
	state   forge.ObservState
	started time.Time
	exits   map[int]forge.RankExit
	end     Ending
	stop    forge.SignalKind
	signals []forge.SignalKind
	nices   []int
	streams map[string][]byte
	resume  forge.Resume
	keep    bool // not released although it has ended
	batch   *forge.BatchJob
	actor   *actor
}

// Ending is what an attempt leaves when it ends.
type Ending struct {
	Cause  forge.StopCause // default: rank_exit
	Detail string
	ByUID  int // 0 means -1: nobody
	Status *forge.StatusFile
	Output *forge.Manifest
	Exits  []forge.RankExit // full records; where given, codes are ignored
}

// NewFake makes a fake cluster of these nodes.
func NewFake(nodes ...forge.Node) *Fake {
	return &Fake{
		nodes: nodes, attempts: map[string]*fakeAttempt{}, revoked: map[string]bool{},
		saves: map[forge.RunID][]forge.Checkpoint{}, dead: map[int]bool{}, wake: make(chan struct{}, 1),
	}
}

const fakePrefix = "fake:"

// Submit implements Executor.
func (f *Fake) Submit(_ context.Context, l forge.Launch) (forge.ExternalID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return "", errSilent
	}
	if f.revoked[l.Key] {
		return "", forge.Errorf(forge.KindPrecondition, "fake.submit", "attempt %s: %w", l.Key, rundir.ErrRevoked)
	}
	if f.attempts[l.Key] != nil {
		return fakeID(l.Key), nil
	}
	var refused refusal
	if len(f.refusals) > 0 {
		refused, f.refusals = f.refusals[0], f.refusals[1:]
		if !refused.started {
			return "", refused.err
		}
	}
	ranks, _ := rundir.Ranks(l)
	a := &fakeAttempt{launch: l, ranks: ranks, state: forge.ObservStarting, exits: map[int]forge.RankExit{}, streams: map[string][]byte{}}
	a.resume = f.chooseResume(l.Run)
	if len(l.Placement) == 0 {
		f.enqueue(a)
	}
	if p, ok := programOf(l.Spec.Entry.Command); ok {
		a.actor = newActor(f, a, p, time.Now())
	}
	f.attempts[l.Key] = a
	f.launches = append(f.launches, l)
	return fakeID(l.Key), refused.err
}

func fakeID(key string) forge.ExternalID { return forge.ExternalID(fakePrefix + key) }

var errSilent = forge.Errorf(forge.KindUnavailable, "fake", "the executor does not answer")

// Find implements Executor.
func (f *Fake) Find(_ context.Context, key, _ string) forge.Lookup {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.silent:
		return forge.Lookup{State: forge.LookupUnknown, Evidence: errSilent.Error()}
	case f.attempts[key] != nil:
		return forge.Lookup{State: forge.LookupFound, ID: fakeID(key), Evidence: "it was submitted"}
	}
	f.revoked[key] = true
	return forge.Lookup{State: forge.LookupAbsent, Evidence: "never submitted; revoked now"}
}

// Poll implements Executor.
func (f *Fake) Poll(_ context.Context, ids []forge.ExternalID) ([]forge.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	out := make([]forge.Observation, len(ids))
	for i, id := range ids {
		out[i] = f.observe(id, now)
	}
	return out, nil
}

func (f *Fake) observe(id forge.ExternalID, now time.Time) forge.Observation {
	o := forge.Observation{ID: id, AsOf: now.UTC(), State: forge.ObservUnknown, ByUID: -1}
	key, ok := strings.CutPrefix(string(id), fakePrefix)
	a := f.attempts[key]
	switch {
	case f.silent || !ok:
		return o
	case a == nil && f.revoked[key]:
		o.State, o.Released = forge.ObservAbsent, true
		return o
	case a == nil:
		return o
	}
	a.act(now)
	o.State, o.StartedAt = a.state, a.started
	a.tell(&o)
	o.Exits = slices.SortedFunc(maps.Values(a.exits), func(x, y forge.RankExit) int { return cmp.Compare(x.Rank, y.Rank) })
	if !a.started.IsZero() {
		r := a.resume
		o.Resume = &r
	}
	if a.over() {
		o.Cause, o.Detail, o.Status, o.Output = a.end.Cause, a.end.Detail, a.end.Status, a.end.Output
		if a.end.ByUID != 0 {
			o.ByUID = a.end.ByUID
		}
	} else if a.stop != "" || a.failing() {
		o.State = forge.ObservStopping
	}
	o.Released = a.over() && !a.keep
	return o
}

func (a *fakeAttempt) over() bool {
	return a.state == forge.ObservExited || a.state == forge.ObservLost || a.state == forge.ObservAbsent
}

// failing says that a rank ended in a way that ends the gang.
func (a *fakeAttempt) failing() bool {
	for _, x := range a.exits {
		if x.Code != 0 {
			return true
		}
	}
	return false
}

func (a *fakeAttempt) node() forge.NodeName {
	if len(a.launch.Placement) == 0 {
		return ""
	}
	return a.launch.Placement[0].Node
}

// Renice is what executors have whose cluster orders a queue of its own.
func (f *Fake) Renice(_ context.Context, id forge.ExternalID, nice int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return errSilent
	}
	key, _ := strings.CutPrefix(string(id), fakePrefix)
	a := f.attempts[key]
	if a == nil {
		return forge.Errorf(forge.KindNotFound, "fake.renice", "%q is not an attempt", id)
	}
	if a.state == forge.ObservQueued {
		a.nices = append(a.nices, nice)
	}
	return nil
}

// Nices are those that an attempt got while it waited.
func (f *Fake) Nices(key string) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.attempts[key]; a != nil {
		return slices.Clone(a.nices)
	}
	return nil
}

// Signal implements Executor.
func (f *Fake) Signal(_ context.Context, id forge.ExternalID, s forge.SignalKind) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return errSilent
	}
	key, _ := strings.CutPrefix(string(id), fakePrefix)
	a := f.attempts[key]
	if a == nil {
		return forge.Errorf(forge.KindNotFound, "fake.signal", "%q is not an attempt", id)
	}
	now := time.Now()
	a.act(now)
	a.signals = append(a.signals, s)
	if a.state == forge.ObservQueued { // it will never start
		a.state = forge.ObservAbsent
		f.nudge()
		return nil
	}
	if a.stop == "" || rundir.Strength(s) > rundir.Strength(a.stop) {
		a.stop = s
		if a.actor != nil {
			a.actor.asked(s, now)
		}
	}
	f.nudge()
	return nil
}

// Nodes implements Executor.
func (f *Fake) Nodes(context.Context) ([]forge.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return nil, errSilent
	}
	nodes := slices.Clone(f.nodes)
	for i := range nodes {
		nodes[i].SeenAt = time.Now().UTC()
	}
	return nodes, nil
}

// Wake fires after each change that a test makes.
func (f *Fake) Wake() <-chan struct{} { return f.wake }

func (f *Fake) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Read implements Files.
func (f *Fake) Read(_ context.Context, id forge.ExternalID, stream string, offset int64, limit int) (forge.Chunk, error) {
	if _, err := rundir.StreamPath(stream); err != nil {
		return forge.Chunk{}, err
	}
	if offset < 0 {
		return forge.Chunk{}, forge.Invalidf("offset", "%d: want 0 or more", offset)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return forge.Chunk{}, errSilent
	}
	key, _ := strings.CutPrefix(string(id), fakePrefix)
	a := f.attempts[key]
	if a == nil {
		return forge.Chunk{Next: offset}, nil
	}
	a.act(time.Now())
	data := a.streams[stream]
	size := int64(len(data))
	from := min(offset, size)
	to := min(size, from+int64(max(0, limit)))
	return forge.Chunk{Data: slices.Clone(data[from:to]), Next: offset + to - from, Size: size}, nil
}

// Checkpoints implements Files.
func (f *Fake) Checkpoints(_ context.Context, run forge.RunID, _ string, verify bool) ([]forge.Checkpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return nil, errSilent
	}
	out := slices.Clone(f.saves[run])
	for i := range out {
		if verify && out[i].Verdict == forge.VerdictWritten {
			out[i].Verdict, out[i].Verified = forge.VerdictVerified, time.Now().UTC()
		}
	}
	return out, nil
}

func (f *Fake) chooseResume(run forge.RunID) forge.Resume {
	var r forge.Resume
	for _, c := range f.saves[run] {
		if c.Verdict != forge.VerdictTorn && c.Verdict != forge.VerdictForeign {
			r.Step, r.Attempt, r.Path, r.SHA256 = c.Step, c.Attempt, c.Path, c.SHA256
			return r
		}
		r.Skipped = append(r.Skipped, forge.SkippedSave{Path: c.Path, Step: c.Step, Why: c.Why})
	}
	return r
}

// alive says whether a process that a Program left is still there; suites of fakes use it.
func (f *Fake) alive(pid int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pid > 0 && pid <= f.pids && !f.dead[pid]
}

var errNoAttempt = errors.New("the fake has no such attempt")

func (f *Fake) must(key string) *fakeAttempt {
	a := f.attempts[key]
	if a == nil {
		panic(fmt.Errorf("%w: %s", errNoAttempt, key)) // a test that names a wrong key is wrong itself
	}
	return a
}
