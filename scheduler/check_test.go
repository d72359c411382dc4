package scheduler_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

const checkStory = `
node main/n1 gpus=4xA100,2xcpu cpus=8 mem=32G
node main/n2 gpus=4xA100,2xH100
node main/n3 gpus=4xA100 state=drained
node side/m1 gpus=3xA100 sick=2
active x main on=n2:0,1 ends=1h cpus=4 prio=10
claim main/n2:3 for other
run a gang=1x2 prio=60 cluster=side cpus=2 mem=1G limit=10m
run head gang=1x4 prio=55 cluster=main avoid=n1
run back gang=1x1 notbefore=5m
run other gang=1x1 cluster=side hold=later
run low gang=1x1 prio=10 cluster=main
queue hpc max=3
queue late binding=plan
node hpc/h1 gpus=4xA100
node hpc/h2 gpus=4xA100
node hpc/h3 gpus=4xA100 state=drained
node late/l1 gpus=8xH100
queued q hpc user=ada
run h1 gang=2x4 prio=30 cluster=hpc user=ada
run h2 gang=1x1 prio=29 cluster=hpc user=ada batch=yes
run h3 gang=1x1 prio=28 cluster=hpc user=ada
run words gang=1x8 prio=27 cluster=late user=ada batch=yes
`

