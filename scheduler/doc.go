// Package scheduler decides which runs start where. It is a function of values: a Snapshot goes
// in, a Plan comes out. There is no I/O, no clock (Now is a field of the snapshot), no
// randomness, and no result depends on the order of a map or of the input: the same snapshot
// gives the same plan, byte for byte.
//
//	Snapshot ─► world     clusters, nodes, what is free, what is claimed   world.go
//	         ─► order     quota, share, class, and what the policy ranks by   order.go, share.go, arrivals.go
//	         ─► ready?    cancel, hold, after, back-off                    ready.go
//	         ─► shape     where could this gang ever run                   shape.go
//	         ─► repack    who should have GPUs, and where, moving little   choose.go, repack.go
//	         ─► fit       where does it fit now, best first                fit.go, pool.go
//	         ─► hand over to a queue that could ever hold it              handover.go
//	         ─► preempt   whose stop makes room for the head at the least lost work   preempt.go, claims.go
//	         ─► reserve   what the head waits for and others leave alone   reserve.go
//	         ─► Plan      place, hold(reason), wake at                     plan.go, reason.go
//
// A Planner (planner.go) keeps the world between plans and is told what changed; what a plan tries out is taken back at its end (undo.go). What runs have
// left is made by package estimate, what will be is played on by package sim. docs/queue.md says to users what holds.
//
// A gang is whole or not at all: Gang.Nodes distinct nodes of one cluster, each with its GPUs,
// CPUs and memory, all slots of one kind and one type, since a gang runs at the pace of its
// slowest rank. Best fit: the nodes on which the fewest GPUs are left over.
//
// What is never used: sick GPUs, nodes that are not ready, paused clusters, slots of active
// attempts (also while their node does not answer: unknown is not gone), slots claimed for
// another run. Nodes that a run's last infrastructure failures came from, and those that there is evidence
// against (Node.Suspect), are used only when no set of other ready nodes could hold the gang even if empty. CPU slots are used only when no
// GPUs that could hold the gang exist: a node whose driver died must not train on its CPUs.
//
// Order and backfill. Runs are tried in order. The first that does not fit reserves, in the
// cluster where it can start first, the nodes that come free first, at the time by which the
// time limits of what runs there free them (at the granularity of GPUs, CPUs and MiB, not of
// whole nodes). A later run may start on reserved nodes only if its own time limit ends before
// the reservation, or if it uses what the reservation leaves over. When the time is not known
// (something runs without a limit), every node that the head could use keeps what the head needs
// of it. Each cluster has at most one reservation; whoever waits elsewhere reserves there.
// A gang that the nodes as they are now could not hold even when empty (a node is drained)
// reserves nothing: it would stop a cluster for a node that may be away for a week.
//
// Repacking. Where a policy stops runs in order (PreemptInOrder), a plan walks the order as if nothing that may be stopped ran, chooses by numbers, and then
// finds places, wide gangs first. What is chosen and finds none has the first pick in the next choice, then takes its turn like any run: what follows.
//
// Preemption. A run whose turn it is and that does not fit may have active attempts stopped that come after it in the order or, without PreemptInOrder, whose priority is lower by
// at least Policy.PreemptGap; whoever is within its tenant's guaranteed quota, those that borrow. All of it only in clusters that are not reserved for somebody ahead, and only when its gang then fits.
// A stop costs GPUs × (time since the newest save or the start + RestartCost). Nodes are cleared one after the other,
// each at the least cost for what it still lacks; at the end every stop without which the gang still fits is left
// out, the dearest first. That is greedy: near the least and not always the least. What is leaving anyway costs nothing, and where that alone makes room nothing is
// stopped. A run that was preempted n times is spared until min(SpareMost, Spare × (1 + n × SpareGrowth)) after the last time.
//
// A preemption claims all that the gang needs, GPUs that are free already among it, and its claims stand over later
// plans until the gang starts: its CPUs and memory are set aside as if it ran there, it reserves nothing and
// stops nothing more. Claims that cease to suffice are planned anew. What is being freed for one run goes to another only if that
// is of a higher class and nothing else would make room for it; a claimed GPU that is free already stays with its run.
//
// Runs that GPUs are claimed for start first if they fit: in their turn they could wait behind a head that waits for
// the very GPUs that they claim.
//
// Clusters with a queue of their own. Some clusters (forge.BindEager) decide themselves when and where a gang starts. A run whose turn it is
// and that the plan cannot start now is handed over to one of them that could ever hold it, the one with the fewest of our
// runs, as many of one user as may wait there. Nothing is known of what is free there: they take no part in
// reservations, backfill, claims or preemption, and only what no queue takes reserves or preempts elsewhere. Words for a
// batch system keep a run from clusters without one.
//
// Cost. A world only gets fuller while a plan is made, so a shape that did not fit does not fit
// again: equal shapes cost one look and share one reason, and ten thousand waiting runs of a few
// shapes cost one sort and a map look-up each.
//
// CheckPlan (check*.go) judges a plan against its snapshot, property by property, and shares no
// code with the planner, so that a bug here is not a bug there. The daemon calls CheckDecisions, which is
// that without the reasons, before every apply.
package scheduler
