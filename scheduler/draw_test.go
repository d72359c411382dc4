package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// tenanted adds to a drawn world what an order by estimates, quotas and constraints rests on. It is drawn evenly, as busySnapshot is.
func tenanted(t *rapid.T, s forge.Snapshot) forge.Snapshot {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "tenants")*0x9E3779B97F4A7C15, 11))
	one := func(n int) bool { return rng.IntN(n) == 0 }
	minutes := func(n int) time.Duration { return time.Duration(rng.IntN(n)) * time.Minute }
	who := func() (forge.TenantID, string) {
		return forge.TenantID(fmt.Sprint("t", rng.IntN(3))), []string{"ada", "bob"}[rng.IntN(2)]
	}
	work := func() forge.Work {
		w := forge.Work{Ran: minutes(60), Left: minutes(600), Known: !one(3), Source: forge.WorkProgress}
		if one(4) {
			w.Ran = 0
		}
		w.Rank = forge.GPUTime(rng.IntN(40)) * 600_000
		return w
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Labels = map[string]string{"rack": fmt.Sprint("r", rng.IntN(2)), "switch": fmt.Sprint("s", rng.IntN(3))}
		if one(5) {
			delete(n.Labels, "rack")
		}
		if one(4) {
			n.Failures = rng.IntN(3)
		}
		if one(6) {
			n.Suspect = "2 different runs failed there within a day"
		}
		mib := []int64{40 << 10, 80 << 10}[rng.IntN(2)]
		for j := range n.GPUs {
			n.GPUs[j].MemoryMiB, n.GPUs[j].Island, n.GPUs[j].NUMA = mib, rng.IntN(3), []string{"", "0", "1"}[rng.IntN(3)]
		}
	}
	where := func(gang forge.Gang) *forge.Constraints {
		if !one(4) {
			return nil
		}
		c := &forge.Constraints{}
		switch rng.IntN(6) {
		case 0:
			c.GPUTypes = []string{"h100"}
		case 1:
			c.GPUMemoryMiB = 60 << 10
		case 2:
			c.Labels = map[string]string{"rack": "r0"}
		case 3:
			c.Exclude = []forge.NodeName{"n0"}
		default:
			c.Within = "rack"
		}
		return c
	}
	for i := range s.Pending {
		r := &s.Pending[i]
		r.Tenant, r.User = who()
		r.Where, r.Pinned, r.Eval, r.Work = where(r.Gang), one(8), one(8), work()
		if one(4) {
			r.SubmittedAt = r.SubmittedAt.Add(-time.Duration(rng.IntN(30)) * 24 * time.Hour)
		}
	}
	for i := range s.Active {
		a := &s.Active[i]
		a.Tenant, a.User = who()
		a.SubmittedAt = s.Now.Add(-minutes(300))
		if one(4) {
			a.SubmittedAt = a.SubmittedAt.Add(-time.Duration(rng.IntN(30)) * 24 * time.Hour)
		}
		a.Pinned, a.Eval, a.Work = one(8), one(8), work()
		a.Work.AsOf = s.Now.Add(-minutes(30))
		if one(4) {
			a.Work.AsOf = time.Time{}
		}
		if len(a.Placement) == 0 {
			a.Gang = forge.Gang{Nodes: 1, GPUsPerNode: 1 + rng.IntN(3)}
		}
		if k := len(a.Placement); k > 0 {
			sh := a.Placement[0]
			a.Gang = forge.Gang{Nodes: k, GPUsPerNode: len(sh.Slots), CPUsPerGPU: sh.CPUs / len(sh.Slots), MemoryMiBPerGPU: sh.MemoryMiB / int64(len(sh.Slots))}
		}
	}
	if one(3) {
		return s
	}
	for i := range 3 {
		ts := forge.TenantShare{Tenant: forge.TenantID(fmt.Sprint("t", i)), Weight: []float64{0, 0.3, 1, 2.7}[rng.IntN(4)], Used: forge.GPUTime(rng.IntN(1000)) * 60_000}
		if one(2) {
			ts.Quota.GPUs = rng.IntN(6)
		}
		if one(3) {
			ts.Quota.MaxGPUs = 2 + rng.IntN(8)
		}
		if one(3) {
			ts.Quota.MaxRunning = 1 + rng.IntN(4)
		}
		if one(3) {
			ts.Quota.EvalGPUs = 1 + rng.IntN(3)
		}
		if one(3) {
			ts.Users = []forge.UserQuota{{User: "ada", Quota: forge.Quota{MaxGPUs: 1 + rng.IntN(6), MaxRunning: rng.IntN(3)}}}
		}
		if one(6) {
			ts.Spent = "the budget of 1000 EUR is spent: 1003.20"
		}
		s.Tenants = append(s.Tenants, ts)
	}
	for i := range rng.IntN(12) {
		s.Arrived = append(s.Arrived, forge.Arrival{Run: forge.RunID(fmt.Sprint("came-", i)), At: s.Now.Add(-minutes(600)), Service: forge.GPUTime(rng.IntN(300)) * 60_000})
	}
	return s
}

// anyPolicy draws presets, and mixtures of their knobs: every combination is one that a site may choose.
func anyPolicy(t *rapid.T) scheduler.Policy {
	var all []scheduler.Policy
	for _, name := range scheduler.Presets() {
		p, err := scheduler.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	p := rapid.SampledFrom(append(all, scheduler.Policy{MaxBackfillTries: 2}, scheduler.Policy{MaxBackfillTries: 9, PreemptGap: 10}, scheduler.Policy{MaxBackfillTries: 9, PreemptGap: 1, RestartCost: time.Hour})).Draw(t, "policy")
	if rapid.IntRange(0, 2).Draw(t, "mixed") > 0 {
		return p
	}
	q := rapid.SampledFrom(all).Draw(t, "other policy")
	pick := func(name string) bool { return rapid.Bool().Draw(t, name) }
	if pick("order") {
		p.Order, p.KnownFactor, p.BlindFactor, p.CriticalBonus = q.Order, q.KnownFactor, q.BlindFactor, q.CriticalBonus
	}
	if pick("share") {
		p.FairShare, p.HalfLife = q.FairShare, q.HalfLife
	}
	if pick("backfill") {
		p.MaxBackfillTries, p.BackfillMargin = q.MaxBackfillTries, q.BackfillMargin
	}
	if pick("preemption") {
		p.PreemptInOrder, p.PreemptGap = q.PreemptInOrder, q.PreemptGap
	}
	if pick("spare") {
		p.Spare, p.SpareGrowth, p.SpareMost = q.Spare, q.SpareGrowth, q.SpareMost
	}
	if pick("lanes") {
		p.AgeAfter, p.AgeShare, p.SmallPrefix, p.Guard, p.Mirror = q.AgeAfter, 0.25, q.SmallPrefix, q.Guard, q.Mirror
	}
	if pick("spread") {
		p.Spread, p.ReplanEvery = q.Spread, q.ReplanEvery
	}
	return p
}

// anyWorld draws a world of either kind, most of them with tenants, estimates and constraints.
func anyWorld(t *rapid.T) forge.Snapshot {
	s := eitherSnapshot(t)
	if rapid.IntRange(0, 4).Draw(t, "plain") == 0 {
		return s
	}
	return tenanted(t, s)
}