// TestCheckPlanCatches plants one violation of each property in a plan that is safe.
func TestCheckPlanCatches(t *testing.T) {
	find := func(p *forge.Plan, id forge.RunID) *forge.Place {
		i := slices.IndexFunc(p.Place, func(pl forge.Place) bool { return pl.Run == id })
		if i < 0 {
			t.Fatalf("%s is not placed:\n%s", id, tell(*p))
		}
		return &p.Place[i]
	}
	unhold := func(p *forge.Plan, id forge.RunID) {
		for i := range p.Hold {
			p.Hold[i].Runs = slices.DeleteFunc(slices.Clone(p.Hold[i].Runs), func(r forge.RunID) bool { return r == id })
		}
	}
	start := func(s *forge.Snapshot, p *forge.Plan, id forge.RunID, c forge.ClusterName, n forge.NodeName, slots ...int) {
		unhold(p, id)
		p.Place = slices.DeleteFunc(p.Place, func(pl forge.Place) bool { return pl.Run == id })
		i := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == id })
		j := slices.IndexFunc(s.Nodes, func(x forge.Node) bool { return x.Name == n && x.Cluster == c })
		r := s.Pending[i]
		p.Place = append(p.Place, forge.Place{Run: id, RunVersion: r.Version, Attempt: r.Attempt + 1, Cluster: c,
			Shares: []forge.Share{{Node: n, Slots: slots, CPUs: r.Gang.CPUsPerNode(), MemoryMiB: r.Gang.MemoryMiBPerNode()}},
			Nodes:  []forge.NodeVersion{{Node: n, Version: s.Nodes[j].Version}}})
	}
	preempt := func(p *forge.Plan, for_ forge.RunID, claims ...forge.Claim) {
		p.Preempt = append(p.Preempt, forge.Preempt{Run: "x", Attempt: 1, For: for_, Claims: claims})
	}
	freed := func(for_ forge.RunID, slots ...int) (out []forge.Claim) {
		for _, s := range slots {
			c := forge.Claim{Cluster: "main", Node: "n2", Slot: s, For: for_}
			if s < 2 {
				c.From = "x"
			}
			out = append(out, c)
		}
		return out
	}
	// stop is a preemption that is as it should be: the claim of the other run is gone, and head is told.
	stop := func(s *forge.Snapshot, p *forge.Plan) {
		s.Claims = nil
		preempt(p, "head", freed("head", 0, 1, 2, 3)...)
		unhold(p, "head")
		p.Hold = append(p.Hold, forge.Held{Code: forge.HoldPreempting, Text: "waits for 1 of 1 run to save", Runs: []forge.RunID{"head"}})
	}
	drop := func(p *forge.Plan, id forge.RunID) {
		p.Place = slices.DeleteFunc(p.Place, func(pl forge.Place) bool { return pl.Run == id })
	}
	hand := func(s *forge.Snapshot, p *forge.Plan, id forge.RunID, c forge.ClusterName) {
		unhold(p, id)
		drop(p, id)
		r := s.Pending[slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == id })]
		p.Place = append(p.Place, forge.Place{Run: id, RunVersion: r.Version, Attempt: r.Attempt + 1, Cluster: c, HandOver: true})
	}
	wait := func(p *forge.Plan, id forge.RunID) {
		drop(p, id)
		p.Hold = append(p.Hold, forge.Held{Code: forge.HoldQueueFull, Text: "waits", Runs: []forge.RunID{id}})
	}
	pending := func(s *forge.Snapshot, id forge.RunID) *forge.PendingRun {
		return &s.Pending[slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == id })]
	}
	// alone leaves one run of those that are handed over, so that nobody waits for nodes of forge's own.
	alone := func(s *forge.Snapshot, p *forge.Plan, id forge.RunID) {
		s.Claims, s.Active = nil, nil
		s.Pending = []forge.PendingRun{*pending(s, id)}
		s.Pending[0].Cluster = ""
		p.Hold, p.Place = nil, nil
		hand(s, p, id, "hpc")
	}
	quota := func(q forge.Quota) []forge.TenantShare { return []forge.TenantShare{{Weight: 1, Quota: q}} }
	spent := []forge.TenantShare{{Weight: 1, Spent: "the budget is spent"}}
	type spoil func(s *forge.Snapshot, p *forge.Plan)
	cases := map[scheduler.Property]map[string]spoil{
		scheduler.PropRevision: {"a plan of an older snapshot": func(s *forge.Snapshot, p *forge.Plan) { p.Revision-- }},
		scheduler.PropRunPending: {
			"a run that does not wait is placed": func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Run = "ghost" },
			"a run that does not wait is held":   func(s *forge.Snapshot, p *forge.Plan) { p.Hold[0].Runs = append(p.Hold[0].Runs, "ghost") }},
		scheduler.PropPlacedOnce: {
			"a run is placed twice": func(s *forge.Snapshot, p *forge.Plan) { p.Place = append(p.Place, *find(p, "a")) },
			"a run with an open attempt is placed": func(s *forge.Snapshot, p *forge.Plan) {
				s.Active = append(s.Active, forge.ActiveAttempt{Run: "a", Number: 1, Cluster: "side"})
			}},
		scheduler.PropRunReady: {
			"a run on hold":        func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "other", "side", "m1", 0) },
			"a run that backs off": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "back", "side", "m1", 0) },
			"a cancelled run":      func(s *forge.Snapshot, p *forge.Plan) { s.Pending[0].Cancel = forge.CancelTerm },
			"a run whose dependency runs": func(s *forge.Snapshot, p *forge.Plan) {
				s.Pending[0].After = []forge.Dependency{{Run: "z", State: forge.RunRunning}}
			}},
		scheduler.PropAttempt: {"an attempt number again": func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Attempt = 0 }},
		scheduler.PropVersion: {
			"another version of the run":  func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").RunVersion++ },
			"another version of the node": func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Nodes[0].Version++ },
			"a node that is not named":    func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Nodes = nil }},
		scheduler.PropGangWhole: {
			"a GPU less":           func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Shares[0].Slots = []int{0} },
			"a slot counted twice": func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Shares[0].Slots = []int{0, 0} },
			"no node":              func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Shares = nil },
			"a CPU less":           func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Shares[0].CPUs-- },
			"two shares on one node": func(s *forge.Snapshot, p *forge.Plan) {
				pl := find(p, "a")
				pl.Shares = append(pl.Shares, pl.Shares[0])
			}},
		scheduler.PropGangMixed: {"two types": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "main", "n2", 2, 4) }},
		scheduler.PropCluster:   {"another cluster": func(s *forge.Snapshot, p *forge.Plan) { s.Pending[0].Cluster = "main" }},
		scheduler.PropPaused: {"a paused cluster": func(s *forge.Snapshot, p *forge.Plan) {
			s.Paused = []forge.PausedCluster{{Cluster: find(p, "a").Cluster}}
		}},
		scheduler.PropNode:      {"a node of another cluster": func(s *forge.Snapshot, p *forge.Plan) { find(p, "a").Shares[0].Node = "n1" }},
		scheduler.PropNodeReady: {"a drained node": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "main", "n3", 0, 1) }},
		scheduler.PropSlot:      {"a slot that is not there": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "main", "n1", 0, 17) }},
		scheduler.PropSlotSick:  {"a sick GPU": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "side", "m1", 0, 2) }},
		scheduler.PropSlotHeld:  {"a GPU that an active attempt holds": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "main", "n2", 0, 2) }},
		scheduler.PropGangMIG: {"two MIG instances for one gang": func(s *forge.Snapshot, p *forge.Plan) {
			sh := find(p, "a").Shares[0]
			n := s.Nodes[slices.IndexFunc(s.Nodes, func(n forge.Node) bool { return n.Name == sh.Node })]
			for i := range n.GPUs {
				n.GPUs[i].MIG = "1g.10gb"
			}
		}},
		scheduler.PropSlotTwice: {"a GPU for two runs": func(s *forge.Snapshot, p *forge.Plan) {
			pl := find(p, "a")
			start(s, p, "low", pl.Cluster, pl.Shares[0].Node, pl.Shares[0].Slots[0])
		}},
		scheduler.PropClaimed: {"a GPU claimed for another run": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "main", "n2", 2, 3) }},
		scheduler.PropCPU: {"more CPUs than there are, with what is active": func(s *forge.Snapshot, p *forge.Plan) {
			start(s, p, "low", "main", "n2", 2)
			s.Active[0].Placement[0].CPUs = 64
		}},
		scheduler.PropMemory: {"more memory than there is": func(s *forge.Snapshot, p *forge.Plan) { s.Nodes[3].MemoryMiB = 1024 }},
		scheduler.PropAvoid: {
			"a node where it failed": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "head", "main", "n1", 0, 1, 2, 3) },
			"a node where others failed": func(s *forge.Snapshot, p *forge.Plan) {
				s.Nodes[1].Suspect = "2 different runs failed there within a day"
				start(s, p, "low", "main", "n2", 2)
			},
		},
		scheduler.PropCPUSlot: {"CPU slots for a run that GPUs can hold": func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "a", "main", "n1", 4, 5) }},
		scheduler.PropHeadDelayed: {
			"a run without a limit on what the head waits for": func(s *forge.Snapshot, p *forge.Plan) {
				s.Claims = nil
				start(s, p, "low", "main", "n2", 2)
			},
			"a run that ends after the head could have started": func(s *forge.Snapshot, p *forge.Plan) {
				s.Claims, s.Pending[4].TimeLimit = nil, 2*time.Hour
				start(s, p, "low", "main", "n2", 2)
			},
			"CPUs that the head lacks, when nobody knows when it can start": func(s *forge.Snapshot, p *forge.Plan) {
				s.Active[0].EndsBy, s.Nodes[1].CPUs = time.Time{}, 8
				start(s, p, "low", "main", "n2", 4)
			},
			"a run behind the head has something stopped that the head waits for": func(s *forge.Snapshot, p *forge.Plan) {
				s.Claims = nil
				p.Place = slices.DeleteFunc(p.Place, func(pl forge.Place) bool { return pl.Run == "low" })
				preempt(p, "low", freed("low", 0)...)
				p.Hold = append(p.Hold, forge.Held{Code: forge.HoldPreempting, Text: "waits", Runs: []forge.RunID{"low"}})
			},
			"the same when nobody knows when the head can start": func(s *forge.Snapshot, p *forge.Plan) {
				s.Claims, s.Active[0].EndsBy = nil, time.Time{}
				start(s, p, "low", "main", "n2", 2)
			}},
		scheduler.PropReason: {
			"a run without an answer": func(s *forge.Snapshot, p *forge.Plan) { unhold(p, "head") },
			"a reason without words":  func(s *forge.Snapshot, p *forge.Plan) { p.Hold[0].Text = "" },
			"a code of no set":        func(s *forge.Snapshot, p *forge.Plan) { p.Hold[0].Code = "because" }},
		scheduler.PropHoldOnce: {"placed and held": func(s *forge.Snapshot, p *forge.Plan) { p.Hold[0].Runs = append(p.Hold[0].Runs, "a") }},
		scheduler.PropPreemptTarget: {
			"a run that is not active":     func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head"); p.Preempt[0].Run = "ghost" },
			"an attempt that is over":      func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head"); p.Preempt[0].Attempt = 9 },
			"for a run that may not start": func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "other", freed("other", 0, 1)...) },
			"the same attempt twice":       func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head"); preempt(p, "head") },
		},
		scheduler.PropPreemptGap: {
			"one that is entitled, for one that borrows": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				s.Active[0].Tenant, s.Tenants = "t", quota(forge.Quota{GPUs: 2})
				s.Tenants[0].Tenant = "t"
			},
			"one that is entitled, for another that is": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				s.Active[0].Priority, s.Tenants = 36, quota(forge.Quota{GPUs: 100})
			},
			"a run of nearly the same priority": func(s *forge.Snapshot, p *forge.Plan) { stop(s, p); s.Active[0].Priority = 36 },
		},
		scheduler.PropPreemptAgain: {
			"a run that was preempted a moment ago": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				s.Active[0].Preempted, s.Active[0].PreemptedAt = 1, epoch.Add(-10*time.Minute)
			},
		},
		scheduler.PropPreemptNeedless: {
			"a run whose GPUs the gang does not need": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				s.Active = append(s.Active, forge.ActiveAttempt{Run: "y", Number: 1, Cluster: "main", Placement: []forge.Share{{Node: "n1", Slots: []int{0}}}})
				p.Preempt = append(p.Preempt, forge.Preempt{Run: "y", Attempt: 1, For: "head",
					Claims: []forge.Claim{{Cluster: "main", Node: "n1", Slot: 0, For: "head", From: "y"}}})
			},
		},
		scheduler.PropPreemptSaid: {
			"whoever it is for is told something else": func(s *forge.Snapshot, p *forge.Plan) { stop(s, p); p.Hold[len(p.Hold)-1].Code = forge.HoldCapacity },
			"and nothing is preempted for it":          func(s *forge.Snapshot, p *forge.Plan) { p.Hold[0].Code = forge.HoldPreempting },
		},
		scheduler.PropPreemptClaims: {
			"nothing claimed":           func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head") },
			"claimed for somebody else": func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head", freed("low", 0, 1)...) },
			"claimed what another run holds": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				s.Active = append(s.Active, forge.ActiveAttempt{Run: "y", Number: 1, Cluster: "main", Placement: []forge.Share{{Node: "n2", Slots: []int{3}}}})
			},
			"claimed twice": func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head", freed("head", 0, 0)...) },
			"claimed what is claimed for a run of the same class": func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head", freed("head", 0, 3)...) },
			"claimed what another frees": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				p.Preempt[0].Claims[0].From = "y"
			},
			"claimed only what is free": func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head", freed("head", 2)...) },
		},
		scheduler.PropPreemptInVain: {
			// Slot 3 is another's, so that the head lacks one GPU even then.
			"too few GPUs come free":                        func(s *forge.Snapshot, p *forge.Plan) { preempt(p, "head", freed("head", 0, 1, 2)...) },
			"too few of them are claimed":                   func(s *forge.Snapshot, p *forge.Plan) { s.Claims = nil; preempt(p, "head", freed("head", 0)...) },
			"free ones that the gang needs are not claimed": func(s *forge.Snapshot, p *forge.Plan) { s.Claims = nil; preempt(p, "head", freed("head", 0, 1)...) },
		},
		scheduler.PropBatchCluster: {
			"words for a batch system on a cluster that has none": func(s *forge.Snapshot, p *forge.Plan) { pending(s, "a").Batch = true },
			"and none in it at all":                               func(s *forge.Snapshot, p *forge.Plan) { s.Queues = s.Queues[:1] },
		},
		scheduler.PropHandOverOnly: {
			"handed over to a cluster without a queue of its own": func(s *forge.Snapshot, p *forge.Plan) { hand(s, p, "a", "side") },
			"to one whose nodes forge's plan chooses":             func(s *forge.Snapshot, p *forge.Plan) { hand(s, p, "words", "late") },
			"placed on nodes of one that has":                     func(s *forge.Snapshot, p *forge.Plan) { start(s, p, "h3", "hpc", "h1", 0) },
		},
		scheduler.PropHandOverNodes: {
			"handed over with nodes":             func(s *forge.Snapshot, p *forge.Plan) { find(p, "h1").Shares = find(p, "a").Shares },
			"handed over with versions of nodes": func(s *forge.Snapshot, p *forge.Plan) { find(p, "h1").Nodes = find(p, "a").Nodes },
			"a gang larger than its nodes":       func(s *forge.Snapshot, p *forge.Plan) { pending(s, "h1").Gang.GPUsPerNode = 5 },
			"a gang that needs a drained node":   func(s *forge.Snapshot, p *forge.Plan) { pending(s, "h1").Gang.Nodes = 3 },
			"CPUs that no node has":              func(s *forge.Snapshot, p *forge.Plan) { pending(s, "h2").Gang.CPUsPerGPU = 65 },
			"memory that no node has":            func(s *forge.Snapshot, p *forge.Plan) { pending(s, "h2").Gang.MemoryMiBPerGPU = 1 << 30 },
			"nodes that it avoids while those of another cluster are enough": func(s *forge.Snapshot, p *forge.Plan) {
				pending(s, "h2").Cluster, pending(s, "h2").Avoid = "", []forge.NodeName{"h1", "h2"}
			},
			"a paused cluster": func(s *forge.Snapshot, p *forge.Plan) {
				s.Paused = append(s.Paused, forge.PausedCluster{Cluster: "hpc"})
			},
		},
		scheduler.PropHandOverLimit: {
			"one more of a user than may wait there": func(s *forge.Snapshot, p *forge.Plan) { hand(s, p, "h3", "hpc") },
			"counting those that wait already": func(s *forge.Snapshot, p *forge.Plan) {
				s.Active = append(s.Active, forge.ActiveAttempt{Run: "q2", Number: 1, Cluster: "hpc", User: "ada"})
			},
		},
		scheduler.PropHandOverOrder: {
			"who is behind goes first": func(s *forge.Snapshot, p *forge.Plan) { wait(p, "h2"); hand(s, p, "h3", "hpc") },
			"who is younger goes first": func(s *forge.Snapshot, p *forge.Plan) {
				pending(s, "h3").Priority, pending(s, "h3").SubmittedAt = 29, epoch
				wait(p, "h2")
				hand(s, p, "h3", "hpc")
			},
		},
		scheduler.PropHandOverDue: {
			"there is a place left":                   func(s *forge.Snapshot, p *forge.Plan) { wait(p, "h2") },
			"another user's runs take nobody's place": func(s *forge.Snapshot, p *forge.Plan) { pending(s, "h3").User = "bob" },
			"nor do those of another tenant":          func(s *forge.Snapshot, p *forge.Plan) { pending(s, "h3").Tenant = "other" },
			"the queue has no limit":                  func(s *forge.Snapshot, p *forge.Plan) { s.Queues[0].MaxPending = 0 },
		},
		scheduler.PropHandOverBound: {
			"nodes of forge's own are free for it": func(s *forge.Snapshot, p *forge.Plan) { alone(s, p, "h3") },
		},
		scheduler.PropWhere: {
			"another type": func(s *forge.Snapshot, p *forge.Plan) {
				pending(s, "a").Where = &forge.Constraints{GPUTypes: []string{"H100"}}
			},
			"too little memory": func(s *forge.Snapshot, p *forge.Plan) { pending(s, "a").Where = &forge.Constraints{GPUMemoryMiB: 1} },
			"an excluded node": func(s *forge.Snapshot, p *forge.Plan) {
				pending(s, "a").Where = &forge.Constraints{Exclude: []forge.NodeName{"m1"}}
			},
			"a label that is not": func(s *forge.Snapshot, p *forge.Plan) {
				pending(s, "a").Where = &forge.Constraints{Labels: map[string]string{"rack": ""}}
			},
			"two values of a label": func(s *forge.Snapshot, p *forge.Plan) {
				a := pending(s, "a")
				a.Cluster, a.Gang.Nodes, a.Where = "main", 2, &forge.Constraints{Within: "rack"}
				s.Nodes[0].Labels, s.Nodes[1].Labels = map[string]string{"rack": "r1"}, map[string]string{"rack": "r2"}
				start(s, p, "a", "main", "n1", 0, 1)
				find(p, "a").Shares = append(find(p, "a").Shares, forge.Share{Node: "n2", Slots: []int{2, 4}})
			},
			"nodes without the label": func(s *forge.Snapshot, p *forge.Plan) {
				a := pending(s, "a")
				a.Gang.Nodes, a.Where = 2, &forge.Constraints{Within: "rack"}
			},
		},
		scheduler.PropBound: {
			"more GPUs than the tenant may have": func(s *forge.Snapshot, p *forge.Plan) { s.Tenants = quota(forge.Quota{MaxGPUs: 3}) },
			"more runs than the tenant may have": func(s *forge.Snapshot, p *forge.Plan) { s.Tenants = quota(forge.Quota{MaxRunning: 2}) },
			"more GPUs for evals": func(s *forge.Snapshot, p *forge.Plan) {
				pending(s, "a").Eval, s.Tenants = true, quota(forge.Quota{EvalGPUs: 1})
			},
			"more than one of its users may have": func(s *forge.Snapshot, p *forge.Plan) {
				s.Tenants = quota(forge.Quota{})
				s.Tenants[0].Users = []forge.UserQuota{{User: "ada", Quota: forge.Quota{MaxGPUs: 8}}}
			},
			"counting what is freed for a run": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				p.Place = nil
				s.Tenants = quota(forge.Quota{MaxGPUs: 5})
			},
		},
		scheduler.PropBudget: {
			"a run of a tenant that has spent its budget": func(s *forge.Snapshot, p *forge.Plan) { s.Tenants = spent },
			"room that is made for one": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				p.Place, s.Tenants = nil, spent
			},
		},
		scheduler.PropPreemptPinned: {
			"a run that its owner has pinned": func(s *forge.Snapshot, p *forge.Plan) { stop(s, p); s.Active[0].Pinned = true },
		},
		scheduler.PropPreemptOrder: {
			"a run of a higher class": func(s *forge.Snapshot, p *forge.Plan) { stop(s, p); s.Active[0].Priority = 90 },
			"one that came before and is as wide": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				x := &s.Active[0]
				x.Priority, x.Placement = 55, append(x.Placement, forge.Share{Node: "n3", Slots: []int{0, 1}})
			},
			"one with less left": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				x := &s.Active[0]
				x.Priority, x.SubmittedAt, x.Placement = 55, epoch, append(x.Placement, forge.Share{Node: "n3", Slots: []int{0, 1}})
				x.Work = forge.Work{Known: true, Left: time.Minute}
				pending(s, "head").Work = forge.Work{Known: true, Left: time.Hour}
			},
		},
		scheduler.PropPreemptMoved: {
			"a narrower one that fits nowhere else": func(s *forge.Snapshot, p *forge.Plan) {
				stop(s, p)
				s.Active[0].Priority, s.Active[0].Where = 55, &forge.Constraints{Exclude: []forge.NodeName{"n1"}}
			},
		},
		scheduler.PropWake: {
			"a run that was preempted is spared no more": func(s *forge.Snapshot, p *forge.Plan) {
				s.Active[0].Preempted, s.Active[0].PreemptedAt = 1, epoch.Add(-9*time.Minute)
			},
			"critical runs are looked for now and then": func(s *forge.Snapshot, p *forge.Plan) {
				s.Pending = slices.DeleteFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == "back" })
				p.WakeAt = epoch.Add(61 * time.Minute)
			},
			"a run comes later in the order once it had more": func(s *forge.Snapshot, p *forge.Plan) {
				s.Pending = slices.DeleteFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == "back" })
				s.Active[0].StartedAt, p.WakeAt = epoch.Add(-4*time.Minute), epoch.Add(2*time.Minute)
			},
			"no wake":         func(s *forge.Snapshot, p *forge.Plan) { p.WakeAt = time.Time{} },
			"a wake too late": func(s *forge.Snapshot, p *forge.Plan) { p.WakeAt = epoch.Add(6 * time.Minute) }},
	}
	// Where the violation is one under another policy.
	under := map[string]scheduler.Policy{
		"a run comes later in the order once it had more": preset("las"), "critical runs are looked for now and then": preset("default"),
		"a run of a higher class": preset("default"), "one that came before and is as wide": preset("default"), "one with less left": preset("srsf"), "a narrower one that fits nowhere else": preset("default"),
	}
	saysOnly := map[scheduler.Property]bool{scheduler.PropReason: true, scheduler.PropHoldOnce: true, scheduler.PropPreemptSaid: true}
	for _, prop := range scheduler.Properties {
		if len(cases[prop]) == 0 {
			t.Errorf("no violation of %s is planted", prop)
		}
		for name, spoil := range cases[prop] {
			t.Run(string(prop)+": "+name, func(t *testing.T) {
				s := story(t, checkStory)
				plan := scheduler.Plan(s, fair)
				if err := scheduler.CheckPlan(s, fair, plan); err != nil {
					t.Fatalf("the plan is not safe to begin with: %v\n%s", err, tell(plan))
				}
				spoil(&s, &plan)
				policy, other := under[name]
				if !other {
					policy = fair
				}
				err := scheduler.CheckPlan(s, policy, plan)
				if got := violated(err); !slices.Contains(got, prop) {
					t.Errorf("got %v (%v)\n%s", got, err, tell(plan))
				}
				if saysOnly[prop] || strings.Contains(name, "held") {
					return
				}
				plan.Hold = nil
				if got := violated(scheduler.CheckDecisions(s, policy, plan)); !slices.Contains(got, prop) {
					t.Errorf("without its reasons it passes, but for %v", got)
				}
			})
		}
	}
	t.Run("and lets a preemption pass that makes the waiting gang fit", func(t *testing.T) {
		s := story(t, checkStory)
		plan := scheduler.Plan(s, fair)
		stop(&s, &plan)
		if err := scheduler.CheckPlan(s, fair, plan); err != nil {
			t.Errorf("%v\n%s", err, tell(plan))
		}
	})
}

// violated lists the properties that a joined error names.
func violated(err error) (out []scheduler.Property) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		var v *scheduler.Violation
		if errors.As(e, &v) {
			out = append(out, v.Property)
		}
	}
	return out
}
