package store_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// failing lets runs fail on nodes.
type failing struct {
	db   *store.DB
	acme *store.Tenant
	now  time.Time
	told map[forge.NodeName]forge.Node // by deltas
}

func startFailing(t *testing.T) *failing {
	f := &failing{now: time.Now(), told: map[forge.NodeName]forge.Node{}}
	path := filepath.Join(t.TempDir(), "forge.db")
	storetest.Fresh(t, path)
	db := storetest.OpenAt(t, path, store.Options{OnCommit: func(deltas []forge.Delta) {
		for _, x := range deltas {
			if x.Node != nil {
				f.told[x.Node.Name] = *x.Node
			}
		}
	}})
	f.db, f.acme = db, storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 4), storetest.Node("gpu-2", 4), storetest.Node("gpu-3", 4))
	return f
}

func (f *failing) submit(t *testing.T) forge.Run {
	return storetest.Submit(t, f.acme, storetest.Spec(storetest.Gang(1, 1)))
}

func (f *failing) fail(t *testing.T, run forge.Run, ago time.Duration, reason forge.EndReason, blamed ...store.Blame) forge.Run {
	t.Helper()
	placed, refused := apply(t, f.db, forge.Plan{Place: []forge.Place{handOver(run)}})
	if len(placed) != 1 {
		t.Fatal(refused)
	}
	must(t, f.db.AttemptExited(ctx, store.Exit{Run: run.ID, Attempt: placed[0].Number}))
	run, _, err := f.db.AttemptEnded(ctx, store.End{Run: run.ID, Attempt: placed[0].Number, Reason: reason, Next: forge.RunPending, Blamed: blamed, At: f.now.Add(-ago)})
	must(t, err)
	return run
}

func (f *failing) node(t *testing.T, name forge.NodeName) forge.Node {
	t.Helper()
	w, err := f.db.World(ctx)
	must(t, err)
	for _, n := range w.Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no node %s", name)
	return forge.Node{}
}

func (f *failing) wantSuspect(t *testing.T, node forge.NodeName, says string) {
	t.Helper()
	if got := f.node(t, node).Suspect; got == "" != (says == "") || !strings.Contains(got, says) {
		t.Errorf("%s is a suspect for %q, want %q", node, got, says)
	}
}

func TestOneRunAloneMakesNoNodeASuspectHoweverOftenItFailsThere(t *testing.T) {
	f := startFailing(t)
	run := f.submit(t)
	for range 3 {
		run = f.fail(t, run, 0, forge.EndNodeLost, store.Blame{Node: "gpu-1"}, store.Blame{Node: "gpu-2"})
	}
	// Any program can exit 88 and say that it was the node.
	f.fail(t, f.submit(t), 0, forge.EndNodeEnv, store.Blame{Node: "gpu-3", Certain: true})
	for _, n := range []forge.NodeName{"gpu-1", "gpu-2", "gpu-3"} {
		f.wantSuspect(t, n, "")
	}
}

func TestTwoDifferentRunsOfADayMakeANodeASuspect(t *testing.T) {
	f := startFailing(t)
	f.fail(t, f.submit(t), 0, forge.EndNodeLost, store.Blame{Node: "gpu-1"}, store.Blame{Node: "gpu-2"})
	f.fail(t, f.submit(t), 25*time.Hour, forge.EndExecutorLost, store.Blame{Node: "gpu-2"})
	f.wantSuspect(t, "gpu-2", "") // the other was yesterday's
	f.fail(t, f.submit(t), 23*time.Hour, forge.EndExecutorLost, store.Blame{Node: "gpu-1"})
	f.wantSuspect(t, "gpu-1", "2 different runs failed there within a day")
	f.wantSuspect(t, "gpu-2", "")
}

