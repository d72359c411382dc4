package dataset_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// tensorsOf writes weights of these shapes, all BF16, and nothing in them.
func tensorsOf(t testing.TB, shapes map[string][]int64) string {
	t.Helper()
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, end := map[string]entry{}, int64(0)
	for name, s := range shapes {
		n := int64(2)
		for _, d := range s {
			n *= d
		}
		header[name] = entry{"BF16", s, [2]int64{end, end + n}}
		end += n
	}
	b, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(b)))) + string(b) + string(make([]byte, end))
}

func llama(layers int) map[string][]int64 {
	out := map[string][]int64{"model.embed_tokens.weight": {32, 8}, "model.norm.weight": {8}, "lm_head.weight": {32, 8}}
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		out[p+"self_attn.q_proj.weight"], out[p+"self_attn.q_proj.bias"], out[p+"mlp.down_proj.weight"], out[p+"input_layernorm.weight"] = []int64{16, 8}, []int64{16}, []int64{8, 20}, []int64{8}
	}
	out["model.layers.0.self_attn.rotary_emb.inv_freq"] = []int64{2}
	return out
}

func TestTheShapeOfAModelIsReadOffItsConfigAndHeaders(t *testing.T) {
	const config = `{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20, "vocab_size": 32, "max_position_embeddings": 64, "use_sliding_window": false, "sliding_window": 4%s}`
	read := func(t *testing.T, more string, tensors map[string][]int64) *forge.Shape {
		t.Helper()
		files := single()
		files["config.json"], files["model.safetensors"] = fmt.Sprintf(config, more), tensorsOf(t, tensors)
		info, err := dataset.InspectModel(model(t, files))
		if err != nil {
			t.Fatal(err)
		}
		return info.Shape
	}
	matrices := int64(2*(16*8+8*20) + 2*(16+8) + 8)
	want := &forge.Shape{Type: "llama", Layers: 2, Hidden: 8, Heads: 4, KVHeads: 2, HeadDim: 4, Intermediate: 20, Vocab: 32, Positions: 64,
		Elements: map[string]int64{"BF16": matrices + 2*32*8}, Embedding: 256, Head: 256, Tensors: 11,
		Linears: []forge.Linear{{Name: "down_proj", Out: 8, In: 20, Count: 2}, {Name: "q_proj", Out: 16, In: 8, Count: 2}}}
	if got := read(t, "", llama(2)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	t.Run("a head that is the embedding counts once, whether it is in the file or not", func(t *testing.T) {
		without := llama(2)
		delete(without, "lm_head.weight")
		for _, got := range []*forge.Shape{read(t, `, "tie_word_embeddings": true`, llama(2)), read(t, "", without)} {
			if !got.Tied || got.Head != 0 || got.Parameters() != matrices+32*8 || got.Tensors != 10 {
				t.Errorf("%+v", got)
			}
		}
	})
	t.Run("what is quantised, of experts, or of strange numbers is kept as far as it goes", func(t *testing.T) {
		got := read(t, `, "quantization_config": {"quant_method": "gptq"}, "num_local_experts": 8, "head_dim": -3, "vocab_size": "many"`, llama(2))
		if got.Quantized != "gptq" || got.Experts != 8 || got.HeadDim != 4 || got.Vocab != 32 {
			t.Errorf("%+v", got)
		}
	})
}

// FuzzModelHeader: whatever a file of weights and its config say, looking at them ends, with a shape of numbers that can be added up or with a refusal.
func FuzzModelHeader(f *testing.F) {
	f.Add([]byte(tensorsOf(f, llama(1))), []byte(`{"model_type":"llama","num_hidden_layers":1}`))
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"), []byte(`{}`))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), []byte(`{"model_type":7}`))
	header := `{"a.0.b.weight":{"dtype":"NEW","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,0]},"c":{"dtype":"NEW","shape":[4611686018427387904],"data_offsets":[0,1]}}`
	f.Add(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"x"...), []byte(`{"model_type":"x","quantization_config":[1],"tie_word_embeddings":"no"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, weights, config []byte) {
		for name, b := range map[string][]byte{"model.safetensors": weights, "config.json": config, "tokenizer.json": []byte("{}")} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		info, err := dataset.InspectModel(dir)
		if err != nil {
			if forge.KindOf(err) != forge.KindInvalid {
				t.Fatal(err)
			}
			return
		}
		if s := info.Shape; s != nil && (s.Parameters() < 0 || s.Layers < 0 || s.Hidden < 0 || len(s.Linears) > 64 || len(s.Type) > 64) {
			t.Errorf("%+v", s)
		}
	})
}
