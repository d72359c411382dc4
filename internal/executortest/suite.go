package executortest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Harness makes what the suite runs against.
type Harness struct {
	New func(t *testing.T) Subject
}

// Subject is one executor over an empty run root.
type Subject struct {
	Executor
	Files
	RunRoot string
	Cluster forge.ClusterName
	Node    forge.NodeName
	Command func(p Program) []string // the entry that runs p
	Alive   func(pid int) bool       // of a process that a rank named on its stdout

	// Queues: launches are placed nowhere, as a queue of the cluster's own chooses. It has no node but Node.
	Queues bool
}

// patience bounds every wait of the suite; a loaded machine must not fail it.
const patience = 30 * time.Second

// Run holds an executor against the contract that internal/daemon relies on.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *session)
	}{
		{"exit codes come back exactly, rank by rank", testExitCodes},
		{"every rank is seen running, then exited and released", testWay},
		{"submit is idempotent: many calls start it once", testIdempotent},
		{"find finds what was submitted, running or ended", testFindFound},
		{"absent is made: a start that comes later does no work", testFindAbsent},
		{"cancel ends a rank that listens", testCancelListening},
		{"cancel kills a rank that does not listen, after the grace", testCancelIgnored},
		{"checkpoint saves and exits 85", testCheckpoint},
		{"a limit that is taken for come saves, and is the cause", testLimitAsked},
		{"kill ends it at once", testKill},
		{"a stronger request overrides a weaker one, never the other way", testStronger},
		{"signals are idempotent, also after the end", testSignalAgain},
		{"one rank that fails ends the gang", testGangEnds},
		{"a rank that is done early leaves the others alone", testDoneEarly},
		{"released only when nothing is left alive", testLeftovers},
		{"streams are read by offset", testRead},
		{"an unknown id spoils nothing for the others", testUnknownID},
		{"the time limit asks for a checkpoint, then kills", testTimeLimit},
		{"no step in time ends it as stalled", testStall},
		{"no first step in time ends it as stalled", testStartTimeout},
		{"without metrics only wall limits count", testNoMetrics},
		{"the output of a good end is digested", testOutput},
		{"the nodes are those that placements name", testNodes},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, &session{Subject: h.New(t), t: t})
		})
	}
}

// session is a subject with what the tests share.
type session struct {
	Subject
	t    *testing.T
	next int
}

// launch is an attempt of a fresh run on n ranks of one node.
func (s *session) launch(p Program, ranks int) forge.Launch {
	s.next++
	run := forge.RunID(fmt.Sprintf("01TEST%s%04d", strings.Map(letters, s.t.Name()), s.next))
	dir := filepath.Join(s.RunRoot, string(run))
	a := rundir.At(dir, 1)
	l := forge.Launch{
		Key: forge.AttemptKey(run, 1), Run: run, Number: int64(s.next), Tenant: "t", Attempt: 1, RunDir: dir,
		Spec: forge.RunSpec{
			Recipe: "script", Launch: forge.LaunchRank, Entry: forge.Entry{Command: s.Command(p)},
			Gang:  forge.Gang{Nodes: 1, GPUsPerNode: ranks, CPUsPerGPU: 1},
			Grace: forge.Duration(20 * time.Second),
		},
		Config: forge.RankConfig{RunID: run, RunNumber: int64(s.next), Attempt: 1, Recipe: "script",
			CheckpointDir: a.CheckpointDir(), OutputDir: a.OutputDir()},
	}
	if s.Queues {
		return l
	}
	share := forge.Share{Node: s.Node, CPUs: ranks}
	for i := range ranks {
		share.Slots = append(share.Slots, i)
		l.Devices = append(l.Devices, forge.GPU{Slot: i, Kind: forge.GPUCPUSlot, Type: "cpu"})
	}
	l.Placement = []forge.Share{share}
	return l
}

// letters keeps run ids short and plain.
func letters(r rune) rune {
	if r >= 'a' && r <= 'z' && !strings.ContainsRune("aeiou", r) {
		return r - 'a' + 'A'
	}
	return -1
}

