package daemon

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// chainRecipes are the least that take each kind of input.
var chainRecipes = map[string]string{
	"rl":     "name: rl\ndoc: d\nentry: {command: [rl]}\nneeds_base: true\nreward_model: true\nworkdir: true\ngang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 1}\n",
	"judge":  "name: judge\ndoc: d\nkind: eval\nentry: {command: [judge]}\nneeds_model: true\ngang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 1}\n",
	"judge2": "name: judge2\ndoc: d\nkind: eval\nentry: {command: [judge]}\nneeds_model: true\nneeds_suite: true\noutput: true\ngang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 1}\n",
	"tune":   "name: tune\ndoc: d\nentry: {command: [tune]}\nneeds_base: true\noutput: true\ngang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 1}\nparams:\n  - {name: peft, type: enum, enum: [lora, none], default: lora, doc: d}\n",
	"reward": "name: reward\ndoc: d\nentry: {command: [reward]}\nneeds_base: true\noutput: true\ngang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 1}\nparams:\n" +
		"  - {name: peft, type: enum, enum: [lora, none], default: lora, doc: d}\n",
}

func startChain(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	for name, text := range chainRecipes {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, 2, func(o *Options) { o.Config.RecipesDir = dir })
	comesTrue(t, "the node is known", func() bool { return len(r.world.nodeList()) > 0 })
	return r
}

// imports registers a base model.
func (r *rig) imports(t *testing.T, name string, change map[string]string) forge.ModelVersion {
	t.Helper()
	v, err := models{r.Daemon}.ImportModel(t.Context(), r.op, api.ImportModelRequest{Name: name, Path: baseModel(t, change)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// adapterFiles are an output that lies over a base, wholeFiles one that does not.
var (
	adapterFiles = map[string]string{"adapter_config.json": "{}", "adapter_model.safetensors": "a"}
	wholeFiles   = map[string]string{"config.json": "{}", "model.safetensors": "w"}
)

func output(t *testing.T, files map[string]string) *forge.Manifest {
	t.Helper()
	m := &forge.Manifest{Root: t.TempDir()}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(m.Root, name), []byte(text+m.Root), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, forge.File{Path: name, Size: int64(len(text + m.Root)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text+m.Root)))})
	}
	return m
}

// trained registers a version as a run of a recipe would.
func (r *rig) trained(t *testing.T, name, recipe string, base forge.ModelVersion, files map[string]string) forge.ModelVersion {
	t.Helper()
	run := r.submit(t, script(1, func(s *forge.RunSpec) { s.Recipe, s.Cluster = recipe, "nowhere" }))
	m := output(t, files)
	v, err := r.db.For(r.op).AddModelVersion(t.Context(), forge.ModelVersion{Name: name, Kind: forge.ModelTrained, SHA256: m.Digest(), Manifest: *m,
		Lineage: &forge.Lineage{Run: run.ID, RunNumber: run.Number, Attempt: 1, Recipe: recipe, Base: base.Input().Name, BaseSHA256: base.SHA256}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *rig) asks(t *testing.T, q api.SubmitRunRequest) forge.Run {
	t.Helper()
	s, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, q)
	if err != nil {
		t.Fatal(err)
	}
	return s.Run
}

func (r *rig) refuses(t *testing.T, q api.SubmitRunRequest, field string, words ...string) {
	t.Helper()
	_, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, q)
	saysNo(t, err, field, words...)
}

