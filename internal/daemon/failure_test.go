package daemon

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestFailurePolicy(t *testing.T) {
	policy := RetryConfig{BackoffMin: forge.Duration(2 * time.Second), BackoffMax: forge.Duration(time.Minute), FruitlessLimit: 3, PauseAfter: 5}
	now := time.Unix(1000, 0)
	base := func(reason forge.EndReason, change ...func(*ending)) ending {
		e := ending{reason: reason, now: now, handed: true, attempt: forge.Attempt{ResumeStep: 10}, nodes: []forge.NodeName{"n1"}, saved: 10}
		for _, c := range change {
			c(&e)
		}
		return e
	}
	fruitful := func(e *ending) { e.saved = 20 }
	taken := func(n int) func(*ending) { return func(e *ending) { e.taken = n } }
	before := func(n int) func(*ending) { return func(e *ending) { e.run.Fruitless = n } }
	for _, tc := range []struct {
		name      string
		e         ending
		state     forge.RunState
		fruitless int
		wait      time.Duration
		held      bool
	}{
		{"completed", base(forge.EndCompleted), forge.RunCompleted, 0, 0, false},
		{"a completed run whose cancel came too late has completed", base(forge.EndCompleted, func(e *ending) { e.run.Cancel = forge.CancelTerm }), forge.RunCompleted, 0, 0, false},
		{"cancelled", base(forge.EndCancelled), forge.RunCancelled, 0, 0, false},
		{"bad input is never retried", base(forge.EndBadInput, func(e *ending) { e.run.Spec.MaxRetries = 9 }), forge.RunFailed, 0, 0, false},
		{"a user failure fails by default", base(forge.EndUserExit), forge.RunFailed, 0, 0, false},
		{"a user failure is retried if asked for", base(forge.EndUserExit, func(e *ending) { e.run.Spec.MaxRetries = 1 }), forge.RunPending, 0, 2 * time.Second, false},
		{"and then fails", base(forge.EndUserExit, func(e *ending) { e.run.Spec.MaxRetries, e.run.Retries = 1, 1 }), forge.RunFailed, 0, 0, false},
		{"infrastructure with progress goes on at once", base(forge.EndNodeLost, fruitful, before(2)), forge.RunPending, 0, 0, false},
		{"infrastructure without progress is fruitless, and the first time goes on elsewhere at once", base(forge.EndNodeLost), forge.RunPending, 1, 0, false},
		{"the second time in a row it backs off", base(forge.EndNodeLost, before(1)), forge.RunPending, 2, 2 * time.Second, false},
		{"the back-off doubles, and three fruitless attempts hold the run", base(forge.EndNodeLost, before(2)), forge.RunPending, 3, 4 * time.Second, true},
		{"what was taken back before it started backs off and counts for nothing", base(forge.EndWithdrawn, before(2), taken(1)), forge.RunPending, 2, 2 * time.Second, false},
		{"taken back again and again it backs off longer", base(forge.EndWithdrawn, taken(3)), forge.RunPending, 0, 8 * time.Second, false},
		{"what a queue refuses is held", base(forge.EndRefused, before(1)), forge.RunPending, 0, 0, true},
		{"rendezvous goes on at once", base(forge.EndRendezvous), forge.RunPending, 1, 0, false},
		{"and is held too when it never helps", base(forge.EndRendezvous, before(2)), forge.RunPending, 3, 0, true},
		{"an infrastructure failure after a cancel request cancels", base(forge.EndNodeLost, func(e *ending) { e.run.Cancel = forge.CancelNow }), forge.RunCancelled, 0, 0, false},
		{"preempted is nobody's failure", base(forge.EndCheckpointedPreempt, before(2)), forge.RunPending, 0, 0, false},
		{"never handed over is nobody's failure", base(forge.EndLaunchFailed, func(e *ending) { e.handed = false }, before(0)), forge.RunPending, 0, 0, false},
		{"the limit with total time left goes on", base(forge.EndCheckpointedLimit, fruitful, func(e *ending) { e.run.Spec.TotalTime, e.used = forge.Duration(time.Hour), time.Minute }), forge.RunPending, 0, 0, false},
		{"the limit with total time used up fails", base(forge.EndCheckpointedLimit, fruitful, func(e *ending) { e.run.Spec.TotalTime, e.used = forge.Duration(time.Hour), time.Hour }), forge.RunFailed, 0, 0, false},
		{"limits that never save hold the run", base(forge.EndTimeLimit, before(2)), forge.RunPending, 3, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := policy.decide(tc.e)
			wait := time.Duration(0)
			if !n.notBefore.IsZero() {
				wait = n.notBefore.Sub(now)
			}
			if n.state != tc.state || n.fruitless != tc.fruitless || wait != tc.wait || (n.hold != nil) != tc.held {
				t.Errorf("%s, fruitless %d, wait %s, hold %+v", n.state, n.fruitless, wait, n.hold)
			}
		})
	}
	if n := policy.decide(base(forge.EndNodeLost)); len(n.avoid) != 1 || n.avoid[0] != "n1" {
		t.Errorf("the node that failed is not avoided: %v", n.avoid)
	}
	if d := policy.backoff(50); d != time.Minute {
		t.Errorf("the back-off grows to %s, past its maximum", d)
	}
}
