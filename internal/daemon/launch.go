package daemon

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/slurm"
	"github.com/forge-ml/forge-ml/store"
)

// launch hands a placed attempt to its executor exactly once. What may have happened before a
// crash or an unclean answer is found out by Find, which makes absence certain instead of
// guessing it.
func (d *Daemon) launch(ctx context.Context, c *Cluster, a forge.Attempt, row store.OutboxRow) error {
	if a.ExternalID != "" || !a.State.Open() {
		return d.db.OutboxDone(ctx, row.ID)
	}
	r, ok := d.world.run(a.Run)
	if !ok {
		return d.db.OutboxDone(ctx, row.ID)
	}
	key := forge.AttemptKey(a.Run, a.Number)
	if a.State != forge.AttemptPlaced || a.Intent != forge.IntentNone {
		return d.find(ctx, c, a, row, key)
	}
	l, err := d.launchOf(ctx, r, a)
	if err != nil {
		return err
	}
	if l.SaveLead, err = d.saveLead(ctx, c, a); err != nil {
		return err
	}
	if c.batch() {
		select {
		case d.batchSlots <- struct{}{}:
			defer func() { <-d.batchSlots }()
		case <-ctx.Done():
			return ctx.Err()
		}
		d.batchLaunch(c, r, &l)
	}
	if err := d.db.AttemptLaunching(ctx, a.Run, a.Number); err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	id, err := c.Executor.Submit(cctx, l)
	if err != nil {
		d.attemptLog(a).Warn().Err(err).Msg("submit not clean; looking for it")
		return d.find(ctx, c, a, row, key)
	}
	if err := d.db.AttemptSubmitted(ctx, a.Run, a.Number, id, row.ID); err != nil {
		return err
	}
	d.submitted(a)
	return nil
}

// submitted wakes those who wait for an attempt to have an id. A signal waits only where an intent was recorded meanwhile: to read the whole
// outbox after each of thousands of launches would take longer than they do.
func (d *Daemon) submitted(a forge.Attempt) {
	kick(d.kickWatch)
	if now, ok := d.world.attempt(a.Run); !ok || now.Intent != forge.IntentNone {
		kick(d.kickOutbox)
	}
}

func (d *Daemon) find(ctx context.Context, c *Cluster, a forge.Attempt, row store.OutboxRow, key string) error {
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	switch l := c.Executor.Find(cctx, key, a.RunDir); l.State {
	case forge.LookupFound:
		if err := d.db.AttemptSubmitted(ctx, a.Run, a.Number, l.ID, row.ID); err != nil {
			return err
		}
		d.submitted(a)
		return nil
	case forge.LookupAbsent:
		// It can no longer start, so its GPUs are free; finish.go judges why.
		if err := d.db.AttemptExited(ctx, store.Exit{Run: a.Run, Attempt: a.Number}); err != nil {
			return err
		}
		kick(d.kickOutbox)
		return d.db.OutboxDone(ctx, row.ID)
	default:
		if a.Unknown.IsZero() {
			_ = d.db.AttemptUnknown(ctx, a.Run, a.Number, row.CreatedAt)
		}
		return forge.Errorf(forge.KindUnavailable, "launch", "the executor does not say whether %s started: %s", key, l.Evidence)
	}
}

// launchOf gathers what the executor needs. Paths and digests come from the registered
// versions, not from names.
func (d *Daemon) launchOf(ctx context.Context, r forge.Run, a forge.Attempt) (forge.Launch, error) {
	var err error
	if r.Spec, err = d.pinSpec(ctx, r.Spec); err != nil {
		return forge.Launch{}, err
	}
	l := forge.Launch{Key: forge.AttemptKey(r.ID, a.Number), Run: r.ID, Number: r.Number, Tenant: r.Tenant, Attempt: a.Number,
		RunDir: a.RunDir, Spec: r.Spec, Placement: a.Placement, Report: d.reportTo(a)}
	if c := d.live().clusters[a.Cluster]; c != nil && c.AsUser {
		l.Account = slurm.AccountIn(c.RunRoot, a.RunDir)
	}
	attemptDir := filepath.Join(a.RunDir, "attempts", attemptName(a.Number))
	l.Config = forge.RankConfig{RunID: r.ID, RunNumber: r.Number, Attempt: a.Number, Recipe: r.Spec.Recipe, Params: r.Spec.Params,
		Dataset: r.Spec.Dataset, Base: r.Spec.Base, Start: r.Spec.Start, RewardModel: r.Spec.RewardModel, Model: r.Spec.Model, Suite: r.Spec.Suite, Scan: r.Spec.Scan, TrustRemote: d.live().cfg.Policy.TrustRemoteCode,
		CheckpointDir: filepath.Join(attemptDir, "checkpoints"), OutputDir: filepath.Join(attemptDir, "output")}
	if in := r.Spec.Dataset; in != nil {
		v, err := d.db.DatasetVersionByID(ctx, forge.DatasetVersionID(in.ID))
		if err != nil {
			return l, err
		}
		l.Config.DatasetKind, l.Config.DatasetTerms = v.Kind, v.License
		l.Config.DatasetLayout, l.Config.DatasetFiles = v.Layout, datasetFiles(v)
		l.Inputs = append(l.Inputs, v.Manifest)
	}
	models, terms, err := d.manifestsOf(ctx, &r.Spec)
	if err != nil {
		return l, err
	}
	l.Config.BaseTerms = terms
	l.Inputs = append(l.Inputs, models...)
	if src := r.Spec.Source; src != nil {
		l.SourceFile = snapshots{d}.file(r.Tenant, src.SHA256)
	}
	if d.live().cfg.Policy.loadTest() && d.loadTested(r) {
		l.LoadTest = &forge.Entry{Module: trainPackage + "load_test"}
	}
	there := d.world.nodesOf(a.Cluster)
	if c := d.live().clusters[a.Cluster]; c != nil && c.batch() {
		l.Spec.Where, l.Alike = whereOn(there, r.Spec.Where)
	}
	for _, s := range a.Placement {
		i, found := slices.BinarySearchFunc(there, s.Node, func(n forge.Node, name forge.NodeName) int { return cmp.Compare(n.Name, name) })
		if !found {
			continue
		}
		for _, slot := range s.Slots {
			for _, g := range there[i].GPUs {
				if g.Slot == slot {
					l.Devices = append(l.Devices, g)
				}
			}
		}
	}
	return l, nil
}

// datasetFiles are the files that a rank reads, where the version says how they are laid out; older versions are all .jsonl files of
// their directory, and a run of one is configured as it always was.
func datasetFiles(v forge.DatasetVersion) []string {
	if v.Layout == nil {
		return nil
	}
	names := make([]string, len(v.Manifest.Files))
	for i, f := range v.Manifest.Files {
		names[i] = f.Path
	}
	return names
}
