package rundir

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// ChooseResume names the checkpoint that a new attempt starts from: the highest step over all
// attempts whose every byte is verified, at equal steps the newest attempt. It verifies from the
// newest downwards and stops at the first good one; what it passed over is listed with the reason.
// world is the number of ranks; a checkpoint of another number is passed over too, because its
// shards do not fit. Zero: any number does.
func ChooseResume(runDir string, run forge.RunID, world int) forge.Resume {
	r, _ := ChooseResumeContext(context.Background(), runDir, run, world)
	return r
}

// ChooseResumeContext is ChooseResume that can be given up. The error is the context's, or says that
// the run directory could not be listed: to start from nothing then would throw work away.
func ChooseResumeContext(ctx context.Context, runDir string, run forge.RunID, world int) (forge.Resume, error) {
	var r forge.Resume
	saves, err := findSaves(runDir, run)
	if err != nil {
		return r, err
	}
	for _, s := range saves {
		c := s.checkpoint
		if c.Verdict != forge.VerdictTorn {
			if world > 0 && c.World != world {
				c.Verdict, c.Why = forge.VerdictTorn, fmt.Sprintf("saved by %d ranks, this attempt has %d", c.World, world)
			} else if c, err = Verify(ctx, run, c); err != nil {
				return r, err
			}
		}
		if c.Verdict == forge.VerdictVerified {
			r.Step, r.Attempt, r.Path, r.SHA256 = c.Step, c.Attempt, c.Path, c.SHA256
			return r, nil
		}
		r.Skipped = append(r.Skipped, forge.SkippedSave{Path: c.Path, Step: c.Step, Why: c.Why})
	}
	return r, nil
}
