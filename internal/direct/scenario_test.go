package direct_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// bench is an executor, its run root, and one attempt.
type bench struct {
	*direct.Executor
	t    *testing.T
	root string
	l    forge.Launch
	at   rundir.Attempt
	id   forge.ExternalID
}

func launchIn(root string, run forge.RunID, ranks int, command []string) forge.Launch {
	l := forge.Launch{
		Key: forge.AttemptKey(run, 1), Run: run, Attempt: 1, RunDir: filepath.Join(root, string(run)),
		Spec: forge.RunSpec{Launch: forge.LaunchRank, Entry: forge.Entry{Command: command}, Grace: forge.Duration(20 * time.Second)},
	}
	share := forge.Share{Node: "this-host"}
	for i := range ranks {
		share.Slots = append(share.Slots, i)
		l.Devices = append(l.Devices, forge.GPU{Slot: i, Kind: forge.GPUCPUSlot, Type: "cpu"})
	}
	l.Placement = []forge.Share{share}
	return l
}

func newBench(t *testing.T, ranks int, acts []executortest.Act, change ...func(o *direct.Options)) *bench {
	t.Helper()
	b := &bench{t: t}
	b.Executor = newExecutor(t, append(change, func(o *direct.Options) { b.root = o.RunRoot })...)
	run := forge.RunID(fmt.Sprintf("R%d%s", os.Getpid(), filepath.Base(b.root)))
	b.l = launchIn(b.root, run, ranks, executortest.Command(self(t), executortest.Program{Ranks: acts}))
	b.at = rundir.At(b.l.RunDir, 1)
	return b
}

func (b *bench) submit() {
	b.t.Helper()
	id, err := b.Submit(b.t.Context(), b.l)
	if err != nil {
		b.t.Fatal(err)
	}
	b.id = id
	b.t.Cleanup(func() {
		b.stop(id)
	})
}

// stop ends an attempt and waits for it: the run root is removed next, and a shim that still has
// something to write would wait for its disk.
func (b *bench) stop(id forge.ExternalID) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = b.Signal(ctx, id, forge.SignalKill)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := b.Poll(ctx, []forge.ExternalID{id})
		if err != nil {
			b.t.Errorf("the attempt did not end within 20s")
			return
		}
		if o[0].Released {
			return
		}
		<-tick.C
	}
}

func (b *bench) until(e *direct.Executor, what string, cond func(o forge.Observation) bool) forge.Observation {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		o, err := e.Poll(b.t.Context(), []forge.ExternalID{b.id})
		if err != nil {
			b.t.Fatal(err)
		}
		if cond(o[0]) {
			return o[0]
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within 30s; last seen %+v", what, o[0])
		}
	}
}

func (b *bench) released(e *direct.Executor) forge.Observation {
	b.t.Helper()
	return b.until(e, "released", func(o forge.Observation) bool { return o.Released })
}

// live waits until the ranks run and have said "start".
func (b *bench) live(ranks int) rundir.Live {
	b.t.Helper()
	b.until(b.Executor, "running", func(o forge.Observation) bool {
		for r := range ranks {
			c, err := b.Read(b.t.Context(), b.id, fmt.Sprintf("stdout.%d", r), 0, 1000)
			if err != nil || !strings.Contains(string(c.Data), "start\n") {
				return false
			}
		}
		return o.State == forge.ObservRunning
	})
	live, err := rundir.ReadLive(b.at, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return live
}

// child is the pid of the process that rank 0 left in a session of its own.
func (b *bench) child() int {
	b.t.Helper()
	c, err := b.Read(b.t.Context(), b.id, "stdout.0", 0, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(c.Data)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "child "))); err == nil {
			return pid
		}
	}
	b.t.Fatalf("no child in %q", c.Data)
	return 0
}

