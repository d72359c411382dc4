package forge

// Shape is what the size of a model follows from: what its config.json and the headers of its weights say. No weight is read for it.
type Shape struct {
	Type         string           `json:"type" doc:"model_type of config.json"`
	Layers       int64            `json:"layers" doc:"Decoder layers"`
	Hidden       int64            `json:"hidden" doc:"Width of the residual stream"`
	Heads        int64            `json:"heads" doc:"Attention heads"`
	KVHeads      int64            `json:"kv_heads" doc:"Heads of keys and values"`
	HeadDim      int64            `json:"head_dim"`
	Intermediate int64            `json:"intermediate" doc:"Width of the feed-forward part"`
	Vocab        int64            `json:"vocab" doc:"Rows of the embedding"`
	Positions    int64            `json:"positions,omitempty" doc:"Longest sequence in tokens that it was made for"`
	Window       int64            `json:"window,omitempty" doc:"Tokens that a layer attends to, where that is less than all"`
	Tied         bool             `json:"tied,omitempty" doc:"The output head is the embedding"`
	Experts      int64            `json:"experts,omitempty" doc:"Per layer; 0: it has none"`
	Quantized    string           `json:"quantized,omitempty" doc:"How the weights on disk are quantised; absent: they are not"`
	Elements     map[string]int64 `json:"elements" doc:"Weights by the dtype of the file; a head that is the embedding counts once"`
	Embedding    int64            `json:"embedding" doc:"Weights of the embedding"`
	Head         int64            `json:"head,omitempty" doc:"Weights of an output head of its own"`
	Linears      []Linear         `json:"linears" doc:"Matrices of the layers, those alike together"`
	Tensors      int64            `json:"tensors" doc:"Tensors in all"`
}

// Linear is a matrix that layers have, with how often it is there.
type Linear struct {
	Name   string `json:"name" doc:"Of the module: q_proj"`
	Out    int64  `json:"out"`
	In     int64  `json:"in"`
	Count  int64  `json:"count" doc:"How many there are in all layers"`
	Expert bool   `json:"expert,omitempty" doc:"Of one expert of many"`
}

// Parameters is how many weights there are.
func (s *Shape) Parameters() int64 {
	var n int64
	for _, k := range s.Elements {
		n += k
	}
	return n
}

// Linear finds a matrix by name; the zero value where there is none.
func (s *Shape) Linear(name string) Linear {
	for _, l := range s.Linears {
		if l.Name == name && !l.Expert {
			return l
		}
	}
	return Linear{}
}
