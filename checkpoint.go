package forge

import "time"

// Checkpoint is a saved state of a run that its manifest declares durable.
type Checkpoint struct {
	Run      RunID     `json:"-"`
	Attempt  int       `json:"attempt" doc:"The attempt that wrote it"`
	Step     int64     `json:"step"`
	Path     string    `json:"path"`
	World    int       `json:"world_size"`
	AnyWorld bool      `json:"any_world_size,omitempty" doc:"Another number of ranks can read it too, by its manifest"`
	Bytes    int64     `json:"bytes"`
	SHA256   string    `json:"sha256" doc:"Digest of its manifest"`
	Verdict  Verdict   `json:"verdict"`
	Why      string    `json:"why,omitempty" doc:"What is wrong with a torn or a foreign one"`
	SavedAt  time.Time `json:"saved_at"`
	Took     Duration  `json:"took,omitempty" doc:"How long the save took; absent where its writer did not say"`
	Signal   Duration  `json:"signal_took,omitempty" doc:"From the request to stop until it was durable, where one asked for it"`
	Loss     *float64  `json:"loss,omitempty" doc:"Mean loss since the save before it, where its writer said so"`
	Best     bool      `json:"best,omitempty" doc:"The lowest loss of those that are there and good, of equal ones the newest: what checkpoint.keep_best=loss keeps"`
	Kept     bool      `json:"kept,omitempty" doc:"Stays for ever: its step is one of those of checkpoint.keep_every"`
	Verified time.Time `json:"verified_at,omitzero"`
	Removed  time.Time `json:"removed_at,omitzero" doc:"When it was seen to be gone: its run keeps the newest ones"`
}

// Usable says that, as far as is known, a run can go on from it.
func (c Checkpoint) Usable() bool {
	return c.Removed.IsZero() && (c.Verdict == VerdictWritten || c.Verdict == VerdictVerified)
}

// SaveTime is the longest that is known of this save: from the signal, if one asked for it, else from its beginning.
func (c Checkpoint) SaveTime() time.Duration { return max(c.Took.D(), c.Signal.D()) }

// MarkBest marks the best of a run's checkpoints, as the training package would choose it.
func MarkBest(saves []Checkpoint) {
	best := -1
	for i, c := range saves {
		if !c.Usable() || c.Loss == nil {
			continue
		}
		if best < 0 || *c.Loss < *saves[best].Loss || *c.Loss == *saves[best].Loss && newer(c, saves[best]) {
			best = i
		}
	}
	if best >= 0 {
		saves[best].Best = true
	}
}

func newer(a, b Checkpoint) bool { return a.Step > b.Step || a.Step == b.Step && a.Attempt > b.Attempt }

// Verdict is what a look at the bytes said.
type Verdict string

// The verdicts.
const (
	VerdictWritten  Verdict = "written"  // manifest present, bytes not yet hashed by us
	VerdictVerified Verdict = "verified" // every file matches the manifest, and known formats are whole
	VerdictTorn     Verdict = "torn"     // a file is missing, short, different or no whole file of its format, or there is no sound manifest
	VerdictForeign  Verdict = "foreign"  // of another run, recipe, base or number of ranks; its bytes are not read
)

// BranchPoint is the checkpoint of another run that a run begins from while it has none of its own (run submit --resume-from).
type BranchPoint struct {
	Run     RunID  `json:"run"`
	Number  int64  `json:"number" doc:"Of that run, as people type it"`
	Attempt int    `json:"attempt" doc:"The attempt that wrote it"`
	Step    int64  `json:"step"`
	Path    string `json:"path" doc:"Where it is read: kept from the other run's retention if that went on"`
	SHA256  string `json:"sha256" doc:"Digest of its manifest"`
}