func (s *session) submit(l forge.Launch) forge.ExternalID {
	s.t.Helper()
	id, err := s.Submit(s.t.Context(), l)
	if err != nil {
		s.t.Fatalf("Submit: %v", err)
	}
	s.t.Cleanup(func() { // a failed test leaves nothing running
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		_ = s.Signal(ctx, id, forge.SignalKill)
		for !s.look(ctx, id).Released && ctx.Err() == nil {
			pause(ctx)
		}
	})
	return id
}

func (s *session) look(ctx context.Context, id forge.ExternalID) forge.Observation {
	o, err := s.Poll(ctx, []forge.ExternalID{id})
	if err != nil || len(o) != 1 {
		return forge.Observation{State: forge.ObservUnknown}
	}
	return o[0]
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond):
	}
}

// until polls until the condition holds.
func (s *session) until(id forge.ExternalID, what string, cond func(o forge.Observation) bool) forge.Observation {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), patience)
	defer stop()
	for {
		o := s.look(ctx, id)
		if cond(o) {
			return o
		}
		if ctx.Err() != nil {
			s.t.Fatalf("%s: not within %s; last seen %+v", what, patience, o)
		}
		pause(ctx)
	}
}

func (s *session) released(id forge.ExternalID) forge.Observation {
	s.t.Helper()
	return s.until(id, "released", func(o forge.Observation) bool { return o.Released })
}

// started waits until every rank has said so: a signal before that would meet a program that
// cannot know what to do.
func (s *session) started(id forge.ExternalID, ranks int) {
	s.t.Helper()
	s.until(id, "running", func(o forge.Observation) bool { return o.State == forge.ObservRunning })
	for r := range ranks {
		s.line(id, r, "start")
	}
}

// line waits for a line on a rank's stdout that starts with the word, and returns it.
func (s *session) line(id forge.ExternalID, rank int, word string) string {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), patience)
	defer stop()
	for {
		text := s.text(id, fmt.Sprintf("stdout.%d", rank))
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, word) && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(line)
			}
		}
		if ctx.Err() != nil {
			s.t.Fatalf("rank %d said %q, no line %q within %s", rank, text, word, patience)
		}
		pause(ctx)
	}
}

func (s *session) text(id forge.ExternalID, stream string) string {
	s.t.Helper()
	c, err := s.Read(context.WithoutCancel(s.t.Context()), id, stream, 0, 1<<20)
	if err != nil {
		s.t.Fatalf("Read %s: %v", stream, err)
	}
	return string(c.Data)
}

// found asks until it is known, as a daemon does: another test's attempt that is just starting may be anybody's for a moment.
func (s *session) found(l forge.Launch) forge.Lookup {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), patience)
	defer stop()
	for {
		f := s.Find(ctx, l.Key, l.RunDir)
		if f.State != forge.LookupUnknown || ctx.Err() != nil {
			return f
		}
		pause(ctx)
	}
}

func (s *session) signal(id forge.ExternalID, k forge.SignalKind) {
	s.t.Helper()
	if err := s.Signal(s.t.Context(), id, k); err != nil {
		s.t.Fatalf("Signal %s: %v", k, err)
	}
}

// exit returns the record of one rank.
func exit(t *testing.T, o forge.Observation, rank int) forge.RankExit {
	t.Helper()
	for _, x := range o.Exits {
		if x.Rank == rank {
			return x
		}
	}
	t.Fatalf("no exit record of rank %d in %+v", rank, o)
	return forge.RankExit{}
}

func all(acts ...Act) Program { return Program{Ranks: acts} }

