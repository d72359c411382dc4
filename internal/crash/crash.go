// Package crash names the places where a kill -9 hurts most. With the build tag
// `crashpoints` the process kills itself at the point that FORGE_CRASH_AT names; without it
// every point is empty and the list remains, so that the test can demand to have killed at
// each of them.
package crash

// Points lists every crash point, in the order of a run's way. A test kills at each one,
// restarts, and judges the ten invariants.
var Points = []string{
	"submit.before_commit",
	"submit.after_commit",
	"place.before_commit",
	"place.after_commit",
	"launch.before_submit",
	"launch.after_fence",
	"launch.after_start",
	"launch.before_record",
	"shim.after_lock",
	"shim.after_claim",
	"shim.ranks_started",
	"shim.before_exit_record",
	"shim.after_exit_record",
	"running.before_record",
	"progress.before_commit",
	"progress.after_commit",
	"exit.before_record",
	"exit.after_record",
	"finish.before_commit",
	"finish.after_commit",
}
