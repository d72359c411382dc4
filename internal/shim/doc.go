// Package shim is what runs beside the ranks of one node: `forged shim --run-dir DIR --attempt N
// --node I`, the same under every executor. It is the parent of the local ranks, needs no living
// daemon, and its directory is its only protocol:
//
//	main.go      the way of a shim in one straight line
//	prepare.go   claim, fence, inputs, checkpoint, rendezvous: everything that can still say no
//	env.go       the environment of a rank, exactly docs/run-contract.md, from nothing
//	rank.go      starting and collecting processes
//	gang.go      when the ranks are to be ended and how hard: values in, orders out, no I/O
//	gpu.go       the GPUs of the ranks: what is seen of them, and what follows; gpu_fault.go: for the gang, a function of values
//	watch.go     the loop that feeds it: exits, signals, the stop file, limits, other nodes
//	finish.go    leftovers, exit records, the output's digest, exit.json as the last word
//	loadtest.go  the output, loaded as a user would, before it is hashed
//	slurm.go     the same under srun: seat, claim in the name of a job, patience, the fence
//	master.go    where ranks of several nodes meet; port.go: and at which port
//	cpu.go       CPUs of a node, shared among its ranks
//	report.go    "look now", said to forged where it can be reached
//	network.go   loopback only, for ranks that must not reach out
//
// What the design rests on, each learned the hard way by somebody:
//
//   - Liveness is a flock held for life; the kernel gives it back however the shim dies.
//   - PDEATHSIG follows the thread that forked: Main locks its thread and never lets go, so ranks
//     die with the shim and only with it. It reaches direct children only; the shim is therefore
//     also their subreaper, and what escapes a dead shim carries the attempt in its environment.
//   - All children are collected in one place by wait4(-1): nothing else waits, so no exit
//     status is ever lost to another waiter.
//   - exit.json comes last. Without it the attempt is lost, whatever else lies there.
package shim
