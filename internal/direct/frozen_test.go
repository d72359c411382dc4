package direct_test

import (
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestAFrozenShimStopsItsRanksOnceItThaws(t *testing.T) {
	b := newBench(t, 2, []executortest.Act{{Hold: true}})
	b.submit()
	shim := b.live(2).PID
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := b.Signal(t.Context(), b.id, forge.SignalCancel); err != nil {
		t.Fatal(err)
	}
	b.until(b.Executor, "stopping", func(o forge.Observation) bool { return o.State == forge.ObservStopping && !o.Released })
	if err := syscall.Kill(shim, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if o := b.released(b.Executor); o.State != forge.ObservExited || o.Cause != forge.StopIntent || len(o.Exits) != 2 {
		t.Errorf("%+v", o)
	}
}

func TestAShimThatNeverThawsIsKilledWithItsRanks(t *testing.T) {
	for _, signal := range []forge.SignalKind{forge.SignalCancel, forge.SignalKill} {
		t.Run(string(signal), func(t *testing.T) {
			b := newBench(t, 2, []executortest.Act{{Hold: true}})
			b.submit()
			shim := b.live(2).PID
			if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			long := rundir.Stop{Signal: signal, At: time.Now().Add(-b.l.Spec.Grace.D() - time.Minute)}
			if err := rundir.WriteJSON(b.at.StopPath(), long); err != nil {
				t.Fatal(err)
			}
			if o := b.released(b.Executor); o.State != forge.ObservLost {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestFindDoesNotRevokeAShimThatIsOnItsWay(t *testing.T) {
	b := newBench(t, 1, nil)
	if err := rundir.Prepare(rundir.LaunchFile{Launch: b.l}); err != nil {
		t.Fatal(err)
	}
	late := exec.Command(self(t), "late", "--run-dir", b.l.RunDir, "--attempt", "1", "--node", strconv.Itoa(0))
	hold, err := late.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	if l := b.Find(t.Context(), b.l.Key, b.l.RunDir); l.State != forge.LookupFound || l.ID == "" {
		t.Errorf("while it is on its way: %+v", l)
	}
	_ = hold.Close()
	_ = late.Wait()
	if l := b.Find(t.Context(), b.l.Key, b.l.RunDir); l.State != forge.LookupAbsent {
		t.Errorf("after it ended without a claim: %+v", l)
	}
}
