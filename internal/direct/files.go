package direct

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Read returns bytes of a stream of an attempt from offset.
func (e *Executor) Read(ctx context.Context, id forge.ExternalID, stream string, offset int64, limit int) (forge.Chunk, error) {
	at, err := e.parseID(id)
	if err != nil {
		return forge.Chunk{}, err
	}
	return e.files.Read(ctx, at, stream, offset, limit)
}

// Checkpoints lists the checkpoints of a run.
func (e *Executor) Checkpoints(ctx context.Context, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error) {
	if err := e.confined(runDir); err != nil {
		return nil, err
	}
	return e.files.Checkpoints(ctx, run, runDir, verify)
}

// branchTimeout bounds the reading of a checkpoint while somebody waits for the answer to a submission; what is not read then the shim reads.
const branchTimeout = 30 * time.Second

// Branch makes a checkpoint of a run ready for another run to begin from.
func (e *Executor) Branch(ctx context.Context, run forge.RunID, runDir string, attempt int, step int64, keep bool) (forge.Checkpoint, error) {
	if err := e.confined(runDir); err != nil {
		return forge.Checkpoint{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, branchTimeout)
	defer cancel()
	return rundir.Branch(ctx, runDir, run, attempt, step, keep)
}

// CheckInputs holds a registered artefact against this host's disk.
func (e *Executor) CheckInputs(ctx context.Context, m forge.Manifest) error {
	return rundir.CheckInputsContext(ctx, m)
}

// PruneHeld removes what of a run is held for others and not needed any more.
func (e *Executor) PruneHeld(_ context.Context, runDir string, needed []string) (int, error) {
	return rundir.PruneHeld(runDir, needed, time.Now())
}
