package daemon

import (
	"slices"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// One node of a gang dies and takes the others with it: those are well, and needed for the next attempt.
func TestOnlyNodesThatAFailureMayHaveComeFromAreAvoidedAndBlamed(t *testing.T) {
	a := forge.Attempt{Number: 1, Placement: []forge.Share{{Node: "n1"}, {Node: "n2"}}}
	for _, c := range []struct {
		name string
		o    forge.Observation
		want []forge.NodeName
	}{
		{"the executor names it", forge.Observation{Suspects: []forge.NodeName{"n2"}}, []forge.NodeName{"n2"}},
		{"nobody knows", forge.Observation{}, []forge.NodeName{"n1", "n2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := RetryConfig{FruitlessLimit: 3}.decide(ending{attempt: a, reason: forge.EndNodeLost, handed: true, nodes: suspects(c.o, a), now: time.Now()})
			if !slices.Equal(n.avoid, c.want) {
				t.Errorf("avoids %v, want %v", n.avoid, c.want)
			}
			got := slices.Collect(func(yield func(forge.NodeName) bool) {
				for _, b := range blamed(forge.EndNodeLost, c.o, a) {
					if b != (store.Blame{Node: b.Node}) || !yield(b.Node) {
						return
					}
				}
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("blames %v, want %v", got, c.want)
			}
		})
	}
}
