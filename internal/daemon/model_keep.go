package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
)

// keepTries is how often the end of a run waits for a copy that fails for a reason that may pass.
var keepTries = 10

// keepOutput copies what a run left from its directory, which may be purged, to the artefact root of its cluster: what is registered is the copy.
// Without a root it is registered where it lies. The caller holds d.using until the version is stored.
func (d *Daemon) keepOutput(ctx context.Context, c *Cluster, v *forge.ModelVersion, progress func(done, total int64)) error {
	if c.ArtifactRoot == "" || c.AsUser || len(v.Manifest.Files) == 0 {
		return nil
	}
	if below(v.Manifest.Root, c.ArtifactRoot) {
		return nil
	}
	m, err := artefact.Copy(ctx, v.Manifest, c.ArtifactRoot, string(v.Tenant), progress)
	if err != nil {
		return err
	}
	v.Manifest = m
	return nil
}

// keepAtEnd is keepOutput for the end of a run, which no full disk keeps open: the training is done, its output is where the ranks put it, and is
// registered by a person once there is room. What may pass is tried again some times.
func (d *Daemon) keepAtEnd(ctx context.Context, c *Cluster, r forge.Run, v *forge.ModelVersion, tries int) (unregistered string, err error) {
	err = d.keepOutput(ctx, c, v, nil)
	final := errors.Is(err, artefact.ErrNoRoom) || errors.Is(err, artefact.ErrDiffers) || errors.Is(err, fs.ErrPermission) || tries >= keepTries
	if err == nil || ctx.Err() != nil || !final {
		return "", err
	}
	next := fmt.Sprintf("once that is better: forgectl model register %s %d", r.Spec.Register, r.Number)
	return fmt.Sprintf("its output could not be copied to %s: %v; it is still in %s; %s", c.ArtifactRoot, err, v.Manifest.Root, next), nil
}
