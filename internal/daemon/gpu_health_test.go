package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/nvml"
	"github.com/forge-ml/forge-ml/store"
)

// scripted is a watcher that tells what a test says.
type scripted struct{ news chan nvml.News }

func (w scripted) Run(ctx context.Context, tell func(nvml.News)) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-w.news:
			tell(n)
		}
	}
}

func (w scripted) Now(context.Context) (forge.GPULook, error) {
	return forge.GPULook{}, forge.Errorf(forge.KindUnavailable, "nvml.look", "a test")
}

// gpuHost is a host of one cluster whose GPUs are what the reader says.
type gpuHost struct {
	*executortest.Fake
	reader *gpuReader
}

func (h *gpuHost) Nodes(ctx context.Context) ([]forge.Node, error) {
	nodes, err := h.Fake.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	gpus, err := h.reader.read(ctx)
	if err != nil {
		return nil, err
	}
	nodes[0].GPUs = append([]forge.GPU{}, gpus...)
	return nodes, nil
}

// gpuRig is a daemon on a host with GPUs.
type gpuRig struct {
	*rig
	mu     sync.Mutex
	report nvml.Report
	news   chan nvml.News
	dir    string
	look   time.Time
}

func (g *gpuRig) say(report nvml.Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.report = report
}

func gpusOf(names ...string) nvml.Report {
	r := nvml.Report{State: forge.NVMLOK, GPUs: []forge.GPU{}}
	for i, u := range names {
		r.GPUs = append(r.GPUs, forge.GPU{Slot: i, Kind: forge.GPUDevice, UUID: u, Type: "A100", PCI: u, MemoryMiB: 40960})
	}
	return r
}

func startGPUs(t *testing.T, names ...string) *gpuRig {
	t.Helper()
	g := &gpuRig{report: gpusOf(names...), dir: shortDir(t), look: time.Now().Add(-17 * time.Minute)}
	made, err := Init(t.Context(), g.dir, "admin", NoUID)
	if err != nil {
		t.Fatal(err)
	}
	g.serve(t)
	if g.op, err = g.Authenticate(t.Context(), made.Secret); err != nil {
		t.Fatal(err)
	}
	return g
}

// serve starts a daemon on the same state.
func (g *gpuRig) serve(t *testing.T) {
	t.Helper()
	op := forge.Principal{}
	if g.rig != nil {
		op = g.op
	}
	g.news = make(chan nvml.News)
	reader := &gpuReader{cluster: "local", ask: func(context.Context) (nvml.Report, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.report, nil
	}}
	g.rig = serveOn(t, g.dir, executortest.NewFake(fakeNode(0)), func(o *Options) {
		o.watcher = scripted{g.news}
		o.Clusters[0].Executor, o.Clusters[0].GPUs = &gpuHost{o.Clusters[0].Executor.(*executortest.Fake), reader}, reader
	})
	g.op = op
	g.refreshNodes(t.Context())
}

// tell hands the daemon news, and comes back when it has taken them in.
func (g *gpuRig) tell(n nvml.News) {
	g.news <- n
	g.news <- nvml.News{} // the watcher takes it while the daemon is at the first
	g.news <- nvml.News{} // and this once the daemon has the second, and is done with the first
}

// well is a look at GPUs of which nothing bad is to be said, some seconds after the last.
func (g *gpuRig) well(after time.Duration, names ...string) nvml.News {
	g.look = g.look.Add(after)
	l := forge.GPULook{At: g.look, State: forge.NVMLOK, Driver: "580.1"}
	for i, u := range names {
		l.GPUs = append(l.GPUs, forge.GPUReading{UUID: u, Index: i, Type: "A100", Told: true, EnergyJoules: new(1000.0), TemperatureC: new(40)})
	}
	return nvml.News{Look: &l}
}

func (g *gpuRig) node(t *testing.T) api.NodeView {
	t.Helper()
	n, err := nodes{g.Daemon}.find(t.Context(), g.op, "x", "", "n1")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (g *gpuRig) awaitNode(t *testing.T, what string, ok func(api.NodeView) bool) api.NodeView {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		n := g.node(t)
		if ok(n) {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, n)
		}
	}
}

