package slurm

import (
	"context"
	"path/filepath"

	forge "github.com/forge-ml/forge-ml"
)

// Read returns bytes of a stream of an attempt from offset.
func (e *Executor) Read(ctx context.Context, id forge.ExternalID, stream string, offset int64, limit int) (forge.Chunk, error) {
	account, at, err := e.parseID(id)
	if err != nil {
		return forge.Chunk{}, err
	}
	return e.hand.Read(ctx, account, at, stream, offset, limit)
}

// Checkpoints lists the checkpoints of a run.
func (e *Executor) Checkpoints(ctx context.Context, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error) {
	account, err := e.accountOf(runDir)
	if err != nil {
		return nil, err
	}
	return e.hand.Checkpoints(ctx, account, run, runDir, verify)
}

// Branch makes a checkpoint of a run ready for another run to begin from.
func (e *Executor) Branch(ctx context.Context, run forge.RunID, runDir string, attempt int, step int64, keep bool) (forge.Checkpoint, error) {
	account, err := e.accountOf(runDir)
	if err != nil {
		return forge.Checkpoint{}, err
	}
	return e.hand.Branch(ctx, account, run, runDir, attempt, step, keep)
}

// PruneHeld removes what of a run is held for others and not needed any more.
func (e *Executor) PruneHeld(ctx context.Context, runDir string, needed []string) (int, error) {
	account, err := e.accountOf(runDir)
	if err != nil {
		return 0, err
	}
	return e.hand.PruneHeld(ctx, account, forge.RunID(filepath.Base(runDir)), runDir, needed)
}

// CheckInputs holds a registered artefact against the disk, as forged's own account sees it, or as the person whose it is. What that one does
// not come to say the shim of the job finds.
func (e *Executor) CheckInputs(ctx context.Context, m forge.Manifest) error {
	if account := e.ownerOf(m.Root); account != "" {
		if err := e.hand.CheckInputs(ctx, account, m); forge.KindOf(err) == forge.KindInvalid {
			return err
		}
		return nil
	}
	return e.hand.CheckInputs(ctx, "", m)
}
