package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// inputFlags are those of what a run works on, beside its dataset.
func inputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "base", Usage: "base model, or a trained one to go on from: NAME, NAME@VERSION, or run:NUMBER for what that run registers"},
		&cli.StringFlag{Name: "reward-model", Usage: "what scores, for recipes that take one: NAME, NAME@VERSION or run:NUMBER"},
		&cli.StringFlag{Name: "model", Usage: "what an eval is of: NAME, NAME@VERSION or run:NUMBER"},
		&cli.StringFlag{Name: "suite", Usage: "what an eval runs"},
		&cli.StringFlag{Name: "baseline", Usage: "what an eval is compared with when it ends: an eval (12, i3), or NAME@VERSION"},
	}
}

func inputsOf(c *cli.Context, r *api.SubmitRunRequest) {
	text(c, "dataset", &r.Dataset)
	text(c, "base", &r.Base)
	text(c, "reward-model", &r.RewardModel)
	text(c, "model", &r.Model)
	text(c, "suite", &r.Suite)
	text(c, "baseline", &r.Baseline)
}

// inputFields are what a run works on beside its dataset and its base, and where in a chain it stands, as fields of a listing.
func inputFields(s *forge.RunSpec) []string {
	suite := ""
	if s.Suite != nil {
		suite = s.Suite.Name
	}
	step := ""
	if s.Pipeline != nil {
		step = s.Pipeline.Name + ": " + s.Pipeline.Step
	}
	baseline := ""
	if b := s.Baseline; b != nil {
		baseline = fmt.Sprintf("eval %s of %s", b.Eval, b.Model)
	}
	return []string{"start", refName(s.Start), "scored by", overText(s.RewardModel), "of model", overText(s.Model), "suite", suite, "step of", step, "compared with", baseline}
}

// overText is an input with the base under it, where it is an adapter.
func overText(in *forge.InputRef) string {
	name := refName(in)
	if in != nil && in.Base != nil {
		name += " over " + in.Base.Name
	}
	return name
}