func xid(at time.Time, uuid string, n, count int) forge.GPUEvent {
	return forge.GPUEvent{At: at, UUID: uuid, Kind: forge.GPUEventXID, XID: n, Count: count}
}

func onGPU() forge.RunSpec {
	return script(1, func(s *forge.RunSpec) { s.Where = &forge.Constraints{GPUTypes: []string{"A100"}} })
}

// kinds are the kinds of what happened to the node.
func (g *gpuRig) kinds(t *testing.T) (out []string) {
	t.Helper()
	events, err := nodes{g.Daemon}.NodeEvents(t.Context(), g.op, api.NodeAt{Node: "n1"}, api.NodeEventQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Rule != "clock_skew" { // the looks of these tests are a quarter of an hour old, so that they may come fast
			out = append(out, string(e.Kind))
		}
	}
	return out
}

// watchEvents are the states that were told.
func (g *gpuRig) watchEvents(t *testing.T) string {
	t.Helper()
	events, err := g.db.For(g.op).Events(t.Context(), store.EventFilter{Types: []forge.EventType{forge.EventNodeWatch}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, e.Reason)
	}
	return strings.Join(out, " ")
}

func TestAGPUWithAFatalXIDTakesNothingUntilItWasResetAlsoOverARestart(t *testing.T) {
	g := startGPUs(t, "GPU-a", "GPU-b")
	g.tell(g.well(5*time.Second, "GPU-a", "GPU-b"))
	g.tell(nvml.News{Events: []forge.GPUEvent{xid(g.look.Add(time.Second), "GPU-a", 48, 1)}})
	n := g.awaitNode(t, "it is held", func(n api.NodeView) bool { return n.GPUs[0].Sick != "" })
	if n.State != forge.NodeReady || n.GPUs[1].Sick != "" || len(n.Holds) != 1 || n.Holds[0].Rule != "xid_48" || n.Holds[0].Act != forge.HoldGPU {
		t.Fatalf("%+v", n)
	}
	one := g.submit(t, onGPU())
	g.submit(t, onGPU())
	g.await(t, one.ID, "the first is on the other", func(r forge.Run) bool { return r.Attempt == 1 })
	if a, _ := g.world.attempt(one.ID); a.Placement[0].Slots[0] != 1 {
		t.Errorf("placed on %+v", a.Placement)
	}
	g.stop()
	g.serve(t)
	if n := g.node(t); n.GPUs[0].Sick == "" {
		t.Fatal("forgotten by a restart")
	}
	g.awaitNode(t, "the last XID is known again", func(api.NodeView) bool { x, _ := g.board.gpu(onN1, "GPU-a"); return x.XID == 48 && !x.XIDAt.IsZero() })
	if x, _ := g.board.gpu(onN1, "GPU-b"); x.XID != 0 {
		t.Errorf("GPU-b is said to have had XID %d", x.XID)
	}
	for range 100 { // well for long, and never reset
		g.tell(g.well(10*time.Second, "GPU-a", "GPU-b"))
	}
	if n := g.node(t); n.GPUs[0].Sick == "" {
		t.Fatal("back without a reset")
	}
	for _, a := range g.world.open() {
		if a.Placement[0].Slots[0] == 0 {
			t.Fatalf("placed on a held GPU: %+v", a)
		}
	}
	d, err := nodes{g.Daemon}.Node(t.Context(), g.op, "", "n1")
	if err != nil || d.Health[0].Health != api.GPUHeld || len(d.Health[0].Holds) != 1 || !strings.Contains(d.Health[0].Holds[0].Waits, "reset") || len(d.Health[0].XIDs) != 1 || d.Health[1].Health != api.GPUWell {
		t.Errorf("%+v, %v", d.Health, err)
	}
	g.look = time.Now() // a reset counts when it is seen after the hold
	reset := g.well(time.Second, "GPU-a", "GPU-b")
	reset.Look.GPUs[0].EnergyJoules = new(1.0)
	g.tell(reset)
	for range 400 {
		w := g.well(10*time.Second, "GPU-a", "GPU-b")
		w.Look.GPUs[0].EnergyJoules = new(2.0)
		g.tell(w)
	}
	g.awaitNode(t, "it is back", func(n api.NodeView) bool { return n.GPUs[0].Sick == "" && len(n.Holds) == 0 })
	if got := g.kinds(t); !slices.Contains(got, "held") || got[len(got)-1] != "returned" {
		t.Errorf("%v", got)
	}
}

