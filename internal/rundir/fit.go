package rundir

import (
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// Fit is what a checkpoint has to be of, for an attempt to go on from it.
type Fit struct {
	Run    forge.RunID
	Recipe string // empty: any
	Base   string // digest of the base model; empty: any
	World  int    // number of ranks; 0: any, since only a launcher of the user's own knows it
}

// FitOf is what a run with this spec can go on from.
func FitOf(run forge.RunID, s forge.RunSpec) Fit {
	f := Fit{Run: run, Recipe: s.Recipe}
	if s.Base != nil {
		f.Base = s.Base.SHA256
	}
	if s.Launch != forge.LaunchNode {
		f.World = s.Gang.GPUs()
	}
	return f
}

// fitIn is the same for whoever knows the run's directory alone. Where there is no spec yet, the run's id has to do.
func fitIn(runDir string, run forge.RunID) Fit {
	spec, err := readJSON[forge.RunSpec](SpecPath(runDir), maxLaunch)
	if err != nil {
		return Fit{Run: run}
	}
	return FitOf(run, spec)
}

// foreign says of what else a manifest is. What a manifest does not say is not held against it: only forge's own recipes say it all.
func (f Fit) foreign(m SaveManifest) string {
	switch {
	case m.Run != f.Run:
		return fmt.Sprintf("manifest is of run %q, not of %q", m.Run, f.Run)
	case f.Recipe != "" && m.Recipe != "" && m.Recipe != f.Recipe:
		return fmt.Sprintf("saved by recipe %s, this run has %s", m.Recipe, f.Recipe)
	case f.Base != "" && m.BaseSHA256 != "" && m.BaseSHA256 != f.Base:
		return fmt.Sprintf("saved on another base model (sha256 %.12s…, this run has %.12s…)", m.BaseSHA256, f.Base)
	case f.World > 0 && m.World != f.World && !m.AnyWorld:
		return fmt.Sprintf("saved by %d ranks, this attempt has %d, and its format cannot be read by another number", m.World, f.World)
	}
	return ""
}
