package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/invariant"
)

// judged compares a run that was killed with one that was not: bytes, curve, processes, and the ten invariants.
type judged struct {
	site  *forgedtest.Site
	steps int
	files []string // below an attempt's directory
}

// of stops forged, so that whatever still runs then is an orphan, and says what is wrong.
func (j judged) of(ctx context.Context, calm, killed api.RunDetail) (wrong []string, err error) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, file := range j.files {
		a, err := j.digest(calm, file)
		if err != nil {
			return wrong, err
		}
		b, err := j.digest(killed, file)
		if err != nil {
			return wrong, err
		}
		if a != b {
			say("%s is %.12s…, undisturbed %.12s…", file, b, a)
		}
	}
	twice, err := j.doubled(killed)
	if err != nil {
		return wrong, err
	}
	wrong = append(wrong, twice...)
	if err := j.site.Stop(ctx); err != nil {
		return wrong, err
	}
	left, err := j.orphans(ctx)
	if err != nil {
		return wrong, err
	}
	for _, p := range left {
		say("pid %d is an orphan: %s", p.Pid, p.Command)
	}
	facts, err := invariant.Gather(ctx, j.site.State(), []forge.RunID{calm.ID, killed.ID})
	if err != nil {
		return wrong, err
	}
	for _, v := range invariant.Judge(facts) {
		say("%s", v)
	}
	curves := map[string]map[int64]float64{string(calm.ID): {}, string(killed.ID): {}}
	for _, m := range facts.Metrics {
		curves[m.Run][m.Step] = m.Loss
	}
	for step := int64(1); step <= int64(j.steps); step++ {
		a, there := curves[string(calm.ID)][step]
		b, too := curves[string(killed.ID)][step]
		if !there || !too || a != b {
			say("the loss of step %d is %v (stored: %v), undisturbed %v (stored: %v)", step, b, too, a, there)
		}
	}
	return wrong, nil
}

func (j judged) digest(r api.RunDetail, file string) (string, error) {
	b, err := j.content(r, file)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// content is of the file of the newest attempt that has it: one that was killed behind its last save leaves nothing for the next to save.
func (j judged) content(r api.RunDetail, file string) ([]byte, error) {
	for attempt := r.Attempt; attempt > 0; attempt-- {
		b, err := os.ReadFile(filepath.Join(attemptDir(j.site, r.ID, attempt), file))
		if !errors.Is(err, os.ErrNotExist) {
			return b, err
		}
	}
	return nil, fmt.Errorf("no attempt of run %d has %s", r.Number, file)
}

// doubled looks for steps that were done twice though nothing was lost: in an attempt each follows the one before, the first the checkpoint
// that it resumed from, and no attempt reports anything once the next has begun to.
func (j judged) doubled(r api.RunDetail) (wrong []string, err error) {
	var until time.Time
	for _, a := range r.Attempts {
		all, err := metricsOf(attemptDir(j.site, r.ID, a.Number))
		if err != nil {
			return wrong, err
		}
		at := a.ResumeStep
		for _, m := range all {
			if at++; m.Step != at {
				wrong = append(wrong, fmt.Sprintf("attempt %d, which resumed from step %d, reports step %d where %d is due", a.Number, a.ResumeStep, m.Step, at))
				break
			}
			if m.Time.Before(until) {
				wrong = append(wrong, fmt.Sprintf("attempt %d reported step %d before the attempt before had ended", a.Number, m.Step))
				break
			}
		}
		if len(all) > 0 {
			until = all[len(all)-1].Time
		}
	}
	return wrong, nil
}

// orphans are what still runs of a site whose forged was stopped and whose runs have ended, after a while to leave.
func (j judged) orphans(ctx context.Context) (left []forgedtest.Process, err error) {
	for deadline := time.Now().Add(killsLeaveFor); ; {
		if left, err = forgedtest.Survivors(j.site.Dir); err != nil || len(left) == 0 || time.Now().After(deadline) {
			return left, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return left, err
		}
	}
}
