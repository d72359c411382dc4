package store

import (
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// byClaimant cuts preemptions into those for one run each. They hold together or not at all: with
// one of them refused the others would stop runs in vain (invariant 6).
func byClaimant(all []forge.Preempt) [][]forge.Preempt {
	var groups [][]forge.Preempt
	for i, p := range all {
		if i == 0 || all[i-1].For != p.For {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], p)
	}
	return groups
}

// preempt claims for a waiting run all that its gang needs, in place of what was claimed for it before, and
// asks those who hold it to save and go, in one step: GPUs that nobody is waiting for are never freed by
// force. Who is leaving already is not asked again.
func (a *applying) preempt(group []forge.Preempt) error {
	waiting, err := a.waiting(group[0].For)
	if err != nil {
		return err
	}
	if err := a.dropClaims(claimsFor, string(waiting.ID)); err != nil {
		return err
	}
	asked := 0
	for _, p := range group {
		ask, err := a.stop(p, waiting)
		if err != nil {
			return err
		}
		if ask {
			asked++
		}
		for _, c := range p.Claims {
			c.For = waiting.ID
			if err := a.claimable(c); err != nil {
				return err
			}
			if err := a.claim(c, waiting.Priority); err != nil {
				return err
			}
		}
	}
	message := fmt.Sprintf("%s waits for GPUs that other runs free", waiting.name())
	if asked > 0 {
		message = fmt.Sprintf("%s asked to save and make room for %s", plural(asked, "run is", "runs are"), waiting.name())
	}
	return a.runEvent(waiting, forge.Event{Type: forge.EventRunClaimed, Attempt: waiting.Attempt, Reason: string(forge.WhyPreempted), Message: message,
		Data: map[string]any{"asked": asked, "stopping": len(group)}})
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// stop asks an attempt to save and go, and says whether it was not on its way out already. Its event
// names no other run: that may be another tenant's.
func (a *applying) stop(p forge.Preempt, waiting *runRow) (bool, error) {
	victim, attempt, err := a.newest("plan.preempt", p.Run, p.Attempt)
	switch {
	case err != nil && (forge.KindOf(err) == forge.KindConflict || forge.KindOf(err) == forge.KindNotFound):
		return false, stale("attempt %d of the run to preempt is not its newest", p.Attempt)
	case err != nil:
		return false, err
	case !attempt.State.Open():
		return false, stale("attempt %d of %s is %s", p.Attempt, victim.name(), attempt.State)
	case attempt.Intent != forge.IntentNone || attempt.State == forge.AttemptStopping:
		return false, nil
	case p.Leaves:
		return false, stale("%s does not give way: it was to be stopped for another run first", victim.name())
	}
	attempt.raise(forge.IntentCheckpointPreempt)
	if err := a.saveAttempt(attempt); err != nil {
		return false, err
	}
	if err := a.outbox(OutboxSignal, victim.ID, attempt.Number, attempt.Intent); err != nil {
		return false, err
	}
	return true, a.runEvent(victim, forge.Event{Type: forge.EventRunPreemptAsked, Attempt: attempt.Number, Reason: string(forge.WhyPreempted),
		Message: victim.name() + " is asked to save and make room for a run ahead of it; it goes on later"})
}

// claimable holds a claim against what is there now: a node that takes work, a slot that is well, and on it whom
// the plan saw there. GPUs that somebody took meanwhile would not come free for the gang.
func (a *applying) claimable(c forge.Claim) error {
	l, err := a.load(c.Cluster)
	if err != nil {
		return err
	}
	n, ok := l.nodes[c.Node]
	if !ok {
		return broken("there is no node %s in cluster %s", c.Node, c.Cluster)
	}
	if n.State != forge.NodeReady {
		return stale("node %s is %s: %s", n.Name, n.State, n.Reason)
	}
	var holder forge.RunID
	err = a.one(`SELECT run FROM allocations WHERE cluster = ? AND node = ? AND slot = ?`, []any{string(c.Cluster), string(c.Node), c.Slot}, &holder)
	if err != nil && !absent(err) {
		return err
	}
	if holder != "" && holder != c.From {
		return stale("slot %d of %s was given to another run", c.Slot, c.Node)
	}
	return nil
}
