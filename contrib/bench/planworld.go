package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// A world to plan for, drawn from a seed: nodes of three types in racks and zones, a fifth of them sick; runs of many tenants in hundreds of
// shapes and constraints, half of them with work that is known. It is played until nothing more moves, so that what runs is what the policy
// wants to run; then a tenth of it has ended.

const (
	worldCluster = forge.ClusterName("site")
	worldGPUs    = 8
	worldShapes  = 600
	worldTenants = 1000
	worldFull    = 0.9
	worldSick    = 0.2
)

var worldNow = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// world is a planner and what it was told.
type world struct {
	planner *scheduler.Planner
	policy  scheduler.Policy
	rng     *rand.Rand
	now     time.Time
	shapes  []shape
	pending map[forge.RunID]forge.PendingRun
	active  map[forge.RunID]forge.ActiveAttempt
	nodes   []forge.Node
	next    int64
	tenants int
	order   []forge.RunID // of events
}

type shape struct {
	gang  forge.Gang
	where *forge.Constraints
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 5)) }

// drawWorld has so many runs that wait and so many nodes, 90 % full, after at most so many rounds of plans that were carried out.
func drawWorld(seed uint64, waiting, nodes, rounds int) (*world, error) {
	p, err := scheduler.Preset("default")
	if err != nil {
		return nil, err
	}
	w := &world{policy: p, planner: scheduler.NewPlanner(p), rng: newRand(seed), now: worldNow, tenants: min(worldTenants, max(10, waiting/10)),
		pending: map[forge.RunID]forge.PendingRun{}, active: map[forge.RunID]forge.ActiveAttempt{}}
	s := forge.Snapshot{Now: w.now, Nodes: w.drawNodes(nodes), Tenants: w.drawTenants(nodes)}
	w.nodes = s.Nodes
	w.drawShapes()
	capacity := 0
	for _, n := range s.Nodes {
		if n.State != forge.NodeReady {
			continue
		}
		for _, g := range n.GPUs {
			if g.Sick == "" {
				capacity++
			}
		}
	}
	for range waiting + capacity/2 {
		r := w.drawRun()
		s.Pending = append(s.Pending, r)
		w.pending[r.ID] = r
		if r.Work.Known {
			s.Arrived = append(s.Arrived, forge.Arrival{Run: r.ID, At: r.SubmittedAt, Service: forge.GPUTimeOf(r.Work.Left, r.Gang.GPUs())})
		}
	}
	slices.SortFunc(s.Arrived, func(a, b forge.Arrival) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Run, b.Run)) })
	w.planner.Load(s)
	w.settle(rounds)
	// A tenth ends, whoever it is; of those that wait more than were asked for go.
	left := 0
	for _, id := range w.running() {
		if a := w.active[id]; float64(left+a.Gang.GPUs()) <= worldFull*float64(capacity) {
			left += a.Gang.GPUs()
		} else {
			w.end(id)
		}
	}
	rest := w.waiting()
	for len(rest) > waiting {
		i := w.rng.IntN(len(rest))
		delete(w.pending, rest[i])
		w.planner.Change(scheduler.Change{Gone: rest[i]})
		rest[i] = rest[len(rest)-1]
		rest = rest[:len(rest)-1]
	}
	for len(w.pending) < waiting {
		w.arrive()
	}
	return w, nil
}

// settle plans and carries out until nothing moves; what is stopped has left at once.
func (w *world) settle(most int) {
	for range most {
		if w.carryOut(w.planner.Decide(w.now)) == 0 {
			return
		}
		w.now = w.now.Add(time.Second)
	}
}

// carryOut tells the planner what came of its plan.
func (w *world) carryOut(plan forge.Plan) (moves int) {
	for _, x := range plan.Preempt {
		if a, ok := w.active[x.Run]; ok {
			w.goBack(a)
			moves++
		}
	}
	for i := range plan.Place {
		w.start(&plan.Place[i])
		moves++
	}
	return moves
}

