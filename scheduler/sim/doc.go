// Package sim replays a queue on virtual time, through the very scheduler.Planner that plans the live one: what it
// shows of a policy is what the policy does.
//
//	trace.go, generate.go   jobs: read from a file, or made from a seed
//	replay.go               a trace on a cluster, from its first job to the end of its last
//	forecast.go             the live queue: a forge.Snapshot, until all that wait have started
//	whatif.go               a snapshot with more nodes, or with fewer
//	engine.go               the one loop behind both: the next event, what changed, Decide, carry it out
//	carry.go                what store.Apply and an executor would do: placements, preemptions, claims
//	node.go                 nodes that fail and come back
//	estimate.go             what the policy is told of the work that is left
//	figures.go, series.go   what came of it; svg.go draws it
//
// Time is whole milliseconds since the trace began, so that sums and comparisons are exact and the same replay gives the same
// figures on every machine. Chance (a save that fails, a node that does) is drawn from the seed and from what it happens to,
// never from the order of events: two policies meet the same failures.
//
// The model. A run needs its time on all of its GPUs. Each start but the first costs the restart cost on all of them before work goes
// on. A preempted run leaves at once, its save included; the run that it makes room for has the GPUs claimed and
// starts in the next plan, at the same instant. With grace-ok p the save at the stop fails with 1-p: the work since the last periodic
// checkpoint is done again. Gangs up to the size of a node go to one node; wider ones to as few nodes as hold them, the same
// number of GPUs on each, rounded up.
package sim
