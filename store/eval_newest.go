package store

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// NewestEval: STUB of this branch, until h13-evals is merged, whose file store/eval*.go has it. Delete this file then.
func (t *Tenant) NewestEval(ctx context.Context, version forge.ModelVersionID, suite, suiteSHA string) (forge.Eval, error) {
	var run forge.RunID
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT run FROM eval_results WHERE tenant = ? AND model_id = ? AND suite = ? AND suite_sha256 = ? AND NOT limited
		ORDER BY created_at DESC, run DESC LIMIT 1`, string(t.p.Tenant), string(version), clean(suite), suiteSHA).Scan(&run)
	if absent(err) {
		return forge.Eval{}, notFound("eval.show", "there is no eval of it with suite %s", suite)
	}
	if err != nil {
		return forge.Eval{}, classify("eval.show", err)
	}
	return t.Eval(ctx, string(run))
}
