package footprint

import forge "github.com/forge-ml/forge-ml"

// norm32 is that norms compute in fp32, whatever their input is.
const norm32 = 4

// flow is what passes through the layers.
type flow struct {
	tokens  float64 // of all rows
	batch   float64 // rows as attention sees them
	length  float64
	masked  bool    // rows are of different lengths, or several in one
	stream  float64 // bytes of a number of the residual stream
	trained bool    // norms and biases are
}

func (m measure) flow() flow {
	f := flow{tokens: m.rows * m.length, batch: m.rows, length: m.length, masked: m.rows > 1 || m.writes != "", stream: m.held, trained: m.peft == "none"}
	if m.packed { // all rows in one, which must not see each other
		f.batch, f.length, f.masked = 1, f.tokens, true
	}
	if w := float64(m.shape.Window); w > 0 && f.length >= w { // what a layer must not attend to is a mask
		f.masked = true
	}
	return f
}

// activations is what the graph holds at the end of the forward pass; with checkpointing, when the last layer is computed again.
func (m measure) activations() float64 {
	f, layers := m.flow(), float64(m.shape.Layers)
	one := m.layer(f)
	hidden := float64(m.shape.Hidden)
	n := m.norm(f, hidden) + m.headInput(f) + m.shared(f)
	if m.checkpointing {
		if f.stream == norm32 { // the layer's first norm keeps what is kept already
			one -= f.tokens * hidden * norm32
		}
		return n + layers*f.tokens*hidden*f.stream + one
	}
	n += layers * one
	if !f.trained { // nothing is learned before the first adapter
		n -= m.normInput(f, hidden)
	}
	return n
}

func (m measure) activationsDoc() string {
	if m.checkpointing {
		return "inputs of the layers, and what one layer keeps for its backward pass"
	}
	return "what the layers keep for the backward pass"
}

// normInput is what a norm keeps of its input: in fp32, and what it was divided by.
func (m measure) normInput(f flow, width float64) float64 { return f.tokens * (width*norm32 + norm32) }

// norm is what a norm over the residual stream keeps; what it gives is its reader's.
func (m measure) norm(f flow, width float64) float64 {
	n := m.normInput(f, width)
	if f.trained {
		n += f.tokens * width * m.normed(f)
	}
	return n
}

// normed is the size of a number that was normed and not yet multiplied by the norm's weight.
func (m measure) normed(f flow) float64 {
	if m.family.plusOne {
		return norm32
	}
	return f.stream
}

// read is what the matrices that read one tensor keep of it.
func (m measure) read(f flow, width float64, names ...string) float64 {
	adapted := m.targetedOf(names...)
	switch {
	case f.trained && m.autocast: // each has a copy of its own in the format that is computed in
		return float64(len(names)) * f.tokens * width * m.compute
	case f.trained:
		return f.tokens * width * m.compute
	case adapted == 0:
		return 0
	case m.autocast && m.peft == "lora": // the adapter is fp32: its input goes there and back, each time anew
		return adapted * f.tokens * width * m.compute
	}
	return f.tokens * width * m.compute
}

// layer is what one layer keeps.
func (m measure) layer(f flow) float64 {
	hidden, wide := float64(m.shape.Hidden), float64(m.shape.Intermediate)
	queries := float64(m.shape.Heads * m.shape.HeadDim)
	n := float64(m.family.normsPerLayer) * m.norm(f, hidden)
	n += m.read(f, hidden, "q_proj", "k_proj", "v_proj")
	n += m.attention(f)
	if m.peft == "lora" && m.autocast && m.targeted("o_proj") { // without, it is what attention gave
		n += f.tokens * queries * m.compute
	}
	n += m.read(f, hidden, "gate_proj", "up_proj")
	n += 3 * f.tokens * wide * m.compute // before and after the activation function, and what it is multiplied by
	if f.trained || m.targeted("down_proj") {
		n += f.tokens * wide * m.compute
	}
	return n + f.tokens*m.r*float64(len(m.targets))*m.compute // between the two matrices of each adapter
}

// attention is what it keeps beside what the matrices before it read.
func (m measure) attention(f flow) float64 {
	heads, kvHeads, dim := float64(m.shape.Heads), float64(m.shape.KVHeads), float64(m.shape.HeadDim)
	kept := kvHeads
	if f.masked || m.family.eager {
		kept = heads // keys and values are repeated for the heads that share them
	}
	n := f.tokens * (heads + 2*kept) * dim * m.compute
	if m.family.qkNorm {
		n += f.tokens * (heads + kvHeads) * (dim*norm32 + norm32)
		if f.trained {
			n += f.tokens * (heads + kvHeads) * dim * m.normed(f)
		}
	}
	copied := m.autocast && m.peft == "lora"
	if !m.family.eager || f.trained || m.targeted("o_proj") && !copied { // what it gives: the kernel keeps it, else only who reads it
		n += f.tokens * heads * dim * m.compute
	}
	scores := f.batch * heads * f.length * f.length
	switch {
	case m.family.eager:
		n += scores * norm32 // the softmax is taken in fp32
		if m.autocast {
			n += scores * m.compute
		}
		if m.family.softcap {
			n += scores * m.compute
		}
		return n
	case f.masked:
		n += f.batch * f.length * f.length * m.compute // the mask as numbers, each layer its own
	}
	return n + f.tokens*heads*norm32 // the sum of each row's exponentials
}

// headInput is what the output head keeps: what it reads, and for each token its label and two sums.
func (m measure) headInput(f flow) float64 {
	hidden := float64(m.shape.Hidden)
	if m.scored {
		return f.tokens * hidden * m.compute
	}
	return (f.tokens - f.batch) * (hidden*f.stream + 8 + 2*4)
}

// shared is what all layers keep one of: the angles of the positions, and the mask.
func (m measure) shared(f flow) float64 {
	n := 2 * f.length * float64(m.shape.HeadDim) * f.stream
	if m.packed {
		n += f.length
	}
	if f.trained {
		n += f.tokens * 8 // which rows of the embedding were read
	}
	return n
}

// head is what the output head works in: blocks of logits, never all of them.
func (m measure) head() float64 {
	f := m.flow()
	if m.scored { // one number for each token
		return 0
	}
	tokens, hidden, vocab := f.tokens-f.batch, float64(m.shape.Hidden), float64(m.shape.Vocab)
	n := min(tokens, headTokens)*headColumn*m.compute + tokens*hidden*4
	if m.peft == "none" {
		n += vocab * hidden * 4
	}
	if m.held != m.compute {
		n += min(vocab, headColumn) * hidden * m.compute
	}
	return n
}

func (m measure) headDoc() string {
	return "TRL's fused head: a block of 4096 tokens × 32768 words, and in fp32 the gradients of what it read and of what it trains; never all logits"
}

// Cache is what the keys and values of so many tokens take, each number of so many bytes.
func Cache(s *forge.Shape, tokens, bytes float64) int64 {
	return int64(2 * float64(s.Layers) * float64(s.KVHeads) * float64(s.HeadDim) * tokens * bytes)
}
