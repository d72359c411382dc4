package direct

import (
	"context"

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

// CheckInputs holds a registered artefact against this host's disk.
func (e *Executor) CheckInputs(ctx context.Context, m forge.Manifest) error {
	return rundir.CheckInputsContext(ctx, m)
}
