package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// llama8B has the shape of an 8-billion-parameter Llama.
func llama8B() *forge.Shape {
	s := &forge.Shape{Type: "llama", Layers: 32, Hidden: 4096, Heads: 32, KVHeads: 8, HeadDim: 128, Intermediate: 14336, Vocab: 128256, Positions: 8192,
		Elements: map[string]int64{"BF16": 8_030_261_248}, Embedding: 525_336_576, Head: 525_336_576, Tensors: 291}
	for _, l := range []forge.Linear{{Name: "q_proj", Out: 4096, In: 4096}, {Name: "k_proj", Out: 1024, In: 4096}, {Name: "v_proj", Out: 1024, In: 4096}, {Name: "o_proj", Out: 4096, In: 4096},
		{Name: "gate_proj", Out: 14336, In: 4096}, {Name: "up_proj", Out: 14336, In: 4096}, {Name: "down_proj", Out: 4096, In: 14336}} {
		l.Count = 32
		s.Linears = append(s.Linears, l)
	}
	return s
}

// based registers a base model that is one file on disk and has this shape, and asks for lora_sft on it.
func (r *rig) based(t *testing.T, shape *forge.Shape) api.SubmitRunRequest {
	t.Helper()
	q := r.inputsOf(t, chat, template)
	v, err := r.db.For(r.op).ModelVersion(t.Context(), forge.Ref{Name: q.Base})
	if err != nil {
		t.Fatal(err)
	}
	v.ID, v.Name, v.Number, v.Seen = "", q.Base+"-shaped", 0, &forge.WeightsSeen{ChatTemplate: true, Shards: 1, Shape: shape}
	if _, err := r.db.For(r.op).AddModelVersion(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	q.Base = v.Name
	return q
}

func (r *rig) estimated(t *testing.T, q api.SubmitRunRequest) (api.Estimate, error) {
	t.Helper()
	return runs{r.Daemon}.EstimateRun(t.Context(), r.op, q)
}

func TestARunThatNoGPUHoldsIsRefusedWithWhatWouldFitUnlessItIsForced(t *testing.T) {
	r := startRacked(t, racked("local")...)
	q := r.based(t, llama8B())
	if notes, err := r.ask(t, q); err != nil || len(notes) != 0 && strings.Contains(strings.Join(notes, ""), "memory") {
		t.Errorf("an adapter of 8 billion weights on 80 GB: %v, %q", err, notes)
	}
	q.Set = []string{"peft=none"}
	_, err := r.ask(t, q)
	if forge.KindOf(err) != forge.KindPrecondition {
		t.Fatalf("got %v, want a refusal", err)
	}
	for _, w := range []string{"with rows of 1024 tokens", "optimizer 59.8 GiB", "gradients 29.9 GiB", "the largest GPU that it may go to, H100 80GB HBM3, has 80.0 GiB"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	for _, w := range []string{"--set peft=lora", "--set train.parallel=fsdp --gpus 4", "--force"} {
		if !strings.Contains(forge.HintOf(err), w) {
			t.Errorf("hint %q does not say %q", forge.HintOf(err), w)
		}
	}
	q.Force = true
	notes, err := r.ask(t, q)
	if err != nil {
		t.Fatal(err)
	}
	hasNote(t, notes, "it is submitted since it is forced")

	q.Force, q.Set, q.Where = false, nil, &forge.Constraints{GPUTypes: []string{"a100"}}
	if _, err := r.ask(t, q); err != nil {
		t.Errorf("on 40 GB: %v", err)
	}
	q.Set = []string{"train.max_length=8192", "train.batch_size=2"}
	if _, err := r.ask(t, q); forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "A100") || !strings.Contains(err.Error(), "activations") {
		t.Errorf("long rows where it may only go to 40 GB: %v", err)
	}
	q.Where = nil
	q.Set = []string{"train.max_length=8192", "train.batch_size=2", "train.gradient_checkpointing=true"}
	if _, err := r.ask(t, q); err != nil {
		t.Errorf("with checkpointing: %v", err)
	}
}

func TestWhatAnEstimateDoesNotKnowNeverRefusesARun(t *testing.T) {
	r := startRacked(t, racked("local")...)
	strange := llama8B()
	strange.Type = "mamba"
	for name, c := range map[string]struct {
		shape *forge.Shape
		note  string
	}{"an architecture": {strange, `model_type is "mamba"`}, "no shape": {nil, "registers it anew"}} {
		t.Run(name, func(t *testing.T) {
			q := r.based(t, c.shape)
			q.Set = []string{"peft=none", "train.batch_size=64", "train.max_length=65536"}
			notes, err := r.ask(t, q)
			if err != nil {
				t.Fatal(err)
			}
			hasNote(t, notes, c.note)
			if _, err := r.estimated(t, q); forge.KindOf(err) != forge.KindPrecondition {
				t.Errorf("an estimate that it would have to guess: %v", err)
			}
		})
	}
	t.Run("GPUs whose memory nobody knows", func(t *testing.T) {
		nodes := racked("local")
		for i := range nodes {
			for j := range nodes[i].GPUs {
				nodes[i].GPUs[j].MemoryMiB = 0
			}
		}
		r := startRacked(t, nodes...)
		q := r.based(t, llama8B())
		q.Set = []string{"peft=none"}
		if _, err := r.ask(t, q); err != nil {
			t.Error(err)
		}
	})
	t.Run("CPU slots", func(t *testing.T) {
		r := start(t, 1)
		q := r.based(t, llama8B())
		q.Set = []string{"peft=none"}
		if _, err := r.ask(t, q); err != nil {
			t.Error(err)
		}
	})
}

func TestAnEstimateSaysPartsFitsTimeAndWhatItRestsOn(t *testing.T) {
	r := startRacked(t, racked("local")...)
	q := r.based(t, llama8B())
	q.Set = []string{"train.max_steps=100", "train.max_length=4096"}
	e, err := r.estimated(t, q)
	if err != nil {
		t.Fatal(err)
	}
	if e.Steps != 100 || e.From != "operations" || e.Duration <= 0 || e.GPUHours <= 0 || e.Cost != nil {
		t.Errorf("steps %d, from %q, duration %s, hours %g, cost %v", e.Steps, e.From, e.Duration, e.GPUHours, e.Cost)
	}
	if len(e.GPUs) != 2 || e.GPUs[0].Type != "H100 80GB HBM3" || e.GPUs[0].Fits != "yes" || e.GPUs[0].Count != 12 || e.GPUs[1].Fits != "no" || e.GPUs[1].FreeBytes >= 0 {
		t.Errorf("GPUs %+v", e.GPUs)
	}
	var sum int64
	for _, p := range e.Parts {
		if !p.Late { // gradients come as activations go
			sum += p.Bytes
		}
	}
	if sum != e.Bytes || e.Parts[0].Name != "weights" || e.Parts[0].Bytes != 2*8_030_261_248 {
		t.Errorf("%d bytes in all, parts %+v", e.Bytes, e.Parts)
	}
	if !slices.ContainsFunc(e.Notes, func(n string) bool { return strings.Contains(n, "35 % of the peak") }) {
		t.Errorf("the assumption is not named: %q", e.Notes)
	}
	q.Set = []string{"peft=none"}
	if e, err = r.estimated(t, q); err != nil || len(e.Advice) == 0 || !slices.Equal(e.Advice[0].Set, []string{"peft=lora"}) {
		t.Errorf("what would fit: %+v, %v", e.Advice, err)
	}
	viewer := r.as(t, r.op.Tenant, "vera", forge.RoleViewer)
	if _, err := (runs{r.Daemon}).EstimateRun(context.Background(), viewer, q); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a viewer: %v", err)
	}
}