func TestWhatADriverSaysIsDoneAsTheTableSays(t *testing.T) {
	g := startGPUs(t, "GPU-a", "GPU-b")
	g.tell(g.well(time.Second, "GPU-a", "GPU-b"))
	g.tell(nvml.News{Events: []forge.GPUEvent{xid(g.look, "GPU-a", 31, 1)}})
	if n := g.node(t); n.GPUs[0].Sick != "" || len(n.Holds) != 0 {
		t.Errorf("an application's fault holds something back: %+v", n)
	}
	if got := g.kinds(t); strings.Join(got, " ") != "found" {
		t.Errorf("%v", got)
	}
	for i := range 30 { // half a minute of ten thousand a second, as the child joins them
		g.tell(nvml.News{Events: []forge.GPUEvent{xid(g.look.Add(time.Duration(i)*time.Second), "GPU-b", 13, 10000)}})
	}
	if got := g.kinds(t); len(got) > 3 {
		t.Errorf("a storm is %d lines: %v", len(got), got)
	}
	g.tell(nvml.News{Events: []forge.GPUEvent{xid(g.look, "GPU-a", 79, 1)}})
	n := g.awaitNode(t, "what is off the bus takes its node along", func(n api.NodeView) bool { return n.State == forge.NodeDrained })
	if !strings.Contains(n.Reason, "xid_79") {
		t.Errorf("%+v", n)
	}
	changed, err := nodes{g.Daemon}.UndrainNode(t.Context(), g.op, "", "n1")
	if err != nil || changed.State != forge.NodeReady {
		t.Errorf("an operator's word: %+v, %v", changed, err)
	}
}

func TestNothingIsPlacedWhileNobodyAnswersForTheGPUs(t *testing.T) {
	g := startGPUs(t, "GPU-a")
	g.tell(g.well(time.Second, "GPU-a"))
	has := g.submit(t, onGPU())
	g.await(t, has.ID, "it is placed", func(r forge.Run) bool { return r.Attempt == 1 })
	var said []string
	for _, state := range []forge.NVMLState{forge.NVMLBlind, forge.NVMLHung, forge.NVMLError} {
		g.look = g.look.Add(time.Second)
		for range 3 {
			g.tell(nvml.News{Look: &forge.GPULook{At: g.look, State: state, Detail: "the process that asks died 5 times"}})
		}
		n := g.awaitNode(t, "nothing is placed", func(n api.NodeView) bool { return n.GPUs[0].Sick != "" })
		if !strings.Contains(n.GPUs[0].Sick, string(state)) || !strings.Contains(n.GPUs[0].Sick, "died 5 times") {
			t.Errorf("%+v", n.GPUs[0])
		}
		if a, ok := g.world.attempt(has.ID); !ok || !a.State.Open() {
			t.Errorf("%+v: nothing is freed by not knowing", a)
		}
		g.tell(g.well(time.Second, "GPU-a"))
		g.awaitNode(t, "it answers again", func(n api.NodeView) bool { return n.GPUs[0].Sick == "" })
		said = append(said, string(state), "ok")
		if got := g.watchEvents(t); got != strings.Join(said, " ") {
			t.Errorf("told %q, want each once: %q", got, said)
		}
	}
}

