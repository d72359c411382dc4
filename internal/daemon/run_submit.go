package daemon

import (
	"context"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

// checkInputs asks the side that can read the artefact. With several clusters it is enough that
// one reaches it; which ones do is for placement to say.
func (d *Daemon) checkInputs(ctx context.Context, m forge.Manifest) error {
	if f, ok := d.keeperOf(m.Root).(Files); ok { // a person's: nobody else opens it
		return f.CheckInputs(ctx, m)
	}
	var err error
	live := d.live()
	for _, name := range live.order {
		if err = live.clusters[name].Files.CheckInputs(ctx, m); err == nil {
			return nil
		}
	}
	return err
}

// maxAfter bounds how many runs one may wait for.
const maxAfter = 64

// resolveSpec turns a request into a spec that stands by itself: everything is looked up,
// checked and pinned by digest now, so that what could be refused in a second is not refused
// after a night in the queue.
func (d *Daemon) resolveSpec(ctx context.Context, p forge.Principal, q api.SubmitRunRequest) (forge.RunSpec, []string, error) {
	return d.resolveAmong(ctx, p, q, nil)
}

// resolveAmong is resolveSpec for one of several runs that are submitted together, which may name each other.
func (d *Daemon) resolveAmong(ctx context.Context, p forge.Principal, q api.SubmitRunRequest, among steps) (forge.RunSpec, []string, error) {
	var none forge.RunSpec
	rec, err := d.live().recipes.Get(q.Recipe)
	if err != nil {
		return none, nil, asField(err, "recipe")
	}
	if (rec.Kind == recipes.KindScan) != (q.Scan != nil) {
		return none, nil, forge.Invalidf("recipe", "%s reads a dataset and registers it, and is not submitted by itself", rec.Name).
			WithHint("forgectl dataset add NAME PATH --on-cluster submits it; a recipe of the site's that is called scan is of kind: scan")
	}
	params, origins, err := rec.Resolve(q.Params, q.Set)
	if err != nil {
		return none, nil, err
	}
	spec := forge.RunSpec{Name: q.Name, Recipe: rec.Name, RecipeSHA256: rec.SHA256, RecipeWork: rec.WorkSHA256(), Launch: rec.Launch, Entry: rec.Entry, Eval: rec.Kind == recipes.KindEval,
		Params: params, Origins: origins, Priority: min(forge.DefaultPriority, d.maxPriority(p)), MaxRetries: q.MaxRetries, Register: q.Register, Cluster: forge.ClusterName(q.Cluster), Scan: q.Scan,
		Pinned: q.Preemptible != nil && !*q.Preemptible}
	if q.Name != "" {
		if err := forge.CheckName(q.Name); err != nil {
			return none, nil, forge.Invalidf("name", "%v", err)
		}
	}
	if q.Priority != nil {
		spec.Priority = *q.Priority
	}
	if spec.Priority < forge.MinPriority || spec.Priority > forge.MaxPriority {
		return none, nil, forge.Invalidf("priority", "%d: want %d to %d, higher first", spec.Priority, forge.MinPriority, forge.MaxPriority)
	}
	if err := d.mayAskFor(p, "run.submit", spec.Priority); err != nil {
		return none, nil, err
	}
	if q.MaxRetries < 0 {
		return none, nil, forge.Invalidf("max_retries", "%d: want 0 or more", q.MaxRetries)
	}
	resolveTimes(&spec, q, rec)
	if spec.TotalTime > 0 && spec.TotalTime < spec.TimeLimit {
		return none, nil, forge.Invalidf("total_time", "%s is shorter than the time limit of one attempt (%s)", spec.TotalTime, spec.TimeLimit)
	}
	if spec.Gang, err = resolveGang(q, rec.Gang); err != nil {
		return none, nil, err
	}
	in, err := d.resolveInputs(ctx, p, q, rec, &spec, among)
	if err != nil {
		return none, nil, err
	}
	if err := d.mayTrainOn(ctx, p, &spec); err != nil {
		return none, nil, err
	}
	if spec.SecretsFile, err = d.secretsFile(q.SecretsFile); err != nil {
		return none, nil, err
	}
	if err := d.resolveAfter(ctx, p, q, &spec, among); err != nil {
		return none, nil, err
	}
	begins, err := d.resolveBranch(ctx, p, q, &spec)
	if err != nil {
		return none, nil, err
	}
	if err := d.checkRegister(ctx, p, spec, rec); err != nil {
		return none, nil, err
	}
	if err := d.resolveBatch(&spec, q, rec); err != nil {
		return none, nil, err
	}
	if err := d.mayOwnJobs(ctx, p, spec.Cluster); err != nil {
		return none, nil, err
	}
	if err := d.checkCluster(spec); err != nil {
		return none, nil, err
	}
	words, err := d.resolveProgram(p, &spec, q, rec)
	if err != nil {
		return none, nil, err
	}
	notes, err := d.resolveWhere(&spec, q.Where)
	if err != nil {
		return none, nil, err
	}
	notes = append(words, notes...)
	if err := d.checkPlaceable(spec); err != nil {
		return none, nil, err
	}
	more, err := d.admit(ctx, spec)
	if err != nil {
		return none, nil, err
	}
	held, err := d.mayHold(q, spec, in)
	if err != nil {
		return none, nil, err
	}
	looked, err := d.lookBefore(ctx, q, spec, in)
	return spec, slices.Concat(begins, notes, more, held, looked, d.budgetNotes(p.Tenant)), err
}

func resolveTimes(s *forge.RunSpec, q api.SubmitRunRequest, rec recipes.Recipe) {
	pick := func(given, recipe forge.Duration, fallback time.Duration) forge.Duration {
		if given > 0 {
			return given
		}
		if recipe > 0 {
			return recipe
		}
		return forge.Duration(fallback)
	}
	s.TimeLimit = pick(q.TimeLimit, rec.Limits.TimeLimit, 0)
	s.TotalTime = pick(q.TotalTime, s.TimeLimit, 0)
	// A program that is not ours may report nothing for hours: only its recipe or its user knows.
	var first, stall time.Duration
	if rec.Entry.Module != "" {
		first, stall = forge.DefaultStartTimeout, forge.DefaultStallTimeout
	}
	s.StartTimeout = pick(q.StartTimeout, rec.Limits.StartTimeout, first)
	s.StallTimeout = pick(q.StallTimeout, rec.Limits.StallTimeout, stall)
	s.Grace = pick(q.Grace, rec.Limits.Grace, forge.DefaultGrace)
}

func resolveGang(q api.SubmitRunRequest, g forge.Gang) (forge.Gang, error) {
	if q.Nodes > 0 {
		g.Nodes = q.Nodes
	}
	if q.GPUsPerNode > 0 {
		g.GPUsPerNode = q.GPUsPerNode
	}
	if q.GPUs > 0 {
		switch {
		case q.GPUsPerNode > 0 && q.GPUsPerNode*g.Nodes != q.GPUs:
			return g, forge.Invalidf("gpus", "%d GPUs contradict %d nodes × %d GPUs per node", q.GPUs, g.Nodes, q.GPUsPerNode)
		case q.GPUs%g.Nodes != 0:
			return g, forge.Invalidf("gpus", "%d GPUs do not divide by %d nodes; every node of a gang has equally many", q.GPUs, g.Nodes)
		}
		g.GPUsPerNode = q.GPUs / g.Nodes
	}
	if q.CPUsPerGPU > 0 {
		g.CPUsPerGPU = q.CPUsPerGPU
	}
	if q.MemoryMiBPerGPU > 0 {
		g.MemoryMiBPerGPU = q.MemoryMiBPerGPU
	}
	return g, nil
}

func (d *Daemon) resolveInputs(ctx context.Context, p forge.Principal, q api.SubmitRunRequest, rec recipes.Recipe, spec *forge.RunSpec, among steps) (in inputs, err error) {
	t := d.db.For(p)
	switch {
	case q.Dataset == "" && rec.NeedsDataset:
		return in, forge.Invalidf("dataset", "recipe %s needs a dataset of kind %s", rec.Name, kindList(rec.Datasets)).WithHint("forgectl dataset list")
	case q.Dataset != "":
		ref, err := forge.ParseRef(q.Dataset)
		if err != nil {
			return in, forge.Invalidf("dataset", "%v", err)
		}
		v, err := t.DatasetVersion(ctx, ref)
		if err != nil {
			return in, asField(err, "dataset")
		}
		name := versionName(v)
		if !v.DeletedAt.IsZero() {
			return in, forge.Invalidf("dataset", "%s is deleted since %s", name, v.DeletedAt.Format(time.RFC3339)).WithHint("forgectl dataset show %s says which versions there are", v.Name)
		}
		if err := dataset.Accepts(rec.Datasets, v.Kind); err != nil {
			return in, forge.Invalidf("dataset", "%s does not suit recipe %s: %w", name, rec.Name, reason(err)).WithHint("%s", forge.HintOf(err))
		}
		if err := d.checkInputs(ctx, v.Manifest); err != nil {
			return in, forge.Invalidf("dataset", "%s: %v", name, err).
				WithHint("forgectl dataset verify %s names every file that differs; what is there now is a version of its own: forgectl dataset add %s %s", name, v.Name, v.Manifest.Root)
		}
		in.dataset = &v
		spec.Dataset = &forge.InputRef{Name: name, ID: string(v.ID), SHA256: v.SHA256, Path: v.Manifest.Root}
	}
	if in.base, err = d.resolveBase(ctx, t, q, rec, spec, among); err != nil {
		return in, err
	}
	if err := d.resolveReward(ctx, t, q, rec, spec, in.base, among); err != nil {
		return in, err
	}
	if err := d.resolveModel(ctx, t, q, rec, spec, among); err != nil {
		return in, err
	}
	spec.After = awaits(spec)
	return in, d.resolveSuite(ctx, p, q, rec, spec)
}

func kindList(kinds []forge.DatasetKind) string {
	s := make([]string, len(kinds))
	for i, k := range kinds {
		s[i] = string(k)
	}
	return strings.Join(s, ", ")
}

func (d *Daemon) resolveAfter(ctx context.Context, p forge.Principal, q api.SubmitRunRequest, spec *forge.RunSpec, among steps) error {
	if len(q.After) > maxAfter {
		return forge.Invalidf("after", "%d runs; want at most %d", len(q.After), maxAfter)
	}
	for _, name := range q.After {
		if step, is := strings.CutPrefix(name, store.StepRef); is && among != nil {
			r, ok := among[step]
			if !ok {
				return forge.Invalidf("after", "there is no step %q in this pipeline", step)
			}
			if !slices.Contains(spec.After, r.ID) {
				spec.After = append(spec.After, r.ID)
			}
			continue
		}
		r, err := d.db.For(p).Run(ctx, strings.TrimPrefix(name, runRef))
		if err != nil {
			return asField(err, "after")
		}
		if slices.Contains(spec.After, r.ID) {
			continue
		}
		spec.After = append(spec.After, r.ID)
	}
	return nil
}

func (d *Daemon) checkRegister(ctx context.Context, p forge.Principal, spec forge.RunSpec, rec recipes.Recipe) error {
	if spec.Register == "" {
		return nil
	}
	if err := forge.CheckName(spec.Register); err != nil {
		return forge.Invalidf("register", "%v", err)
	}
	m, err := d.db.For(p).Model(ctx, spec.Register)
	if err == nil && m.Kind != forge.ModelTrained {
		return forge.Invalidf("register", "%q is a base model; outputs are registered under a name of their own", spec.Register)
	}
	if err != nil && forge.KindOf(err) != forge.KindNotFound {
		return err
	}
	return nil
}

func (d *Daemon) checkCluster(spec forge.RunSpec) error {
	live := d.live()
	if _, ok := live.clusters[spec.Cluster]; ok || spec.Cluster == "" {
		return nil
	}
	names := make([]string, len(live.order))
	for i, n := range live.order {
		names[i] = string(n)
	}
	return forge.Invalidf("cluster", "%q is not configured; there is %s", spec.Cluster, strings.Join(names, ", "))
}

// checkPlaceable refuses what no cluster could ever hold, and a module that none can run.
func (d *Daemon) checkPlaceable(spec forge.RunSpec) error {
	live := d.live()
	if spec.Entry.Module != "" {
		can := false
		for _, c := range live.clusters {
			own := c.Slurm != nil && spec.Runtime != nil && spec.Runtime.Kind != "" // the run brings an interpreter
			can = can || (c.Modules || own) && (spec.Cluster == "" || spec.Cluster == c.Name)
		}
		if !can {
			return forge.Errorf(forge.KindPrecondition, "run.submit", "recipe %s runs a Python module and no cluster has a training environment", spec.Recipe).
				WithHint("set clusters[].python in config.yaml to an interpreter that has torch, transformers, trl and peft (contrib/python-env/install makes one)")
		}
	}
	if g := d.terrain().part(spec.Cluster); spec.Params["peft"] == "qlora" && len(g.nodes) > 0 && !g.devices {
		place := "this site"
		if spec.Cluster != "" {
			place = "cluster " + string(spec.Cluster)
		}
		return forge.Invalidf("params.peft", "qlora trains a base in 4 bits, which needs a GPU and bitsandbytes; %s only has CPU slots: want lora or none", place)
	}
	ground := d.terrain()
	if ok, largest := ground.fits(spec.Gang, spec.Cluster, spec.Where); !ok {
		g := spec.Gang
		return forge.Invalidf(ground.tooMuch(spec), "%s × %s, each with %s and %s of memory, fits no cluster even when it is empty; %s",
			plural(g.Nodes, "node"), plural(g.GPUsPerNode, "GPU"), plural(g.CPUsPerGPU, "CPU"), forge.FormatMiB(g.MemoryMiBPerGPU), largest).WithHint("forgectl node list")
	}
	return nil
}
