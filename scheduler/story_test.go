package scheduler_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// A story is a snapshot in words, one fact a line; see testdata/*.txtar.
//
//	node CLUSTER/NAME gpus=4xH100 cpus=16 mem=64G state=drained reason=maintenance sick=0,1
//	active RUN CLUSTER ends=1h on=NAME:0,1+NAME:2 cpus=2 mem=1G prio=50 started=1h saved=5m intent=cancel preempted=2:10m
//	run ID gang=2x4 prio=50 age=10m limit=1h cpus=1 mem=1G cluster=C avoid=N,N after=3:failed …
//	claim CLUSTER/NODE:SLOT for RUN from=RUN
//	pause CLUSTER REASON…
//	queue CLUSTER max=8 binding=plan
//	queued RUN CLUSTER user=U
var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func story(t testing.TB, text string) forge.Snapshot {
	t.Helper()
	s := forge.Snapshot{Revision: 7, Now: epoch}
	for i, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		opt := map[string]string{}
		for _, w := range f {
			if k, v, ok := strings.Cut(w, "="); ok {
				opt[k] = strings.ReplaceAll(v, "_", " ")
			}
		}
		switch f[0] {
		case "node":
			s.Nodes = append(s.Nodes, storyNode(t, f[1], opt, int64(i+1)))
		case "active":
			s.Active = append(s.Active, storyActive(t, f, opt))
		case "run":
			s.Pending = append(s.Pending, storyRun(t, f[1], opt, int64(i+1)))
		case "claim":
			at, slot, _ := strings.Cut(f[1], ":")
			c, n, _ := strings.Cut(at, "/")
			s.Claims = append(s.Claims, forge.Claim{Cluster: forge.ClusterName(c), Node: forge.NodeName(n), Slot: atoi(t, slot), For: forge.RunID(f[3]), From: forge.RunID(opt["from"])})
		case "pause":
			s.Paused = append(s.Paused, forge.PausedCluster{Cluster: forge.ClusterName(f[1]), Reason: strings.Join(f[2:], " ")})
		case "queue":
			q := forge.ClusterQueue{Cluster: forge.ClusterName(f[1]), Binding: forge.BindEager}
			if v := opt["binding"]; v != "" {
				q.Binding = forge.Binding(v)
			}
			if v := opt["max"]; v != "" {
				q.MaxPending = atoi(t, v)
			}
			s.Queues = append(s.Queues, q)
		case "queued":
			s.Active = append(s.Active, forge.ActiveAttempt{Run: forge.RunID(f[1]), Number: 1, Cluster: forge.ClusterName(f[2]), User: opt["user"], Priority: 50, State: forge.AttemptLaunching})
		default:
			t.Fatalf("line %d: %q", i+1, line)
		}
	}
	return s
}

func storyNode(t testing.TB, name string, opt map[string]string, version int64) forge.Node {
	c, n, ok := strings.Cut(name, "/")
	if !ok {
		t.Fatalf("node %q", name)
	}
	node := forge.Node{Cluster: forge.ClusterName(c), Name: forge.NodeName(n), CPUs: 64, MemoryMiB: 256 << 10, State: forge.NodeReady, Version: version, Reason: opt["reason"], Suspect: opt["suspect"]}
	if v := opt["cpus"]; v != "" {
		node.CPUs = atoi(t, v)
	}
	if v := opt["mem"]; v != "" {
		node.MemoryMiB = mib(t, v)
	}
	if v := opt["state"]; v != "" {
		node.State = forge.NodeState(v)
	}
	for group := range strings.SplitSeq(opt["gpus"], ",") {
		k, typ, _ := strings.Cut(group, "x")
		kind := forge.GPUDevice
		if typ == "cpu" {
			kind = forge.GPUCPUSlot
		}
		for range atoi(t, k) {
			node.GPUs = append(node.GPUs, forge.GPU{Slot: len(node.GPUs), Kind: kind, Type: typ})
		}
	}
	for _, slot := range list(opt["sick"]) {
		node.GPUs[atoi(t, slot)].Sick = "Xid 79"
	}
	return node
}

