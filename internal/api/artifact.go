package api

import (
	"time"
)

// ImportModelRequest registers existing weights as a base model.
type ImportModelRequest struct {
	Name    string `json:"name"`
	Path    string `json:"path" doc:"Absolute path of a model directory on the server's host"`
	License string `json:"license,omitempty" doc:"SPDX expression"`
}

// RegisterModelRequest registers the output of a completed run.
type RegisterModelRequest struct {
	Name string `json:"name"`
	Run  string `json:"run" doc:"Run number or id"`
}

// Progress is how far a registration is.
type Progress struct {
	Op         string    `json:"op" doc:"Operation that is carried out" example:"add-dataset"`
	BytesDone  int64     `json:"bytes_done" minimum:"0" doc:"Read so far"`
	BytesTotal int64     `json:"bytes_total" minimum:"0" doc:"To read in all; 0 until that is known"`
	StartedAt  time.Time `json:"started_at"`
}
