package daemon

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/slurm"
	"github.com/forge-ml/forge-ml/store"
)

func jsonLines(t *testing.T, values ...any) string {
	t.Helper()
	var out strings.Builder
	for _, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n", b)
	}
	return out.String()
}

func TestWhatShimsSeeInABatchSystemHoldsTheirNodeBack(t *testing.T) {
	const runs = 6
	x := &drainable{}
	r := start(t, runs, func(o *Options) {
		x.Fake = o.Clusters[0].Executor.(*executortest.Fake)
		n := fakeNode(runs)
		for i := range n.GPUs {
			n.GPUs[i].Kind, n.GPUs[i].Type = forge.GPUDevice, "A100"
		}
		x.SetNodes(n)
		o.Clusters[0].Executor, o.Clusters[0].Slurm = x, &slurm.Options{Drain: slurm.DrainScontrol}
	})
	r.refreshNodes(t.Context())
	var keys []string
	for range runs {
		run := r.submit(t, onGPU())
		key := r.launched(t, run.ID, 1)
		r.fake.Start(key)
		r.await(t, run.ID, "it runs", func(x forge.Run) bool { return x.State == forge.RunRunning })
		keys = append(keys, key)
	}
	c := r.clusterList()[0]
	reader := &shimReader{d: r.Daemon, turns: map[forge.ClusterName]*streamTurn{}}
	turn := reader.turn(c.Name)
	if n := reader.read(t.Context(), c, turn, 0); n != streamsAtOnce || len(turn.at) != streamsAtOnce {
		t.Errorf("a turn without time reads %d", n)
	}
	if reader.read(t.Context(), c, turn, 0); len(turn.at) != runs {
		t.Errorf("the next goes on where it stopped: %d of %d", len(turn.at), runs)
	}

	ahead := time.Now().Add(time.Hour).UTC() // a node whose clock is wrong
	look := forge.GPULook{At: ahead, State: forge.NVMLOK, GPUs: []forge.GPUReading{{UUID: "GPU-x", Type: "A100", TemperatureC: new(50)}}}
	r.fake.Leave(keys[5], "gpus.0", jsonLines(t, look))
	r.fake.Leave(keys[5], "gpu_events.0", "no event\n"+jsonLines(t, xid(ahead, "GPU-x", 48, 1))+`{"at":"2026-11-`)
	if n := reader.read(t.Context(), c, turn, time.Minute); n != runs {
		t.Errorf("read %d", n)
	}
	ns := nodes{r.Daemon}
	n, err := ns.find(t.Context(), r.op, "x", "", "n1")
	if err != nil || n.State != forge.NodeDrained || !strings.Contains(n.Reason, "xid_48") {
		t.Fatalf("%+v, %v", n, err)
	}
	if s, ok := r.board.gpu(nodeKey{"local", "n1"}, "GPU-x"); !ok || s.XID != 48 || s.TemperatureC == nil {
		t.Errorf("not shown: %+v", s)
	}
	events, err := r.db.For(r.op).NodeEvents(t.Context(), "local", "n1", store.NodeEventFilter{})
	if err != nil || len(events) != 2 || events[0].Number != 6 || events[0].XID != 48 {
		t.Errorf("%+v, %v", events, err)
	}
	r.gpus.tellOutside(t.Context(), time.Now())
	r.gpus.tellOutside(t.Context(), time.Now())
	if len(x.said) != 1 || !strings.HasPrefix(x.said[0], "drain n1: held back by xid_48") {
		t.Errorf("the batch system was told %q", x.said)
	}
	if n, err := ns.UndrainNode(t.Context(), r.op, "", "n1"); err != nil || n.State != forge.NodeReady || len(x.said) != 2 {
		t.Errorf("%+v, %v, %q", n, err, x.said)
	}
	again := &shimReader{d: r.Daemon, turns: map[forge.ClusterName]*streamTurn{}} // as after a restart: everything is read from its beginning
	again.read(t.Context(), c, again.turn(c.Name), time.Minute)
	if n, err := ns.find(t.Context(), r.op, "x", "", "n1"); err != nil || n.State != forge.NodeReady {
		t.Errorf("an operator's word is undone by what is old: %+v, %v", n, err)
	}
	for _, k := range keys {
		r.fake.Finish(k, 0)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); len(r.streamsOf(c)) > 0 && time.Now().Before(deadline); {
		<-tick.C
	}
	if reader.read(t.Context(), c, turn, time.Minute); len(turn.at) != 0 || len(r.gpus.jobs) != 0 {
		t.Errorf("%d and %d are remembered of what has ended", len(turn.at), len(r.gpus.jobs))
	}
}

func TestALineThatNeverEndsIsPassedOver(t *testing.T) {
	long := strings.Repeat("x", maxGPUEvents)
	if events, read := gpuEvents(forge.Chunk{Data: []byte(long)}); len(events) != 0 || read != len(long) {
		t.Errorf("%d events, %d bytes", len(events), read)
	}
	var many []any
	for i := range 500 {
		many = append(many, xid(time.Unix(int64(1000+i), 0), "GPU-x", 13, 1))
	}
	text := jsonLines(t, many...)
	events, read := gpuEvents(forge.Chunk{Data: []byte(text + "{")})
	if len(events) != maxEventsKept || read != len(text) || events[maxEventsKept-1].At.Unix() != 1499 {
		t.Errorf("%d events, %d of %d bytes", len(events), read, len(text))
	}
}
