package scheduler_test

import "github.com/forge-ml/forge-ml/scheduler"

// fair is the policy that most stories are told under: order of arrival, preemption across classes, backfill behind reservations.
var fair = preset("fair")

func preset(name string) scheduler.Policy {
	p, err := scheduler.Preset(name)
	if err != nil {
		panic(err)
	}
	return p
}
