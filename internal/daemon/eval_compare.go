package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// evalSide reads an eval as comparisons need it, with the benchmarks of its suite. An eval is named by the number or id of its run, or iN.
func (d *Daemon) evalSide(ctx context.Context, p forge.Principal, eval string) (gate.EvalEvidence, error) {
	return gate.EvalEvidence{}, forge.Errorf(forge.KindUnavailable, "eval.compare", "comparisons are not built yet")
}

// compareEvals holds two evals against each other. KindNotFound; KindPrecondition where the site has the suite no more.
func (d *Daemon) compareEvals(ctx context.Context, p forge.Principal, baseline, candidate string, o gate.Options) (forge.Comparison, []forge.Flip, error) {
	b, err := d.evalSide(ctx, p, baseline)
	if err != nil {
		return forge.Comparison{}, nil, err
	}
	c, err := d.evalSide(ctx, p, candidate)
	if err != nil {
		return forge.Comparison{}, nil, err
	}
	out, flips := gate.Compare(b.Side, c.Side, c.Benchmarks, o)
	return out, flips, nil
}