func testExitCodes(t *testing.T, s *session) {
	codes := []int{0, 1, 3, forge.ExitCheckpointed, forge.ExitNaN, 255}
	ids := make([]forge.ExternalID, len(codes))
	for i, code := range codes {
		ids[i] = s.submit(s.launch(all(Act{Exit: code}), 1))
	}
	for i, code := range codes {
		o := s.released(ids[i])
		x := exit(t, o, 0)
		if o.State != forge.ObservExited || x.Code != code || x.Signal != 0 || x.ByShim || x.Node != s.Node {
			t.Errorf("program that exits %d: state %s, exit %+v", code, o.State, x)
		}
		if o.Cause != forge.StopRankExit || len(o.Exits) != 1 || x.EndedAt.Before(x.StartedAt) || x.StartedAt.IsZero() {
			t.Errorf("program that exits %d: cause %q, exits %+v", code, o.Cause, o.Exits)
		}
	}
}

func testWay(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Hold: true}), 2))
	s.started(id, 2)
	o := s.until(id, "running", func(o forge.Observation) bool { return o.State == forge.ObservRunning })
	if o.StartedAt.IsZero() || o.Released || len(o.Exits) > 0 || o.ByUID != -1 || o.ID != id || o.AsOf.IsZero() {
		t.Errorf("running: %+v", o)
	}
	if o.Resume == nil || o.Resume.Step != 0 {
		t.Errorf("a first attempt resumes from %+v, want step 0", o.Resume)
	}
	s.signal(id, forge.SignalCancel)
	o = s.released(id)
	if o.State != forge.ObservExited || len(o.Exits) != 2 || o.Cause != forge.StopIntent {
		t.Errorf("after cancel: %+v", o)
	}
}

func testIdempotent(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true}), 1)
	id := s.submit(l)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if again, err := s.Submit(t.Context(), l); err != nil || again != id {
				t.Errorf("second Submit: %q, %v; want %q", again, err, id)
			}
		})
	}
	wg.Wait()
	s.started(id, 1)
	s.signal(id, forge.SignalKill)
	s.released(id)
	if again, err := s.Submit(t.Context(), l); err != nil || again != id {
		t.Errorf("Submit after the end: %q, %v; want %q", again, err, id)
	}
	s.released(id)
	if got := strings.Count(s.text(id, "stdout.0"), "start\n"); got != 1 {
		t.Errorf("the program was started %d times, want once", got)
	}
}

func testFindFound(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true}), 1)
	id := s.submit(l)
	s.started(id, 1)
	if f := s.found(l); f.State != forge.LookupFound || f.ID != id {
		t.Errorf("Find while it runs: %+v, want found %q", f, id)
	}
	s.signal(id, forge.SignalKill)
	s.released(id)
	if f := s.found(l); f.State != forge.LookupFound || f.ID != id {
		t.Errorf("Find after the end: %+v, want found %q", f, id)
	}
}

func testFindAbsent(t *testing.T, s *session) {
	l := s.launch(all(Act{Exit: 0}), 1)
	for range 2 {
		if f := s.found(l); f.State != forge.LookupAbsent || f.Evidence == "" {
			t.Fatalf("Find of what was never submitted: %+v, want absent with evidence", f)
		}
	}
	if id, err := s.Submit(t.Context(), l); err == nil {
		s.until(id, "over without work", func(o forge.Observation) bool {
			return o.Released && (o.State == forge.ObservAbsent || o.Cause == forge.StopRevoked)
		})
		if text := s.text(id, "stdout.0"); text != "" {
			t.Errorf("it worked after it had been declared absent: %q", text)
		}
	}
	if f := s.found(l); f.State != forge.LookupAbsent {
		t.Errorf("Find after the late start: %+v, want absent as before", f)
	}
}

func testCancelListening(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true}, Act{Hold: true, OnTerm: TermSaves}), 2)
	id := s.submit(l)
	s.started(id, 2)
	s.signal(id, forge.SignalCancel)
	o := s.released(id)
	if x := exit(t, o, 0); x.Code != 143 || x.Signal != 15 || !x.ByShim {
		t.Errorf("a rank that dies of TERM: %+v", x)
	}
	if x := exit(t, o, 1); x.Code != ExitOnCancel || !x.ByShim {
		t.Errorf("a rank that exits at TERM: %+v", x)
	}
	if saved, err := s.Checkpoints(t.Context(), l.Run, l.RunDir, true); err != nil || len(saved) > 0 {
		t.Errorf("cancel saved %+v, %v; want nothing", saved, err)
	}
}

