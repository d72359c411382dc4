package footprint

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Job is what the footprint is asked of.
type Job struct {
	Recipe string
	Params map[string]any // resolved
	Model  *forge.Shape
	Reward bool // a reward model scores what is written
	Ranks  int
	CPU    bool // ranks are on CPU slots
	NoBF16 bool // the GPU computes in no bf16
}

// settings are the parameters that memory and time follow from.
type settings struct {
	recipe        string
	peft          string
	r             float64
	targets       []string // of the layer's matrices
	secondAdapter bool
	rows, length  float64 // of one forward pass that is learned from, and tokens of a row
	passes        float64 // accumulated for a step
	checkpointing bool
	split         bool // FSDP
	packed        bool
	ranks         float64
	compute, held float64 // bytes of a number: computed with, and of weights that are loaded
	autocast, cpu bool
	scored        bool    // a head of one output in place of the vocabulary
	writes        string  // how a policy learns that writes its own answers: ppo, grpo, rloo; empty: it does not
	answer        float64 // tokens that are written
	written       float64 // rows that are written at once
	compared      bool    // with the model that it started from
	reward        bool
}

// recipes are those whose program is forge's own, so that what it holds is known.
var known = []string{"lora_sft", "dpo", "reward", "rlhf"}

func (j Job) settings() (settings, error) {
	if !slices.Contains(known, j.Recipe) {
		return settings{}, unknown("recipe", "%s runs a program that is not forge's own, and what it holds is not known; known are %s", j.Recipe, strings.Join(known, ", "))
	}
	p := params(j.Params)
	s := settings{recipe: j.Recipe, peft: p.text("peft", "none"), r: p.number("lora.r", 8), rows: p.number("train.batch_size", 1), length: p.number("train.max_length", 1024),
		passes: p.number("train.gradient_accumulation_steps", 1), checkpointing: p.yes("train.gradient_checkpointing"), split: p.text("train.parallel", "ddp") == "fsdp" && j.Ranks > 1,
		packed: p.yes("train.packing"), ranks: float64(max(1, j.Ranks)), scored: j.Recipe == "reward", cpu: j.CPU}
	if j.Recipe == "dpo" || j.Recipe == "reward" { // a pair is two rows
		s.rows *= 2
	}
	s.secondAdapter = j.Recipe == "dpo" && s.peft != "none" && p.text("dpo.reference", "") == "second_adapter"
	if j.Recipe == "rlhf" {
		s.writes, s.answer, s.reward = p.text("rlhf.algorithm", "ppo"), p.number("generation.max_new_tokens", 256), j.Reward
		s.rows, s.written, s.compared = p.number("train.batch_size", 8), p.number("train.batch_size", 8)*s.passes, p.number("rlhf.beta", 0.05) != 0
		if s.writes == "ppo" {
			s.written, s.compared = p.number("ppo.rollout_batch_size", 64), true
		}
		if p.text("generation.backend", "hf") != "hf" {
			return s, unknown("generation.backend", "is %q, which takes what it is given of a GPU; known is hf", p.text("generation.backend", ""))
		}
	}
	format := p.text("train.precision", "auto")
	switch {
	case format == "auto" && (j.CPU || j.NoBF16):
		format = "fp32"
	case format == "auto":
		format = "bf16"
	}
	s.compute, s.held = 4, 4
	switch format {
	case "fp32":
	case "bf16", "fp16":
		s.compute, s.autocast = 2, true
		if s.peft != "none" {
			s.held = 2
		}
	default:
		return s, unknown("train.precision", "is %q; known are auto, fp32, bf16, fp16", format)
	}
	if s.peft != "none" && s.peft != "lora" && s.peft != "qlora" {
		return s, unknown("peft", "is %q; known are lora, qlora, none", s.peft)
	}
	if s.peft == "qlora" {
		s.held = 2
	}
	var err error
	s.targets, err = targets(s.peft, p.text("lora.target_modules", "all-linear"))
	return s, err
}

// targets are the matrices that get an adapter.
func targets(peft, wanted string) ([]string, error) {
	var all []string
	for _, l := range layerLinears {
		all = append(all, l.name)
	}
	switch {
	case peft == "none":
		return nil, nil
	case strings.TrimSpace(wanted) == "all-linear":
		return all, nil
	}
	var out []string
	for name := range strings.SplitSeq(wanted, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(all, name) {
			return nil, unknown("lora.target_modules", "names %q; known are all-linear or any of %s", name, strings.Join(all, ", "))
		}
		out = append(out, name)
	}
	return out, nil
}

// params reads resolved parameters, whatever kind of number they came as.
type params map[string]any

func (p params) number(name string, otherwise float64) float64 {
	switch v := p[name].(type) {
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return otherwise
}

func (p params) text(name, otherwise string) string {
	switch v := p[name].(type) {
	case nil:
		return otherwise
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

func (p params) yes(name string) bool { v, _ := p[name].(bool); return v }
