package scheduler

import forge "github.com/forge-ml/forge-ml"

// Looks is how many holdings of nodes it takes to judge a plan.
func Looks(s forge.Snapshot, p Policy, plan forge.Plan) int { return checked(s, p, plan).looks }
