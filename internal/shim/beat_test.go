package shim

import (
	"os"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// gangOf is what the shims of a gang know of each other where no lock tells who lives.
func gangOf(t *testing.T, n int) []*peers {
	t.Helper()
	at := rundir.At(t.TempDir(), 1)
	var out []*peers
	for node := range n {
		if err := os.MkdirAll(at.NodeDir(node), 0o755); err != nil {
			t.Fatal(err)
		}
		out = append(out, &peers{at: at, self: node, n: n, zero: true})
	}
	return out
}

func TestNodeZeroWaitsForThoseWhoLiveAndForNobodyElse(t *testing.T) {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	p := gangOf(t, 3)
	now := noon
	tick := func() (level, string) {
		now = now.Add(peersEvery)
		p[0].wait(now)
		p[1].look(now) // node 2 is gone, and node 1 works on
		return p[0].look(now)
	}
	var l level
	var words string
	for l == levelNone && now.Sub(noon) < time.Hour {
		l, words = tick()
	}
	if waited := now.Sub(noon); waited < silentAfter || waited > silentAfter+2*peersEvery {
		t.Errorf("it gave node 2 up after %s, want %s", waited, silentAfter)
	}
	if l != levelEnd || !strings.Contains(words, "node 2") || len(p[0].quiet.gone) != 1 {
		t.Errorf("level %d, %q, gone %v", l, words, p[0].quiet.gone)
	}
	for range 1000 {
		if l, words := tick(); l != levelNone {
			t.Fatalf("a node that works and answers is given up: %s", words)
		}
	}
	if p[0].allEnded() {
		t.Error("it waits for nobody any more")
	}
	if err := rundir.WriteJSON(p[0].at.ExitPath(1), rundir.Exit{Cause: forge.StopRankExit, Ranks: []forge.RankExit{{Rank: 1}}, EndedAt: now}); err != nil {
		t.Fatal(err)
	}
	if tick(); !p[0].allEnded() || p[0].zero {
		t.Errorf("all ended %v, all well %v; want true, and false for the node that is gone", p[0].allEnded(), p[0].zero)
	}
}

func TestNobodyIsAskedForALifeSignBeforeNodeZeroWaits(t *testing.T) {
	p := gangOf(t, 2)
	for now := time.Now(); len(p[1].ended) == 0 && now.Before(time.Now().Add(time.Hour)); now = now.Add(beatEvery) {
		if l, words := p[0].look(now); l != levelNone {
			t.Fatalf("given up while ranks of node 0 run: %s", words)
		}
		p[1].look(now)
	}
	if _, err := os.Lstat(p[1].at.BeatPath(1)); err == nil {
		t.Error("a node that nobody waits for wrote to the shared filesystem")
	}
}
