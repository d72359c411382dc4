package forge

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// NodeHold keeps new work away from a GPU, or from a node, until it is taken back. A person's is taken back by people only; what a rule of GPU
// health holds forge lets back by itself, after a check.
type NodeHold struct {
	UUID    string    `json:"uuid,omitempty" doc:"The GPU that it is about; absent: the node as a whole"`
	Rule    string    `json:"rule,omitempty" doc:"The rule of GPU health; absent: a person"`
	Act     HoldAct   `json:"hold"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at" doc:"By forge's clock; what counts as a reset has to come after it"`
	OverAt  time.Time `json:"over_at,omitzero" doc:"Since when the condition has ended; absent: it lasts, or was no condition but an event"`
	Outside bool      `json:"outside,omitempty" doc:"The batch system was told as well"`
}

// Words say who holds it and why, in one line.
func (h NodeHold) Words() string {
	if h.Rule == "" {
		return "drained by " + h.By + ": " + h.Reason
	}
	return "held back by " + h.Rule + ": " + h.Reason
}

// Weight orders the acts, weakest first.
func (a HoldAct) Weight() int {
	return slices.Index([]HoldAct{HoldNothing, HoldWarn, HoldDrain, HoldGPU, HoldNode}, a)
}

// Keeps says whether new work is kept away.
func (a HoldAct) Keeps() bool { return a.Weight() >= HoldDrain.Weight() }

// Held is the node as it is for whoever plans, with what is held back of it. One GPU of a batch system's node cannot be left out, since the system
// chooses: where GPUs have no UUIDs a hold of one is a hold of the node. A GPU that is not there any more holds nothing else back.
func (n Node) Held(holds []NodeHold) Node {
	n.Holds = nil
	if len(holds) == 0 {
		return n
	}
	n.Holds = slices.Clone(holds)
	slices.SortFunc(n.Holds, func(a, b NodeHold) int { // a person's first, then the strongest
		return cmp.Or(strings.Compare(min(a.Rule, "x"), min(b.Rule, "x")), b.Act.Weight()-a.Act.Weight(), strings.Compare(a.Rule, b.Rule), strings.Compare(a.UUID, b.UUID))
	})
	n.GPUs = slices.Clone(n.GPUs)
	for _, h := range n.Holds {
		if n.HoldsNode(h) {
			if n.State == NodeReady {
				n.State, n.Reason = NodeDrained, h.Words()
			}
			continue
		}
		for i := range n.GPUs {
			if g := &n.GPUs[i]; (g.UUID == h.UUID || g.Parent == h.UUID) && g.Sick == "" {
				g.Sick = h.Words()
			}
		}
	}
	return n
}

// HoldsNode says whether a hold is of the node as a whole.
func (n Node) HoldsNode(h NodeHold) bool {
	return h.UUID == "" || h.Act == HoldNode || !n.HasUUIDs()
}

// HeldWhole says whether a hold keeps new work away from the whole node.
func (n Node) HeldWhole() bool { return slices.ContainsFunc(n.Holds, n.HoldsNode) }

// HasUUIDs says whether the node's GPUs are known one by one.
func (n Node) HasUUIDs() bool {
	return slices.ContainsFunc(n.GPUs, func(g GPU) bool { return g.UUID != "" })
}

// NodeEvent is one line of what happened to a node and its GPUs.
type NodeEvent struct {
	Seq     int64         `json:"seq"`
	At      time.Time     `json:"at" doc:"By the clock of the node"`
	Cluster ClusterName   `json:"cluster"`
	Node    NodeName      `json:"node"`
	Kind    NodeEventKind `json:"kind"`
	UUID    string        `json:"uuid,omitempty" doc:"Of the GPU"`
	Rule    string        `json:"rule,omitempty"`
	XID     int           `json:"xid,omitempty"`
	Count   int           `json:"count,omitempty" doc:"How often, since the line before of the same kind"`
	Run     RunID         `json:"run,omitempty" doc:"That had the GPU; only of the own tenant, and to operators"`
	Number  int64         `json:"run_number,omitempty"`
	Attempt int           `json:"attempt,omitempty"`
	Words   string        `json:"words"`
}

// NodeEventKind is from a closed set.
type NodeEventKind string

// The kinds of node events.
const (
	NodeEventFound    NodeEventKind = "found"    // a rule of GPU health saw something
	NodeEventOver     NodeEventKind = "over"     // what it saw has ended
	NodeEventHeld     NodeEventKind = "held"     // kept from new work by a rule
	NodeEventReturned NodeEventKind = "returned" // let back after a check
	NodeEventDrained  NodeEventKind = "drained"  // kept from new work by a person
	NodeEventUndrain  NodeEventKind = "undrained"
	NodeEventMissing  NodeEventKind = "missing" // the driver no longer names a GPU
	NodeEventBack     NodeEventKind = "back"    // it names it again
	NodeEventNew      NodeEventKind = "new"     // it names one that was not known
	NodeEventForgot   NodeEventKind = "forgotten"
	NodeEventWatch    NodeEventKind = "watch"   // how far NVML can be relied on has changed
	NodeEventForeign  NodeEventKind = "foreign" // somebody else's process uses a GPU
)

// NodeEventKinds lists them.
var NodeEventKinds = []NodeEventKind{NodeEventFound, NodeEventOver, NodeEventHeld, NodeEventReturned, NodeEventDrained, NodeEventUndrain,
	NodeEventMissing, NodeEventBack, NodeEventNew, NodeEventForgot, NodeEventWatch, NodeEventForeign}