func TestAFaultOfItsGPUIsEvidenceByItself(t *testing.T) {
	f := startFailing(t)
	f.fail(t, f.submit(t), 0, forge.EndGPUFault, store.Blame{Node: "gpu-1", Certain: true})
	f.fail(t, f.submit(t), 0, forge.EndGPUFault, store.Blame{Node: "gpu-2"}, store.Blame{Node: "gpu-3"})
	f.wantSuspect(t, "gpu-1", "by a fault of its GPU")
	f.wantSuspect(t, "gpu-2", "") // which of the two it was nobody knows
}

func TestWhereGPUsAreKnownOneByOneTheFaultOfOneIsNoEvidenceAgainstTheNode(t *testing.T) {
	f := startFailing(t)
	n := f.node(t, "gpu-1")
	for i := range n.GPUs {
		n.GPUs[i].UUID = fmt.Sprint("GPU-", i)
	}
	must(t, f.db.RecordNodes(t.Context(), n.Cluster, []forge.Node{n, f.node(t, "gpu-2"), f.node(t, "gpu-3")}, time.Now()))
	f.fail(t, f.submit(t), 0, forge.EndGPUFault, store.Blame{Node: "gpu-1", Certain: true})
	f.wantSuspect(t, "gpu-1", "") // a rule holds that GPU back, and the others are well
}

func TestFailuresCountAgainstANodeAndFadeToHalfInAWeek(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		ago  []time.Duration
		want int
	}{
		"none": {nil, 0}, "one of today": {[]time.Duration{0}, 1}, "three of today": {[]time.Duration{0, 0, 0}, 3},
		"two of a week ago are one": {[]time.Duration{7 * day, 7 * day}, 1}, "four of two weeks ago are one": {[]time.Duration{14 * day, 14 * day, 14 * day, 14 * day}, 1},
		"one of ten days ago is forgotten": {[]time.Duration{10 * day}, 0}, "rounded: 1 + 1/2 + 1/4": {[]time.Duration{0, 7*day + time.Minute, 14 * day}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFailing(t)
			run := f.submit(t)
			for _, ago := range c.ago {
				run = f.fail(t, run, ago, forge.EndStalled, store.Blame{Node: "gpu-1"})
			}
			if got := f.node(t, "gpu-1").Failures; got != c.want {
				t.Errorf("score %d, want %d", got, c.want)
			}
			if got := f.node(t, "gpu-2").Failures; got != 0 {
				t.Errorf("the other node has %d", got)
			}
		})
	}
}

func TestWhoeverPlansIsToldOfAFailureAtOnceAndOfItsEnd(t *testing.T) {
	f := startFailing(t)
	clear(f.told)
	f.fail(t, f.submit(t), 0, forge.EndNodeLost, store.Blame{Node: "gpu-1"})
	f.fail(t, f.submit(t), 0, forge.EndNodeLost, store.Blame{Node: "gpu-1"})
	if n := f.told["gpu-1"]; n.Failures != 2 || n.Suspect == "" || len(f.told) != 1 {
		t.Errorf("told %+v", f.told)
	}
	// The executor, which knows nothing of it, does not make it forgotten.
	must(t, f.db.RecordNodes(ctx, "local", []forge.Node{storetest.Node("gpu-1", 3)}, time.Now()))
	if n := f.told["gpu-1"]; n.Failures != 2 || n.Suspect == "" || len(n.GPUs) != 3 {
		t.Errorf("after a look at the nodes: %+v", n)
	}
	_, err := f.acme.UndrainNode(ctx, "local", "gpu-1")
	must(t, err)
	if n := f.told["gpu-1"]; n.Failures != 0 || n.Suspect != "" {
		t.Errorf("after it was let take work again: %+v", n)
	}
	f.wantSuspect(t, "gpu-1", "")
	if history, err := f.db.NodeFailures(ctx, "local", f.now.Add(-time.Hour)); err != nil || len(history) != 2 {
		t.Errorf("history %+v, %v", history, err)
	}
	_, err = f.acme.UndrainNode(ctx, "local", "gpu-2")
	wantKind(t, err, forge.KindPrecondition)
}
