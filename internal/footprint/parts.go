package footprint

import (
	forge "github.com/forge-ml/forge-ml"
)

// PartName names a part of the memory.
type PartName string

// The parts, in the order in which they are told.
const (
	Weights     PartName = "weights"
	Adapters    PartName = "adapters"
	Gradients   PartName = "gradients"
	Optimizer   PartName = "optimizer"
	Casts       PartName = "casts"
	Activations PartName = "activations"
	Logits      PartName = "logits"
	KVCache     PartName = "kv_cache"
	Reference   PartName = "reference"
	RewardModel PartName = "reward_model"
	ValueModel  PartName = "value_model"
	Gathered    PartName = "gathered"
	Allowance   PartName = "allowance"
)

// Part is one part of what a rank holds, at the moment at which it holds most of it.
type Part struct {
	Name  PartName
	Bytes int64
	Guess bool   // no test has counted it, or it is an allowance
	Late  bool   // it grows while what a forward pass left is taken down: the two are never whole together
	Doc   string // what it is, in words
}

// Total is what is held at once. Keys and values are kept while a policy writes, and gone while it learns; gradients that no earlier pass has left
// come as what the forward pass left goes: of these only the largest counts.
func Total(parts []Part) int64 {
	var n, writing, learning, late int64
	for _, p := range parts {
		switch {
		case p.Late:
			late += p.Bytes
		case p.Name == KVCache:
			writing += p.Bytes
		case p.Name == Casts || p.Name == Activations || p.Name == Logits:
			learning += p.Bytes
		default:
			n += p.Bytes
		}
	}
	return n + max(writing, learning, late)
}

const (
	// What CUDA, cuBLAS and NCCL take of a GPU before the first tensor, and what the allocator loses between blocks: allowances, and said to be.
	contextBytes = 800 << 20
	lostShare    = 0.06
	// The blocks of TRL's fused output head (trl/kernels/chunked_logprob.py).
	headTokens = 4096
	headColumn = 32768
	// bitsandbytes: NF4 with a scale of 8 bits for 64 weights, and one of 32 bits for 256 of those.
	quantBlock, quantBlocks = 64, 256
	adamMoments             = 2
	mostBytes               = 1 << 58 // of a part: so many of them add up without an overflow
)

// Of says what one rank of a run holds, part by part. The error is *Unknown where it would have to guess.
func Of(j Job) ([]Part, error) {
	s, err := j.settings()
	if err != nil {
		return nil, err
	}
	if j.Model == nil {
		return nil, unknown("base", "has no shape: nothing of its config.json was kept")
	}
	f, err := check(j.Model)
	if err != nil {
		return nil, err
	}
	m := measure{settings: s, shape: j.Model, family: f}
	var out []Part
	add := func(name PartName, bytes float64, guess bool, doc string) {
		if bytes > 0 {
			out = append(out, Part{Name: name, Bytes: int64(min(bytes, mostBytes)), Guess: guess, Doc: doc})
		}
	}
	share := 1.0 // of what FSDP splits
	if s.split {
		share = s.ranks
	}
	frozen, trained := m.weights()
	adapters := m.adapters()
	size := 4.0 // of a trained number
	if s.peft == "qlora" {
		size = 2
	}
	add(Weights, frozen/share, s.peft == "qlora", m.weightsDoc())
	copies := 1.0
	if s.secondAdapter {
		copies = 2
	}
	add(Adapters, adapters*size*copies/share, false, "LoRA matrices, in fp32 (qlora: bf16)")
	if s.writes != "" {
		return m.allow(m.policy(out, trained*size, adapters*size)), nil
	}
	held, doc := 1.0, "one of each trained weight"
	if s.ranks > 1 && !s.split {
		held, doc = 2, "one of each trained weight, and DDP's copy of it in buckets"
	}
	add(Gradients, trained*size*held/share, held > 1 || s.split, doc)
	// With checkpointing a layer is computed again when most gradients are there; accumulated ones outlast their pass; several ranks keep buckets.
	if last := len(out) - 1; last >= 0 && out[last].Name == Gradients {
		out[last].Late = s.passes == 1 && !s.checkpointing && s.ranks == 1
	}
	add(Optimizer, trained*size*adamMoments/share+4*m.trainedTensors(), s.split, "AdamW: two moments of each trained weight")
	add(Casts, m.casts()/share, s.split, "copies of trained weights in the number format that is computed in, which autocast keeps")
	add(Activations, m.activations(), false, m.activationsDoc())
	add(Logits, m.head(), false, m.headDoc())
	if s.recipe == "dpo" && s.peft == "none" {
		add(Reference, frozen/share, s.split, "a second copy of the base")
	}
	if s.split {
		add(Gathered, m.gathered(), true, "FSDP: two layers, embedding and head made whole while they are computed with")
	}
	return m.allow(out), nil
}

