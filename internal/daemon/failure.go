package daemon

import (
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// ending is everything the failure policy looks at when an attempt has ended.
type ending struct {
	run     forge.Run
	attempt forge.Attempt
	reason  forge.EndReason
	detail  string
	saved   int64            // highest verified step that this attempt saved
	used    time.Duration    // running time of all attempts together
	handed  bool             // it had been given to the executor
	nodes   []forge.NodeName // that a failure may have come from
	taken   int              // how many attempts in a row, this one included, were taken back before they started
	now     time.Time
}

// next is what becomes of the run.
type next struct {
	state     forge.RunState
	hold      *forge.Hold
	notBefore time.Time
	avoid     []forge.NodeName
	fruitless int
	retries   int
	detail    string
}

// decide is the failure policy, a pure function. Infrastructure failures are retried
// elsewhere after a back-off; an attempt without a newer verified checkpoint is fruitless, and
// too many in a row hold the run with its evidence instead of burning GPUs. User failures are
// retried up to max_retries; bad input never.
func (c RetryConfig) decide(e ending) next {
	n := next{state: forge.RunPending, retries: e.run.Retries, avoid: e.run.Avoid, detail: e.detail}
	fruitful := e.saved > e.attempt.ResumeStep
	disposition := e.reason.Disposition()
	if e.run.Cancel != forge.CancelNone && disposition != forge.DisposeComplete {
		disposition = forge.DisposeCancel
	}
	switch disposition {
	case forge.DisposeComplete:
		n.state = forge.RunCompleted
	case forge.DisposeCancel:
		n.state = forge.RunCancelled
	case forge.DisposeFail:
		n.state = forge.RunFailed
	case forge.DisposeUserRetry:
		if e.run.Retries >= e.run.Spec.MaxRetries {
			n.state = forge.RunFailed
			break
		}
		n.retries++
		n.notBefore = e.now.Add(c.backoff(n.retries))
	case forge.DisposeHold: // not a fault of where it ran: what is asked for has to change, or the site
		n.hold = &forge.Hold{By: actorForged, At: e.now, Reason: e.detail}
	case forge.DisposeRequeue:
		if e.reason == forge.EndWithdrawn { // it never ran: nothing was learned of nodes, and the queue wants to be left alone
			n.fruitless = e.run.Fruitless
			n.notBefore = e.now.Add(c.backoff(max(1, e.taken)))
			break
		}
		n.avoid = nil
		total := e.run.Spec.TotalTime.D()
		atLimit := e.reason == forge.EndCheckpointedLimit || e.reason == forge.EndTimeLimit
		if atLimit && total > 0 && e.used >= total {
			n.state = forge.RunFailed
			n.detail = fmt.Sprintf("%s; the total time of %s is used up (%s)", e.detail, e.run.Spec.TotalTime, e.used.Round(time.Second))
		} else if atLimit {
			c.countFruitless(&n, e, fruitful)
		}
	case forge.DisposeRetryNow:
		c.countFruitless(&n, e, fruitful)
	case forge.DisposeElsewhere:
		if !e.handed { // forged stopped before it was handed over: nobody's failure
			break
		}
		c.countFruitless(&n, e, fruitful)
		n.notBefore = c.after(e.now, n.fruitless)
		for _, node := range e.nodes {
			if !slices.Contains(n.avoid, node) {
				n.avoid = append(slices.Clone(n.avoid), node)
			}
		}
	}
	return n
}

func (c RetryConfig) countFruitless(n *next, e ending, fruitful bool) {
	if fruitful {
		n.fruitless = 0
		return
	}
	n.fruitless = e.run.Fruitless + 1
	if n.fruitless >= c.FruitlessLimit {
		n.hold = &forge.Hold{By: actorForged, At: e.now, Reason: fmt.Sprintf(
			"%d attempts in a row ended without a newer checkpoint; the last: %s (%s)", n.fruitless, e.reason, e.detail)}
	}
}

// after is when the next attempt may start elsewhere. The first failure costs no wait, since elsewhere is not where it was; a second in
// a row says that it may not be the place.
func (c RetryConfig) after(now time.Time, fruitless int) time.Time {
	if fruitless < 2 {
		return time.Time{}
	}
	return now.Add(c.backoff(fruitless - 1))
}

// backoff doubles from BackoffMin to BackoffMax.
func (c RetryConfig) backoff(n int) time.Duration {
	d := c.BackoffMin.D()
	for range n - 1 {
		if d *= 2; d >= c.BackoffMax.D() {
			return c.BackoffMax.D()
		}
	}
	return d
}

// actorForged signs what the daemon does by itself.
const actorForged = "forged"
