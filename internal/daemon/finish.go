package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

// verifyTimeout bounds the hashing of a run's checkpoints when an attempt has ended.
const verifyTimeout = 30 * time.Minute

// finish judges an exited attempt and settles what becomes of its run: the last step of the
// way, in one transaction. It is repeated from the start after a crash; nothing before the
// transaction leaves a trace.
func (d *Daemon) finish(ctx context.Context, c *Cluster, a forge.Attempt, row store.OutboxRow) error {
	r, ok := d.world.run(a.Run)
	if !ok {
		return d.db.OutboxDone(ctx, row.ID)
	}
	obs, err := d.lastWord(ctx, c, a)
	if err != nil {
		return err
	}
	d.gpus.atEnd(ctx, a, obs)
	need := r.Spec.Register != "" || d.needsOutput(r)
	reason, detail := forge.Judge(forge.Evidence{
		Intent: a.Intent, State: obs.State, Cause: obs.Cause, Detail: obs.Detail, Exits: obs.Exits, ByUID: obs.ByUID,
		Ranks: rankCount(r.Spec), Status: obs.Status, OutputOK: !need || obs.Output != nil && len(obs.Output.Files) > 0, Pattern: obs.Pattern,
	})
	detail += afterXID(reason, obs)
	var found *store.EvalFound
	if reason == forge.EndCompleted && r.Spec.Suite != nil {
		var why string
		if found, why, err = d.readEval(ctx, c, r, a); err != nil {
			return err
		}
		if why != "" { // an eval whose scores are not there, or not of what was asked, has not been made
			reason, detail = forge.EndOutputsInvalid, why
		}
	}
	var scanned *forge.DatasetVersion
	if reason == forge.EndCompleted && r.Spec.Scan != nil {
		var why string
		if scanned, why, err = d.readScan(ctx, c, r, a); err != nil {
			return err
		}
		if why != "" {
			reason, detail = forge.EndOutputsInvalid, why
		}
	}
	vctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	saves, err := c.Files.Checkpoints(vctx, a.Run, a.RunDir, true)
	if err != nil {
		return fmt.Errorf("verify checkpoints of run %d: %w", r.Number, err)
	}
	// Only what this attempt saved itself: one that never started would else be credited with the
	// checkpoints of those before it, and a node that starts nothing would be tried for ever.
	var saved int64
	kept := false
	for _, s := range saves {
		if s.Attempt == a.Number && s.Verdict == forge.VerdictVerified {
			saved, kept = max(saved, s.Step), true
		}
	}
	if !kept && checkpointed[reason] && len(obs.Exits) > 0 {
		detail += "; no checkpoint of this attempt verifies" // e.g. asked before its first step
	}
	detail += lostSteps(reason, a, saves)
	attempts := []forge.Attempt{a}
	if a.Number > 1 {
		if attempts, err = d.db.AttemptsOf(ctx, a.Run); err != nil {
			return err
		}
	}
	now := time.Now()
	n := d.live().cfg.Retry.decide(ending{run: r, attempt: a, reason: reason, detail: detail, saved: saved,
		used: usedTime(attempts, now), nodes: avoidable(reason, obs, a), taken: takenBack(attempts, reason), handed: a.ExternalID != "", now: now})
	end := store.End{Run: a.Run, Attempt: a.Number, Reason: reason, Detail: n.detail, Next: n.state, Hold: n.hold, NotBefore: n.notBefore,
		Avoid: n.avoid, Fruitless: n.fruitless, Retries: n.retries, Checkpoints: saves, At: now, OutboxID: row.ID}
	if a.ExternalID != "" {
		end.Blamed = blamed(reason, obs, a)
	}
	if n.state == forge.RunCompleted {
		end.Eval, end.Dataset = found, scanned
	}
	if n.state == forge.RunCompleted && r.Spec.Register != "" {
		if end.Model, err = d.trainedVersion(ctx, r, a, obs); err != nil {
			return err
		}
		d.using.RLock()
		defer d.using.RUnlock()
		if end.Unregistered, err = d.keepAtEnd(ctx, c, r, a, end.Model, row.Tries); err != nil {
			return err
		}
		if end.Unregistered != "" {
			end.Model = nil
		}
	}
	if _, _, err = d.db.AttemptEnded(ctx, end); err != nil {
		return err
	}
	if scanned != nil {
		if err := d.indexScan(ctx, c, r, a, *scanned); err != nil {
			d.attemptLog(a).Warn().Err(err).Msg("the rows of what it read are not indexed")
		}
	}
	d.cursors.drop(a)
	if n.hold != nil && reason != forge.EndRefused {
		d.pauseIfMany(ctx, a.Cluster, now)
	}
	return nil
}

// afterXID says what the driver had said of a GPU before the program on it ended by itself: where to look is not in its own words.
func afterXID(reason forge.EndReason, o forge.Observation) string {
	if f := o.GPUFault; f != nil && f.Run == forge.RunFails && o.Cause == forge.StopRankExit && !reason.Infrastructure() && !checkpointed[reason] {
		if o.Pattern != nil { // its line stands before
			return "; it came after " + f.Words
		}
		return ", after " + f.Words
	}
	return ""
}

// lostSteps says what has to be done again after a stop that had asked for a save, because the save was not durable within the grace.
func lostSteps(reason forge.EndReason, a forge.Attempt, saves []forge.Checkpoint) string {
	if !checkpointed[reason] && reason != forge.EndTimeLimit {
		return ""
	}
	newest := a.ResumeStep
	for _, s := range saves {
		if s.Verdict == forge.VerdictVerified {
			newest = max(newest, s.Step)
		}
	}
	switch lost := a.LastStep - newest; {
	case lost <= 0:
		return ""
	case newest == 0:
		return fmt.Sprintf("; its %d steps are done again: nothing was saved", lost)
	default:
		return fmt.Sprintf("; the %d steps since step %d are done again", lost, newest)
	}
}

