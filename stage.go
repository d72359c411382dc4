package forge

import (
	"fmt"
	"slices"
	"strconv"
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

// StageActions lists them.
var StageActions = []StageAction{ActionRegister, ActionPromote, ActionDisplace, ActionRollback, ActionArchive}

// NextStage is where a promotion takes a version by itself; empty where none does.
func NextStage(s Stage) Stage {
	switch s {
	case StageStaging:
		return StageCandidate
	case StageCandidate:
		return StageProduction
	}
	return ""
}

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
	ReportOf string      `json:"report_sha256,omitempty" doc:"SHA-256 of the report's JSON as it is stored"`
	Before   string      `json:"before" doc:"SHA-256 of the line before it; empty in the first"`
	SHA256   string      `json:"sha256"`
}

// HistoryCheck is what a look at a whole history found: every line hashed anew and held against the one before it, against the versions, and
// against what was kept of it elsewhere.
type HistoryCheck struct {
	Model   string         `json:"model"`
	Lines   int64          `json:"lines"`
	Head    string         `json:"head" doc:"SHA-256 of the newest line: whoever keeps it elsewhere can show later that nothing before it has changed"`
	Intact  bool           `json:"intact"`
	Breaks  []HistoryBreak `json:"breaks"`
	Checked time.Time      `json:"checked_at"`
}

// HistoryBreak is one thing in a history that does not hold.
type HistoryBreak struct {
	Seq   int64  `json:"seq,omitempty" doc:"Line; absent where it is about none"`
	Model string `json:"model,omitempty" doc:"NAME@VERSION that it is about"`
	Why   string `json:"why" doc:"In a sentence"`
}

// AliasPrevious names what a rollback brings back. forge alone sets it.
const AliasPrevious = "previous"

// ModelAlias is a name for a version: NAME@ALIAS.
type ModelAlias struct {
	Alias   string    `json:"alias"`
	Version int       `json:"version"`
	SetBy   string    `json:"set_by"`
	SetAt   time.Time `json:"set_at"`
}

// CheckAlias accepts what may stand as an alias that a person gives.
func CheckAlias(s string) error {
	if err := CheckName(s); err != nil {
		return err
	}
	if _, err := strconv.Atoi(s); err == nil {
		return fmt.Errorf("%q is a number, and those are versions", s)
	}
	if slices.Contains(Stages, Stage(s)) {
		return fmt.Errorf("%q is a stage", s)
	}
	if s == AliasPrevious || s == "latest" {
		return fmt.Errorf("%q is kept by forge itself", s)
	}
	return nil
}