func TestATrainedModelIsGoneOnFrom(t *testing.T) {
	r := startChain(t)
	base := r.imports(t, "tiny", nil)
	adapter := r.trained(t, "chat", "tune", base, adapterFiles)
	whole := r.trained(t, "chat-whole", "tune", base, wholeFiles)
	t.Run("an adapter over the base that it was trained on", func(t *testing.T) {
		got := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "chat@1", DryRun: true}).Spec
		if got.Base == nil || got.Base.ID != string(base.ID) || got.Start == nil || got.Start.SHA256 != adapter.SHA256 || got.Start.Base == nil || got.Start.Base.Path != base.Manifest.Root {
			t.Errorf("base %+v, start %+v", got.Base, got.Start)
		}
	})
	t.Run("a whole model as a base of its own", func(t *testing.T) {
		got := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "chat-whole", DryRun: true}).Spec
		if got.Base == nil || got.Base.ID != string(whole.ID) || got.Start != nil {
			t.Errorf("base %+v, start %+v", got.Base, got.Start)
		}
	})
	t.Run("not one whose base was never registered under that digest, and no reward model", func(t *testing.T) {
		other := base
		other.SHA256 = "of other bytes"
		r.trained(t, "lost", "tune", other, adapterFiles)
		r.refuses(t, api.SubmitRunRequest{Recipe: "tune", Base: "lost"}, "base", "lost@1 is an adapter over tiny@1", "not registered any more")
		r.trained(t, "score", "reward", base, adapterFiles)
		r.refuses(t, api.SubmitRunRequest{Recipe: "tune", Base: "score"}, "base", "score@1 is a reward model", "hint:--reward-model")
	})
	t.Run("not one whose files were changed since", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(adapter.Manifest.Root, "adapter_config.json"), []byte("{}{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.refuses(t, api.SubmitRunRequest{Recipe: "tune", Base: "chat@1"}, "base", "chat@1", "adapter_config.json")
	})
}

func TestARewardModelIsOneAndReadsWhatThePolicyWrites(t *testing.T) {
	r := startChain(t)
	config := func(arch, rest string) map[string]string {
		return map[string]string{"config.json": `{"architectures": ["` + arch + `"]` + rest + `}`}
	}
	base := r.imports(t, "tiny", config("LlamaForCausalLM", `, "vocab_size": 100`))
	far := r.imports(t, "far", config("LlamaForCausalLM", `, "vocab_size": 200`))
	r.imports(t, "head", config("LlamaForSequenceClassification", `, "vocab_size": 100, "id2label": {"0": "LABEL_0"}`))
	r.imports(t, "classes", config("LlamaForSequenceClassification", `, "vocab_size": 100`))
	r.trained(t, "chat", "tune", base, adapterFiles)
	score := r.trained(t, "score", "reward", base, adapterFiles)
	r.trained(t, "score-far", "reward", far, adapterFiles)
	ask := func(reward string) api.SubmitRunRequest {
		return api.SubmitRunRequest{Recipe: "rl", Base: "chat", RewardModel: reward, DryRun: true}
	}
	got := r.asks(t, ask("score")).Spec.RewardModel
	if got == nil || got.SHA256 != score.SHA256 || got.Base == nil || got.Base.ID != string(base.ID) {
		t.Errorf("%+v", got)
	}
	if got := r.asks(t, ask("head")).Spec.RewardModel; got == nil || got.Name != "head@1" || got.Base != nil {
		t.Errorf("%+v", got)
	}
	r.refuses(t, ask("chat"), "reward_model", "chat@1 was trained by recipe tune and scores nothing")
	r.refuses(t, ask("tiny"), "reward_model", "tiny@1 has no head that scores")
	r.refuses(t, ask("classes"), "reward_model", "classes@1 sorts into 2 classes")
	r.refuses(t, ask("score-far"), "reward_model", "score-far@1 knows 200 tokens and tiny@1 100")
	r.refuses(t, ask("none@1"), "reward_model", "none@1")
	q := ask("score")
	q.Recipe = "tune"
	r.refuses(t, q, "reward_model", "recipe tune takes none")
}

