package daemon

import (
	"context"
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

// runRef begins an input that is what a run registers, in the place of a model's name.
const runRef = "run:"

// weights is where the name of a model led to: a version, or the run that is still to make one.
type weights struct {
	name    string // as people know it
	version *forge.ModelVersion
	maker   *forge.Run
}

// ref is what a spec holds of it.
func (w weights) ref() *forge.InputRef {
	if w.version != nil {
		return w.version.Input()
	}
	return &forge.InputRef{Name: w.name, Run: w.maker.ID}
}

// isReward says whether it scores, as far as that is known.
func (w weights) isReward() bool {
	if w.version != nil {
		return w.version.IsReward()
	}
	return w.maker.Spec.Recipe == forge.RewardRecipe
}

// steps are runs that are submitted together with this one, by name; see resolvePipeline.
type steps map[string]*forge.Run

// findWeights finds NAME, NAME@X, run:NUMBER, or step:NAME where runs are submitted together.
func (d *Daemon) findWeights(ctx context.Context, t *store.Tenant, field, name string, among steps) (weights, error) {
	none := weights{}
	if step, is := strings.CutPrefix(name, store.StepRef); is && among != nil {
		r, ok := among[step]
		if !ok {
			return none, forge.Invalidf(field, "there is no step %q in this pipeline", step)
		}
		if r.Spec.Register == "" {
			return none, forge.Invalidf(field, "step %s is of recipe %s, which leaves no model", step, r.Spec.Recipe)
		}
		return weights{name: name, maker: r}, nil
	}
	if number, is := strings.CutPrefix(name, runRef); is {
		r, err := t.Run(ctx, number)
		if err != nil {
			return none, asField(err, field)
		}
		return d.madeBy(ctx, t, field, r)
	}
	ref, err := forge.ParseRef(name)
	if err != nil {
		return none, forge.Invalidf(field, "%v; want NAME, NAME@VERSION or run:NUMBER", err)
	}
	v, err := t.ModelVersion(ctx, ref)
	if err != nil {
		return none, asField(err, field)
	}
	return d.reached(ctx, field, v)
}

// madeBy is what a run has registered, or will have once it completes.
func (d *Daemon) madeBy(ctx context.Context, t *store.Tenant, field string, r forge.Run) (weights, error) {
	none := weights{}
	switch {
	case r.State == forge.RunCompleted:
		v, err := t.ModelOfRun(ctx, r.ID)
		if forge.KindOf(err) == forge.KindNotFound && err != nil {
			return none, forge.Invalidf(field, "run %d has completed and registered nothing", r.Number).
				WithHint("forgectl model register NAME %d registers its output; the next run like it takes --register NAME", r.Number)
		}
		if err != nil {
			return none, err
		}
		return d.reached(ctx, field, v)
	case r.State.Terminal():
		return none, forge.Invalidf(field, "run %d is %s: it will never register anything", r.Number, r.State).WithHint("forgectl run retry %d submits it again", r.Number)
	case r.Spec.Register == "":
		return none, forge.Invalidf(field, "run %d registers nothing when it completes", r.Number).WithHint("submit it with --register NAME; or wait for it, and then: forgectl model register NAME %d", r.Number)
	}
	return weights{name: fmt.Sprintf("%s%d", runRef, r.Number), maker: &r}, nil
}

func (d *Daemon) reached(ctx context.Context, field string, v forge.ModelVersion) (weights, error) {
	name := v.Input().Name
	if err := d.checkInputs(ctx, v.Manifest); err != nil {
		e := forge.Invalidf(field, "%s: %v", name, err)
		if v.Kind == forge.ModelBase {
			return weights{}, e.WithHint("import the changed weights as a new version: forgectl model import %s %s", v.Name, v.Manifest.Root)
		}
		return weights{}, e.WithHint("a trained version is what its run left; one whose files are changed or gone is trained again: forgectl model show %s", name)
	}
	return weights{name: name, version: &v}, nil
}

// baseUnder finds the base model that an adapter was trained on, by what its lineage says.
func (d *Daemon) baseUnder(ctx context.Context, field string, v *forge.ModelVersion) (*forge.ModelVersion, error) {
	name := v.Input().Name
	if v.Lineage == nil || v.Lineage.Base == "" {
		return nil, forge.Invalidf(field, "%s is an adapter, and its lineage does not say over which base model", name)
	}
	ref, err := forge.ParseRef(v.Lineage.Base)
	if err != nil {
		return nil, forge.Invalidf(field, "%s is an adapter over %q, which is no name of a model", name, v.Lineage.Base)
	}
	b, err := d.db.For(forge.Principal{Tenant: v.Tenant}).ModelVersion(ctx, ref)
	switch {
	case forge.KindOf(err) == forge.KindNotFound && err != nil, err == nil && b.SHA256 != v.Lineage.BaseSHA256:
		return nil, forge.Invalidf(field, "%s is an adapter over %s, and the base model that it was trained on is not registered any more", name, v.Lineage.Base).
			WithHint("an adapter needs its base beside it; a run that is to be trained on by itself leaves a whole model with peft=none")
	case err != nil:
		return nil, err
	}
	return &b, nil
}

// resolveBase takes a base model as it is, and a trained one to go on from: an adapter as what lies over its own base, a whole model as
// the base itself.
func (d *Daemon) resolveBase(ctx context.Context, t *store.Tenant, q api.SubmitRunRequest, rec recipes.Recipe, spec *forge.RunSpec, among steps) (*forge.ModelVersion, error) {
	const field = "base"
	switch {
	case q.Base == "" && rec.NeedsBase:
		return nil, forge.Invalidf(field, "recipe %s needs a base model", rec.Name).WithHint("forgectl model list")
	case q.Base == "":
		return nil, nil
	case rec.NeedsModel:
		return nil, forge.Invalidf(field, "recipe %s takes none: it is of a model version, over whatever base that has", rec.Name).WithHint("--model NAME@VERSION")
	}
	w, err := d.findWeights(ctx, t, field, q.Base, among)
	if err != nil {
		return nil, err
	}
	if w.isReward() && rec.Name != forge.RewardRecipe {
		return nil, forge.Invalidf(field, "%s is a reward model: it scores, and writes nothing", w.name).WithHint("--reward-model %s has it score what another model writes", w.name)
	}
	if w.maker != nil {
		return d.baseToCome(ctx, w, spec)
	}
	if !w.version.IsAdapter() {
		spec.Base = w.ref()
		return w.version, nil
	}
	b, err := d.baseUnder(ctx, field, w.version)
	if err != nil {
		return nil, err
	}
	if _, err := d.reached(ctx, field, *b); err != nil {
		return nil, err
	}
	spec.Base, spec.Start = b.Input(), w.ref()
	spec.Start.Base = spec.Base.AsBase()
	return b, nil
}

// baseToCome is said by what the run that makes it was asked for. What it leaves decides, at launch: see pinSpec.
func (d *Daemon) baseToCome(ctx context.Context, w weights, spec *forge.RunSpec) (*forge.ModelVersion, error) {
	under := w.maker.Spec.Base
	if under == nil || !leavesAdapter(w.maker.Spec) {
		spec.Base = w.ref()
		return nil, nil
	}
	base := *under
	spec.Base, spec.Start = &base, w.ref()
	spec.Start.Base = base.AsBase()
	if base.Pending() {
		return nil, nil
	}
	v, err := d.db.ModelVersionByID(ctx, forge.ModelVersionID(base.ID))
	return &v, err
}

// leavesAdapter says what a recipe of forge's own leaves, by its parameters.
func leavesAdapter(s forge.RunSpec) bool {
	peft, has := s.Params["peft"].(string)
	return has && peft != "none"
}

// resolveReward takes what scores, where the recipe has something scored.
func (d *Daemon) resolveReward(ctx context.Context, t *store.Tenant, q api.SubmitRunRequest, rec recipes.Recipe, spec *forge.RunSpec, policy *forge.ModelVersion, among steps) error {
	const field = "reward_model"
	switch {
	case q.RewardModel == "":
		return nil
	case !rec.RewardModel:
		return forge.Invalidf(field, "recipe %s takes none", rec.Name).WithHint("forgectl recipe list says which do")
	}
	w, err := d.findWeights(ctx, t, field, q.RewardModel, among)
	if err != nil {
		return err
	}
	spec.RewardModel = w.ref()
	if w.maker != nil {
		if !w.isReward() {
			return forge.Invalidf(field, "%s is of recipe %s; want a run of recipe %s, which trains reward models", w.name, w.maker.Spec.Recipe, forge.RewardRecipe)
		}
		if under := w.maker.Spec.Base; under != nil && leavesAdapter(w.maker.Spec) {
			spec.RewardModel.Base = under.AsBase()
		}
		return nil
	}
	v := w.version
	under := v
	switch {
	case v.Kind == forge.ModelTrained && !v.IsReward():
		return forge.Invalidf(field, "%s was trained by recipe %s and scores nothing; want a version that recipe %s trained", w.name, recipeOf(v), forge.RewardRecipe).WithHint("forgectl model list")
	case v.Kind == forge.ModelBase && (v.Seen == nil || v.Seen.Outputs == 0):
		return forge.Invalidf(field, "%s has no head that scores, as far as its import has seen; want a sequence-classification model of one output", w.name).
			WithHint("forgectl run submit %s trains one; weights that were imported before that was looked at are imported again", forge.RewardRecipe)
	case v.Kind == forge.ModelBase && v.Seen.Outputs != 1:
		return forge.Invalidf(field, "%s sorts into %d classes; a reward model has one output", w.name, v.Seen.Outputs)
	case v.IsAdapter():
		if under, err = d.baseUnder(ctx, field, v); err != nil {
			return err
		}
		spec.RewardModel.Base = under.Input().AsBase()
	}
	return sameVocabulary(field, w.name, under, policy)
}

func recipeOf(v *forge.ModelVersion) string {
	if v.Lineage == nil {
		return "?"
	}
	return v.Lineage.Recipe
}

// sameVocabulary refuses what is known to read other tokens than the policy writes. What is not known here the rank finds out.
func sameVocabulary(field, name string, reward, policy *forge.ModelVersion) error {
	if policy == nil || reward.SHA256 == policy.SHA256 || reward.Seen == nil || policy.Seen == nil {
		return nil
	}
	if a, b := reward.Seen.Vocab, policy.Seen.Vocab; a > 0 && b > 0 && a != b {
		return forge.Invalidf(field, "%s knows %d tokens and %s %d: they are of two vocabularies, and what one writes the other cannot score", name, a, policy.Input().Name, b).
			WithHint("train a reward model on the base that the policy has: forgectl run submit %s --base %s", forge.RewardRecipe, policy.Name)
	}
	return nil
}

// resolveModel takes the version that an eval is of, with the base under it.
func (d *Daemon) resolveModel(ctx context.Context, t *store.Tenant, q api.SubmitRunRequest, rec recipes.Recipe, spec *forge.RunSpec, among steps) error {
	const field = "model"
	switch {
	case q.Model == "" && rec.NeedsModel:
		return forge.Invalidf(field, "recipe %s needs a model version", rec.Name).WithHint("--model NAME@VERSION, or --model run:NUMBER for what a run registers; forgectl model list")
	case q.Model == "":
		return nil
	case !rec.NeedsModel:
		return forge.Invalidf(field, "recipe %s takes none", rec.Name).WithHint("--base NAME@VERSION is what it trains on")
	}
	w, err := d.findWeights(ctx, t, field, q.Model, among)
	if err != nil {
		return err
	}
	if w.isReward() {
		return forge.Invalidf(field, "%s is a reward model: it scores, and writes nothing that an eval could look at", w.name)
	}
	spec.Model = w.ref()
	switch {
	case w.maker != nil:
		if under := w.maker.Spec.Base; under != nil && leavesAdapter(w.maker.Spec) {
			spec.Model.Base = under.AsBase()
		}
	case w.version.IsAdapter():
		b, err := d.baseUnder(ctx, field, w.version)
		if err != nil {
			return err
		}
		spec.Model.Base = b.Input().AsBase()
	}
	return nil
}

// awaits are the runs that make inputs of this one: they come first.
func awaits(spec *forge.RunSpec) (runs []forge.RunID) {
	for _, x := range spec.Weights() {
		if x.In.Pending() {
			runs = append(runs, x.In.Run)
		}
	}
	return runs
}
