package daemon

import (
	"context"
	"reflect"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// leastLead is the least time before the limit at which a save begins; twice what a save took comes on top.
const leastLead = time.Minute

// observeBatch records what a batch system says of an attempt, and where its own queue has put it.
func (d *Daemon) observeBatch(ctx context.Context, a forge.Attempt, o forge.Observation) error {
	var job forge.BatchJob
	switch {
	case o.Batch != nil:
		job = *o.Batch
	case a.Batch != nil:
		job = *a.Batch
	}
	placed := len(o.Placement) > 0 && !reflect.DeepEqual(o.Placement, a.Placement)
	if (o.Batch == nil || !o.Batch.News(a.Batch)) && !placed {
		return nil
	}
	return d.db.AttemptBatch(ctx, a.Run, a.Number, job, o.Placement)
}

// batchLaunch adds to a launch what clusters with a batch system need: forge's order as nice, and the nodes to leave out.
func (d *Daemon) batchLaunch(c *Cluster, r forge.Run, l *forge.Launch) {
	l.User = r.User
	l.Nice = c.nice(r)
	l.Exclude = exclude(d.world.nodesOf(c.Name), r, l.Placement)
}

// saveLead is how long before its time limit an attempt begins to save, by what the run's saves have taken so far: twice the slowest. Where a
// batch system kills at the limit that is never nothing; our own limit has the grace behind it, and nothing is
// taken from the first attempt for a save that nobody has measured.
func (d *Daemon) saveLead(ctx context.Context, c *Cluster, a forge.Attempt) (forge.Duration, error) {
	var slowest time.Duration
	if a.Number > 1 {
		saves, err := d.db.CheckpointsOf(ctx, a.Run) // recorded when the attempt before ended, those that are gone too
		if err != nil {
			return 0, err
		}
		for _, s := range saves {
			slowest = max(slowest, s.SaveTime())
		}
	}
	if c.batch() {
		return forge.Duration(leastLead + 2*slowest), nil
	}
	return forge.Duration(2 * slowest), nil
}

// exclude names the nodes that the batch system shall leave out: those that are drained here, and those
// that there is evidence against or that the run failed on, unless the rest could not hold the gang: then a doubtful node is better than none.
// Nodes of the plan's own choice are never among them.
func exclude(nodes []forge.Node, r forge.Run, placed []forge.Share) []forge.NodeName {
	chosen := func(n forge.NodeName) bool {
		return slices.ContainsFunc(placed, func(s forge.Share) bool { return s.Node == n })
	}
	var drained, doubtful []forge.NodeName
	var rest []forge.Node
	for _, n := range nodes {
		switch {
		case chosen(n.Name):
		case n.Drain != nil || n.HeldWhole(): // also where the batch system was told: somebody may have undone it there
			drained = append(drained, n.Name)
		case n.Suspect != "" || slices.Contains(r.Avoid, n.Name):
			doubtful = append(doubtful, n.Name)
		case n.State != forge.NodeDrained:
			rest = append(rest, n)
		}
	}
	if ok, _ := scheduler.FitsWhere(rest, r.Spec.Gang, "", r.Spec.Where); !ok && len(placed) == 0 {
		return drained
	}
	return append(drained, doubtful...)
}

// blamed names the nodes that may have had their part in the end of an attempt. A fault of the node's own GPU or environment
// is the node's alone; else it was one of those that the executor suspects, or nobody knows which of the gang it was.
func blamed(reason forge.EndReason, o forge.Observation, a forge.Attempt) []store.Blame {
	if f := o.GPUFault; f != nil && reason == forge.EndGPUFault { // its shim says whose GPU it was
		return []store.Blame{{Node: f.Node, Certain: true}}
	}
	if n := saidBy(o); n != "" && reason.Infrastructure() { // a program can print anything
		return []store.Blame{{Node: n}}
	}
	switch reason {
	case forge.EndNodeLost, forge.EndLaunchFailed, forge.EndExecutorLost, forge.EndKilledExternally, forge.EndStalled:
	case forge.EndNodeEnv, forge.EndGPUFault:
		var own []store.Blame
		for _, x := range o.Exits {
			if x.Node != "" && (x.Code == forge.ExitNodeEnv || reason == forge.EndGPUFault && x.Code != 0 && !x.ByShim) &&
				!slices.ContainsFunc(own, func(b store.Blame) bool { return b.Node == x.Node }) {
				own = append(own, store.Blame{Node: x.Node, Certain: true})
			}
		}
		if len(own) > 0 {
			return own
		}
		if len(a.Placement) == 1 {
			return []store.Blame{{Node: a.Placement[0].Node, Certain: true}}
		}
	default:
		return nil
	}
	var all []store.Blame
	for _, n := range suspects(o, a) {
		all = append(all, store.Blame{Node: n})
	}
	return all
}

// saidBy is the node of a rank whose output says that its node is at fault; "": none does.
func saidBy(o forge.Observation) forge.NodeName {
	if o.Pattern == nil || o.Cause != forge.StopRankExit || o.Pattern.Action != forge.PatternExcludeNode {
		return ""
	}
	for _, x := range o.Exits {
		if x.Rank == o.Pattern.Rank {
			return x.Node
		}
	}
	return ""
}

// avoidable are the nodes that a run is to keep away from after a failure: those that are blamed for it.
func avoidable(reason forge.EndReason, o forge.Observation, a forge.Attempt) []forge.NodeName {
	var out []forge.NodeName
	for _, b := range blamed(reason, o, a) {
		out = append(out, b.Node)
	}
	if len(out) == 0 {
		return suspects(o, a)
	}
	return out
}

// suspects are the nodes that a failure may have come from.
func suspects(o forge.Observation, a forge.Attempt) []forge.NodeName {
	if len(o.Suspects) > 0 {
		return o.Suspects
	}
	var all []forge.NodeName
	for _, s := range a.Placement {
		all = append(all, s.Node)
	}
	return all
}
