package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// anySnapshot draws small worlds: small, so that runs compete and every rule meets every other.
func anySnapshot(t *rapid.T) forge.Snapshot {
	s := forge.Snapshot{Revision: rapid.Int64Range(1, 99).Draw(t, "revision"), Now: epoch}
	free := map[string][]int{} // node -> slots nobody holds yet
	states := []forge.NodeState{forge.NodeReady, forge.NodeReady, forge.NodeReady, forge.NodeReady, forge.NodeDrained, forge.NodeUnknown}
	for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
		n := forge.Node{
			Cluster: rapid.SampledFrom([]forge.ClusterName{"main", "main", "side", "hpc"}).Draw(t, "cluster"), Name: forge.NodeName(fmt.Sprintf("n%d", i)),
			CPUs: rapid.IntRange(2, 16).Draw(t, "cpus"), MemoryMiB: rapid.Int64Range(4, 32).Draw(t, "gib") << 10,
			State: rapid.SampledFrom(states).Draw(t, "state"), Version: rapid.Int64Range(1, 9).Draw(t, "version")}
		types := rapid.SampledFrom([][]string{{"A100"}, {"A100"}, {"H100"}, {"A100", "H100"}, {"cpu"}, {"A100", "cpu"}, {"A100 1g.10gb"}, {"A100", "A100 1g.10gb"}}).Draw(t, "types")
		for slot := range rapid.IntRange(0, 6).Draw(t, "gpus") {
			g := forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: types[slot%len(types)]}
			if g.Type == "cpu" {
				g.Kind = forge.GPUCPUSlot
			}
			if g.Type == "A100 1g.10gb" {
				g.MIG = "1g.10gb"
			}
			if rapid.IntRange(0, 9).Draw(t, "sick") == 0 {
				g.Sick = "Xid 79"
			}
			n.GPUs = append(n.GPUs, g)
			free[string(n.Name)] = append(free[string(n.Name)], slot)
		}
		s.Nodes = append(s.Nodes, n)
	}
	limits := []time.Duration{0, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour}
	for i := range rapid.IntRange(0, 6).Draw(t, "active") {
		if len(s.Nodes) == 0 {
			break
		}
		a := forge.ActiveAttempt{Run: forge.RunID(fmt.Sprintf("active-%d", i)), Number: rapid.IntRange(1, 3).Draw(t, "number"), State: forge.AttemptRunning}
		a.Priority = rapid.SampledFrom([]int{10, 30, 30, 50, 60}).Draw(t, "active priority")
		a.Intent = rapid.SampledFrom([]forge.Intent{"", "", "", "", forge.IntentCheckpointPreempt, forge.IntentCancel}).Draw(t, "intent")
		if rapid.IntRange(0, 4).Draw(t, "has started") > 0 {
			a.StartedAt = epoch.Add(-time.Duration(rapid.IntRange(0, 90).Draw(t, "started")) * time.Minute)
			a.SavedAt = epoch.Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "saved")) * time.Minute)
		} else {
			a.State = forge.AttemptLaunching
		}
		if rapid.IntRange(0, 3).Draw(t, "preempted before") == 0 {
			a.Preempted, a.PreemptedAt = rapid.IntRange(1, 9).Draw(t, "times"), epoch.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "last"))*time.Minute)
		}
		first := rapid.SampledFrom(s.Nodes).Draw(t, "on")
		a.Cluster = first.Cluster
		if d := rapid.SampledFrom(append([]time.Duration{-time.Minute}, limits...)).Draw(t, "ends"); d != 0 {
			a.EndsBy = epoch.Add(d)
		}
		for _, n := range s.Nodes {
			if n.Cluster != a.Cluster || n.Name != first.Name && rapid.Bool().Draw(t, "skip") {
				continue
			}
			mine := free[string(n.Name)]
			k := rapid.IntRange(0, min(3, len(mine))).Draw(t, "slots")
			if k == 0 {
				continue
			}
			free[string(n.Name)] = mine[k:]
			a.Placement = append(a.Placement, forge.Share{Node: n.Name, Slots: mine[:k], CPUs: rapid.IntRange(0, 3).Draw(t, "used"), MemoryMiB: 1024})
		}
		s.Active = append(s.Active, a)
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "pending") {
		s.Pending = append(s.Pending, anyRun(t, i, limits))
	}
	slots := map[string]bool{}
	for range rapid.IntRange(0, 3).Draw(t, "claims") {
		if len(s.Nodes) == 0 || len(s.Pending) == 0 {
			break
		}
		n := rapid.SampledFrom(s.Nodes).Draw(t, "claimed")
		if len(n.GPUs) == 0 {
			continue
		}
		c := forge.Claim{Cluster: n.Cluster, Node: n.Name, Slot: rapid.SampledFrom(n.GPUs).Draw(t, "slot").Slot, For: rapid.SampledFrom(s.Pending).Draw(t, "for").ID}
		for _, a := range s.Active {
			if a.Leaving() && holds(a, c) {
				c.From = a.Run
			}
		}
		if key := fmt.Sprint(c.Node, c.Slot); !slots[key] {
			slots[key] = true
			s.Claims = append(s.Claims, c)
		}
	}
	anyQueues(t, &s)
	if rapid.IntRange(0, 4).Draw(t, "paused") == 0 {
		s.Paused = append(s.Paused, forge.PausedCluster{Cluster: "side", Reason: "tests"})
	}
	return s
}