func TestRankKilledFromOutside(t *testing.T) {
	b := newBench(t, 2, []executortest.Act{{Hold: true}})
	b.submit()
	live := b.live(2)
	if err := syscall.Kill(live.Ranks[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o := b.released(b.Executor)
	if len(o.Exits) != 2 || o.Exits[1].Code != 137 || o.Exits[1].ByShim || !o.Exits[0].ByShim || o.Cause != forge.StopRankExit {
		t.Errorf("%+v", o)
	}
	reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Exits: o.Exits, Ranks: 2, ByUID: o.ByUID})
	if reason != forge.EndKilledExternally {
		t.Errorf("judged %s: %s", reason, why)
	}
}

func TestShimKilled(t *testing.T) {
	b := newBench(t, 2, []executortest.Act{{Hold: true, Child: true}, {Hold: true}})
	b.submit()
	live := b.live(2)
	escaped := b.child()
	if err := live.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o := b.until(b.Executor, "released", func(o forge.Observation) bool {
		if o.Released && alive(escaped) {
			t.Fatal("released while a process of the attempt is alive")
		}
		return o.Released
	})
	if o.State != forge.ObservLost || o.Cause != "" {
		t.Errorf("%+v", o)
	}
	for _, r := range live.Ranks {
		if alive(r.PID) {
			t.Errorf("rank %d outlived its shim", r.Rank)
		}
	}
	if alive(escaped) {
		t.Error("a process in a session of its own outlived the attempt")
	}
	if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupFound {
		t.Errorf("a lost attempt is %+v, want found: it did start", f)
	}
}

func TestShimTerminatedFromOutside(t *testing.T) {
	b := newBench(t, 2, []executortest.Act{{Hold: true, OnTerm: executortest.TermSaves}})
	b.submit()
	live := b.live(2)
	if err := live.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	o := b.released(b.Executor)
	if o.Cause != forge.StopSignal || o.Exits[0].Code != forge.ExitCheckpointed || o.Exits[1].Code != forge.ExitCheckpointed {
		t.Errorf("%+v", o)
	}
	if _, err := os.Stat(b.at.StopPath()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a stop file appeared that forged did not write: %v", err)
	}
}

func TestWeakerRequestNeverReplacesAStrongerStopFile(t *testing.T) {
	b := newBench(t, 1, []executortest.Act{{Hold: true, OnTerm: executortest.TermIgnored}})
	b.submit()
	b.live(1)
	for _, c := range []struct{ ask, want forge.SignalKind }{
		{forge.SignalCheckpoint, forge.SignalCheckpoint}, {forge.SignalCancel, forge.SignalCancel},
		{forge.SignalCheckpoint, forge.SignalCancel}, {forge.SignalKill, forge.SignalKill}, {forge.SignalCancel, forge.SignalKill},
	} {
		if err := b.Signal(t.Context(), b.id, c.ask); err != nil {
			t.Fatal(err)
		}
		if stop, err := rundir.ReadStop(b.at); err != nil || stop.Signal != c.want {
			t.Errorf("after %s the stop file says %+v, %v; want %s", c.ask, stop, err, c.want)
		}
	}
	b.released(b.Executor)
}

// daemon is a forged: it submits, says so, and waits for its end.
func daemon(root string) int {
	e, err := direct.New(direct.Options{Cluster: "here", NodeName: "this-host", RunRoot: root})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	path, _ := os.Executable()
	run := forge.RunID(filepath.Base(root))
	l := launchIn(root, run, 2, executortest.Command(path, executortest.Program{Ranks: []executortest.Act{{Hold: true, OnTerm: executortest.TermSaves}}}))
	id, err := e.Submit(context.Background(), l)
	fmt.Println(id, err)
	<-time.After(time.Minute)
	return 0
}

