package footprint_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/footprint"
)

// run is one run that tensors were counted in: recipes/python/tests/footprint_models.py, on CPU.
type run struct {
	Name   string           `json:"name"`
	Recipe string           `json:"recipe"`
	Params map[string]any   `json:"params"`
	Shape  *forge.Shape     `json:"shape"`
	Held   map[string]int64 `json:"held"`
}

// keep makes the record anew from a directory that footprint_models.py has filled.
func keep(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var runs []run
	for _, path := range files {
		var c struct {
			run
			Base string                     `json:"base"`
			Held map[string]json.RawMessage `json:"held"`
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := dataset.InspectModel(c.Base)
		if err != nil {
			t.Fatal(err)
		}
		r := run{Name: strings.TrimSuffix(filepath.Base(path), ".json"), Recipe: c.Recipe, Params: c.Params, Shape: info.Shape, Held: map[string]int64{}}
		for name, raw := range c.Held {
			var n int64
			var shape []int64
			switch {
			case name == "tokens" && json.Unmarshal(raw, &shape) == nil && len(shape) == 2:
				r.Params["train.max_length"] = shape[1] // rows are taken to be full
			case strings.HasPrefix(name, "cache_"), name == "kv_cache" && c.Recipe != "rlhf": // only who writes keeps one
			case json.Unmarshal(raw, &n) == nil && n > 0:
				r.Held[name] = n
			}
		}
		runs = append(runs, r)
	}
	b, err := json.MarshalIndent(runs, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join("testdata", "counted.json"), append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func recorded(t testing.TB) []run {
	t.Helper()
	if dir := os.Getenv("COUNTED"); dir != "" {
		keep(t, dir)
	}
	b, err := os.ReadFile(filepath.Join("testdata", "counted.json"))
	if err != nil {
		t.Fatal(err)
	}
	var runs []run
	if err := json.Unmarshal(b, &runs); err != nil {
		t.Fatal(err)
	}
	return runs
}

func said(t testing.TB, j footprint.Job) map[string]int64 {
	t.Helper()
	parts, err := footprint.Of(j)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, p := range parts {
		out[string(p.Name)] = p.Bytes
	}
	return out
}

func TestEveryPartIsWhatTensorsWereCounted(t *testing.T) {
	runs := recorded(t)
	if len(runs) < 5 {
		t.Fatalf("%d runs", len(runs))
	}
	for _, r := range runs {
		t.Run(r.Name, func(t *testing.T) {
			got := said(t, footprint.Job{Recipe: r.Recipe, Params: r.Params, Model: r.Shape, Ranks: 1, CPU: true})
			for name, want := range r.Held {
				if off := math.Abs(float64(got[name] - want)); off > 0.01*float64(want)+16384 {
					t.Errorf("%s: said %d bytes, counted %d", name, got[name], want)
				}
				delete(got, name)
			}
			if len(got) > 0 {
				t.Errorf("nobody counted %v", got)
			}
		})
	}
}

// What an H100 held (make test-gpu, 2026-11-26): half a billion weights in bf16, rows of 1024 tokens. peak is CUDA's, of all tensors at once.
func TestTheSumIsWhatAGPUHeldAtMost(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "gpu.json"))
	var runs []struct {
		run
		Peak int64 `json:"peak"`
	}
	if err == nil {
		err = json.Unmarshal(b, &runs)
	}
	if err != nil || len(runs) != 3 {
		t.Fatalf("%d runs: %v", len(runs), err)
	}
	for _, r := range runs {
		parts, err := footprint.Of(footprint.Job{Recipe: r.Recipe, Params: r.Params, Model: r.Shape, Ranks: 1})
		if err != nil {
			t.Fatal(err)
		}
		parts = slices.DeleteFunc(parts, func(p footprint.Part) bool { return p.Name == footprint.Allowance })
		for _, p := range parts {
			if held := float64(r.Held[string(p.Name)]); math.Abs(float64(p.Bytes)-held) > 0.05*held {
				t.Errorf("%s: %s is said to be %d bytes, and %.0f were counted", r.Name, p.Name, p.Bytes, held)
			}
		}
		if off := float64(footprint.Total(parts)-r.Peak) / float64(r.Peak); math.Abs(off) > 0.03 {
			t.Errorf("%s: said %d bytes, held %d at most: %+.1f %%", r.Name, footprint.Total(parts), r.Peak, 100*off)
		} else {
			t.Logf("%s: %+.1f %%", r.Name, 100*off)
		}
	}
}

func shape() *forge.Shape {
	s := &forge.Shape{Type: "llama", Layers: 32, Hidden: 4096, Heads: 32, KVHeads: 8, HeadDim: 128, Intermediate: 14336, Vocab: 128256,
		Elements: map[string]int64{"BF16": 8_030_261_248}, Embedding: 525_336_576, Head: 525_336_576, Tensors: 291}
	for name, size := range map[string][2]int64{"q_proj": {4096, 4096}, "k_proj": {1024, 4096}, "v_proj": {1024, 4096}, "o_proj": {4096, 4096}, "gate_proj": {14336, 4096}, "up_proj": {14336, 4096}, "down_proj": {4096, 14336}} {
		s.Linears = append(s.Linears, forge.Linear{Name: name, Out: size[0], In: size[1], Count: 32})
	}
	return s
}

func job(recipe string, change map[string]any) footprint.Job {
	p := map[string]any{"peft": "lora", "lora.r": int64(16), "lora.target_modules": "all-linear", "train.batch_size": int64(1), "train.max_length": int64(2048), "train.gradient_accumulation_steps": int64(1),
		"train.gradient_checkpointing": false, "train.precision": "auto", "train.parallel": "ddp"}
	for k, v := range change {
		p[k] = v
	}
	return footprint.Job{Recipe: recipe, Params: p, Model: shape(), Ranks: 1}
}

func TestWhatIsHeldOfAnEightBillionModelByHand(t *testing.T) {
	const n = 8_030_261_248
	lora := said(t, job("lora_sft", nil))
	adapters := int64(16 * 32 * (4096 + 4096 + 2*(4096+1024) + 4096 + 4096 + 3*(4096+14336)))
	if lora["weights"] != 2*n || lora["adapters"] != 4*adapters || lora["gradients"] != 4*adapters || lora["casts"] != 2*adapters {
		t.Errorf("lora in bf16: %v; adapters have %d numbers", lora, adapters)
	}
	all := said(t, job("lora_sft", map[string]any{"peft": "none"}))
	if all["weights"] != 4*n || all["gradients"] != 4*n || all["optimizer"] != 8*n+4*291 {
		t.Errorf("all weights: %v", all)
	}
	if pair := said(t, job("dpo", map[string]any{"peft": "none"})); pair["reference"] != 4*n {
		t.Errorf("a reference of its own: %v", pair)
	}
	if q := said(t, job("lora_sft", map[string]any{"peft": "qlora"})); q["weights"] < 5<<30 || q["weights"] > 6<<30 || q["adapters"] != 2*adapters {
		t.Errorf("in 4 bits: %v", q)
	}
	j := job("lora_sft", map[string]any{"peft": "none", "train.parallel": "fsdp"})
	j.Ranks = 8
	if split := said(t, j); split["weights"] != 4*n/8 || split["gradients"] != 4*n/8 || split["gathered"] == 0 {
		t.Errorf("split over 8: %v", split)
	}
	j.Params["train.parallel"] = "ddp"
	if whole := said(t, j); whole["weights"] != 4*n || whole["gradients"] != 8*n {
		t.Errorf("DDP keeps the gradients in buckets as well: %v", whole)
	}
	ppo := job("rlhf", map[string]any{"rlhf.algorithm": "ppo", "generation.max_new_tokens": int64(512)})
	ppo.Reward = true
	if held := said(t, ppo); held["value_model"] < 2*n || held["reward_model"] < 2*7_500_000_000 || held["kv_cache"] != 2*32*1024*64*2048*2 {
		t.Errorf("ppo: %v", held)
	}
	if grpo := said(t, job("rlhf", map[string]any{"rlhf.algorithm": "grpo"})); grpo["value_model"]+grpo["reward_model"]+grpo["reference"] != 0 {
		t.Errorf("grpo has an adapter to disable, and no value model: %v", grpo)
	}
}

func TestARowBeyondTheWindowNeedsAMask(t *testing.T) {
	j := job("lora_sft", nil)
	j.Model.Type, j.Model.Window = "mistral", 4096
	within := said(t, j)["activations"]
	j.Model.Window = 1024
	// keys and values for all of 32 heads and not for 8, and 2048² numbers: in each of 32 layers
	if got, want := said(t, j)["activations"]-within, int64(32*2*(2*2048*(32-8)*128+2048*2048)); got != want {
		t.Errorf("%d bytes more, want %d", got, want)
	}
}

func TestWhatIsNotKnownIsNamedWithWhatIs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*footprint.Job)
		field  string
		says   string
	}{
		"an architecture":             {func(j *footprint.Job) { j.Model.Type = "mamba" }, "config.json: model_type", "llama"},
		"weights quantised on disk":   {func(j *footprint.Job) { j.Model.Quantized = "gptq" }, "config.json: quantization_config", "gptq"},
		"experts":                     {func(j *footprint.Job) { j.Model.Experts = 8 }, "config.json: num_experts", "8"},
		"a dtype":                     {func(j *footprint.Job) { j.Model.Elements["F8_E4M3"] = 5 }, "dtype", "F8_E4M3"},
		"no layers":                   {func(j *footprint.Job) { j.Model.Layers = 0 }, "config.json: num_hidden_layers", "missing"},
		"more width than there is":    {func(j *footprint.Job) { j.Model.Hidden = 1 << 40 }, "config.json: hidden_size", "16777216"},
		"a matrix of another size":    {func(j *footprint.Job) { j.Model.Linears[0].Out++ }, "", ".weight"},
		"a layer without its matrix":  {func(j *footprint.Job) { j.Model.Linears = j.Model.Linears[1:] }, "", "0 times"},
		"a program of somebody else":  {func(j *footprint.Job) { j.Recipe = "script" }, "recipe", "lora_sft"},
		"a number format":             {func(j *footprint.Job) { j.Params["train.precision"] = "fp8" }, "train.precision", "bf16"},
		"a way to adapt":              {func(j *footprint.Job) { j.Params["peft"] = "dora" }, "peft", "qlora"},
		"a matrix that is not there":  {func(j *footprint.Job) { j.Params["lora.target_modules"] = "q_proj, qkv" }, "lora.target_modules", "qkv"},
		"no shape":                    {func(j *footprint.Job) { j.Model = nil }, "base", "shape"},
		"something else that writes":  {func(j *footprint.Job) { j.Recipe, j.Params["generation.backend"] = "rlhf", "vllm" }, "generation.backend", "hf"},
		"an architecture, by Work":    {func(j *footprint.Job) { j.Model.Type = "mamba" }, "config.json: model_type", "llama"},
		"how long something is wrote": {func(j *footprint.Job) { j.Recipe = "eval" }, "recipe", "known are"},
	} {
		t.Run(name, func(t *testing.T) {
			j := job("lora_sft", nil)
			c.change(&j)
			_, err := footprint.Of(j)
			_, workErr := footprint.Work(j)
			for _, err := range []error{err, workErr} {
				var u *footprint.Unknown
				if !errors.As(err, &u) || !strings.HasPrefix(u.Field, c.field) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %s, which is not known, and %q", err, c.field, c.says)
				}
			}
		})
	}
}