func testCancelIgnored(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true, OnTerm: TermIgnored}), 1)
	l.Spec.Grace = forge.Duration(700 * time.Millisecond)
	id := s.submit(l)
	s.started(id, 1)
	asked := time.Now()
	s.signal(id, forge.SignalCancel)
	o := s.released(id)
	x := exit(t, o, 0)
	if x.Code != 137 || x.Signal != 9 || !x.ByShim || o.Cause != forge.StopIntent {
		t.Errorf("cause %q, exit %+v; want KILL by the shim", o.Cause, x)
	}
	if waited := time.Since(asked); waited < l.Spec.Grace.D() {
		t.Errorf("killed after %s, before the grace of %s was over", waited, l.Spec.Grace)
	}
}

func testCheckpoint(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true, OnTerm: TermSaves, Lines: 7}), 2)
	id := s.submit(l)
	s.started(id, 2)
	s.signal(id, forge.SignalCheckpoint)
	o := s.released(id)
	for r := range 2 {
		if x := exit(t, o, r); x.Code != forge.ExitCheckpointed {
			t.Errorf("rank %d: %+v, want exit 85", r, x)
		}
	}
	for _, verify := range []bool{false, true} {
		want := forge.VerdictWritten
		if verify {
			want = forge.VerdictVerified
		}
		saved, err := s.Checkpoints(t.Context(), l.Run, l.RunDir, verify)
		if err != nil || len(saved) != 1 {
			t.Fatalf("Checkpoints: %+v, %v; want one", saved, err)
		}
		c := saved[0]
		if c.Step != 7 || c.Attempt != 1 || c.World != 2 || c.Verdict != want || c.Bytes == 0 || c.SHA256 == "" || c.Path == "" {
			t.Errorf("verify=%v: %+v", verify, c)
		}
	}
}

func testKill(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Hold: true, OnTerm: TermIgnored}), 2))
	s.started(id, 2)
	asked := time.Now()
	s.signal(id, forge.SignalKill)
	o := s.released(id)
	for r := range 2 {
		if x := exit(t, o, r); x.Code != 137 || !x.ByShim {
			t.Errorf("rank %d: %+v, want KILL by the shim", r, x)
		}
	}
	if waited := time.Since(asked); waited > 15*time.Second {
		t.Errorf("kill took %s: it waited for the grace of 20s", waited)
	}
}

func testStronger(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Hold: true, OnTerm: TermIgnored}), 1))
	s.started(id, 1)
	s.signal(id, forge.SignalCheckpoint)
	s.until(id, "stopping", func(o forge.Observation) bool { return o.State == forge.ObservStopping })
	asked := time.Now()
	s.signal(id, forge.SignalKill)
	s.signal(id, forge.SignalCheckpoint) // comes late and changes nothing
	s.released(id)
	if waited := time.Since(asked); waited > 15*time.Second {
		t.Errorf("kill after checkpoint took %s: the grace of 20s was waited for", waited)
	}
}

func testSignalAgain(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Hold: true, OnTerm: TermSaves}), 1))
	s.started(id, 1)
	for range 3 {
		s.signal(id, forge.SignalCheckpoint)
	}
	o := s.released(id)
	if x := exit(t, o, 0); x.Code != forge.ExitCheckpointed {
		t.Errorf("asked three times: %+v, want 85", x)
	}
	for _, k := range []forge.SignalKind{forge.SignalCheckpoint, forge.SignalCancel, forge.SignalKill} {
		s.signal(id, k)
	}
	if again := s.released(id); exit(t, again, 0).Code != forge.ExitCheckpointed {
		t.Errorf("a signal after the end changed the record: %+v", again)
	}
}
