// Package crash names the places where a kill -9 hurts most. With the build tag
// `crashpoints` the process kills itself at the point that FORGE_CRASH_AT names; without it
// every point is empty and the list remains, so that the test can demand to have killed at
// each of them.
//
// The store calls At around the commit of every write ("run.submit.before_commit"); the others
// stand in the executor and the shim.
package crash

// The variables that arm a point. Mark names a file that is made when the point fires, so that
// it fires once and the restarted daemon gets past it.
const (
	EnvAt   = "FORGE_CRASH_AT"
	EnvMark = "FORGE_CRASH_MARK"
)

// Points lists every crash point, in the order of a run's way. A test kills at each one,
// restarts, and judges the ten invariants; a point that is never reached fails it.
var Points = []string{
	"run.submit.before_commit",
	"run.submit.after_commit",
	"plan.apply.before_commit",
	"plan.apply.after_commit",
	"attempt.launching.before_commit",
	"attempt.launching.after_commit",
	"direct.after_fence",
	"direct.after_start",
	"shim.after_lock",
	"shim.after_claim",
	"shim.ranks_started",
	"attempt.submitted.before_commit",
	"attempt.submitted.after_commit",
	"attempt.running.before_commit",
	"attempt.running.after_commit",
	"progress.record.before_commit",
	"progress.record.after_commit",
	"shim.before_exit_record",
	"shim.after_exit_record",
	"attempt.exited.before_commit",
	"attempt.exited.after_commit",
	"attempt.ended.before_commit",
	"attempt.ended.after_commit",
}

// PreemptPoints are those that only a preemption meets: between the claims and the signal, and between the
// signal and the note that it was given.
var PreemptPoints = []string{
	"plan.preempt.before_commit",
	"plan.preempt.after_commit",
	"signal.before",
	"signal.after",
}

// PurgePoints are those that only the erasure of a dataset's copy meets: it is decided, what was sent is gone and the copy is not, and around
// the note that all of it is.
var PurgePoints = []string{
	"dataset.delete.after_commit",
	"purge.half_erased",
	"dataset.purge.before_commit",
	"dataset.purge.after_commit",
}

// SchedulePoints are those that only a firing of a schedule meets: it is decided and submitted in one write.
var SchedulePoints = []string{
	"schedule.fire.before_commit",
	"schedule.fire.after_commit",
}

// StagePoints are those that only a promotion meets: its evidence is gathered and nothing is written, and around the one write.
var StagePoints = []string{
	"promote.evidence_gathered",
	"model.promote.before_commit",
	"model.promote.after_commit",
}

// RollbackPoints are those that only a rollback meets.
var RollbackPoints = []string{
	"rollback.bytes_hashed",
	"model.rollback.before_commit",
	"model.rollback.after_commit",
}

// SlurmPoints are those that only an attempt on Slurm meets: before the job is handed over, and before the answer is
// kept. (During it, what is killed is a forged that waits for sbatch.)
var SlurmPoints = []string{
	"slurm.after_fence",
	"slurm.after_sbatch",
}

// GCPoints are those that only a removal by gc meets: something is in the trash and no table says so, and around the one write that says it,
// after which the bytes go.
var GCPoints = []string{
	"gc.moved",
	"gc.gone.before_commit",
	"gc.gone.after_commit",
}

// CopyPoints are those that only a copy to an artefact root meets: a file of it is written and has no name yet, all of it is on the disk and has
// no name yet, and it has its name and no version is it.
var CopyPoints = []string{
	"copy.file_written",
	"copy.synced",
	"copy.renamed",
}

// HookPoints are around the making and the sending of a delivery to a hook. A kill at any of them must lose no event.
var HookPoints = []string{
	"hook.heard.before_commit",
	"hook.heard.after_commit",
	"hook.sent",
	"hook.tried.before_commit",
	"hook.tried.after_commit",
}
