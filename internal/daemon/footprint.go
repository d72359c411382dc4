package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/footprint"
)

// shapes remembers what was read of models that were imported before import kept their shape, and what could not be.
type shapes struct {
	mu sync.Mutex
	of map[string]*forge.Shape // by the model's digest; nil: it could not be read
}

// mostOldShapes bounds it; a site has few base models.
const mostOldShapes = 256

// shapeOf is what is known of a base model's size; nil: nothing.
func (d *Daemon) shapeOf(v *forge.ModelVersion) *forge.Shape {
	switch {
	case v == nil:
		return nil
	case v.Seen != nil && v.Seen.Shape != nil:
		return v.Seen.Shape
	}
	d.oldShapes.mu.Lock()
	defer d.oldShapes.mu.Unlock()
	if s, had := d.oldShapes.of[v.SHA256]; had {
		return s
	}
	var s *forge.Shape
	if d.mayRead(v.Manifest.Root) == nil && d.mayReadAll(v.Manifest) == nil {
		if info, err := dataset.InspectModel(v.Manifest.Root); err == nil {
			s = info.Shape
		}
	}
	if d.oldShapes.of == nil || len(d.oldShapes.of) >= mostOldShapes {
		d.oldShapes.of = map[string]*forge.Shape{}
	}
	d.oldShapes.of[v.SHA256] = s
	return s
}

// noShape says why nothing is known of a base's size, and what helps; empty where something is, or where there is no base.
func noShape(spec forge.RunSpec, v *forge.ModelVersion, s *forge.Shape) (why, hint string) {
	switch {
	case s != nil || spec.Base == nil:
		return "", ""
	case v == nil:
		return spec.Base.Name + " is not there yet", "it is known once the run that makes it has completed"
	case v.Kind != forge.ModelBase:
		return spec.Base.Name + " is a trained model, of which no shape is kept", "name the base that it was trained on"
	}
	return fmt.Sprintf("%s has no shape: it was imported before shapes were kept and cannot be read now, or its config.json has no model_type", spec.Base.Name),
		fmt.Sprintf("forgectl model import %s %s registers it anew", v.Name, v.Manifest.Root)
}

// jobOf is what a run's footprint is asked of.
func (d *Daemon) jobOf(spec forge.RunSpec, base *forge.ModelVersion) footprint.Job {
	j := footprint.Job{Recipe: spec.Recipe, Params: spec.Params, Model: d.shapeOf(base), Ranks: spec.Gang.GPUs(), Reward: spec.RewardModel != nil}
	if !strings.HasPrefix(spec.Entry.Module, ownModules) { // a site's recipe may have the name of one of forge's
		j.Recipe = "a program of " + spec.Recipe
	}
	return j
}

// kind is GPUs that are alike to a run.
type kind struct {
	cluster forge.ClusterName
	typ     string
	mib     int64
	cpu     bool
	count   int
}

// kinds are the GPUs that a run may go to, the largest first.
func (t *terrain) kinds(c forge.ClusterName, where *forge.Constraints) []kind {
	at := map[kind]int{}
	for i := range t.nodes {
		n := &t.nodes[i]
		if c != "" && n.Cluster != c || !where.Node(n) {
			continue
		}
		for k := range n.GPUs {
			if g := &n.GPUs[k]; where.GPU(g) {
				at[kind{cluster: n.Cluster, typ: g.Type, mib: g.MemoryMiB, cpu: g.Kind == forge.GPUCPUSlot}]++
			}
		}
	}
	out := make([]kind, 0, len(at))
	for k, n := range at {
		k.count = n
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b kind) int {
		return cmp.Or(cmp.Compare(b.mib, a.mib), cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.typ, b.typ))
	})
	return out
}

// kindsOf are those of a run. Thousands of runs ask for the same few.
func (t *terrain) kindsOf(spec forge.RunSpec) []kind {
	s, ok := shapeOf(forge.Gang{}, spec.Cluster, spec.Where)
	if !ok {
		return t.kinds(spec.Cluster, spec.Where)
	}
	t.mu.Lock()
	out, known := t.alike[s]
	t.mu.Unlock()
	if known {
		return out
	}
	out = t.kinds(spec.Cluster, spec.Where)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.alike) >= mostShapes {
		clear(t.alike)
	}
	t.alike[s] = out
	return out
}

