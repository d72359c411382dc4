package slurm

import "time"

// Hasten makes an executor less patient with shims that do not stop, and with reasons that never clear.
func (e *Executor) Hasten(stubborn, again time.Duration, stuck int) {
	e.pace = pace{stubborn: stubborn, again: again, stuck: time.Duration(stuck)}
}