func TestAHostWhoseDriverIsGoneIsNotReadyAndKeepsItsGPUs(t *testing.T) {
	g := startGPUs(t, "GPU-a", "GPU-b")
	has := g.submit(t, onGPU())
	g.await(t, has.ID, "it is placed", func(r forge.Run) bool { return r.Attempt == 1 })
	g.say(nvml.Report{State: forge.NVMLNoDriver, Detail: "libnvidia-ml.so.1: not found"})
	g.refreshNodes(t.Context())
	n := g.node(t)
	if n.State == forge.NodeReady || !strings.Contains(n.Reason, "no NVML: libnvidia-ml.so.1: not found") || len(n.GPUs) != 2 || !n.GPUs[0].Missing() {
		t.Fatalf("%+v", n)
	}
	g.say(gpusOf("GPU-b", "GPU-a")) // a driver that numbers them otherwise
	g.refreshNodes(t.Context())
	if n := g.node(t); n.State != forge.NodeReady || n.GPUs[0].UUID != "GPU-a" || n.GPUs[0].Sick != "" {
		t.Errorf("%+v", n)
	}
	g.live().clusters["local"].GPUs.expect(3)
	g.refreshNodes(t.Context())
	if n := g.node(t); n.State == forge.NodeReady || !strings.Contains(n.Reason, "2 of 3 expected GPUs") {
		t.Errorf("%+v", n)
	}
}

func TestAHostWithoutGPUsNeedsNoDriver(t *testing.T) {
	g := startGPUs(t)
	g.say(nvml.Report{State: forge.NVMLNoDriver, Detail: "not found"})
	g.refreshNodes(t.Context())
	g.tell(nvml.News{Look: &forge.GPULook{At: g.look, State: forge.NVMLNoDriver, Detail: "not found"}})
	if n := g.node(t); n.State != forge.NodeReady {
		t.Errorf("%+v", n)
	}
	if got := g.kinds(t); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestWhatAShimHasLeftIsHeardOnceAlsoAfterARestart(t *testing.T) {
	g := startGPUs(t, "GPU-a", "GPU-b")
	run := g.submit(t, onGPU())
	g.await(t, run.ID, "it is placed", func(r forge.Run) bool { return r.Attempt == 1 })
	a, _ := g.world.attempt(run.ID)
	e := xid(time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond), "GPU-a", 48, 1)
	o := forge.Observation{GPUEvents: []forge.GPUEvent{e}, GPUFault: &forge.GPUBlame{Node: "n1", Finding: forge.Finding{At: e.At, Rule: "xid_48", UUID: "GPU-a", XID: 48, Run: forge.RunElsewhere, Hold: forge.HoldGPU, Words: "XID 48"}}}
	g.gpus.atEnd(t.Context(), a, o)
	g.gpus.atEnd(t.Context(), a, o)
	if n := g.node(t); n.GPUs[0].Sick == "" || len(n.Holds) != 1 {
		t.Fatalf("%+v", n)
	}
	if _, err := (nodes{g.Daemon}).UndrainGPU(t.Context(), g.op, api.NodeAt{Node: "n1", GPU: "0"}); err != nil {
		t.Fatal(err)
	}
	g.stop()
	g.serve(t)
	g.gpus.atEnd(t.Context(), a, o)
	if n := g.node(t); n.GPUs[0].Sick != "" {
		t.Errorf("what an operator has let go of is held again for the same word of the driver: %+v", n)
	}
	if got := g.kinds(t); strings.Join(got, " ") != "found held undrained" {
		t.Errorf("%v", got)
	}
	stranger := o
	stranger.GPUFault, stranger.GPUEvents = nil, []forge.GPUEvent{xid(time.Now(), "GPU-of-another-node", 79, 1)}
	g.gpus.atEnd(t.Context(), a, stranger)
	if n := g.node(t); n.State != forge.NodeReady {
		t.Errorf("a file of a job's speaks of a GPU that is not there: %+v", n)
	}
}

func TestAMistakeInTheRulesOfHealthRefusesTheReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte("rules:\n  - name: temperature_max\n    holt: drain_gpu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (GPUConfig{RulesFile: file}).healthRules()
	if err == nil || !strings.Contains(err.Error(), "rules.yaml") || !strings.Contains(fmt.Sprint(err), "holt") {
		t.Errorf("%v", err)
	}
}
