package executortest

import (
	"context"
	"errors"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func testNode() forge.Node {
	return forge.Node{Name: "n1", Cluster: "fake", CPUs: 4, MemoryMiB: 1024, State: forge.NodeReady,
		GPUs: []forge.GPU{{Slot: 0, Kind: forge.GPUCPUSlot, Type: "cpu"}, {Slot: 1, Kind: forge.GPUCPUSlot, Type: "cpu"}}}
}

func TestFakeKeepsTheExecutorContract(t *testing.T) {
	Run(t, Harness{New: func(t *testing.T) Subject {
		f := NewFake(testNode())
		return Subject{
			Executor: f, Files: f, RunRoot: "/fake", Cluster: "fake", Node: "n1", Alive: f.alive,
			Command: func(p Program) []string { return Command("/fake/self", p) },
		}
	}})
}

func stepped(t *testing.T) (*Fake, forge.Launch, forge.ExternalID) {
	t.Helper()
	f := NewFake(testNode())
	l := forge.Launch{Key: forge.AttemptKey("R", 1), Run: "R", Attempt: 1, RunDir: "/fake/R",
		Spec: forge.RunSpec{Entry: forge.Entry{Module: "forge_train"}}, Placement: []forge.Share{{Node: "n1", Slots: []int{0, 1}}}}
	id, err := f.Submit(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return f, l, id
}

func look(t *testing.T, f *Fake, id forge.ExternalID) forge.Observation {
	t.Helper()
	o, err := f.Poll(t.Context(), []forge.ExternalID{id})
	if err != nil {
		t.Fatal(err)
	}
	return o[0]
}

func TestFakeMovesOnlyWhenTheTestSaysSo(t *testing.T) {
	f, l, id := stepped(t)
	if o := look(t, f, id); o.State != forge.ObservStarting {
		t.Fatalf("submitted: %s", o.State)
	}
	f.Start(l.Key)
	f.Emit(l.Key, 10, forge.MetricRow{Step: 1, Values: map[string]float64{"loss": 2}})
	if o := look(t, f, id); o.State != forge.ObservRunning || o.StartedAt.IsZero() {
		t.Fatalf("started: %+v", o)
	}
	if c, err := f.Read(t.Context(), id, forge.StreamMetrics, 0, 1000); err != nil || len(c.Data) == 0 {
		t.Fatalf("metrics: %+v, %v", c, err)
	}
	f.Hold(l.Key)
	f.Exit(l.Key, Ending{Status: &forge.StatusFile{Outcome: "failed"}}, 0, 137)
	o := look(t, f, id)
	if o.State != forge.ObservExited || o.Released || len(o.Exits) != 2 || o.Exits[1].Signal != 9 || o.Status == nil {
		t.Fatalf("ended and held: %+v", o)
	}
	if live := f.Live(); !slices.Equal(live, []string{l.Key}) {
		t.Errorf("live: %v", live)
	}
	f.Release(l.Key)
	if o := look(t, f, id); !o.Released {
		t.Errorf("released: %+v", o)
	}
	select {
	case <-f.Wake():
	default:
		t.Error("no wake after all that")
	}
}

func TestFakeThatIsSilentAnswersUnknownAndNeverAbsent(t *testing.T) {
	f, l, id := stepped(t)
	f.Silence(true)
	if o := look(t, f, id); o.State != forge.ObservUnknown || o.Released {
		t.Errorf("poll: %+v", o)
	}
	if got := f.Find(context.Background(), "R.7", "/fake/R"); got.State != forge.LookupUnknown {
		t.Errorf("find: %+v", got)
	}
	if err := f.Signal(t.Context(), id, forge.SignalKill); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("signal: %v", err)
	}
	f.Silence(false)
	if got := f.Find(context.Background(), l.Key, l.RunDir); got.State != forge.LookupFound {
		t.Errorf("find afterwards: %+v", got)
	}
}

func TestFakeSubmitMayFailHavingStarted(t *testing.T) {
	f := NewFake(testNode())
	boom := errors.New("connection lost")
	for i, started := range []bool{true, false} {
		l := forge.Launch{Key: forge.AttemptKey("R", i+1), Run: "R", Attempt: i + 1}
		f.FailSubmit(boom, started)
		if _, err := f.Submit(t.Context(), l); !errors.Is(err, boom) {
			t.Fatalf("submit: %v", err)
		}
		want := forge.LookupAbsent
		if started {
			want = forge.LookupFound
		}
		if got := f.Find(t.Context(), l.Key, ""); got.State != want {
			t.Errorf("started %v: %+v", started, got)
		}
	}
}

func TestFakeResumesFromTheNewestGoodCheckpoint(t *testing.T) {
	f, l, _ := stepped(t)
	f.Save(forge.Checkpoint{Run: "R", Attempt: 1, Step: 10})
	f.Save(forge.Checkpoint{Run: "R", Attempt: 1, Step: 20, Verdict: forge.VerdictTorn, Why: "short"})
	f.Lose(l.Key)
	l.Attempt, l.Key = 2, forge.AttemptKey("R", 2)
	id, err := f.Submit(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	f.Start(l.Key)
	o := look(t, f, id)
	if o.Resume == nil || o.Resume.Step != 10 || len(o.Resume.Skipped) != 1 || o.Resume.Skipped[0].Step != 20 {
		t.Errorf("resume: %+v", o.Resume)
	}
}
