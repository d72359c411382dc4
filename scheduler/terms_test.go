package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

func termsOf(t *testing.T, s forge.Snapshot, p scheduler.Policy, run forge.RunID) forge.Terms {
	t.Helper()
	x, waits := scheduler.TermsOf(s, p, run)
	if !waits {
		t.Fatalf("%s does not wait", run)
	}
	return x
}

func TestTermsSayByWhatARunIsOrdered(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
active x main on=n1:0,1,2,3 ends=1h
run a gang=1x2 age=600h
run b gang=1x2 prio=60
run c gang=1x2 age=1h
run d gang=1x2 age=1h`)
	work := map[forge.RunID]time.Duration{"a": time.Hour, "b": time.Hour, "c": time.Hour, "d": 900 * time.Hour}
	for i := range s.Pending {
		r := &s.Pending[i]
		r.Tenant, r.Work = "t", forge.Work{Left: work[r.ID], Known: true, Source: forge.WorkProgress}
	}
	s.Tenants = []forge.TenantShare{{Tenant: "s", Weight: 1, Used: 3_600_000}, {Tenant: "t", Weight: 1, Used: 3 * 3_600_000, Quota: forge.Quota{GPUs: 2}}}
	p := scheduler.DefaultPolicy()
	order := scheduler.Order(s, p)
	for i, id := range order {
		if x := termsOf(t, s, p, id); x.Position != i+1 || x.Waiting != 4 {
			t.Errorf("%s has place %d of %d and is number %d in the queue", id, x.Position, x.Waiting, i+1)
		}
	}
	b, a, d := termsOf(t, s, p, "b"), termsOf(t, s, p, "a"), termsOf(t, s, p, "d")
	if b.Tier != forge.TierGuaranteed || a.Tier != forge.TierBorrows || b.Class != 60 {
		t.Errorf("the first two GPUs are guaranteed, to the highest class: b is %+v, a is %+v", b, a)
	}
	if a.Share != 1.5 || a.Band != 1 || a.UsedGPUH != 3 {
		t.Errorf("its tenant used 3 of 4 GPU hours with half of the weights: %+v", a)
	}
	if a.Lane != forge.LaneAgeing || d.Lane != forge.LaneCritical {
		t.Errorf("a waited too long and d is long: lanes %s and %s", a.Lane, d.Lane)
	}
	if d.Rank != 1800 || d.Source != forge.WorkProgress || d.Left.D() != 900*time.Hour || d.Waited.D() != time.Hour {
		t.Errorf("d needs 2 GPUs for 900 hours and waited one: %+v", d)
	}
	if _, waits := scheduler.TermsOf(s, p, "x"); waits {
		t.Error("what runs waits")
	}
}

func TestTermsCountNodesByWhatKeepsTheRunFromThem(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
node main/n2 gpus=4xA100
node main/n3 gpus=4xA100 state=drained
node main/n4 gpus=4xA100 state=unknown
node main/n5 gpus=1xA100
node main/n6 gpus=4xA100 sick=0,1,2
node main/n7 gpus=4xA100
node main/n8 gpus=4xH100
node main/n9 gpus=4xA100
node side/m1 gpus=4xA100
pause side tests
active x main on=n1:0,1,2 ends=1h
run a gang=2x2 avoid=n7`)
	r := &s.Pending[0]
	r.Where = &forge.Constraints{GPUTypes: []string{"A100"}, Exclude: []forge.NodeName{"n9"}}
	s.Active[0].Tenant, r.Tenant = "s", "t"
	x := termsOf(t, s, scheduler.DefaultPolicy(), "a")
	got := map[string]string{}
	nodes := 0
	for _, f := range x.Filters {
		got[f.Why] = fmt.Sprintf("%d/%d", f.Nodes, f.Free)
		nodes += f.Nodes
	}
	for why, want := range map[string]string{"could take a part of it now": "1/4", "too few GPUs free": "1/1", "drained": "1/0", "not ready": "1/0", "too small": "1/1", "too few GPUs are well": "1/1",
		"avoided after a failure there": "1/4", "GPUs of another type": "1/4", "left out by the run's labels, memory or exclusions": "1/4", "the cluster is paused": "1/4"} {
		if got[why] != want {
			t.Errorf("%s: %q, want %s", why, got[why], want)
		}
	}
	if nodes != len(s.Nodes) {
		t.Errorf("%d of %d nodes are counted: %v", nodes, len(s.Nodes), got)
	}
	if h := x.Holders; h.Others != 1 || h.OthersGPUs != 3 || h.Own != 0 || !h.FirstEnd.Equal(epoch.Add(time.Hour)) {
		t.Errorf("3 GPUs of another tenant are in the way: %+v", h)
	}
}

func TestTheHeadIsToldOfItsReservation(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
active x main on=n1:0 ends=1h
run head gang=1x4 prio=60
run rest gang=1x4`)
	p, _ := scheduler.Preset("fair")
	if r := termsOf(t, s, p, "head").Reserved; r == nil || r.Cluster != "main" || r.At.Before(epoch.Add(time.Hour)) {
		t.Errorf("the head: %+v", r)
	}
	if r := termsOf(t, s, p, "rest").Reserved; r != nil {
		t.Errorf("who is behind it: %+v", r)
	}
}

func TestWaysToStartSoonerAreTrueByThePlanThatTheyLeadTo(t *testing.T) {
	p, _ := scheduler.Preset("fair")
	for _, c := range []struct{ name, story, want string }{
		{"a smaller gang", "node main/n1 gpus=4xA100\nactive x main on=n1:0 ends=1h\nrun a gang=1x4", "2 GPUs on one node"},
		{"a time limit before the reservation", "node main/n1 gpus=4xA100\nactive x main on=n1:0 ends=2h\nrun head gang=1x4 prio=60\nrun a gang=1x1 limit=9h", "a time limit of 1h"},
		{"a higher class", "node main/n1 gpus=4xA100\nactive x main on=n1:0 ends=1h\nrun head gang=1x4 prio=60\nrun a gang=1x1", "priority 60"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := story(t, c.story)
			ways := scheduler.Sooner(s, p, "a", 100)
			i := slices.IndexFunc(ways, func(w scheduler.Way) bool { return strings.Contains(w.Change, c.want) })
			if i < 0 {
				t.Fatalf("%v has nothing of %q", ways, c.want)
			}
			at := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == "a" })
			s.Pending[at] = ways[i].Run
			if plan := scheduler.Plan(s, p); placed(plan, "a") == nil {
				t.Errorf("it was promised to start\n%s", tell(plan))
			}
		})
	}
	t.Run("nothing is said of a class that one may not ask for", func(t *testing.T) {
		s := story(t, "node main/n1 gpus=4xA100\nactive x main on=n1:0 ends=1h\nrun head gang=1x4 prio=60\nrun a gang=1x1")
		for _, w := range scheduler.Sooner(s, p, "a", 59) {
			if w.Run.Priority > 50 {
				t.Errorf("%s", w.Change)
			}
		}
	})
}
