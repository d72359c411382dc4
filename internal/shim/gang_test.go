package shim

import (
	"slices"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

func testGang(ranks int) *gang {
	g := &gang{node: "n", grace: 30 * time.Second, began: t0, live: t0, byUID: -1}
	for r := range ranks {
		g.members = append(g.members, &member{rank: r, pid: 100 + r, started: t0})
	}
	return g
}

const exited0 = syscall.WaitStatus(0)

func exitedWith(code int) syscall.WaitStatus         { return syscall.WaitStatus(code << 8) }
func killedBy(sig syscall.Signal) syscall.WaitStatus { return syscall.WaitStatus(sig) }

func wantOrders(t *testing.T, g *gang, want ...order) {
	t.Helper()
	if got := g.orders(); !slices.Equal(got, want) {
		t.Errorf("orders %+v, want %+v", got, want)
	}
}

func TestGang(t *testing.T) {
	term, kill := syscall.SIGTERM, syscall.SIGKILL
	t.Run("nothing happens while all is well", func(t *testing.T) {
		g := testGang(2)
		g.tick(signs{}, at(86400))
		wantOrders(t, g)
	})
	t.Run("checkpoint: TERM to each rank alone, once, then KILL to its group after the grace", func(t *testing.T) {
		g := testGang(2)
		g.asked(rundir.Stop{Signal: forge.SignalCheckpoint}, at(1))
		g.asked(rundir.Stop{Signal: forge.SignalCheckpoint}, at(2))
		wantOrders(t, g, order{100, term}, order{101, term})
		g.tick(signs{}, at(30.9))
		wantOrders(t, g)
		g.tick(signs{}, at(31))
		wantOrders(t, g, order{-100, kill}, order{-101, kill})
	})
	t.Run("cancel: TERM to the groups", func(t *testing.T) {
		g := testGang(1)
		g.asked(rundir.Stop{Signal: forge.SignalCancel}, at(1))
		wantOrders(t, g, order{-100, term})
	})
	t.Run("cancel after checkpoint: TERM again, the first grace stands", func(t *testing.T) {
		g := testGang(1)
		g.asked(rundir.Stop{Signal: forge.SignalCheckpoint}, at(0))
		g.orders()
		g.asked(rundir.Stop{Signal: forge.SignalCancel}, at(20))
		wantOrders(t, g, order{-100, term})
		g.tick(signs{}, at(30))
		wantOrders(t, g, order{-100, kill})
	})
	t.Run("kill needs no grace", func(t *testing.T) {
		g := testGang(1)
		g.asked(rundir.Stop{Signal: forge.SignalKill}, at(1))
		wantOrders(t, g, order{-100, kill})
	})
	t.Run("one bad exit ends the others, whose ends are by the shim", func(t *testing.T) {
		g := testGang(3)
		g.exited(g.members[1], exitedWith(3), false, at(1))
		wantOrders(t, g, order{-100, term}, order{-102, term})
		g.exited(g.members[0], killedBy(term), false, at(2))
		g.exited(g.members[2], exitedWith(1), false, at(2))
		for i, by := range []bool{true, false, true} {
			if g.members[i].exit.ByShim != by {
				t.Errorf("rank %d: by_shim %v, want %v", i, !by, by)
			}
		}
		if g.cause != forge.StopRankExit || g.detail != "rank 1 exited 3" {
			t.Errorf("cause %q, %q", g.cause, g.detail)
		}
	})
	t.Run("exit 0 leaves the others alone", func(t *testing.T) {
		g := testGang(2)
		g.exited(g.members[0], exited0, false, at(1))
		g.tick(signs{}, at(86400))
		wantOrders(t, g)
	})
	t.Run("exit 85 of its own leaves the others the grace, without a signal", func(t *testing.T) {
		g := testGang(2)
		g.exited(g.members[0], exitedWith(85), false, at(1))
		wantOrders(t, g)
		g.tick(signs{}, at(31))
		wantOrders(t, g, order{-101, kill})
	})
	t.Run("the first cause stays", func(t *testing.T) {
		g := testGang(2)
		g.limit = 10 * time.Second
		g.tick(signs{}, at(10))
		g.orders()
		g.exited(g.members[0], exitedWith(1), false, at(11))
		g.terminated(1000, at(12))
		if g.cause != forge.StopTimeLimit || g.byUID != -1 {
			t.Errorf("cause %q, uid %d", g.cause, g.byUID)
		}
	})
	t.Run("a rank that was asked to save and exits with a code of its own speaks for itself", func(t *testing.T) {
		g := testGang(2)
		g.asked(rundir.Stop{Signal: forge.SignalCheckpoint}, at(1))
		g.orders()
		g.exited(g.members[0], exitedWith(forge.ExitNaN), false, at(2))
		if g.members[0].exit.ByShim {
			t.Error("exit 90 counts as the shim's doing")
		}
	})
	t.Run("a stall is armed by the first step only, and every change counts", func(t *testing.T) {
		g := testGang(1)
		g.stall = 10 * time.Second
		g.tick(signs{}, at(100))
		wantOrders(t, g)
		g.tick(signs{size: 1}, at(101))
		g.tick(signs{size: 1}, at(110))
		g.tick(signs{size: 1, beat: at(110)}, at(110.5))
		g.tick(signs{size: 1, beat: at(110)}, at(120))
		wantOrders(t, g)
		g.tick(signs{size: 1, beat: at(110)}, at(120.5))
		wantOrders(t, g, order{100, term})
		if g.cause != forge.StopStall {
			t.Errorf("cause %q", g.cause)
		}
	})
	t.Run("the start timeout counts from the start of the ranks and ends with the first sign", func(t *testing.T) {
		g := testGang(1)
		g.start = 10 * time.Second
		g.live = at(5)
		g.tick(signs{}, at(14.9))
		wantOrders(t, g)
		other := testGang(1)
		other.start = 10 * time.Second
		other.tick(signs{beat: at(9)}, at(9))
		other.tick(signs{beat: at(9)}, at(1000))
		wantOrders(t, other)
		g.tick(signs{}, at(15))
		wantOrders(t, g, order{100, term})
	})
	t.Run("deaths by signal are 128 and more; the out-of-memory killer is only blamed for a KILL that is not ours", func(t *testing.T) {
		g := testGang(3)
		g.exited(g.members[0], killedBy(syscall.SIGSEGV), true, at(1))
		g.exited(g.members[1], killedBy(kill), true, at(1))
		if x := g.members[0].exit; x.Code != 139 || x.Signal != 11 || x.OOM {
			t.Errorf("%+v", x)
		}
		if x := g.members[1].exit; x.Code != 137 || !x.OOM || x.ByShim {
			t.Errorf("%+v", x)
		}
		g.asked(rundir.Stop{Signal: forge.SignalKill}, at(2))
		g.orders()
		g.exited(g.members[2], killedBy(kill), true, at(3))
		if x := g.members[2].exit; x.OOM || !x.ByShim {
			t.Errorf("%+v", x)
		}
	})
}
