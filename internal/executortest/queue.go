package executortest

import (
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// A Fake has a queue of its own for what comes without a placement: it waits there until the test says where it starts (Allocate),
// that it is refused (Refuse) or that it is taken back (Withdraw). A signal takes it back as well.

const firstJob = 1000

func (f *Fake) enqueue(a *fakeAttempt) {
	f.jobs++
	a.state = forge.ObservQueued
	a.batch = &forge.BatchJob{ID: strconv.Itoa(firstJob + f.jobs), Name: "forge-" + a.launch.Key, State: "PENDING", Reason: "Priority", Partition: "gpu",
		SubmittedAt: time.Now().UTC().Truncate(time.Second)}
}

// tell adds to an observation what the queue says.
func (a *fakeAttempt) tell(o *forge.Observation) {
	if a.batch == nil {
		return
	}
	job := *a.batch
	o.Batch, o.Placement = &job, a.launch.Placement
}

// Tell changes what the queue says of an attempt.
func (f *Fake) Tell(key string, change func(job *forge.BatchJob)) {
	f.change(key, func(a *fakeAttempt) { change(a.batch) })
}

// Allocate gives a queued attempt its nodes.
func (f *Fake) Allocate(key string, shares ...forge.Share) {
	f.change(key, func(a *fakeAttempt) {
		a.state, a.launch.Placement = forge.ObservStarting, shares
		a.batch.State, a.batch.Reason, a.batch.StartedAt = "RUNNING", "", time.Now().UTC().Truncate(time.Second)
	})
}

// Refuse makes the queue never start an attempt, for a reason in its words.
func (f *Fake) Refuse(key, words string) { f.never(key, forge.StopRefused, words) }

// Withdraw takes a queued attempt back before it starts.
func (f *Fake) Withdraw(key, words string) { f.never(key, forge.StopWithdrawn, words) }

func (f *Fake) never(key string, cause forge.StopCause, words string) {
	f.change(key, func(a *fakeAttempt) {
		a.state, a.end = forge.ObservAbsent, Ending{Cause: cause, Detail: words}
		a.batch.State, a.batch.Reason = "CANCELLED", words
	})
}

// NodeFail ends an allocated attempt because a node of it is gone, as a batch system tells it: no rank has left an exit record.
func (f *Fake) NodeFail(key, words string) {
	f.change(key, func(a *fakeAttempt) {
		a.state, a.end = forge.ObservLost, Ending{Cause: forge.StopNodeLost, Detail: words}
		a.batch.State = "NODE_FAIL"
	})
}
