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

func TestWhoseFaultAnEndIs(t *testing.T) {
	a := forge.Attempt{Number: 1, Placement: []forge.Share{{Node: "n1"}, {Node: "n2"}}}
	exits := []forge.RankExit{{Rank: 0, Node: "n1", Code: 143, ByShim: true}, {Rank: 1, Node: "n2", Code: 1}}
	fault := &forge.GPUBlame{Node: "n2", Finding: forge.Finding{XID: 79, Run: forge.RunElsewhere}}
	says := func(act forge.PatternAction) forge.Observation {
		return forge.Observation{Cause: forge.StopRankExit, Exits: exits, Pattern: &forge.PatternHit{Name: "bus_error", Action: act, Rank: 1}}
	}
	n2, both := []store.Blame{{Node: "n2"}}, []store.Blame{{Node: "n1"}, {Node: "n2"}}
	for _, c := range []struct {
		name   string
		reason forge.EndReason
		o      forge.Observation
		want   []store.Blame
	}{
		{"the node of the GPU that its shim ended the gang for, certainly", forge.EndGPUFault, forge.Observation{GPUFault: fault, Exits: exits[:1]}, []store.Blame{{Node: "n2", Certain: true}}},
		{"a node that a program speaks against, without certainty: it can print anything", forge.EndLaunchFailed, says(forge.PatternExcludeNode), n2},
		{"nor is it certain of its GPU", forge.EndGPUFault, says(forge.PatternExcludeNode), n2},
		{"a line that says nothing of the node", forge.EndLaunchFailed, says(forge.PatternRetry), both},
		{"no node, of the user's own failure", forge.EndUserExit, says(forge.PatternExcludeNode), nil},
		{"nor for what its GPU said of the program", forge.EndUserExit, forge.Observation{GPUFault: &forge.GPUBlame{Node: "n2", Finding: forge.Finding{Run: forge.RunFails}}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := blamed(c.reason, c.o, a); !slices.Equal(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestWhatTheDriverSaidIsToldOfProgramsThatFailed(t *testing.T) {
	o := forge.Observation{Cause: forge.StopRankExit, GPUFault: &forge.GPUBlame{Finding: forge.Finding{Run: forge.RunFails, Words: "XID 31 (memory fault) on GPU 3"}}}
	if got := afterXID(forge.EndUserExit, o); got != ", after XID 31 (memory fault) on GPU 3" {
		t.Errorf("%q", got)
	}
	if got := afterXID(forge.EndCompleted, forge.Observation{}) + afterXID(forge.EndKilledExternally, o); got != "" {
		t.Errorf("%q", got)
	}
}
