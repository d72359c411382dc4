package footprint

// policy adds what a policy takes that writes its own answers and learns from their rewards. What grpo and rloo learn with is what supervised
// training takes; of ppo, of other models and of several ranks no run has been counted, and they are marked as guesses.
func (m measure) policy(out []Part, trained, adapters float64) []Part {
	add := func(name PartName, bytes float64, guess bool, doc string) {
		if bytes > 0 {
			out = append(out, Part{Name: name, Bytes: int64(min(bytes, mostBytes)), Guess: guess, Doc: doc})
		}
	}
	ppo := m.writes == "ppo"
	models, buckets := 1.0, 1.0
	if ppo {
		models = 2
	}
	if m.ranks > 1 {
		buckets = 2
	}
	frozen, _ := m.weights()
	add(Gradients, trained*models*buckets, ppo || m.ranks > 1, "one of each trained weight, of the value model too; with several ranks DDP's copy of it")
	add(Optimizer, trained*models*adamMoments+4*m.trainedTensors()*models, ppo, "AdamW: two moments of each trained weight")
	add(Casts, m.casts()*models, ppo, "copies of trained weights in the number format that is computed in, which autocast keeps")
	add(Activations, m.activations()*models, ppo, m.activationsDoc())
	if ppo { // its head is the model's own: all logits of the answers, in fp32 as well, and what the softmax keeps
		add(Logits, m.rows*m.answer*float64(m.shape.Vocab)*(m.compute+4+4), true, "of all tokens of the answers, as they are computed and in fp32, and what the softmax keeps")
	} else {
		add(Logits, m.head(), false, m.headDoc())
	}
	add(KVCache, float64(Cache(m.shape, m.written*m.length, m.cacheBytes())), false, "keys and values of all answers that are written at once, at their full length")
	if m.compared && m.peft == "none" {
		add(Reference, frozen, true, "the model that it started from, a second copy")
	}
	if m.reward {
		add(RewardModel, m.elements()*m.compute, true, "taken to be as large as the base: nothing else is known of it")
	}
	if ppo {
		add(ValueModel, frozen+adapters, true, "the base once more, with a head of one output")
	}
	return out
}

// cacheBytes is the size of a number in the cache: outside autocast, weights decide.
func (m measure) cacheBytes() float64 { return m.held }
