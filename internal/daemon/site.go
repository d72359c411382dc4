package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// site implements api.Site.
type site struct{ d *Daemon }

// Nodes shows what is there and what is free. Who uses the rest is not said.
func (s site) Nodes(ctx context.Context, _ forge.Principal) ([]api.NodeView, error) {
	snap := s.d.world.snapshot(time.Now())
	faults := s.faults(ctx, snap.Nodes)
	out := make([]api.NodeView, 0, len(snap.Nodes))
	for _, n := range snap.Nodes {
		v := api.NodeView{Node: n, Faults: faults[nodeKey{n.Cluster, n.Name}], FreeCPUs: n.CPUs, FreeMemoryMiB: n.MemoryMiB}
		for _, g := range n.GPUs {
			if g.Sick == "" {
				v.FreeGPUs++
			}
		}
		for _, a := range snap.Active {
			for _, sh := range a.Placement {
				if a.Cluster == n.Cluster && sh.Node == n.Name {
					v.FreeGPUs -= len(sh.Slots)
					v.FreeCPUs -= sh.CPUs
					v.FreeMemoryMiB -= sh.MemoryMiB
				}
			}
		}
		if b := n.Batch; b != nil && s.eager(n.Cluster) { // who has what there is known to Slurm alone
			v.FreeGPUs = max(0, len(n.GPUs)-b.GPUsUsed)
		}
		if n.State != forge.NodeReady {
			v.FreeGPUs, v.FreeCPUs, v.FreeMemoryMiB = 0, 0, 0
		}
		out = append(out, v)
	}
	return out, nil
}

// unknownLong is how long an executor may be silent before the daemon says that it is not ready: one that
// is restarted comes back sooner.
const unknownLong = 5 * time.Minute

// Ready says why not.
func (s site) Ready(context.Context) []string {
	var why []string
	if !s.d.ready.Load() {
		why = append(why, "starting or stopping")
	}
	if f := s.d.planFault.Load(); f != nil {
		why = append(why, "planning stands still: "+*f)
	}
	if s.d.db.Stats().Failing {
		why = append(why, "the store cannot be written: the last write failed; forged's log says why")
	}
	for cluster, since := range s.d.world.tally().unknown {
		if d := time.Since(since); d > unknownLong {
			why = append(why, fmt.Sprintf("the executor of cluster %s has not answered for %s; what runs there goes on", cluster, d.Round(time.Second)))
		}
	}
	if w := s.d.settling.Load(); w != nil {
		why = append(why, "restored from a backup, nothing is placed yet: "+strings.Join(*w, "; "))
	}
	if x := s.d.damage.Load(); x != nil {
		why = append(why, *x)
	}
	slices.Sort(why)
	return why
}

// wholeRunes is how much of b to give out so that no character is cut in two. At the very
// end everything goes.
func wholeRunes(b []byte, end bool) int {
	if end {
		return len(b)
	}
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		c := b[len(b)-i]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return len(b) - i
			}
			break
		}
	}
	return len(b)
}
