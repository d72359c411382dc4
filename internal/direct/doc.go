// Package direct is the executor on this host: one detached shim per attempt (and per share of its
// placement), which outlives the daemon. It keeps no state that matters: an ExternalID names the
// run directory and the attempt, and everything else is read there, so that a restarted forged,
// knowing only the ids, sees what the one before it saw.
//
//	executor.go  options, identity of attempts
//	submit.go    directories, fence; Find, which makes absence instead of observing it
//	start.go     a shim: forked, or started by systemd through a socket
//	poll.go      one look: records first, then locks, then proof that nothing is left
//	gpus.go      the driver's word that their GPUs are empty
//	signal.go    a durable stop file and a nudge
//	wake.go      "look now", from the end of shims and from what appears in their directories
//	nodes.go     this host as a node
//	files.go     logs, metrics and checkpoints where they lie
//
// Order is everything in Poll: what a shim writes last is read after its lock was looked at, so that
// a shim that ends between two reads is never mistaken for one that died.
package direct