func TestAttemptOutlivesTheDaemonThatStartedIt(t *testing.T) {
	b := newBench(t, 2, nil)
	cmd := exec.CommandContext(t.Context(), self(t), "daemon", b.root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasSuffix(line, " <nil>\n") {
		t.Fatalf("daemon: %q, %v", line, err)
	}
	b.l.Run = forge.RunID(filepath.Base(b.root))
	b.l.Key, b.l.RunDir = forge.AttemptKey(b.l.Run, 1), filepath.Join(b.root, string(b.l.Run))
	b.at = rundir.At(b.l.RunDir, 1)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		if _, err := rundir.ReadLive(b.at, 0); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the ranks never started")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	f := b.Find(t.Context(), b.l.Key, b.l.RunDir)
	if f.State != forge.LookupFound {
		t.Fatalf("the next forged finds %+v", f)
	}
	b.id = f.ID
	t.Cleanup(func() { b.stop(b.id) })
	b.live(2)
	drain(b.Wake())
	if err := b.Signal(t.Context(), b.id, forge.SignalCheckpoint); err != nil {
		t.Fatal(err)
	}
	awaitWake(t, b.Wake())
	o := b.released(b.Executor)
	if o.State != forge.ObservExited || o.Exits[0].Code != forge.ExitCheckpointed {
		t.Errorf("%+v", o)
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func awaitWake(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("no wake")
	}
}

func TestWakeAtStartAndEnd(t *testing.T) {
	b := newBench(t, 1, []executortest.Act{{Hold: true}})
	b.submit()
	awaitWake(t, b.Wake())
	b.live(1)
	drain(b.Wake())
	if err := b.Signal(t.Context(), b.id, forge.SignalKill); err != nil {
		t.Fatal(err)
	}
	awaitWake(t, b.Wake())
	b.released(b.Executor)
}

func TestShimThatDiesBeforeItsClaimIsAbsent(t *testing.T) {
	b := newBench(t, 1, nil, func(o *direct.Options) { o.ShimArgs = []string{"die"} })
	b.submit()
	o := b.released(b.Executor)
	if o.State != forge.ObservAbsent {
		t.Errorf("%+v", o)
	}
	if c, err := rundir.ReadClaim(b.at); err != nil || !c.Revoked {
		t.Errorf("claim %+v, %v; want revoked: absence is made", c, err)
	}
}

func TestSubmitRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, b *bench)
		kind   forge.Kind
	}{
		{"an attempt behind the fence", func(t *testing.T, b *bench) {
			if err := errors.Join(os.MkdirAll(b.l.RunDir, 0o750), rundir.RaiseFence(b.l.RunDir, 2)); err != nil {
				t.Fatal(err)
			}
		}, forge.KindPrecondition},
		{"a run directory outside of the run root", func(_ *testing.T, b *bench) { b.l.RunDir = filepath.Join(b.root, "..", "elsewhere") }, forge.KindInvalid},
		{"a node that is not this one", func(_ *testing.T, b *bench) { b.l.Placement[0].Node = "other" }, forge.KindInvalid},
		{"a key of another attempt", func(_ *testing.T, b *bench) { b.l.Key = forge.AttemptKey(b.l.Run, 7) }, forge.KindInvalid},
		{"work while the run root is not mounted", func(t *testing.T, b *bench) {
			if err := os.Remove(b.root); err != nil {
				t.Fatal(err)
			}
		}, forge.KindUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 1, nil)
			c.change(t, b)
			if id, err := b.Submit(t.Context(), b.l); err == nil || forge.KindOf(err) != c.kind {
				t.Errorf("%q, %v (%s); want %s", id, err, forge.KindOf(err), c.kind)
			}
			if _, err := os.Stat(b.at.StdoutPath(0)); err == nil {
				t.Error("a rank started")
			}
		})
	}
}

func TestFindIsUnknownWhileTheRunRootIsNotThere(t *testing.T) {
	b := newBench(t, 1, nil)
	if err := os.Remove(b.root); err != nil {
		t.Fatal(err)
	}
	if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupUnknown {
		t.Errorf("%+v: a filesystem that is not mounted proves nothing", f)
	}
}

