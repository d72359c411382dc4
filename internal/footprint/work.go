package footprint

import (
	forge "github.com/forge-ml/forge-ml"
)

// Assumed is the share of a GPU's peak that training reaches, where no run alike says how long one takes. It is an assumption, and told as one.
const Assumed = 0.35

// Peak is what a type of GPU computes at most, dense, in 10¹² operations a second.
type Peak struct {
	Type         string // words of its name
	Half, Single float64
	NoBF16       bool
}

// peaks are those of the vendors' data sheets, the more special name before the more general one.
var peaks = []Peak{
	{"b200", 2250, 1100, false}, {"h200", 989, 495, false}, {"h100 pcie", 756, 378, false}, {"h100 nvl", 835, 418, false}, {"h100", 989, 495, false}, {"h800", 989, 495, false},
	{"a100", 312, 156, false}, {"a800", 312, 156, false}, {"l40s", 362, 183, false}, {"l40", 181, 90, false}, {"l4", 121, 60, false}, {"a40", 150, 75, false}, {"a10", 125, 62, false}, {"a30", 165, 82, false},
	{"a6000", 155, 77, false}, {"rtx 4090", 165, 83, false}, {"rtx4090", 165, 83, false}, {"rtx 3090", 71, 36, false}, {"rtx3090", 71, 36, false}, {"rtx 5090", 210, 105, false},
	{"v100", 112, 15.7, true}, {"t4", 65, 8.1, true}, {"p100", 18.7, 9.3, true},
}

// PeakOf finds a type of GPU; ok is false for one that nobody has looked up, a slice of one (MIG) and a CPU slot.
func PeakOf(gpuType string) (Peak, bool) {
	if forge.NamesGPUType("mig", gpuType) {
		return Peak{}, false
	}
	for _, p := range peaks {
		if forge.NamesGPUType(p.Type, gpuType) {
			return p, true
		}
	}
	return Peak{}, false
}

// Step is the arithmetic of one optimizer step.
type Step struct {
	Operations float64 // floating-point, of one rank
	Tokens     float64 // of all ranks, with full rows
	Rows       float64 // of the dataset that it takes, over all ranks
	Half       bool    // computed in 16 bits
	Words      string  // how it was counted
}

// Work is the arithmetic of a step of training: 6 operations for each weight and token (2 forward, 4 back), 4 where the weights are frozen, 2 more for
// each further forward pass, and what attention takes.
func Work(j Job) (Step, error) {
	s, err := j.settings()
	if err != nil {
		return Step{}, err
	}
	if j.Model == nil {
		return Step{}, unknown("base", "has no shape")
	}
	if _, err := check(j.Model); err != nil {
		return Step{}, err
	}
	if s.writes != "" {
		return Step{}, unknown("recipe", "%s generates, and for how long is not known before", s.recipe)
	}
	per, words := 6.0, "6 operations for each weight and token"
	if s.peft != "none" {
		per, words = 4, "4 operations for each weight and token: the base is frozen"
	}
	if s.checkpointing {
		per, words = per+2, words+", 2 more for checkpointing"
	}
	if s.recipe == "dpo" {
		per, words = per+2, words+", 2 more for the reference"
	}
	m := measure{settings: s, shape: j.Model}
	matrices := m.layerElements()
	if !s.scored {
		matrices += float64(j.Model.Hidden) * float64(j.Model.Vocab)
	}
	tokens := s.rows * s.length * s.passes
	scores := 2 * float64(j.Model.Layers) * float64(j.Model.Heads*j.Model.HeadDim) * s.length // half of all pairs, twice
	step := Step{Operations: per * tokens * (matrices + scores/2), Tokens: tokens * s.ranks, Half: s.compute == 2, Words: words}
	step.Rows = s.rows * s.passes * s.ranks
	if s.recipe != "lora_sft" {
		step.Rows /= 2
	}
	return step, nil
}

// Seconds is how long a step takes on a GPU, at the share of its peak that is assumed.
func (s Step) Seconds(p Peak) float64 {
	rate := p.Single
	if s.Half {
		rate = p.Half
	}
	return s.Operations / (rate * 1e12 * Assumed)
}
