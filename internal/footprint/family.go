package footprint

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// family is what sets the layers of one model_type of transformers apart, as far as the tensors go that they keep for the backward pass.
type family struct {
	normsPerLayer int  // over the residual stream
	plusOne       bool // the norm multiplies by 1 + weight, in fp32 (Gemma)
	qkNorm        bool // queries and keys are normed by head
	eager         bool // has no other attention than the one that writes the scores out
	softcap       bool // scores go through a tanh
	scaled        bool // embeddings are scaled
}

// families are the model_types that activations are known of.
var families = map[string]family{
	"llama":       {normsPerLayer: 2},
	"mistral":     {normsPerLayer: 2},
	"qwen2":       {normsPerLayer: 2},
	"qwen3":       {normsPerLayer: 2, qkNorm: true},
	"gemma":       {normsPerLayer: 2, plusOne: true, scaled: true},
	"gemma2":      {normsPerLayer: 4, plusOne: true, scaled: true, eager: true, softcap: true},
	"gemma3_text": {normsPerLayer: 4, plusOne: true, scaled: true, qkNorm: true},
}

// Known are the model_types that can be estimated.
func Known() []string { return slices.Sorted(maps.Keys(families)) }

// elementTypes are the dtypes of files that are read as plain numbers: what they are loaded as is the run's to say.
var elementTypes = map[string]bool{"F32": true, "F16": true, "BF16": true, "F64": true}

// Bounds of what a config may say: anything beyond is a mistake or malice, and arithmetic on it would overflow.
const (
	maxLayers = 10_000
	maxWidth  = 1 << 24
)

// check refuses a model that its parts are not known of.
func check(s *forge.Shape) (family, error) {
	f, ok := families[s.Type]
	switch {
	case !ok:
		return f, unknown("config.json: model_type", "is %q, and what such a model keeps in memory is not known; known are %s", s.Type, strings.Join(Known(), ", "))
	case s.Quantized != "":
		return f, unknown("config.json: quantization_config", "says %q: weights that are quantised on disk are not known; known are plain ones (%s)", s.Quantized, strings.Join(slices.Sorted(maps.Keys(elementTypes)), ", "))
	case s.Experts > 0:
		return f, unknown("config.json: num_experts", "is %d; only models without experts are known", s.Experts)
	}
	for _, d := range slices.Sorted(maps.Keys(s.Elements)) {
		if !elementTypes[d] && s.Elements[d] > 0 {
			return f, unknown("dtype", "%d weights are %s; known are %s", s.Elements[d], d, strings.Join(slices.Sorted(maps.Keys(elementTypes)), ", "))
		}
	}
	for _, v := range []struct {
		name      string
		got, most int64
	}{
		{"num_hidden_layers", s.Layers, maxLayers}, {"hidden_size", s.Hidden, maxWidth}, {"num_attention_heads", s.Heads, maxWidth}, {"num_key_value_heads", s.KVHeads, maxWidth},
		{"head_dim", s.HeadDim, maxWidth}, {"intermediate_size", s.Intermediate, maxWidth}, {"vocab_size", s.Vocab, maxWidth},
	} {
		if v.got < 1 || v.got > v.most {
			return f, unknown("config.json: "+v.name, "is missing or no number from 1 to %d", v.most)
		}
	}
	for _, l := range layerLinears {
		got := s.Linear(l.name)
		if in, out := l.size(s); got.Count != s.Layers || got.In != in || got.Out != out {
			return f, unknown("tensor "+l.name+".weight", "is there %d times as %d×%d; %d layers of a %s have it as %d×%d", got.Count, got.Out, got.In, s.Layers, s.Type, out, in)
		}
	}
	return f, nil
}

// layerLinears are the matrices of a layer, which all the families have alike.
var layerLinears = []struct {
	name string
	size func(s *forge.Shape) (in, out int64)
}{
	{"q_proj", func(s *forge.Shape) (int64, int64) { return s.Hidden, s.Heads * s.HeadDim }},
	{"k_proj", func(s *forge.Shape) (int64, int64) { return s.Hidden, s.KVHeads * s.HeadDim }},
	{"v_proj", func(s *forge.Shape) (int64, int64) { return s.Hidden, s.KVHeads * s.HeadDim }},
	{"o_proj", func(s *forge.Shape) (int64, int64) { return s.Heads * s.HeadDim, s.Hidden }},
	{"gate_proj", func(s *forge.Shape) (int64, int64) { return s.Hidden, s.Intermediate }},
	{"up_proj", func(s *forge.Shape) (int64, int64) { return s.Hidden, s.Intermediate }},
	{"down_proj", func(s *forge.Shape) (int64, int64) { return s.Intermediate, s.Hidden }},
}

// Unknown says what an estimate would have to know and does not.
type Unknown struct {
	Field string
	Text  string
}

func (u *Unknown) Error() string { return u.Field + " " + u.Text }

func unknown(field, format string, args ...any) error {
	return &Unknown{Field: field, Text: fmt.Sprintf(format, args...)}
}
