package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

type nodeKey struct {
	cluster forge.ClusterName
	name    forge.NodeName
}

type node struct {
	forge.Node
	failures int // drawn so far
}

// Cluster is the machines of a replay.
type Cluster struct {
	Nodes int
	GPUs  int // of each
}

func (c Cluster) String() string { return fmt.Sprintf("%dx%d", c.Nodes, c.GPUs) }

// Total is all GPUs.
func (c Cluster) Total() int { return c.Nodes * c.GPUs }

const (
	simCluster = forge.ClusterName("sim")
	gpuType    = "sim"
	maxNodes   = 100_000
	maxPerNode = 1024
)

// ParseCluster reads NODESxGPUS.
func ParseCluster(text string) (Cluster, error) {
	nodes, gpus, _ := strings.Cut(text, "x")
	n, err1 := strconv.Atoi(nodes)
	g, err2 := strconv.Atoi(gpus)
	c := Cluster{n, g}
	if err1 != nil || err2 != nil || text != c.String() || c.validate() != nil {
		return Cluster{}, forge.Invalidf("cluster", "%s is no cluster; want NODESxGPUS such as 8x8, up to %dx%d", quote(text), maxNodes, maxPerNode)
	}
	return c, nil
}

func (c Cluster) validate() error {
	if c.Nodes < 1 || c.GPUs < 1 || c.Nodes > maxNodes || c.GPUs > maxPerNode {
		return forge.Invalidf("cluster", "%s is out of range; want 1x1 to %dx%d", c, maxNodes, maxPerNode)
	}
	return nil
}

// gang is what a run of so many GPUs asks for: one node where they fit, else as few as hold them with the same number on each.
func (c Cluster) gang(gpus int) (forge.Gang, bool) {
	nodes := (gpus + c.GPUs - 1) / c.GPUs
	g := forge.Gang{Nodes: nodes, GPUsPerNode: (gpus + nodes - 1) / nodes}
	return g, nodes <= c.Nodes
}

// make gives the nodes. Their names sort as their numbers do.
func (c Cluster) make() []node {
	width := len(fmt.Sprint(c.Nodes))
	nodes := make([]node, c.Nodes)
	for i := range nodes {
		gpus := make([]forge.GPU, c.GPUs)
		for s := range gpus {
			gpus[s] = forge.GPU{Slot: s, Kind: forge.GPUDevice, Type: gpuType}
		}
		nodes[i].Node = forge.Node{Name: forge.NodeName(fmt.Sprintf("n%0*d", width, i+1)), Cluster: simCluster, GPUs: gpus, State: forge.NodeReady}
	}
	return nodes
}

// nextFailure draws when a node fails next after a time: exponentially, from the seed, the node and how often it did, so that
// every policy meets the same failures.
func (e *engine) nextFailure(i int32, after int64) {
	if e.mtbf <= 0 {
		return
	}
	n := &e.nodes[i]
	n.failures++
	u := chance(e.seed+1, uint64(i), uint64(n.failures))
	if wait := -math.Log(1-u) * e.mtbf; wait < endOfTime {
		e.agenda.push(event{at: after + int64(wait), kind: nodeFails, what: i})
	}
}

// nodeFails takes a node away: what ran there goes on elsewhere from its newest checkpoint, and what was kept
// there for waiting gangs is kept no longer.
func (e *engine) nodeFails(i int32) {
	n := &e.nodes[i]
	n.State, n.Reason = forge.NodeDrained, "failed"
	n.Node.Failures++
	n.Version++
	key := nodeKey{n.Cluster, n.Name}
	for k := range e.runs {
		r := &e.runs[k]
		if r.phase == running && r.cluster == n.Cluster && slices.ContainsFunc(r.shares, func(s forge.Share) bool { return s.Node == n.Name }) {
			r.Avoid = []forge.NodeName{n.Name}
			e.fallBack(int32(k))
		}
	}
	for s := range n.GPUs {
		if run, ok := e.claimed[slotKey{key, n.GPUs[s].Slot}]; ok {
			e.dropClaims(run)
		}
	}
	e.tellNode(i)
	e.agenda.push(event{at: e.now + e.away, kind: nodeBack, what: i})
}

func (e *engine) nodeReturns(i int32) {
	n := &e.nodes[i]
	n.State, n.Reason = forge.NodeReady, ""
	n.Version++
	e.tellNode(i)
	e.nextFailure(i, e.now)
}

func (e *engine) tellNode(i int32) {
	n := e.nodes[i].Node
	e.planner.Change(scheduler.Change{Node: &n})
}