// on is a job as it is on a kind of GPU.
func (k kind) on(j footprint.Job) footprint.Job {
	j.CPU = k.cpu
	if p, ok := footprint.PeakOf(k.typ); ok {
		j.NoBF16 = p.NoBF16
	}
	return j
}

// counted is what the parts take that are no allowance.
func counted(parts []footprint.Part) int64 {
	return footprint.Total(slices.DeleteFunc(slices.Clone(parts), func(p footprint.Part) bool { return p.Name == footprint.Allowance }))
}

// fit says whether a rank fits.
func (k kind) fit(j footprint.Job, gang forge.Gang) (api.EstimateFit, error) {
	f := api.EstimateFit{Type: k.typ, Cluster: string(k.cluster), Count: k.count, MemoryMiB: k.mib, Fits: "unknown"}
	parts, err := footprint.Of(k.on(j))
	if err != nil {
		return f, err
	}
	f.Bytes = footprint.Total(parts)
	if k.cpu {
		f.MemoryMiB = gang.MemoryMiBPerGPU
	}
	if f.MemoryMiB <= 0 {
		return f, nil
	}
	f.FreeBytes = f.MemoryMiB<<20 - f.Bytes
	switch {
	case f.FreeBytes >= 0:
		f.Fits = "yes"
	case counted(parts) <= f.MemoryMiB<<20:
		f.Fits = "barely"
	default:
		f.Fits = "no"
	}
	return f, nil
}

// mayHold refuses a run that no GPU that it may go to holds, even without what is only an allowance, unless it is forced. What is not known never refuses, and
// neither do CPU slots: a host has other memory than what a run asks for. It costs some microseconds: nothing is read, and nothing is remembered for it.
func (d *Daemon) mayHold(q api.SubmitRunRequest, spec forge.RunSpec, in inputs) ([]string, error) {
	if in.base == nil || !strings.HasPrefix(spec.Entry.Module, ownModules) {
		return nil, nil
	}
	kinds := d.terrain().kindsOf(spec)
	if !slices.ContainsFunc(kinds, func(k kind) bool { return !k.cpu && k.mib > 0 }) {
		return nil, nil
	}
	j := d.jobOf(spec, in.base)
	if j.Model == nil {
		why, hint := noShape(spec, in.base, nil)
		return []string{"whether it fits a GPU's memory is not known: " + why + "; " + hint}, nil
	}
	var best api.EstimateFit
	var largest kind
	for _, k := range kinds {
		f, err := k.fit(j, spec.Gang)
		if u := (*footprint.Unknown)(nil); errors.As(err, &u) {
			return []string{"whether it fits a GPU's memory is not known: " + u.Error()}, nil
		}
		switch {
		case err != nil:
			return nil, err
		case k.cpu, f.Fits == "yes", f.Fits == "unknown":
			return nil, nil
		case best.Type == "", f.FreeBytes > best.FreeBytes:
			best, largest = f, k
		}
	}
	parts, err := footprint.Of(largest.on(j))
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("with rows of %v tokens a rank is estimated to hold %s (%s), and the largest GPU that it may go to, %s, has %s",
		spec.Params["train.max_length"], sizeText(counted(parts)), partsText(parts), largest.typ, sizeText(largest.mib<<20))
	if best.Fits == "barely" {
		return []string{fmt.Sprintf("%s: that leaves less than CUDA and fragmentation commonly take", what)}, nil
	}
	if q.Force {
		return []string{what + "; it is submitted since it is forced"}, nil
	}
	return nil, forge.Errorf(forge.KindPrecondition, "run.submit", "%s", what).WithHint("%s", adviceText(footprint.Advise(largest.on(j), largest.mib<<20)))
}

// partsText names what most of it is.
func partsText(parts []footprint.Part) string {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p footprint.Part) bool { return p.Name == footprint.Allowance })
	slices.SortStableFunc(parts, func(a, b footprint.Part) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var out []string
	for _, p := range parts[:min(len(parts), 4)] {
		out = append(out, fmt.Sprintf("%s %s", strings.ReplaceAll(string(p.Name), "_", " "), sizeText(p.Bytes)))
	}
	return strings.Join(out, ", ")
}

