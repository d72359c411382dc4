package dataset

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds of what is kept of a model: more kinds of matrices than this have no transformer's layers, and longer names nobody reads.
const (
	maxLinears  = 64
	maxWord     = 64
	maxElements = 1 << 50
)

// shaper makes a forge.Shape of config.json and of the tensors, one after another. It refuses nothing: what it cannot read stays 0, and
// whoever estimates by it says which field that is.
type shaper struct {
	config  map[string]json.RawMessage
	out     forge.Shape
	linears map[forge.Linear]int64
	more    bool // than maxLinears
	heads   map[string]int64
}

func newShaper(config map[string]json.RawMessage) *shaper {
	s := &shaper{config: config, linears: map[forge.Linear]int64{}, heads: map[string]int64{}}
	s.out.Elements = map[string]int64{}
	s.out.Type = s.word("model_type")
	s.out.Layers, s.out.Hidden = s.count("num_hidden_layers", "n_layer"), s.count("hidden_size", "n_embd")
	s.out.Heads = s.count("num_attention_heads", "n_head")
	s.out.KVHeads = cmp.Or(s.count("num_key_value_heads"), s.out.Heads)
	s.out.HeadDim = s.count("head_dim")
	if s.out.HeadDim == 0 && s.out.Heads > 0 {
		s.out.HeadDim = s.out.Hidden / s.out.Heads
	}
	s.out.Intermediate, s.out.Vocab = s.count("intermediate_size"), s.count("vocab_size")
	s.out.Positions = s.count("max_position_embeddings")
	s.out.Experts = s.count("num_local_experts", "num_experts", "n_routed_experts")
	var use *bool
	if json.Unmarshal(config["use_sliding_window"], &use) != nil || use == nil || *use {
		s.out.Window = s.count("sliding_window")
	}
	if says(config["quantization_config"]) {
		var q struct {
			Method string `json:"quant_method"`
		}
		s.out.Quantized = "unknown"
		if json.Unmarshal(config["quantization_config"], &q) == nil && q.Method != "" {
			s.out.Quantized = q.Method[:min(len(q.Method), maxWord)]
		}
	}
	return s
}

func (s *shaper) word(key string) string {
	var v string
	if json.Unmarshal(s.config[key], &v) != nil {
		return ""
	}
	return v[:min(len(v), maxWord)]
}

// count is the first of these fields that is a whole number above 0.
func (s *shaper) count(keys ...string) int64 {
	for _, k := range keys {
		var v int64
		if json.Unmarshal(s.config[k], &v) == nil && v > 0 {
			return v
		}
	}
	return 0
}

// see takes one tensor of the weights.
func (s *shaper) see(name string, t tensor) {
	n := elements(t.Shape)
	path := strings.Split(strings.TrimSuffix(name, ".weight"), ".")
	last := path[len(path)-1]
	matrix := len(t.Shape) == 2 && strings.HasSuffix(name, ".weight")
	switch {
	case last == "inv_freq" || last == "masked_bias": // made anew, whatever a file says
		return
	case matrix && last == "lm_head":
		s.heads[t.DType] += n
		s.out.Head = n
		return
	case matrix && slices.Contains([]string{"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"}, last):
		s.out.Embedding = n
		s.out.Vocab, s.out.Hidden = cmp.Or(t.Shape[0], s.out.Vocab), cmp.Or(s.out.Hidden, t.Shape[1])
	case matrix && slices.ContainsFunc(path, isNumber):
		l := forge.Linear{Name: last[:min(len(last), maxWord)], Out: t.Shape[0], In: t.Shape[1], Expert: slices.Contains(path, "experts")}
		if _, had := s.linears[l]; had || len(s.linears) < maxLinears {
			s.linears[l]++
		} else {
			s.more = true
		}
	}
	s.out.Tensors++
	s.add(t.DType, n)
}

// add sums up, as far as there is anything so large: a dtype that is newer than this program may claim any size.
func (s *shaper) add(dtype string, n int64) {
	dtype = dtype[:min(len(dtype), maxWord)]
	if _, had := s.out.Elements[dtype]; !had && len(s.out.Elements) >= len(dtypeBits)+1 {
		dtype = "other"
	}
	s.out.Elements[dtype] = min(s.out.Elements[dtype]+n, maxElements)
}

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > 0 && n > maxElements/d {
			return maxElements
		}
		n *= d
	}
	return n
}

func isNumber(s string) bool { _, err := strconv.Atoi(s); return err == nil }

// shape is that of all that was seen; nil where config.json says no model_type.
func (s *shaper) shape() *forge.Shape {
	if s.out.Type == "" {
		return nil
	}
	var tied *bool
	if json.Unmarshal(s.config["tie_word_embeddings"], &tied) != nil {
		tied = nil
	}
	// A file without a head has none of its own, whatever its config leaves out.
	if s.out.Tied = s.out.Head == 0 || tied != nil && *tied; s.out.Tied {
		s.out.Head = 0
	} else {
		s.out.Tensors++
		for d, n := range s.heads {
			s.add(d, n)
		}
	}
	s.out.Linears = []forge.Linear{}
	if !s.more {
		for _, l := range slices.SortedFunc(maps.Keys(s.linears), func(a, b forge.Linear) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Out, b.Out), cmp.Compare(a.In, b.In))
		}) {
			l.Count = s.linears[l]
			s.out.Linears = append(s.out.Linears, l)
		}
	}
	if q := s.out.Linear("q_proj"); q.Out > 0 && s.out.Heads > 0 { // some types have another default than hidden ÷ heads
		s.out.HeadDim = q.Out / s.out.Heads
	}
	if g := s.out.Linear("gate_proj"); g.Out > 0 {
		s.out.Intermediate = g.Out
	}
	return &s.out
}
