package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// ImportModelRequest registers existing weights as a base model.
type ImportModelRequest struct {
	Name    string `json:"name"`
	Path    string `json:"path" doc:"Absolute path of a model directory on the server's host"`
	License string `json:"license,omitempty" doc:"SPDX expression"`
}

// RegisterModelRequest registers the output of a completed run, or weights that were trained elsewhere.
type RegisterModelRequest struct {
	Name string `json:"name"`
	Run  string `json:"run,omitempty" doc:"Run number or id; this or path"`

	Path       string `json:"path,omitempty" doc:"In place of run: absolute path of an adapter or a whole model on the server's host. For admins"`
	Unverified bool   `json:"unverified,omitempty" doc:"With path, and needed there: nobody can say what these weights were trained on. It stands in their lineage for ever"`
	Base       string `json:"base,omitempty" doc:"With path: NAME@VERSION of the base model that an adapter lies over"`
	License    string `json:"license,omitempty" doc:"With path: SPDX expression; default that of base"`
	Reason     string `json:"reason,omitempty" maxLength:"1000" doc:"With path: why it is taken in; stands in its lineage"`
}

// NewestVersion stands in a path for the newest version.
const NewestVersion = "latest"

// ModelVerified is what the bytes of a version are now, and with an adapter those of the base under it.
type ModelVerified struct {
	Name    string            `json:"name" doc:"NAME@VERSION"`
	SHA256  string            `json:"sha256" doc:"Of the version's manifest as it was registered"`
	Intact  bool              `json:"intact" doc:"All are as they were registered, and nothing lies beside them that would be loaded with them"`
	Words   string            `json:"words" doc:"What was found, in a sentence"`
	At      time.Time         `json:"at" doc:"When the last byte was read"`
	Elapsed forge.Duration    `json:"elapsed"`
	Weights []WeightsVerified `json:"weights" doc:"The version itself, then the base that it lies over"`
}

// WeightsVerified is one set of weights that was read.
type WeightsVerified struct {
	Name    string        `json:"name" doc:"NAME@VERSION"`
	Path    string        `json:"path"`
	SHA256  string        `json:"sha256" doc:"Of its manifest as it was registered"`
	Files   int           `json:"files" doc:"That were read"`
	Bytes   int64         `json:"bytes" doc:"That were read"`
	Differs []FileDiffers `json:"differs" doc:"Each file that is not as it was, that is gone, or that is there in addition and would be loaded"`
}

// Progress is how far a registration is.
type Progress struct {
	Op         string    `json:"op" doc:"Operation that is carried out" example:"add-dataset"`
	BytesDone  int64     `json:"bytes_done" minimum:"0" doc:"Read so far"`
	BytesTotal int64     `json:"bytes_total" minimum:"0" doc:"To read in all; 0 until that is known"`
	StartedAt  time.Time `json:"started_at"`
}