func adviceText(changes []footprint.Change) string {
	var out []string
	for _, c := range changes {
		t := "--set " + strings.Join(c.Set, " --set ")
		if c.Ranks > 0 {
			t += fmt.Sprintf(" --gpus %d", c.Ranks)
		}
		out = append(out, fmt.Sprintf("%s (%s)", t, sizeText(c.Bytes)))
	}
	if len(out) == 0 {
		return "none of checkpointing, smaller batches, shorter rows, an adapter in 4 bits or more ranks would make it fit; take a smaller base, or submit it all the same with --force"
	}
	return "what would fit: " + strings.Join(out, "; or ") + "; or submit it all the same with --force"
}

// sizeText is bytes for a sentence.
func sizeText(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.0f MiB", math.Ceil(float64(n)/(1<<20)))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// EstimateRun implements api.Estimates.
func (s runs) EstimateRun(ctx context.Context, p forge.Principal, q api.SubmitRunRequest) (api.Estimate, error) {
	var none api.Estimate
	if err := least(p, "run.estimate", forge.RoleMember, "estimating a run"); err != nil {
		return none, err
	}
	q.NoCheck, q.Force = true, true
	spec, _, err := s.d.resolveSpec(ctx, p, q)
	if err != nil {
		return none, err
	}
	var base *forge.ModelVersion
	if spec.Base != nil && spec.Base.ID != "" {
		v, err := s.d.db.For(p).ModelVersionByID(ctx, forge.ModelVersionID(spec.Base.ID))
		if err != nil {
			return none, err
		}
		base = &v
	}
	j := s.d.jobOf(spec, base)
	if why, hint := noShape(spec, base, j.Model); why != "" {
		e := forge.Errorf(forge.KindPrecondition, "run.estimate", "%s", why).WithHint("%s", hint)
		e.Field = "base"
		return none, e
	}
	out := api.Estimate{Gang: spec.Gang, Parts: []api.EstimatePart{}, GPUs: []api.EstimateFit{}, Notes: []string{}}
	kinds := s.d.terrain().kindsOf(spec)
	first := kind{} // with which the parts are told
	if len(kinds) > 0 {
		first = kinds[0]
	}
	parts, err := footprint.Of(first.on(j))
	if err != nil {
		return none, asUnknown(err)
	}
	out.Parameters, out.Bytes = j.Model.Parameters(), footprint.Total(parts)
	for _, part := range parts {
		out.Parts = append(out.Parts, api.EstimatePart{Name: string(part.Name), Bytes: part.Bytes, Guess: part.Guess, Late: part.Late, Doc: part.Doc})
	}
	for _, k := range kinds {
		f, err := k.fit(j, spec.Gang)
		if err != nil {
			return none, asUnknown(err)
		}
		out.GPUs = append(out.GPUs, f)
	}
	if len(out.GPUs) > 0 && !first.cpu && !slices.ContainsFunc(out.GPUs, func(f api.EstimateFit) bool { return f.Fits == "yes" || f.Fits == "unknown" }) {
		for _, c := range footprint.Advise(first.on(j), first.mib<<20) {
			out.Advice = append(out.Advice, api.EstimateAdvice{Set: c.Set, GPUs: c.Ranks, Bytes: c.Bytes})
		}
	}
	out.Notes = append(out.Notes, notesOf(spec, first)...)
	return out, s.d.howLong(ctx, p, spec, j, kinds, &out)
}

// asUnknown is what an estimate would have to guess, as an error of the API.
func asUnknown(err error) error {
	if u := (*footprint.Unknown)(nil); errors.As(err, &u) {
		e := forge.Errorf(forge.KindPrecondition, "run.estimate", "%s", u.Text)
		e.Field = u.Field
		return e
	}
	return err
}

func notesOf(spec forge.RunSpec, k kind) []string {
	notes := []string{fmt.Sprintf("rows are taken to be full, %v tokens; shorter ones take less", spec.Params["train.max_length"])}
	if k.cpu {
		return append(notes, "on CPU slots: memory of the host, held against memory_mib_per_gpu; Python and torch themselves are not counted")
	}
	return append(notes, "allowance is none of the tensors: what CUDA takes, and what is lost between blocks")
}

// howLong says what is known of the time: of runs alike that ended, else by the arithmetic.
func (d *Daemon) howLong(ctx context.Context, p forge.Principal, spec forge.RunSpec, j footprint.Job, kinds []kind, out *api.Estimate) error {
	var step footprint.Step
	err := error(&footprint.Unknown{Text: "the base has no shape"})
	if j.Model != nil {
		step, err = footprint.Work(j)
	}
	on := -1 // the kind of GPU that the duration is of
	if err == nil {
		if out.Steps, err = d.stepsOf(ctx, p, spec, step); err != nil {
			return err
		}
		for i, k := range kinds {
			if peak, ok := footprint.PeakOf(k.typ); ok && !k.cpu && out.Steps > 0 {
				at, err := footprint.Work(k.on(j))
				if err != nil {
					return err
				}
				out.GPUs[i].Duration = seconds(at.Seconds(peak) * float64(out.Steps))
			}
		}
	} else if u := (*footprint.Unknown)(nil); errors.As(err, &u) {
		out.Notes = append(out.Notes, "duration by arithmetic is not known: "+u.Error())
	}
	if took, n := d.world.took(&forge.Run{Tenant: p.Tenant, Spec: spec}); n > 0 {
		out.Duration, out.From = forge.Duration(took), "history"
		on = slices.IndexFunc(out.GPUs, func(f api.EstimateFit) bool { return f.Fits != "no" })
		out.Notes = append(out.Notes, fmt.Sprintf("duration: %d runs of this recipe, base and number of GPUs ended, after %s on average", n, took.Round(time.Second)))
	} else if i := slices.IndexFunc(out.GPUs, func(f api.EstimateFit) bool { return f.Duration > 0 && f.Fits != "no" }); i >= 0 {
		out.Duration, out.From, on = out.GPUs[i].Duration, "operations", i
		out.Notes = append(out.Notes, fmt.Sprintf("duration is a guess: %s, at %.0f %% of the peak of %s, which is an assumption", step.Words, footprint.Assumed*100, out.GPUs[i].Type))
	}
	if out.Duration > 0 {
		out.GPUHours = out.Duration.D().Hours() * float64(spec.Gang.GPUs())
		if on >= 0 {
			if price, known := d.priceOn(spec, kinds[on]); known {
				cost := price * out.GPUHours
				out.Cost, out.Currency = &cost, d.live().cfg.Currency
			} else {
				out.Notes = append(out.Notes, fmt.Sprintf("what an hour of a %s costs nobody has said: clusters[].prices of the configuration", kinds[on].typ))
			}
		}
	}
	return nil
}

func seconds(s float64) forge.Duration {
	return forge.Duration(time.Duration(min(s, math.MaxInt64/2e9) * float64(time.Second)).Round(time.Second))
}

// stepsOf is how many optimizer steps a run has; 0: not known.
func (d *Daemon) stepsOf(ctx context.Context, p forge.Principal, spec forge.RunSpec, step footprint.Step) (int64, error) {
	switch n := spec.Params["train.max_steps"].(type) {
	case int64:
		if n > 0 {
			return n, nil
		}
	case int:
		if n > 0 {
			return int64(n), nil
		}
	}
	epochs, _ := spec.Params["train.epochs"].(float64)
	if n, ok := spec.Params["train.epochs"].(int64); ok {
		epochs = float64(n)
	}
	if spec.Dataset == nil || epochs <= 0 || step.Rows <= 0 || spec.Params["train.packing"] == true { // how many rows make one is not known
		return 0, nil
	}
	v, err := d.db.For(p).DatasetVersionByID(ctx, forge.DatasetVersionID(spec.Dataset.ID))
	if err != nil {
		return 0, err
	}
	return int64(math.Ceil(math.Ceil(float64(v.Rows)/step.Rows) * epochs)), nil
}
