// Package slurm is the executor over sbatch, squeue, sacct, scontrol, sinfo and scancel: one gang is one
// allocation, in which srun starts one shim per node. Nothing else in forge knows Slurm.
//
//	options.go    what a cluster is: programs, binding, partitions, software
//	tool.go       one way to run Slurm's programs: bounded, in a cleared environment, with errors that say who is to blame
//	hand.go       what has to be done as the owner of the jobs, as values that can cross a pipe
//	asuser.go     that hand behind sudo, identity as_user: it asks forge-as and opens nothing itself
//	forgeas*.go   forge-as: what sudo runs as a user; its configuration of root's, and all that it refuses
//	job.go        the name of a job, by which it is found again
//	script.go     the options and the script of one attempt; pure
//	own.go        the hand of forged itself; records.go reads nothing again that has not changed
//	submit.go, find.go, signal.go: handing over, finding again after a lost answer, taking back
//	ask.go        when Slurm is asked, and what its answers change: squeue.go, sacct.go read them
//	judge.go      Slurm's word and the shims' records, merged: a function of values; words.go says why it ended, sight.go what is seen of it
//	poll.go       a look at attempts, and what their state needs; waiting.go: those that are not to wait any longer
//	strangers.go  jobs that nobody asks for, of attempts that never began
//
// What the design rests on, each learned the hard way by somebody:
//
//   - "No answer" is unknown and never "gone": an empty or broken answer of squeue, a time-out, a controller that is
//     away change nothing. A job is over when the controller, the accounting or the shims' own records say so.
//   - A submission whose answer was lost may still create a job, minutes later. So the script claims its attempt with
//     link(2) before it works, in the name of its job, and forged can take the claim first: absence is made.
//   - Job ids are reused and a requeue keeps the id. A job is known by its name, which carries cluster, run and attempt,
//     and the claim by id and restart count.
//   - Text with explicit separators is the same from 22.05 to 26.05; JSON is not, and is never asked for.
package slurm
