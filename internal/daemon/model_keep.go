package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/slurm"
)

// keepTries is how often the end of a run waits for a copy that fails for a reason that may pass.
var keepTries = 10

// keepOutput copies what a run left from its directory, which may be purged, to the artefact root of its cluster: what is registered is the copy.
// Without a root it is registered where it lies. The caller holds d.using until the version is stored.
func (d *Daemon) keepOutput(ctx context.Context, c *Cluster, a forge.Attempt, v *forge.ModelVersion, progress func(done, total int64)) error {
	if c.ArtifactRoot == "" || len(v.Manifest.Files) == 0 {
		return nil
	}
	if c.AsUser {
		return keepOfPerson(ctx, c, a, v)
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

// keepOfPerson has the copy made by whom the run belongs to. Nobody tells how far it is.
func keepOfPerson(ctx context.Context, c *Cluster, a forge.Attempt, v *forge.ModelVersion) error {
	k, ok := c.Files.(Keeper)
	if !ok {
		return forge.Errorf(forge.KindInternal, "artefact.copy", "cluster %s cannot copy what belongs to people", c.Name)
	}
	m, err := k.Keep(ctx, a.ExternalID, v.Tenant, v.SHA256)
	if err != nil {
		return err
	}
	if m.Digest() != v.SHA256 { // what is registered is what was read of the run, whoever copied it
		return forge.Errorf(forge.KindInternal, "artefact.copy", "the copy in %s has another digest than the output", m.Root)
	}
	v.Manifest = m
	return nil
}

// artifactRoot is where the copies of an attempt's owner lie, for people to read.
func (c *Cluster) artifactRoot(a forge.Attempt) string {
	if account := slurm.AccountIn(c.RunRoot, a.RunDir); c.AsUser && account != "" {
		return slurm.RunRootOf(c.ArtifactRoot, account)
	}
	return c.ArtifactRoot
}

// keeperOf is who reads what lies at a path, where that belongs to a person; nil: forged does.
func (d *Daemon) keeperOf(path string) Keeper {
	for _, c := range d.clusterList() {
		if k, ok := c.Files.(Keeper); ok && c.AsUser && k.Owns(path) {
			return k
		}
	}
	return nil
}

// keepAtEnd is keepOutput for the end of a run, which no full disk keeps open: the training is done, its output is where the ranks put it, and is
// registered by a person once there is room. What may pass is tried again some times.
func (d *Daemon) keepAtEnd(ctx context.Context, c *Cluster, r forge.Run, a forge.Attempt, v *forge.ModelVersion, tries int) (unregistered string, err error) {
	err = d.keepOutput(ctx, c, a, v, nil)
	final := errors.Is(err, artefact.ErrNoRoom) || errors.Is(err, artefact.ErrDiffers) || errors.Is(err, fs.ErrPermission) || tries >= keepTries
	if err == nil || ctx.Err() != nil || !final {
		return "", err
	}
	next := fmt.Sprintf("once that is better: forgectl model register %s %d", r.Spec.Register, r.Number)
	return fmt.Sprintf("its output could not be copied to %s: %v; it is still in %s; %s", c.artifactRoot(a), err, v.Manifest.Root, next), nil
}
