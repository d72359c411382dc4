package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/store"
)

// judging is what a schedule asks of evals and of the registry.
type judging struct {
	// newest names the newest whole eval of a version with a suite as it is. KindNotFound.
	newest   func(context.Context, forge.Principal, forge.ModelVersion, forge.SuiteRef) (string, error)
	compare  func(ctx context.Context, p forge.Principal, baseline, candidate string, o gate.Options) (forge.Comparison, []forge.Flip, error)
	previous func(ctx context.Context, p forge.Principal, model string) (forge.ModelVersion, error) // what a rollback would bring back
	rollBack func(ctx context.Context, p forge.Principal, model, reason string) (forge.ModelVersion, error)
}

func (d *Daemon) judges() judging {
	return judging{newest: d.newestEval, compare: d.compareEvals, rollBack: d.rollBack, previous: func(ctx context.Context, p forge.Principal, model string) (forge.ModelVersion, error) {
		return d.db.For(p).ModelVersion(ctx, forge.Ref{Name: model, Label: forge.AliasPrevious})
	}}
}

func (d *Daemon) newestEval(ctx context.Context, p forge.Principal, v forge.ModelVersion, suite forge.SuiteRef) (string, error) {
	e, err := d.db.For(p).NewestEval(ctx, v.ID, suite.Name, suite.SHA256)
	return e.Name, err
}

// judgeEvery is how often is looked whether a run that a schedule submitted has ended.
const judgeEvery = 2 * time.Second

// verdictsLoop is a loop of its own: a rollback hashes what comes back, and no due time waits for that.
func (d *Daemon) verdictsLoop(ctx context.Context) {
	for {
		waiting, err := d.judgeEnded(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("not all evals of schedules could be judged; again in a moment")
		}
		wait := schedulesEvery
		if err == nil && waiting > 0 {
			wait = judgeEvery
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-d.kickVerdicts:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// judgeEnded judges the firings whose runs have ended, and says how many still wait for theirs.
func (d *Daemon) judgeEnded(ctx context.Context) (waiting int, err error) {
	ended, waiting, err := d.db.OpenFirings(ctx)
	if err != nil {
		return 0, err
	}
	var faults []error
	for _, f := range ended {
		if err := d.judgeFiring(ctx, f); err != nil {
			faults = append(faults, fmt.Errorf("the firing of schedule %s of %s is not judged yet: %w", f.Schedule.ID, f.Due, err))
		}
	}
	return waiting, errors.Join(faults...)
}

func (d *Daemon) judgeFiring(ctx context.Context, f store.OpenFiring) error {
	verdict, words, err := d.verdictOn(ctx, f)
	if err != nil {
		return err
	}
	if verdict == forge.FiringVerdict(forge.CompareRegressed) && f.Schedule.OnRegression == forge.RegressionRollback {
		// Before the verdict is written: a crash between the two finds the firing unjudged, and the version out of production.
		done, err := d.rollBackFor(ctx, f)
		if err != nil {
			return err
		}
		words = joinWords(words, done)
	}
	first, err := d.db.JudgeFiring(ctx, f, verdict, words)
	if first && verdict == forge.FiringVerdict(forge.CompareRegressed) {
		d.meter.regressions.Inc()
	}
	return err
}

// verdictOn holds the eval of a firing against its baseline. An error says that nobody could look, and that it is to be tried again.
func (d *Daemon) verdictOn(ctx context.Context, f store.OpenFiring) (forge.FiringVerdict, string, error) {
	ended := ""
	if f.RunState != forge.RunCompleted {
		ended = fmt.Sprintf("run %d %s", f.Run, f.RunState)
		if f.Reason != "" && string(f.Reason) != string(f.RunState) {
			ended += ": " + string(f.Reason)
		}
	}
	switch {
	case f.Schedule.Baseline == "":
		return "", ended, nil
	case f.Baseline == "": // its words said why when it fired
		return forge.FiringMissing, ended, nil
	case ended != "":
		return forge.FiringMissing, ended, nil
	}
	p, err := d.makerOf(ctx, f.Schedule)
	if err != nil && (forge.KindOf(err) == forge.KindUnavailable || forge.KindOf(err) == forge.KindInternal) {
		return "", "", err
	} // one that is disabled by now is compared all the same: it only reads
	c, _, err := d.judging.compare(ctx, p, f.BaselineEval, strconv.FormatInt(f.Run, 10), gate.Options{})
	if err == nil {
		return forge.FiringVerdict(c.Verdict), comparisonWords(c), nil
	}
	switch forge.KindOf(err) {
	case forge.KindUnavailable, forge.KindInternal:
		return "", "", err
	}
	return forge.FiringMissing, fmt.Sprintf("eval %d against eval %s of %s: %s", f.Run, f.BaselineEval, f.Baseline, wordsOf(err)), nil
}

// maxVerdictWords bounds what is kept of a comparison; forgectl eval compare says all of it.
const maxVerdictWords = 500

func comparisonWords(c forge.Comparison) string {
	var all []string
	for _, x := range c.Invalid {
		all = append(all, x.Field+": "+x.Why)
	}
	for _, b := range c.Benchmarks {
		if b.Verdict == c.Verdict && b.Verdict != forge.CompareNonInferior {
			all = append(all, fmt.Sprintf("%s %s %.4g → %.4g (%s)", b.Task, b.Metric, b.Baseline, b.Candidate, b.Words))
		}
	}
	words := strings.Join(all, "; ")
	if len(words) > maxVerdictWords {
		words = strings.ToValidUTF8(words[:maxVerdictWords], "") + "…"
	}
	return words
}

// rollBackFor takes the version that a firing found worse out of production, if it is still there and the baseline is what comes back. It says
// what it did, or why nothing. An error says that it is to be tried again.
func (d *Daemon) rollBackFor(ctx context.Context, f store.OpenFiring) (string, error) {
	again := func(err error) bool {
		k := forge.KindOf(err)
		return k == forge.KindUnavailable || k == forge.KindInternal
	}
	not := func(format string, args ...any) (string, error) {
		return "not rolled back: " + fmt.Sprintf(format, args...), nil
	}
	p, err := d.makerOf(ctx, f.Schedule)
	if err != nil {
		if again(err) {
			return "", err
		}
		return not("%s", wordsOf(err))
	}
	v, err := d.db.For(p).ModelVersionByID(ctx, f.ModelID)
	if err != nil {
		return "", err
	}
	if v.Stage != forge.StageProduction {
		return not("%s is not in production", f.Model)
	}
	before, err := d.judging.previous(ctx, p, v.Name)
	if err != nil {
		if again(err) {
			return "", err
		}
		return not("%s", wordsOf(err))
	}
	if name := (forge.Ref{Name: before.Name, Number: before.Number}).String(); name != f.Baseline {
		return not("%s would come back, and what it is worse than is %s", name, f.Baseline)
	}
	back, err := d.judging.rollBack(ctx, p, v.Name, fmt.Sprintf("schedule %s: %s is worse than %s, by evals %d and %s", f.Schedule.Name, f.Model, f.Baseline, f.Run, f.BaselineEval))
	if err != nil {
		if again(err) {
			return "", err
		}
		return not("%s", wordsOf(err))
	}
	return fmt.Sprintf("rolled back: %s@%d is in production again", back.Name, back.Number), nil
}
