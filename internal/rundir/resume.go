package rundir

import (
	"context"
	"errors"
	"fmt"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// ErrBranch says that the checkpoint that a run was to begin from cannot be used. To begin from nothing then is not what was asked for.
var ErrBranch = errors.New("the run cannot begin from the checkpoint that it was told to")

// restless bounds how often a choice is made anew because what it looked at was removed meanwhile.
const restless = 5

// ChooseResume names the checkpoint that a new attempt starts from: the highest step over all
// attempts whose every byte is verified, at equal steps the newest attempt. It verifies from the
// newest downwards and stops at the first good one; what it passed over is listed with the reason.
func ChooseResume(runDir string, fit Fit) forge.Resume {
	r, _ := ChooseResumeContext(context.Background(), runDir, fit, nil)
	return r
}

// ChooseResumeContext is ChooseResume that can be given up. Where the run has nothing good of its own it goes on from the branch
// point, if it has one; if that is not good either the error is ErrBranch. Else the error is the context's, or says that
// the run directory could not be listed: to start from nothing then would throw work away.
func ChooseResumeContext(ctx context.Context, runDir string, fit Fit, from *forge.BranchPoint) (forge.Resume, error) {
	var removed []forge.SkippedSave
	for range restless {
		r, gone, err := chooseOwn(ctx, runDir, fit)
		switch {
		case err != nil:
			return r, err
		case gone != nil:
			removed = append(removed, forge.SkippedSave{Path: gone.Path, Step: gone.Step, Why: "it was removed while it was verified"})
			continue // whoever removes has saved something newer
		case r.Path == "" && !settled(runDir, fit, r.Skipped):
			continue // one was listed before it was finished, and the one before it looked at after it was removed
		case r.Path == "" && from != nil:
			return branchFrom(ctx, r, fit, *from)
		}
		for _, g := range removed {
			if g.Step > r.Step { // nothing newer came: somebody else removed it
				r.Skipped = append(r.Skipped, g)
			}
		}
		return r, nil
	}
	return forge.Resume{}, fmt.Errorf("checkpoints came and went %d times while they were looked at: somebody else works in this run's directory", restless)
}

// settled says that what was passed over is all that there is, and still looks the same.
func settled(runDir string, fit Fit, skipped []forge.SkippedSave) bool {
	saves, err := findSaves(runDir, fit)
	return err == nil && slices.EqualFunc(saves, skipped, func(s save, was forge.SkippedSave) bool {
		same := s.checkpoint.Why == was.Why || s.checkpoint.Verdict == forge.VerdictWritten && was.Why != errNoManifest.Error() // its bytes were read, and are not again
		return s.checkpoint.Path == was.Path && same
	})
}

// chooseOwn tries the run's own checkpoints once, until one vanishes under it.
func chooseOwn(ctx context.Context, runDir string, fit Fit) (r forge.Resume, gone *forge.Checkpoint, err error) {
	saves, err := findSaves(runDir, fit)
	if err != nil {
		return r, nil, err
	}
	for _, s := range saves {
		c := s.checkpoint
		if c.Verdict == forge.VerdictWritten {
			if c, err = Verify(ctx, fit, c); err != nil {
				return r, nil, err
			}
		}
		switch {
		case !c.Removed.IsZero():
			return r, &c, nil
		case c.Verdict == forge.VerdictVerified:
			r.Step, r.Attempt, r.Path, r.SHA256 = c.Step, c.Attempt, c.Path, c.SHA256
			return r, nil, nil
		}
		r.Skipped = append(r.Skipped, forge.SkippedSave{Path: c.Path, Step: c.Step, Why: c.Why})
	}
	return r, nil, nil
}

func branchFrom(ctx context.Context, r forge.Resume, fit Fit, from forge.BranchPoint) (forge.Resume, error) {
	bad := func(format string, args ...any) (forge.Resume, error) {
		return r, fmt.Errorf("%w: step %d of run %d (%s): %s", ErrBranch, from.Step, from.Number, from.Path, fmt.Sprintf(format, args...))
	}
	fit.Run = from.Run
	c, err := Verify(ctx, fit, forge.Checkpoint{Run: from.Run, Attempt: from.Attempt, Step: from.Step, Path: from.Path})
	switch {
	case err != nil:
		return r, err
	case !c.Removed.IsZero():
		return bad("it is not there any more")
	case c.Verdict != forge.VerdictVerified:
		return bad("%s: %s", c.Verdict, c.Why)
	case c.SHA256 != from.SHA256:
		return bad("it is another one than when the run was submitted")
	}
	r.Step, r.Run, r.Attempt, r.Path, r.SHA256 = c.Step, from.Run, c.Attempt, c.Path, c.SHA256
	return r, nil
}
