package forge

// InterruptAs is what an interruption that somebody asked for looks like to the run: the real thing, without its cause.
type InterruptAs string

// The interruptions.
const (
	InterruptPreempt InterruptAs = "preempt" // asked to save as by a preemption
	InterruptTimeout InterruptAs = "timeout" // asked to save as by its time limit
)

// InterruptKinds lists the whole set.
var InterruptKinds = []InterruptAs{InterruptPreempt, InterruptTimeout}
