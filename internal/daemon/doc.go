// Package daemon is the running whole: configuration, wiring in one straight line, one file
// for each loop, recovery and lifecycle. Only this package knows that all the other rooms exist.
//
//	         deltas of each commit
//	store ──────────────────────────► world ──► plan.go ──► store.Apply ──► outbox
//	  ▲                                                                       │
//	  │  watch.go: states, exits, metrics, checkpoints                        ▼
//	  └───────────────────────────── Executor ◄── outbox.go: launch · signal · finish
//
// Deciding and doing are apart. plan.go only commits decisions; what has to be done about them
// is an outbox row of the same transaction, worked off by outbox.go until it is done, also
// after a kill -9. watch.go only records what executors say; that an attempt has ended for good
// is again an outbox row (finish), because hashing and judging take their time.
//
// One planner is kept warm. The world names what changed (world_changes.go), and plan.go tells the planner of it before it decides; a plan from
// nothing, of a snapshot of the world, is what outlooks are made of and what a plan that was refused is made again from.
//
// What runs have left is estimated in the world, from its deltas and from the steps that watch.go reads: estimate.go, pace.go.
// Those estimates have the plan loop wake when time alone changes one.
//
// The loops share no state but the world and the store:
//
//	plan     when the world changed, at Plan.WakeAt      plan.go
//	outbox   after each commit that wrote a row          outbox.go, launch.go, finish.go
//	watch    each poll_every, at once when woken         watch.go
//	nodes    each nodesEvery                             nodes.go
//
// The services that the API consumes are the files named after their nouns.
package daemon