func storyActive(t testing.TB, f []string, opt map[string]string) forge.ActiveAttempt {
	a := forge.ActiveAttempt{Run: forge.RunID(f[1]), Number: 1, Cluster: forge.ClusterName(f[2]), State: forge.AttemptRunning, PlacedAt: epoch.Add(-time.Hour)}
	if v := opt["ends"]; v != "" {
		a.EndsBy = epoch.Add(duration(t, v))
	}
	a.Priority = 50
	if v := opt["prio"]; v != "" {
		a.Priority = atoi(t, v)
	}
	ago := func(key string) (at time.Time) {
		if v := opt[key]; v != "" {
			at = epoch.Add(-duration(t, v))
		}
		return at
	}
	a.StartedAt, a.SavedAt, a.Intent = ago("started"), ago("saved"), forge.Intent(opt["intent"])
	if n, at, ok := strings.Cut(opt["preempted"], ":"); ok {
		a.Preempted, a.PreemptedAt = atoi(t, n), epoch.Add(-duration(t, at))
	}
	for part := range strings.SplitSeq(opt["on"], "+") {
		n, slots, _ := strings.Cut(part, ":")
		sh := forge.Share{Node: forge.NodeName(n)}
		for _, s := range list(slots) {
			sh.Slots = append(sh.Slots, atoi(t, s))
		}
		if v := opt["cpus"]; v != "" {
			sh.CPUs = atoi(t, v)
		}
		if v := opt["mem"]; v != "" {
			sh.MemoryMiB = mib(t, v)
		}
		a.Placement = append(a.Placement, sh)
	}
	return a
}