func TestAnEvalIsOfAModelAndOfNoBase(t *testing.T) {
	r := startChain(t)
	base := r.imports(t, "tiny", nil)
	adapter := r.trained(t, "chat", "tune", base, adapterFiles)
	r.trained(t, "score", "reward", base, adapterFiles)
	got := r.asks(t, api.SubmitRunRequest{Recipe: "judge", Model: "chat@staging", DryRun: true}).Spec
	if got.Base != nil || got.Model == nil || got.Model.SHA256 != adapter.SHA256 || got.Model.Base == nil || got.Model.Base.SHA256 != base.SHA256 {
		t.Errorf("model %+v, base %+v", got.Model, got.Base)
	}
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge"}, "model", "needs a model version")
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: "chat", Base: "tiny"}, "base", "takes none")
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: "score"}, "model", "is a reward model")
	r.refuses(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Model: "chat"}, "model", "recipe tune takes none")
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: "chat", Suite: "safety"}, "suite", "takes none")
}

// completes lets a run start and end well, with what it leaves.
func (r *rig) completes(t *testing.T, run forge.Run, files map[string]string) forge.Run {
	t.Helper()
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.fake.Exit(key, executortest.Ending{Output: output(t, files)}, 0)
	return r.await(t, run.ID, "completed", inState(forge.RunCompleted))
}

func TestWhatARunIsToMakeIsPinnedWhenTheRunThatNeedsItStarts(t *testing.T) {
	r := startChain(t)
	base := r.imports(t, "tiny", nil)
	sft := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Register: "chat"})
	score := r.asks(t, api.SubmitRunRequest{Recipe: "reward", Base: "tiny", Register: "score"})
	name := func(run forge.Run) string { return fmt.Sprintf("run:%d", run.Number) }
	rl := r.asks(t, api.SubmitRunRequest{Recipe: "rl", Base: name(sft), RewardModel: name(score), Register: "policy"})
	judge := r.asks(t, api.SubmitRunRequest{Recipe: "judge", Model: name(rl)})
	if s := rl.Spec; len(s.After) != 2 || s.Base.ID != string(base.ID) || !s.Start.Pending() || s.Start.Base.ID != string(base.ID) || !s.RewardModel.Pending() {
		t.Fatalf("%+v", s)
	}
	sft = r.completes(t, sft, adapterFiles)
	score = r.completes(t, score, adapterFiles)
	done := r.completes(t, rl, adapterFiles)
	var l forge.Launch
	for _, x := range r.fake.Launches() {
		if x.Run == rl.ID {
			l = x
		}
	}
	c := l.Config
	if c.Base.ID != string(base.ID) || c.Start.Name != sft.Model || c.Start.SHA256 == "" || c.Start.Base.Path != base.Manifest.Root || c.RewardModel.Name != score.Model || c.RewardModel.Base.SHA256 != base.SHA256 {
		t.Errorf("ranks are told %+v, %+v, %+v", c.Base, c.Start, c.RewardModel)
	}
	if len(l.Inputs) != 3 {
		t.Errorf("%d manifests are looked at before the ranks start; want base, adapter and reward model", len(l.Inputs))
	}
	v, err := r.db.ModelOfRun(t.Context(), done.ID)
	if err != nil || v.Lineage.Start != sft.Model || v.Lineage.StartSHA256 != c.Start.SHA256 || v.Lineage.RewardModel != score.Model || v.Lineage.RewardSHA256 != c.RewardModel.SHA256 {
		t.Errorf("lineage %+v, %v", v.Lineage, err)
	}
	r.completes(t, judge, nil)
	events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Run: rl.ID}, 100)
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	for _, e := range events {
		if e.Type == forge.EventRunPinned {
			told = e.Message
		}
	}
	if !strings.Contains(told, "start "+sft.Model) || !strings.Contains(told, "reward model "+score.Model) {
		t.Errorf("the events say %q", told)
	}
	t.Run("what is named once it is there is pinned at once", func(t *testing.T) {
		s := r.asks(t, api.SubmitRunRequest{Recipe: "judge", Model: name(rl), DryRun: true}).Spec
		if s.Model.Name != "policy@1" || s.Model.SHA256 == "" || len(s.After) != 0 {
			t.Errorf("%+v after %v", s.Model, s.After)
		}
	})
}