// checkpointed are the ends whose words may say that something was saved.
var checkpointed = map[forge.EndReason]bool{forge.EndCheckpointedPreempt: true, forge.EndCheckpointedLimit: true,
	forge.EndCheckpointedDrain: true, forge.EndCheckpointedUser: true}

// lastWord reads the records that the shims left.
func (d *Daemon) lastWord(ctx context.Context, c *Cluster, a forge.Attempt) (forge.Observation, error) {
	if a.ExternalID == "" {
		return forge.Observation{State: forge.ObservAbsent, ByUID: -1, Detail: "forged stopped before it was handed to the executor, or a stop came first"}, nil
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	all, err := c.Executor.Poll(cctx, []forge.ExternalID{a.ExternalID})
	if err != nil {
		return forge.Observation{}, err
	}
	if len(all) != 1 || all[0].State == forge.ObservUnknown {
		return forge.Observation{}, forge.Errorf(forge.KindUnavailable, "finish", "the executor does not answer for %s", a.ExternalID)
	}
	return all[0], nil
}

// needsOutput says whether the recipe promises output. A recipe that is gone promises nothing.
func (d *Daemon) needsOutput(r forge.Run) bool {
	rec, err := d.live().recipes.Get(r.Spec.Recipe)
	return err == nil && rec.Output
}

// trainPackage is where the modules are whose outputs the load test knows.
const trainPackage = "forge_train."

// loadTested says whether what a run leaves is a model that our own training package wrote.
func (d *Daemon) loadTested(r forge.Run) bool {
	return strings.HasPrefix(r.Spec.Entry.Module, trainPackage) && !r.Spec.Eval && d.needsOutput(r)
}

// trainedVersion is the model version with its lineage, by digest and not only by name.
func (d *Daemon) trainedVersion(ctx context.Context, r forge.Run, a forge.Attempt, obs forge.Observation) (*forge.ModelVersion, error) {
	var err error
	if r.Spec, err = d.pinSpec(ctx, r.Spec); err != nil {
		return nil, err
	}
	l := forge.Lineage{Run: r.ID, RunNumber: r.Number, Attempt: a.Number, Recipe: r.Spec.Recipe, RecipeSHA256: r.Spec.RecipeSHA256,
		ParamsSHA256: recipes.CanonicalDigest(r.Spec.Params), CodeVersion: "forged " + d.version, TrainedAt: a.ExitedAt}
	if obs.Status != nil {
		l.CodeSHA256 = obs.Status.Code["sha256"]
		if v := obs.Status.Code["forge_train"]; v != "" {
			l.CodeVersion += ", forge_train " + v
		}
	}
	l.LoadTest = d.loadTestOf(r, *obs.Output)
	license, err := d.trainedLicence(ctx, &r.Spec)
	if err != nil {
		return nil, err
	}
	if in := r.Spec.Dataset; in != nil {
		l.Dataset, l.DatasetSHA256 = in.Name, in.SHA256
	}
	if in := r.Spec.Base; in != nil {
		l.Base, l.BaseSHA256 = in.Name, in.SHA256
	}
	if in := r.Spec.Start; in != nil {
		l.Start, l.StartSHA256 = in.Name, in.SHA256
	}
	if in := r.Spec.RewardModel; in != nil {
		l.RewardModel, l.RewardSHA256 = in.Name, in.SHA256
	}
	return &forge.ModelVersion{Tenant: r.Tenant, Name: r.Spec.Register, Kind: forge.ModelTrained, Stage: forge.StageStaging,
		SHA256: obs.Output.Digest(), Bytes: obs.Output.Bytes(), Manifest: *obs.Output, License: license, Lineage: &l, CreatedBy: r.User}, nil
}

// pauseIfMany stops placing on a cluster that holds one run after the other: the fault is
// then more likely its own than theirs.
func (d *Daemon) pauseIfMany(ctx context.Context, c forge.ClusterName, now time.Time) {
	retry := d.live().cfg.Retry
	n, err := d.db.HeldSince(ctx, c, now.Add(-retry.PauseWindow.D()))
	if err != nil || n < retry.PauseAfter {
		return
	}
	reason := fmt.Sprintf("%d runs were put on hold within %s", n, retry.PauseWindow)
	if err := d.db.PauseCluster(ctx, c, reason); err != nil && !errors.Is(err, context.Canceled) {
		d.log.Error().Err(err).Str("cluster", string(c)).Msg("cluster not paused")
	}
}

func rankCount(s forge.RunSpec) int {
	if s.Launch == forge.LaunchNode {
		return s.Gang.Nodes
	}
	return s.Gang.GPUs()
}

// takenBack counts the attempts in a row, the one that ends now included, that never started.
func takenBack(attempts []forge.Attempt, reason forge.EndReason) int {
	if reason != forge.EndWithdrawn {
		return 0
	}
	n := 1
	for i := len(attempts) - 2; i >= 0 && attempts[i].Reason == forge.EndWithdrawn; i-- {
		n++
	}
	return n
}

func usedTime(attempts []forge.Attempt, now time.Time) time.Duration {
	var used time.Duration
	for _, a := range attempts {
		if a.StartedAt.IsZero() {
			continue
		}
		to := a.ExitedAt
		if to.IsZero() {
			to = now
		}
		used += to.Sub(a.StartedAt)
	}
	return used
}