func TestAdviceIsWhatFits(t *testing.T) {
	j := job("lora_sft", map[string]any{"peft": "none"})
	const limit = 80 << 30
	for _, c := range footprint.Advise(j, limit) {
		if c.Bytes > limit || len(c.Set) == 0 {
			t.Errorf("%+v does not fit", c)
		}
	}
	has := func(want string, in []footprint.Change) bool {
		return slices.ContainsFunc(in, func(c footprint.Change) bool { return slices.Contains(c.Set, want) })
	}
	if got := footprint.Advise(j, limit); !has("peft=lora", got) || !has("train.parallel=fsdp", got) {
		t.Errorf("got %+v", got)
	}
	if got := footprint.Advise(job("lora_sft", nil), 1<<30); len(got) != 0 {
		t.Errorf("8 billion weights in 1 GiB: %+v", got)
	}
	if got := footprint.Advise(job("lora_sft", map[string]any{"train.batch_size": int64(8), "train.max_length": int64(8192)}), 12<<30); len(got) != 1 || len(got[0].Set) < 3 {
		t.Errorf("only all of it together fits: %+v", got)
	}
	if j.Params["peft"] != "none" || j.Ranks != 1 {
		t.Errorf("the question was changed: %+v", j)
	}
}

func TestArithmeticOfAStep(t *testing.T) {
	w, err := footprint.Work(job("lora_sft", map[string]any{"peft": "none"}))
	if err != nil {
		t.Fatal(err)
	}
	if want := 6.0 * 2048 * 7.5e9; w.Operations < want || w.Operations > 1.1*want || w.Tokens != 2048 || w.Rows != 1 || !w.Half {
		t.Errorf("%+v, want about %g operations", w, want)
	}
	h100, ok := footprint.PeakOf("NVIDIA H100 80GB HBM3")
	if !ok || h100.Half != 989 || w.Seconds(h100) < 0.2 || w.Seconds(h100) > 0.4 {
		t.Errorf("%+v: %g s", h100, w.Seconds(h100))
	}
	for name, half := range map[string]float64{"NVIDIA H100 PCIe": 756, "NVIDIA A100-SXM4-40GB": 312, "NVIDIA L40S": 362, "NVIDIA GeForce RTX 4090": 165, "Tesla V100-SXM2-32GB": 112} {
		if p, ok := footprint.PeakOf(name); !ok || p.Half != half {
			t.Errorf("%s: %+v %v", name, p, ok)
		}
	}
	for _, name := range []string{"cpu", "", "H100 MIG 1g.10gb", "TPU v5"} {
		if p, ok := footprint.PeakOf(name); ok {
			t.Errorf("%q is taken for %+v", name, p)
		}
	}
}

func TestNoParametersBreakIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		any64 := func(name string) int64 { return rapid.Int64Range(0, 1<<62).Draw(t, name) }
		s := shape()
		s.Layers, s.Hidden, s.Heads, s.KVHeads, s.HeadDim = any64("layers")%(1<<15), any64("hidden")%(1<<25), any64("heads")%(1<<25), any64("kv")%(1<<25), any64("dim")%(1<<25)
		s.Intermediate, s.Vocab, s.Elements["BF16"] = any64("wide")%(1<<25), any64("vocab")%(1<<25), any64("n")%(1<<50)
		s.Linears = nil
		for name, size := range map[string][2]int64{"q_proj": {s.Heads * s.HeadDim, s.Hidden}, "k_proj": {s.KVHeads * s.HeadDim, s.Hidden}, "v_proj": {s.KVHeads * s.HeadDim, s.Hidden},
			"o_proj": {s.Hidden, s.Heads * s.HeadDim}, "gate_proj": {s.Intermediate, s.Hidden}, "up_proj": {s.Intermediate, s.Hidden}, "down_proj": {s.Hidden, s.Intermediate}} {
			s.Linears = append(s.Linears, forge.Linear{Name: name, Out: size[0], In: size[1], Count: s.Layers})
		}
		j := job(rapid.SampledFrom([]string{"lora_sft", "dpo", "reward", "rlhf"}).Draw(t, "recipe"), map[string]any{
			"peft": rapid.SampledFrom([]string{"none", "lora", "qlora"}).Draw(t, "peft"), "train.batch_size": any64("rows") % 65537, "train.max_length": any64("length") % (1<<20 + 1),
			"train.parallel": rapid.SampledFrom([]string{"ddp", "fsdp"}).Draw(t, "parallel"), "train.gradient_checkpointing": rapid.Bool().Draw(t, "checkpointing"), "lora.r": any64("r") % 1025})
		j.Model, j.Ranks = s, rapid.IntRange(1, 1024).Draw(t, "ranks")
		parts, err := footprint.Of(j)
		if err != nil {
			return
		}
		for _, p := range parts {
			if p.Bytes < 0 {
				t.Fatalf("%+v", p)
			}
		}
		if footprint.Total(parts) < 0 {
			t.Fatalf("the sum overflows: %+v", parts)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	j := job("lora_sft", nil)
	for b.Loop() {
		if _, err := footprint.Of(j); err != nil {
			b.Fatal(err)
		}
	}
}
