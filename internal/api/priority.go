package api

import forge "github.com/forge-ml/forge-ml"

// PriorityRequest gives a waiting run another priority.
type PriorityRequest struct {
	Priority int `json:"priority" minimum:"0" maximum:"100" doc:"Higher first"`
}

// PriorityEffect is what another priority would do to a run, by the plan of now.
type PriorityEffect struct {
	Run      int64          `json:"run"`
	State    forge.RunState `json:"state"`
	Was      int            `json:"was" doc:"Its priority now"`
	Priority int            `json:"priority" doc:"The other one"`
	Position int            `json:"position" doc:"Its place in the queue now, 1 is next; 0 where the queue of its cluster's batch system has it, or nobody plans for it"`
	WouldBe  int            `json:"would_be" doc:"The place that it would have"`
	Waiting  int            `json:"waiting" doc:"How many wait, of all tenants"`
	Start    *Start         `json:"start,omitempty" doc:"When it is expected to start now"`
	Then     *Start         `json:"would_start,omitempty" doc:"When it would be expected to start"`
	Effect   *Effect        `json:"effect,omitempty" doc:"What that does to all others that wait"`
	Queue    string         `json:"queue,omitempty" doc:"The batch system that has it and would be told"`
}
