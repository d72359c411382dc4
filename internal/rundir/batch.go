package rundir

import (
	"time"
)

// BatchRecord is batch.json: what became of handing the attempt to a cluster's own queue. It is written by whoever handed it
// over or took it back, and explains; whether the attempt may start is decided by the claim alone.
type BatchRecord struct {
	JobID     string    `json:"job_id,omitempty"`    // the clean answer
	Refused   string    `json:"refused,omitempty"`   // why the queue will never start it as it is, in its own words
	Withdrawn string    `json:"withdrawn,omitempty"` // why it was taken back
	At        time.Time `json:"at"`
}

// BatchPath is the record, BatchLogPath what the job's script and srun say.
func (a Attempt) BatchPath() string    { return a.path("batch.json") }
func (a Attempt) BatchLogPath() string { return a.path("batch.log") }

// ReadBatch reads the record; none is fs.ErrNotExist.
func ReadBatch(a Attempt) (BatchRecord, error) {
	return readJSON[BatchRecord](a.BatchPath(), maxRecord)
}
