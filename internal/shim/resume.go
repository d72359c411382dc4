package shim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// chooseResume decides what the ranks go on from, after every byte of it was read.
func (s *shim) chooseResume(ctx context.Context) error {
	l := s.launch
	fit := rundir.FitOf(l.Run, l.Spec)
	fit.World = 0 // under a launcher of the user's own only it knows the number of ranks
	if l.Spec.Launch != forge.LaunchNode {
		for _, n := range s.perNode {
			fit.World += n
		}
	}
	var err error
	s.resume, err = rundir.ChooseResumeContext(ctx, s.at.RunDir, fit, l.Spec.ResumeFrom)
	switch {
	case errors.Is(err, rundir.ErrBranch):
		return refuse(forge.StopInputs, "%v", err)
	case err != nil:
		return refuse(forge.StopLaunch, "checkpoints cannot be listed: %v", err)
	}
	for _, skip := range s.resume.Skipped {
		s.log.Warn().Str("checkpoint", skip.Path).Str("why", skip.Why).Msg("checkpoint skipped")
	}
	return nil
}

// keepsLast is how many checkpoints stay where the recipe does not say.
const keepsLast = 2

// room looks whether this attempt's saves will fit before any GPU works for them. Less than all of them is said; where not even one fits nothing
// would be left of the attempt, and it does not start. Earlier attempts' checkpoints stay, so nothing comes free.
func (s *shim) room() error {
	one, from := s.saveBytes()
	if one <= 0 {
		return nil
	}
	free, bound, err := rundir.Room(s.at.Dir())
	if err != nil {
		s.log.Warn().Err(err).Msg("free space is not known")
		return nil
	}
	keep := int64(keepsLast)
	if n, ok := s.launch.Spec.Whole("checkpoint.keep_last"); ok && n >= 1 && n <= 1000 {
		keep = n
	}
	left := fmt.Sprintf("%s has %s left for this run", bound, mib(free))
	switch {
	case free < one:
		return refuse(forge.StopLaunch, "no room for a single checkpoint: %s, and %s", left, from)
	case free/(keep+1) < one:
		s.resume.Room = fmt.Sprintf("%s; %s, and %d are kept while the next one is written", left, from, keep)
		s.log.Warn().Msg(s.resume.Room)
	}
	return nil
}

// saveBytes is what one checkpoint of this run takes, as far as can be known before its first: what the last took, or, where all
// weights are trained, at least those of the base model.
func (s *shim) saveBytes() (bytes int64, from string) {
	saves, err := rundir.Checkpoints(s.at.RunDir, s.launch.Run, false)
	if err == nil {
		if i := slices.IndexFunc(saves, func(c forge.Checkpoint) bool { return c.Path == s.resume.Path || s.resume.Path == "" && c.Usable() }); i >= 0 {
			return saves[i].Bytes, fmt.Sprintf("the one of step %d took %s", saves[i].Step, mib(saves[i].Bytes))
		}
	}
	spec := s.launch.Spec
	if spec.Base == nil || spec.Params["peft"] != "none" {
		return 0, ""
	}
	for _, m := range s.launch.Inputs {
		if m.Root == spec.Base.Path {
			return m.Bytes(), fmt.Sprintf("the weights alone take %s, as the base model's do", mib(m.Bytes()))
		}
	}
	return 0, ""
}

func mib(bytes int64) string { return forge.FormatMiB(bytes >> 20) }
