package api

import (
	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// PromoteRequest asks that a version goes on.
type PromoteRequest struct {
	To     forge.Stage `json:"to,omitempty" enum:"candidate,production" doc:"Default: the stage behind the one that it is in"`
	DryRun bool        `json:"dry_run,omitempty" doc:"Gather the evidence, ask the gate, and change nothing"`
	Force  bool        `json:"force,omitempty" doc:"Past a gate that has not passed: for admins, with a reason, and marked for ever"`
	Reason string      `json:"reason,omitempty" maxLength:"1000"`
}

// Promotion is what came of it.
type Promotion struct {
	Promoted bool               `json:"promoted" doc:"False after a dry run"`
	Report   *forge.GateReport  `json:"report,omitempty" doc:"What the gate found"`
	Change   *forge.StageChange `json:"change,omitempty" doc:"The line of the history, without the report again; absent after a dry run"`
}

// RollbackRequest brings a version back to production.
type RollbackRequest struct {
	To     int    `json:"to,omitempty" minimum:"1" doc:"Version; default: the one that the alias previous names"`
	Reason string `json:"reason" minLength:"1" maxLength:"1000"`
}

// ArchiveRequest takes a version out of its stage.
type ArchiveRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000"`
}

// AliasRequest lets a name point to a version.
type AliasRequest struct {
	Alias string `json:"alias" minLength:"1" maxLength:"64"`
}

// GateRow is what a site asks of a model before it enters each stage.
type GateRow struct {
	Name       string      `json:"name" doc:"Of the model; default: of all that have no gates of their own"`
	Candidate  gate.Policy `json:"candidate"`
	Production gate.Policy `json:"production"`
}

// DefaultGate is the name of the gates of models without their own.
const DefaultGate = "default"

// PromotionOf is what a line of a history was the end of.
func PromotionOf(c forge.StageChange) Promotion {
	p := Promotion{Promoted: true, Report: c.Report, Change: &c}
	c.Report = nil
	return p
}
