package forge

import "time"

// Checkpoint is a saved state of a run that its manifest declares durable.
type Checkpoint struct {
	Run      RunID     `json:"-"`
	Attempt  int       `json:"attempt" doc:"The attempt that wrote it"`
	Step     int64     `json:"step"`
	Path     string    `json:"path"`
	World    int       `json:"world_size"`
	Bytes    int64     `json:"bytes"`
	SHA256   string    `json:"sha256" doc:"Digest of its manifest"`
	Verdict  Verdict   `json:"verdict"`
	Why      string    `json:"why,omitempty" doc:"What is wrong with a torn one"`
	SavedAt  time.Time `json:"saved_at"`
	Took     Duration  `json:"took,omitempty" doc:"How long the save took; absent where its writer did not say"`
	Verified time.Time `json:"verified_at,omitzero"`
}

// Verdict is what a look at the bytes said.
type Verdict string

// The verdicts.
const (
	VerdictWritten  Verdict = "written"  // manifest present, bytes not yet hashed by us
	VerdictVerified Verdict = "verified" // every file matches the manifest
	VerdictTorn     Verdict = "torn"     // a file is missing, short or different, or the manifest is not of this run
)