func (w *world) start(p *forge.Place) {
	r := w.pending[p.Run]
	delete(w.pending, p.Run)
	a := forge.ActiveAttempt{Run: r.ID, Number: p.Attempt, Tenant: r.Tenant, User: r.User, Priority: r.Priority, State: forge.AttemptRunning, Cluster: p.Cluster,
		Placement: p.Shares, PlacedAt: w.now, StartedAt: w.now, SubmittedAt: r.SubmittedAt, Gang: r.Gang, Where: r.Where, Pinned: r.Pinned, Eval: r.Eval, Work: r.Work}
	a.Work.AsOf = w.now
	if r.TimeLimit > 0 {
		a.EndsBy = w.now.Add(r.TimeLimit)
	}
	w.active[r.ID] = a
	w.planner.Change(scheduler.Change{Active: &a})
}

func (w *world) goBack(a forge.ActiveAttempt) {
	delete(w.active, a.Run)
	r := forge.PendingRun{ID: a.Run, Tenant: a.Tenant, User: a.User, Attempt: a.Number, Priority: a.Priority, SubmittedAt: a.SubmittedAt, Gang: a.Gang, Where: a.Where, Pinned: a.Pinned, Eval: a.Eval, Work: a.Work}
	if !a.EndsBy.IsZero() {
		r.TimeLimit = a.EndsBy.Sub(a.StartedAt)
	}
	r.Work.AsOf = time.Time{}
	r.Work.Ran += w.now.Sub(a.StartedAt)
	w.pending[r.ID] = r
	w.planner.Change(scheduler.Change{Pending: &r})
}

func (w *world) end(id forge.RunID) {
	delete(w.active, id)
	w.planner.Change(scheduler.Change{Gone: id})
}

func (w *world) arrive() {
	r := w.drawRun()
	r.SubmittedAt, r.Work.Ran = w.now, 0
	w.pending[r.ID] = r
	if r.Work.Known {
		w.planner.Change(scheduler.Change{Arrived: &forge.Arrival{Run: r.ID, At: r.SubmittedAt, Service: forge.GPUTimeOf(r.Work.Left, r.Gang.GPUs())}})
	}
	w.planner.Change(scheduler.Change{Pending: &r})
}

// running and waiting are in an order that depends on the seed alone.
func (w *world) running() []forge.RunID { return shuffled(w, w.active) }
func (w *world) waiting() []forge.RunID { return shuffled(w, w.pending) }

