package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/slurm"
)

// heldLife is how long a checkpoint stays held after the last run that was to begin from it has ended: a retry of it begins there again.
const heldLife = 7 * 24 * time.Hour

// HeldPruner is an executor that can remove what of a run is held for others.
type HeldPruner interface {
	PruneHeld(ctx context.Context, runDir string, needed []string) (int, error)
}

var (
	_ HeldPruner = (*direct.Executor)(nil)
	_ HeldPruner = (*slurm.Executor)(nil)
)

// pruneHeld removes the checkpoints that were held for runs which have ended long ago.
func (d *Daemon) pruneHeld(ctx context.Context, now time.Time) error {
	points, err := d.db.BranchPoints(ctx, now.Add(-heldLife))
	if err != nil {
		return err
	}
	needed, seen := map[string][]string{}, map[string]bool{}
	for _, p := range points {
		if p.Needed {
			needed[p.RunDir] = append(needed[p.RunDir], p.Path)
		}
	}
	var faults []error
	for _, p := range points {
		c, ok := d.live().clusters[p.Cluster]
		if seen[p.RunDir] || !ok {
			continue
		}
		seen[p.RunDir] = true
		x, ok := c.Files.(HeldPruner)
		if !ok {
			continue
		}
		n, err := x.PruneHeld(ctx, p.RunDir, needed[p.RunDir])
		if n > 0 {
			d.log.Info().Str("run_dir", p.RunDir).Int("checkpoints", n).Msg("checkpoints that were held for runs which have ended are removed")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", p.RunDir, err))
		}
	}
	return errors.Join(faults...)
}
