package forge

import (
	"slices"
	"time"
)

// Stages lists the stages, in order.
var Stages = []Stage{StageStaging, StageCandidate, StageProduction, StageArchived}

// stageMoves is the whole state machine of a version; docs/states.md is tested against it.
var stageMoves = map[Stage][]Stage{
	StageStaging:    {StageCandidate, StageArchived},
	StageCandidate:  {StageProduction, StageArchived},
	StageProduction: {StageArchived},
	StageArchived:   {StageProduction}, // by rollback alone
}

// CanMoveStage says whether a version may go from one stage to another.
func CanMoveStage(from, to Stage) bool { return slices.Contains(stageMoves[from], to) }

// StageAction is why a version changed its stage.
type StageAction string

// The actions.
const (
	ActionRegister StageAction = "register" // came to be, in staging
	ActionPromote  StageAction = "promote"
	ActionDisplace StageAction = "displace" // left production because another came
	ActionRollback StageAction = "rollback" // came back to production
	ActionArchive  StageAction = "archive"
)

// StageChange is one line of a model's history: append-only, and chained: SHA256 is over the line and the digest of the line before it,
// so that nothing can be changed, removed or put between without being seen.
type StageChange struct {
	Seq      int64       `json:"seq" doc:"Counts within the model, without gaps"`
	Model    string      `json:"model" doc:"NAME@VERSION"`
	SHA256Of string      `json:"version_sha256" doc:"Of the version's manifest"`
	Action   StageAction `json:"action" enum:"register,promote,displace,rollback,archive"`
	From     Stage       `json:"from,omitempty" doc:"Absent with register"`
	To       Stage       `json:"to"`
	Actor    string      `json:"actor"`
	At       time.Time   `json:"at"`
	Reason   string      `json:"reason,omitempty"`
	Forced   bool        `json:"forced,omitempty" doc:"Its gate had not passed; for ever"`
	Report   *GateReport `json:"report,omitempty" doc:"What the gate had found; absent where no gate was asked"`
	Before   string      `json:"before" doc:"SHA-256 of the line before it; empty in the first"`
	SHA256   string      `json:"sha256"`
}