// anyQueues draws what batch systems there are and what waits in those that are handed runs.
func anyQueues(t *rapid.T, s *forge.Snapshot) {
	for _, name := range []forge.ClusterName{"hpc", "side"} {
		q := forge.ClusterQueue{Cluster: name, MaxPending: rapid.IntRange(0, 3).Draw(t, "max pending"),
			Binding: rapid.SampledFrom([]forge.Binding{forge.BindEager, forge.BindEager, forge.BindPlan}).Draw(t, "binding")}
		if name == "side" && rapid.IntRange(0, 3).Draw(t, "side has a queue") > 0 {
			continue
		}
		s.Queues = append(s.Queues, q)
		for i := range rapid.IntRange(0, 3).Draw(t, "queued") {
			s.Active = append(s.Active, forge.ActiveAttempt{Run: forge.RunID(fmt.Sprintf("queued-%s-%d", name, i)), Number: 1, Cluster: name, State: forge.AttemptLaunching,
				User: rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "whose"), Priority: rapid.SampledFrom([]int{10, 50}).Draw(t, "queued priority")})
		}
	}
}

func anyRun(t *rapid.T, i int, limits []time.Duration) forge.PendingRun {
	r := forge.PendingRun{
		ID: forge.RunID(fmt.Sprintf("run-%02d", i)), Number: int64(i), Version: rapid.Int64Range(1, 9).Draw(t, "version"), Attempt: rapid.IntRange(0, 2).Draw(t, "attempt"),
		Priority: rapid.SampledFrom([]int{40, 50, 50, 60, 90}).Draw(t, "priority"), SubmittedAt: epoch.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Hour),
		Gang:      forge.Gang{Nodes: rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "gangnodes"), GPUsPerNode: rapid.IntRange(1, 4).Draw(t, "ganggpus"), CPUsPerGPU: rapid.IntRange(0, 3).Draw(t, "gangcpus"), MemoryMiBPerGPU: rapid.Int64Range(0, 4).Draw(t, "ganggib") << 10},
		TimeLimit: rapid.SampledFrom(limits).Draw(t, "limit"),
		User:      rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "user"), Batch: rapid.IntRange(0, 5).Draw(t, "batch words") == 0,
		Cluster: rapid.SampledFrom([]forge.ClusterName{"", "", "", "main", "side", "hpc"}).Draw(t, "wants")}
	switch rapid.IntRange(0, 12).Draw(t, "special") {
	case 0:
		r.Hold = &forge.Hold{By: "ada", Reason: "later"}
	case 1:
		r.Cancel = forge.CancelTerm
	case 2:
		r.NotBefore = epoch.Add(time.Duration(rapid.IntRange(-2, 5).Draw(t, "backoff")) * time.Minute)
	case 3:
		for n := range rapid.IntRange(1, 3).Draw(t, "dependencies") {
			state := rapid.SampledFrom(forge.RunStates).Draw(t, "dependency")
			r.After = append(r.After, forge.Dependency{Run: forge.RunID(fmt.Sprint("x", n)), Number: int64(n), State: state})
		}
	case 4, 5:
		r.Gang = forge.Gang{Nodes: 1, GPUsPerNode: r.Gang.GPUsPerNode} // alike, so that some share a reason
		r.Avoid = []forge.NodeName{"n0", forge.NodeName(fmt.Sprintf("n%d", rapid.IntRange(1, 3).Draw(t, "avoid")))}
	}
	return r
}

func holds(a forge.ActiveAttempt, c forge.Claim) bool {
	return slices.ContainsFunc(a.Placement, func(sh forge.Share) bool {
		return a.Cluster == c.Cluster && sh.Node == c.Node && slices.Contains(sh.Slots, c.Slot)
	})
}

func TestEveryPlanIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := anyWorld(t), anyPolicy(t)
		plan := scheduler.Plan(s, p)
		if err := scheduler.CheckPlan(s, p, plan); err != nil {
			t.Fatalf("%v\n%s\n%+v\n%s", err, tell(plan), p, describe(s))
		}
		plan.Hold = nil
		if err := scheduler.CheckDecisions(s, p, plan); err != nil {
			t.Fatalf("without its reasons: %v", err)
		}
	})
}

func TestPlanFollowsTheSnapshotAlone(t *testing.T) {
	t.Run("however its slices are ordered, and it changes nothing in it", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			s, p := anyWorld(t), anyPolicy(t)
			copied := clone(s)
			want := fmt.Sprintf("%+v", scheduler.Plan(s, p))
			if !reflect.DeepEqual(s, copied) {
				t.Fatal("the snapshot was changed")
			}
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			shuffle(rng, s.Pending)
			shuffle(rng, s.Active)
			shuffle(rng, s.Nodes)
			shuffle(rng, s.Claims)
			shuffle(rng, s.Queues)
			shuffle(rng, s.Tenants)
			shuffle(rng, s.Arrived)
			for i := range s.Nodes {
				shuffle(rng, s.Nodes[i].GPUs)
			}
			for i := range s.Pending {
				shuffle(rng, s.Pending[i].After)
				shuffle(rng, s.Pending[i].Avoid)
				if w := s.Pending[i].Where; w != nil {
					shuffle(rng, w.GPUTypes)
					shuffle(rng, w.Exclude)
				}
			}
			if got := fmt.Sprintf("%+v", scheduler.Plan(s, p)); got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
		})
	})
}