func storyRun(t testing.TB, id string, opt map[string]string, number int64) forge.PendingRun {
	r := forge.PendingRun{ID: forge.RunID(id), Number: number, Version: number * 10, Priority: 50, SubmittedAt: epoch.Add(-time.Hour)}
	nodes, gpus, ok := strings.Cut(opt["gang"], "x")
	if !ok {
		t.Fatalf("run %s: gang %q", id, opt["gang"])
	}
	r.Gang = forge.Gang{Nodes: atoi(t, nodes), GPUsPerNode: atoi(t, gpus), CPUsPerGPU: 1}
	for k, v := range opt {
		switch k {
		case "prio":
			r.Priority = atoi(t, v)
		case "age":
			r.SubmittedAt = epoch.Add(-duration(t, v))
		case "limit":
			r.TimeLimit = duration(t, v)
		case "cpus":
			r.Gang.CPUsPerGPU = atoi(t, v)
		case "mem":
			r.Gang.MemoryMiBPerGPU = mib(t, v)
		case "cluster":
			r.Cluster = forge.ClusterName(v)
		case "attempt":
			r.Attempt = atoi(t, v)
		case "avoid":
			for _, n := range list(v) {
				r.Avoid = append(r.Avoid, forge.NodeName(n))
			}
		case "after":
			for _, d := range list(v) {
				num, state, _ := strings.Cut(d, ":")
				r.After = append(r.After, forge.Dependency{Run: forge.RunID("run-" + num), Number: int64(atoi(t, num)), State: forge.RunState(state)})
			}
		case "hold":
			r.Hold = &forge.Hold{By: "ada", Reason: v}
		case "cancel":
			r.Cancel = forge.CancelMode(v)
		case "user":
			r.User = v
		case "batch":
			r.Batch = true
		case "notbefore":
			r.NotBefore = epoch.Add(duration(t, v))
		}
	}
	return r
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mib(t testing.TB, s string) int64 {
	t.Helper()
	n, err := forge.ParseMemoryMiB(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t testing.TB, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tell writes a plan in words.
func tell(p forge.Plan) string {
	var b strings.Builder
	for _, pl := range p.Place {
		if pl.HandOver {
			fmt.Fprintf(&b, "hand %s.%d over to %s\n", pl.Run, pl.Attempt, pl.Cluster)
			continue
		}
		fmt.Fprintf(&b, "place %s.%d on %s", pl.Run, pl.Attempt, pl.Cluster)
		for _, sh := range pl.Shares {
			fmt.Fprintf(&b, " %s%v", sh.Node, sh.Slots)
		}
		b.WriteByte('\n')
	}
	for _, v := range p.Preempt {
		fmt.Fprintf(&b, "preempt %s.%d for %s claims", v.Run, v.Attempt, v.For)
		for _, c := range v.Claims {
			fmt.Fprintf(&b, " %s:%d", c.Node, c.Slot)
			if c.From != v.Run {
				fmt.Fprintf(&b, "(from %q)", c.From)
			}
		}
		b.WriteByte('\n')
	}
	for _, h := range p.Hold {
		fmt.Fprintf(&b, "hold %v %s: %s\n", h.Runs, h.Code, h.Text)
	}
	if !p.WakeAt.IsZero() {
		fmt.Fprintf(&b, "wake in %s\n", p.WakeAt.Sub(epoch))
	}
	return b.String()
}

func placed(p forge.Plan, run forge.RunID) []forge.NodeName {
	i := slices.IndexFunc(p.Place, func(pl forge.Place) bool { return pl.Run == run })
	if i < 0 {
		return nil
	}
	var out []forge.NodeName
	for _, sh := range p.Place[i].Shares {
		out = append(out, sh.Node)
	}
	return out
}

// describe writes a world in few words.
func describe(s forge.Snapshot) string {
	var b strings.Builder
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "node %s/%s %s cpus=%d", n.Cluster, n.Name, n.State, n.CPUs)
		for _, g := range n.GPUs {
			fmt.Fprintf(&b, " %d:%s%s", g.Slot, g.Type, strings.ReplaceAll(g.Sick, " ", ""))
		}
		fmt.Fprintf(&b, " %v failures=%d suspect=%v\n", n.Labels, n.Failures, n.Suspect != "")
	}
	for _, a := range s.Active {
		fmt.Fprintf(&b, "active %s.%d %s %s/%s prio=%d intent=%q came=-%s started=-%s ends=%s preempted=%d:-%s pinned=%v eval=%v %s", a.Run, a.Number, a.Cluster, a.Tenant, a.User, a.Priority, a.Intent,
			s.Now.Sub(a.SubmittedAt), s.Now.Sub(a.StartedAt), a.EndsBy.Sub(s.Now), a.Preempted, s.Now.Sub(a.PreemptedAt), a.Pinned, a.Eval, describeWork(a.Work))
		for _, sh := range a.Placement {
			fmt.Fprintf(&b, " %s%v(%d)", sh.Node, sh.Slots, sh.CPUs)
		}
		b.WriteByte('\n')
	}
	for _, r := range s.Pending {
		fmt.Fprintf(&b, "run %s %s/%s prio=%d gang=%+v cluster=%s limit=%s came=-%s pinned=%v eval=%v avoid=%v hold=%v cancel=%q after=%v notbefore=%s %s", r.ID, r.Tenant, r.User, r.Priority, r.Gang, r.Cluster,
			r.TimeLimit, s.Now.Sub(r.SubmittedAt), r.Pinned, r.Eval, r.Avoid, r.Hold != nil, r.Cancel, r.After, r.NotBefore.Sub(s.Now), describeWork(r.Work))
		if r.Where != nil {
			fmt.Fprintf(&b, " where %+v", *r.Where)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "claims %+v\npaused %v queues %v\ntenants %+v\narrived %v\n", s.Claims, s.Paused, s.Queues, s.Tenants, s.Arrived)
	return b.String()
}

func describeWork(w forge.Work) string {
	return fmt.Sprintf("work ran=%s left=%s known=%v rank=%d", w.Ran, w.Left, w.Known, w.Rank)
}
