package direct_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// BenchmarkLaunch is the executor's part of launch_p50: from Submit to its return, and to the fork of
// the rank as its shim records it.
func BenchmarkLaunch(b *testing.B) {
	root, err := os.MkdirTemp("", "fb")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(root)
	e, err := direct.New(direct.Options{Cluster: "here", NodeName: "this-host", RunRoot: root, CPUSlots: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	var submit, rank time.Duration
	for i := 0; b.Loop(); i++ {
		l := launchIn(root, forge.RunID(fmt.Sprintf("R%d-%d", os.Getpid(), i)), 1, []string{"/bin/true"})
		began := time.Now()
		id, err := e.Submit(b.Context(), l)
		if err != nil {
			b.Fatal(err)
		}
		submit += time.Since(began)
		for released := false; !released; {
			o, err := e.Poll(b.Context(), []forge.ExternalID{id})
			if err != nil {
				b.Fatal(err)
			}
			if released = o[0].Released; !released {
				<-e.Wake() // a Poll that finds nothing to do costs nothing
			}
		}
		x, err := rundir.ReadRankExit(rundir.At(l.RunDir, 1), 0)
		if err != nil {
			b.Fatal(err)
		}
		rank += x.StartedAt.Sub(began)
	}
	b.ReportMetric(float64(submit.Microseconds())/1000/float64(b.N), "submit-ms")
	b.ReportMetric(float64(rank.Microseconds())/1000/float64(b.N), "rank-ms")
}