func TestARunThatLeavesAWholeModelInThePlaceOfAnAdapterIsTheBase(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	sft := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Register: "chat"})
	next := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: fmt.Sprintf("run:%d", sft.Number)})
	sft = r.completes(t, sft, wholeFiles)
	r.launched(t, next.ID, 1)
	for _, l := range r.fake.Launches() {
		if l.Run == next.ID && (l.Config.Base.Name != sft.Model || l.Config.Start != nil) {
			t.Errorf("base %+v, start %+v", l.Config.Base, l.Config.Start)
		}
	}
}

func TestARunIsNamedAsAnInputOnlyIfItRegistersSomething(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	mute := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Cluster: "local"})
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: fmt.Sprintf("run:%d", mute.Number)}, "model", "registers nothing when it completes", "hint:--register")
	r.completes(t, mute, adapterFiles)
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: fmt.Sprintf("run:%d", mute.Number)}, "model", "has completed and registered nothing", "hint:forgectl model register")
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: "run:4711"}, "model", "4711")
	other := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Register: "x"})
	r.refuses(t, api.SubmitRunRequest{Recipe: "rl", Base: "tiny", RewardModel: fmt.Sprintf("run:%d", other.Number)},
		"reward_model", "is of recipe tune; want a run of recipe reward")
	gone := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Register: "y", After: []string{fmt.Sprint(other.Number)}}) // which goes on: it waits
	if _, err := (runs{r.Daemon}).CancelRun(t.Context(), r.op, fmt.Sprint(gone.Number), forge.CancelNow); err != nil {
		t.Fatal(err)
	}
	r.await(t, gone.ID, "ended", func(x forge.Run) bool { return x.State.Terminal() })
	r.refuses(t, api.SubmitRunRequest{Recipe: "judge", Model: fmt.Sprintf("run:%d", gone.Number)}, "model", "will never register anything")
}

func TestARunWhoseInputWasNotRegisteredIsHeldInsteadOfStarted(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	sft := r.asks(t, api.SubmitRunRequest{Recipe: "tune", Base: "tiny", Register: "late"})
	judge := r.asks(t, api.SubmitRunRequest{Recipe: "judge", Model: fmt.Sprintf("run:%d", sft.Number)})
	r.imports(t, "late", nil) // the name is taken for a base model meanwhile
	r.completes(t, sft, adapterFiles)
	held := r.await(t, judge.ID, "held", func(x forge.Run) bool { return x.Hold != nil })
	if held.Attempt != 0 || !strings.Contains(held.Hold.Reason, "its model was to be what run 1 registers, which has registered nothing") {
		t.Errorf("attempt %d, %+v", held.Attempt, held.Hold)
	}
	if _, err := (models{r.Daemon}).RegisterModel(t.Context(), r.op, api.RegisterModelRequest{Name: "other", Run: fmt.Sprint(sft.Number)}); err != nil {
		t.Fatal(err)
	}
	if _, err := (holds{r.Daemon}).ReleaseRun(t.Context(), r.op, fmt.Sprint(judge.Number)); err != nil {
		t.Fatal(err)
	}
	r.completes(t, judge, nil)
}

func TestARecipeOfForgesOwnTakesCodeOfTheUserWhereProgramsOfUsersMayRun(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	src := &forge.Source{SHA256: strings.Repeat("a", 64), Root: "/home/ana/rewards"}
	ask := func(recipe string) error {
		s, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, api.SubmitRunRequest{Recipe: recipe, Base: "tiny", Source: src, DryRun: true})
		if err == nil && s.Run.Spec.Source == nil {
			t.Error("the snapshot is left out")
		}
		return err
	}
	if err := ask("rl"); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("where users' programs would run as forged: %v", err)
	}
	s := *r.live()
	c := *s.clusters["local"]
	c.UserPrograms = true
	s.clusters = map[forge.ClusterName]*Cluster{"local": &c}
	r.settings.Store(&s)
	if err := ask("rl"); err != nil {
		t.Error(err)
	}
	saysNo(t, ask("tune"), "source", "recipe tune has a program of its own")
}