func TestReadStaysInsideTheAttempt(t *testing.T) {
	b := newBench(t, 1, []executortest.Act{{Exit: 0}})
	b.submit()
	b.released(b.Executor)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink(secret, path) },
		"FIFO": func(path string) error { return syscall.Mkfifo(path, 0o640) },
	} {
		_ = os.Remove(b.at.MetricsPath())
		if err := plant(b.at.MetricsPath()); err != nil {
			t.Fatal(err)
		}
		if c, err := b.Read(t.Context(), b.id, forge.StreamMetrics, 0, 100); err == nil || len(c.Data) > 0 {
			t.Errorf("%s: read %q, %v", name, c.Data, err)
		}
	}
}

func TestVerdictIsKeptForAsLongAsNothingLooksDifferent(t *testing.T) {
	b := newBench(t, 1, nil)
	save := executortest.Save{Run: b.l.Run, Attempt: 1, Step: 5, World: 1, Files: map[string]string{"w.bin": "good"}}
	file := filepath.Join(b.at.CheckpointDir(), "checkpoint-5", "w.bin")
	saved := func() time.Time {
		t.Helper()
		if err := save.Write(b.at.CheckpointDir()); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return st.ModTime()
	}
	spoil := func(when time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte("BAD!"), 0o640), os.Chtimes(file, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(v forge.Verdict, why string) {
		t.Helper()
		list, err := b.Checkpoints(t.Context(), b.l.Run, b.l.RunDir, true)
		if err != nil || len(list) != 1 || list[0].Verdict != v {
			t.Errorf("%s: want %s, got %+v, %v", why, v, list, err)
		}
	}
	at := saved()
	want(forge.VerdictVerified, "at first")
	spoil(at)
	want(forge.VerdictVerified, "hashed again although nothing looks different")
	spoil(at.Add(time.Second))
	want(forge.VerdictTorn, "a file that was written to was believed by the old verdict")
	at = saved()
	want(forge.VerdictVerified, "saved again")
	save.World = 2
	saved()
	spoil(at)
	want(forge.VerdictTorn, "a new manifest was believed by the old verdict")
}

func TestNodes(t *testing.T) {
	gpus := func(context.Context) ([]forge.GPU, error) {
		return []forge.GPU{{Slot: 0, Kind: forge.GPUDevice, UUID: "GPU-1", Type: "H100"}}, nil
	}
	t.Run("CPU slots come after the GPUs and say what they are", func(t *testing.T) {
		e := newExecutor(t, func(o *direct.Options) { o.GPUs, o.CPUSlots, o.MemoryMiB = gpus, 2, 1000 })
		n, err := e.Nodes(t.Context())
		if err != nil || len(n) != 1 || len(n[0].GPUs) != 3 {
			t.Fatalf("%+v, %v", n, err)
		}
		if g := n[0].GPUs[2]; g.Slot != 2 || g.Kind != forge.GPUCPUSlot || g.Type != "cpu" || g.MemoryMiB != 500 {
			t.Errorf("%+v", g)
		}
	})
	t.Run("none unless configured: a host whose driver died must not train on its CPUs", func(t *testing.T) {
		e := newExecutor(t, func(o *direct.Options) { o.CPUSlots = 0 })
		if n, err := e.Nodes(t.Context()); err != nil || len(n[0].GPUs) != 0 {
			t.Errorf("%+v, %v", n, err)
		}
	})
	t.Run("a driver that does not answer is not a host without GPUs", func(t *testing.T) {
		e := newExecutor(t, func(o *direct.Options) {
			o.GPUs = func(context.Context) ([]forge.GPU, error) { return nil, errors.New("GPU is lost") }
		})
		if n, err := e.Nodes(t.Context()); forge.KindOf(err) != forge.KindUnavailable {
			t.Errorf("%+v, %v", n, err)
		}
	})
}