func shuffled[V any](w *world, m map[forge.RunID]V) []forge.RunID {
	ids := make([]forge.RunID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

func (w *world) drawNodes(n int) []forge.Node {
	var out []forge.Node
	for i := range n {
		typ, mem := "H100", int64(81920)
		switch k := i / 32 % 10; {
		case k >= 9:
			typ, mem = "L40S", 46080
		case k >= 6:
			typ, mem = "A100", 40960
		}
		x := forge.Node{Name: forge.NodeName(fmt.Sprintf("gpu-%05d", i)), Cluster: worldCluster, CPUs: 192, MemoryMiB: 2 << 20, State: forge.NodeReady, Version: 1,
			Labels: map[string]string{"switch": fmt.Sprint("s", i/8), "rack": fmt.Sprint("r", i/32), "zone": fmt.Sprint("z", i/32%4), "fabric": []string{"ib", "roce"}[i/64%2]}}
		for s := range worldGPUs {
			x.GPUs = append(x.GPUs, forge.GPU{Slot: s, Kind: forge.GPUDevice, Type: typ, MemoryMiB: mem, Island: 1 + s/4})
		}
		if w.rng.Float64() < worldSick {
			switch w.rng.IntN(3) {
			case 0:
				x.State, x.Reason = forge.NodeDrained, "ECC errors"
			case 1:
				x.State, x.Reason = forge.NodeUnknown, "does not answer"
			default:
				for s := range 1 + w.rng.IntN(worldGPUs) {
					x.GPUs[s].Sick = "fell off the bus"
				}
			}
		} else if w.rng.IntN(20) == 0 {
			x.Failures = 1
		}
		out = append(out, x)
	}
	return out
}

func (w *world) drawTenants(nodes int) []forge.TenantShare {
	var out []forge.TenantShare
	for i := range w.tenants {
		t := forge.TenantShare{Tenant: tenantID(i), Weight: float64(1 + i%4), Used: forge.GPUTime(w.rng.ExpFloat64() * 1e9)}
		switch {
		case i%10 == 0:
			t.Quota.GPUs = max(1, nodes*worldGPUs/w.tenants/2)
		case i%10 == 1:
			t.Quota.MaxGPUs = max(8, nodes*worldGPUs/w.tenants)
		case i%10 == 2:
			t.Users = []forge.UserQuota{{User: "ana", Quota: forge.Quota{MaxRunning: 4}}}
		}
		out = append(out, t)
	}
	return out
}

func tenantID(i int) forge.TenantID { return forge.TenantID(fmt.Sprintf("tenant-%04d", i)) }

// drawShapes makes the shapes that runs have, no two alike.
func (w *world) drawShapes() {
	seen := map[string]bool{}
	for len(w.shapes) < worldShapes {
		g := forge.Gang{Nodes: 1, CPUsPerGPU: []int{8, 12, 16}[w.rng.IntN(3)], MemoryMiBPerGPU: []int64{64, 128, 200}[w.rng.IntN(3)] << 10}
		switch k := w.rng.IntN(100); {
		case k < 70:
			g.GPUsPerNode = []int{1, 1, 1, 2, 4, 8, 8}[k%7]
		default:
			g.Nodes, g.GPUsPerNode = []int{2, 2, 2, 4, 4, 8, 16}[k%7], 8
		}
		c := forge.Constraints{}
		if w.rng.IntN(2) == 0 {
			c.GPUTypes = [][]string{{"H100"}, {"A100"}, {"L40S"}, {"H100", "A100"}}[w.rng.IntN(4)]
		}
		if w.rng.IntN(3) == 0 {
			c.Labels = map[string]string{"zone": fmt.Sprint("z", w.rng.IntN(4))}
		}
		if w.rng.IntN(6) == 0 {
			c.GPUMemoryMiB = 40960
		}
		if g.Nodes > 1 && w.rng.IntN(2) == 0 {
			c.Within = "rack"
		}
		if w.rng.IntN(10) == 0 {
			c.Exclude = []forge.NodeName{w.nodes[w.rng.IntN(len(w.nodes))].Name}
		}
		s := shape{gang: g, where: &c}
		if c.Empty() {
			s.where = nil
		}
		key := fmt.Sprint(g, "\n", c.Key())
		if !seen[key] {
			seen[key] = true
			w.shapes = append(w.shapes, s)
		}
	}
}

func (w *world) drawRun() forge.PendingRun {
	w.next++
	s := w.shapes[int(float64(len(w.shapes))*math.Pow(w.rng.Float64(), 2))] // some are common
	r := forge.PendingRun{ID: forge.RunID(fmt.Sprintf("01K%023d", w.next)), Number: w.next, Version: 1, Tenant: tenantID(w.rng.IntN(w.tenants)), User: []string{"ana", "bo", "cy"}[w.rng.IntN(3)],
		Priority: []int{0, 0, 0, 0, 0, 0, 0, 50, 50, 100}[w.rng.IntN(10)], SubmittedAt: w.now.Add(-time.Duration(w.rng.Float64() * float64(15*24*time.Hour))), Gang: s.gang, Where: s.where}
	left := time.Duration(math.Exp(w.rng.NormFloat64()*1.6) * float64(2*time.Hour)).Round(time.Second)
	if w.rng.IntN(2) == 0 {
		r.Work = forge.Work{Left: left, Known: true, Source: forge.WorkProgress}
	} else {
		r.Work = forge.Work{Left: left, Rank: forge.GPUTimeOf(left, s.gang.GPUs()), Source: forge.WorkHistory}
	}
	if w.rng.IntN(2) == 0 {
		r.TimeLimit = left * 3 / 2
	}
	switch w.rng.IntN(50) {
	case 0:
		r.Hold = &forge.Hold{By: r.User, Reason: "not yet"}
	case 1:
		r.NotBefore = w.now.Add(time.Hour)
	case 2:
		r.After = []forge.Dependency{{Run: "01K", Number: max(1, w.next-1), State: forge.RunRunning}}
	}
	return r
}
