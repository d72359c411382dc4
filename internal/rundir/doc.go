// Package rundir is the run directory: its layout (docs/run-directory.md), and the only Go code
// that reads or writes it. forged, the shims and, through their own implementation, the ranks
// meet nowhere else, so every promise about crashes is kept here:
//
//	layout.go      names of everything below RUN_ROOT/RUN_ID
//	durable.go     a JSON file is the old content, the new, or absent; never half of one
//	fence.go       the highest attempt allowed; it never goes down
//	claim.go       who may act for an attempt, decided by link(2): a shim, or forged's "revoked"
//	lock.go        a shim's life as a flock, and the mark that it was there
//	process.go     a process by (boot, pid, start time), so that a reused pid is never signalled
//	marker.go      processes of an attempt that outlived their shim, found by their environment
//	record.go      launch.json, stop, live.json, exit.json and the rest, as types
//	checkpoint.go  when a saved state may be believed
//	resume.go      which of them a new attempt starts from
//	tree.go        digests of inputs and outputs
//
// What a rank can write, a rank can forge or break: reads of such files are bounded, refuse
// anything but regular files and do not follow links out of the directory.
package rundir
