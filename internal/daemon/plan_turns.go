package daemon

import (
	forge "github.com/forge-ml/forge-ml"
)

// At most one part in stopShare of what runs is being stopped at a time, but so many are always allowed. A plan for a queue of thousands of a
// higher class would stop all that runs at once: their saves would share the way to the disks, each exit would wait for those before it to
// be recorded, and meanwhile most GPUs would stand still for gangs of which one member is not gone yet.
const (
	stopShare   = 8
	stopsAtOnce = 256
)

// inTurn is those of a plan's preemptions that may be carried out now: those that come first, and for each run all that are for it. The others
// have their turn in a later plan, if that wants them still: every exit asks for one. The last of them may take more than the rest of what may go
// at a time: a wide gang must not wait until nobody else makes room, which on a large site may be never.
func (d *world) inTurn(all []forge.Preempt) []forge.Preempt {
	if len(all) == 0 {
		return all
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	leaving, runs := 0, 0
	for _, a := range d.attempts {
		if a.State.Open() && len(a.Placement) > 0 {
			if runs++; a.Intent == forge.IntentCheckpointPreempt {
				leaving++
			}
		}
	}
	most := max(runs/stopShare, stopsAtOnce)
	for i := 0; i < len(all); {
		asked, next := 0, i
		for ; next < len(all) && all[next].For == all[i].For; next++ {
			if a := d.attempts[all[next].Run]; !isLeaving(&a) {
				asked++
			}
		}
		if asked > 0 && leaving >= most {
			return all[:i]
		}
		leaving += asked
		i = next
	}
	return all
}

func isLeaving(a *forge.Attempt) bool {
	return a.Intent != forge.IntentNone || a.State == forge.AttemptStopping
}