func TestWorkIsConserved(t *testing.T) {
	t.Run("the first run of the queue starts if it fits, or has room made for it", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			s := anySnapshot(t)
			s.Claims = nil
			p := anyPolicy(t)
			plan := scheduler.Plan(s, p)
			for _, id := range scheduler.Order(s, p) {
				r := s.Pending[slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == id })]
				if r.Hold != nil || r.Cancel != "" || r.NotBefore.After(s.Now) || waits(r) {
					continue
				}
				madeRoom := slices.ContainsFunc(plan.Preempt, func(v forge.Preempt) bool { return v.For == id }) // a wider run got what was free
				if placed(plan, id) == nil && !madeRoom && fitsNow(s, r) {
					t.Fatalf("%s fits and waits\n%s", id, tell(plan))
				}
				return
			}
		})
	})
	t.Run("an empty cluster never waits while a run that it can hold does", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			s := anySnapshot(t)
			s.Active, s.Claims, s.Paused = nil, nil, nil
			plan := scheduler.Plan(s, anyPolicy(t))
			if len(plan.Place) > 0 {
				return
			}
			for _, h := range plan.Hold {
				if h.Code == forge.HoldBehind {
					t.Fatalf("behind whom?\n%s", tell(plan))
				}
			}
		})
	})
}

func waits(r forge.PendingRun) bool {
	return slices.ContainsFunc(r.After, func(d forge.Dependency) bool { return d.State != forge.RunCompleted })
}

// fitsNow is the plainest reading of "fits": one type, enough nodes, nothing else asked. Runs
// with special wishes (avoided nodes, CPU slots beside GPUs) are left to the stories.
func fitsNow(s forge.Snapshot, r forge.PendingRun) bool {
	if len(r.Avoid) > 0 || r.Batch {
		return false
	}
	for _, c := range []forge.ClusterName{"main", "side"} {
		if eager(s, c) || r.Cluster != "" && r.Cluster != c || slices.ContainsFunc(s.Paused, func(p forge.PausedCluster) bool { return p.Cluster == c }) {
			continue
		}
		for _, typ := range []string{"A100", "H100"} {
			nodes := 0
			for _, n := range s.Nodes {
				cpus, mem, slots := n.CPUs, n.MemoryMiB, 0
				held := map[int]bool{}
				for _, a := range s.Active {
					for _, sh := range a.Placement {
						if sh.Node == n.Name {
							cpus, mem = cpus-sh.CPUs, mem-sh.MemoryMiB
							for _, i := range sh.Slots {
								held[i] = true
							}
						}
					}
				}
				for _, g := range n.GPUs {
					if g.Type == typ && g.Sick == "" && !held[g.Slot] {
						slots++
					}
				}
				if n.Cluster == c && n.State == forge.NodeReady && slots >= r.Gang.GPUsPerNode && cpus >= r.Gang.CPUsPerNode() && mem >= r.Gang.MemoryMiBPerNode() {
					nodes++
				}
			}
			if nodes >= r.Gang.Nodes {
				return true
			}
		}
	}
	return false
}

func eager(s forge.Snapshot, c forge.ClusterName) bool {
	return slices.ContainsFunc(s.Queues, func(q forge.ClusterQueue) bool { return q.Cluster == c && q.Binding == forge.BindEager })
}

func shuffle[T any](rng *rand.Rand, s []T) {
	rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func clone(s forge.Snapshot) forge.Snapshot {
	s.Queues, s.Tenants, s.Arrived = slices.Clone(s.Queues), slices.Clone(s.Tenants), slices.Clone(s.Arrived)
	s.Pending, s.Active, s.Nodes, s.Claims, s.Paused = slices.Clone(s.Pending), slices.Clone(s.Active), slices.Clone(s.Nodes), slices.Clone(s.Claims), slices.Clone(s.Paused)
	for i := range s.Nodes {
		s.Nodes[i].GPUs = slices.Clone(s.Nodes[i].GPUs)
	}
	for i := range s.Active {
		s.Active[i].Placement = slices.Clone(s.Active[i].Placement)
		for j := range s.Active[i].Placement {
			s.Active[i].Placement[j].Slots = slices.Clone(s.Active[i].Placement[j].Slots)
		}
	}
	return s
}

func TestAPlanInTurnIsSafeToo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := eitherSnapshot(t), anyPolicy(t)
		plan := scheduler.PlanInTurn(s, p)
		if err := scheduler.CheckPlan(s, p, plan); err != nil {
			t.Fatalf("%v\n%s", err, tell(plan))
		}
	})
}