// measure is a model under a run's settings.
type measure struct {
	settings
	shape  *forge.Shape
	family family
}

// elements are the weights of the model as it is loaded.
func (m measure) elements() float64 {
	n := float64(m.shape.Parameters())
	if m.scored {
		n += float64(m.shape.Hidden) - float64(m.shape.Head)
	}
	return n
}

// layerElements are those in matrices of the layers.
func (m measure) layerElements() float64 {
	var n float64
	for _, l := range layerLinears {
		in, out := l.size(m.shape)
		n += float64(in) * float64(out)
	}
	return n * float64(m.shape.Layers)
}

// weights are the bytes of the model, and the number of weights that are trained.
func (m measure) weights() (bytes, trained float64) {
	n := m.elements()
	score := 0.0
	if m.scored {
		score = float64(m.shape.Hidden)
	}
	switch m.peft {
	case "none":
		return n * m.held, n
	case "qlora":
		quantised := m.layerElements()
		bytes = quantised/2 + quantised/quantBlock + 4*quantised/(quantBlock*quantBlocks) + (n-quantised)*m.held
	default:
		bytes = n * m.held
	}
	return bytes + score*m.held, m.adapters() + score // peft trains a copy of the head
}

func (m measure) weightsDoc() string {
	switch {
	case m.peft == "qlora":
		return "the base in 4 bits with its scales; embedding, norms and head in bf16"
	case m.peft == "lora":
		return "the frozen base, in the number format that is computed in"
	}
	return "all weights, in fp32 since they are trained"
}

// adapters is how many numbers one adapter has.
func (m measure) adapters() float64 {
	var n float64
	for _, l := range layerLinears {
		if in, out := l.size(m.shape); m.targeted(l.name) {
			n += m.r * float64(in+out)
		}
	}
	return n * float64(m.shape.Layers)
}

func (m measure) targeted(names ...string) bool {
	for _, n := range names {
		for _, t := range m.targets {
			if n == t {
				return true
			}
		}
	}
	return false
}

func (m measure) targetedOf(names ...string) (n float64) {
	for _, name := range names {
		if m.targeted(name) {
			n++
		}
	}
	return n
}

func (m measure) trainedTensors() float64 {
	if m.peft == "none" {
		return float64(m.shape.Tensors)
	}
	return 2 * float64(len(m.targets)) * float64(m.shape.Layers)
}

// casts are the copies of fp32 weights that autocast makes and the graph keeps.
func (m measure) casts() float64 {
	switch {
	case !m.autocast || m.peft == "qlora":
		return 0
	case m.peft == "lora":
		return m.adapters() * m.compute
	}
	return m.layerElements() * m.compute
}

// gathered is what FSDP makes whole at a time: a layer, the next one that is fetched already, and what is in no layer.
func (m measure) gathered() float64 {
	layers := m.layerElements() / float64(m.shape.Layers) * 2
	return (layers + m.elements() - m.layerElements()) * m.compute
}

// allow adds what no tensor accounts for.
func (m measure) allow(parts []Part) []Part {
	if m.cpu {
		return parts
	}
	n := contextBytes + int64(lostShare*float64(Total(parts)))
	return append(parts, Part{Name: Allowance, Bytes: n, Guess: true, Doc: "CUDA, cuBLAS and NCCL themselves (800 MiB) and 6 % lost between blocks: an allowance, not a count"})
}
