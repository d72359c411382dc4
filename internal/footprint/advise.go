package footprint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Change is what could be asked for instead, and what a rank would hold then.
type Change struct {
	Set   []string // KEY=VALUE, for --set
	Ranks int      // 0: as many as now
	Bytes int64
}

// mostRanks is how far a model is split to make it fit.
const mostRanks = 64

// Advise says what would fit in so many bytes: each change by itself where one is enough, else those of the parameters together.
func Advise(j Job, limit int64) []Change {
	var out []Change
	together, all := Change{}, j
	for _, c := range changes(j) {
		if slices.ContainsFunc(out, func(o Change) bool { return slices.Equal(o.Set, c.Set) || sameKey(o, c) }) {
			continue // more ranks, or fewer tokens, than are needed
		}
		if n, ok := try(apply(j, c), limit); ok {
			out = append(out, Change{c.Set, c.Ranks, n})
		} else if c.Ranks == 0 {
			together.Set, all = append(slices.DeleteFunc(together.Set, func(kv string) bool { return keyOf(kv) == keyOf(c.Set[0]) }), c.Set...), apply(all, c)
		}
	}
	if n, ok := try(all, limit); ok && len(out) == 0 {
		return []Change{{Set: together.Set, Bytes: n}}
	}
	return out
}

func keyOf(kv string) string { k, _, _ := strings.Cut(kv, "="); return k }

func sameKey(a, b Change) bool { return keyOf(a.Set[0]) == keyOf(b.Set[0]) }

func try(j Job, limit int64) (int64, bool) {
	parts, err := Of(j)
	if err != nil {
		return 0, false
	}
	n := Total(parts)
	return n, n <= limit
}

func apply(j Job, c Change) Job {
	j.Params = maps.Clone(j.Params)
	for _, kv := range c.Set {
		k, v, _ := strings.Cut(kv, "=")
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			j.Params[k] = n
		} else if v == "true" {
			j.Params[k] = true
		} else {
			j.Params[k] = v
		}
	}
	if c.Ranks > 0 {
		j.Ranks = c.Ranks
	}
	return j
}

// changes are those that the run's own parameters leave open.
func changes(j Job) []Change {
	p, out := params(j.Params), []Change{}
	has := func(name string) bool { _, ok := p[name]; return ok }
	if has("train.gradient_checkpointing") && !p.yes("train.gradient_checkpointing") {
		out = append(out, Change{Set: []string{"train.gradient_checkpointing=true"}})
	}
	if b := p.number("train.batch_size", 1); b > 1 {
		out = append(out, Change{Set: []string{"train.batch_size=1", fmt.Sprintf("train.gradient_accumulation_steps=%.0f", b*p.number("train.gradient_accumulation_steps", 1))}})
	}
	if peft := p.text("peft", ""); peft == "none" {
		out = append(out, Change{Set: []string{"peft=lora"}})
	} else if peft == "lora" && !j.CPU && p.text("train.parallel", "ddp") == "ddp" {
		out = append(out, Change{Set: []string{"peft=qlora"}})
	}
	if n := p.number("train.max_length", 0); n >= 1024 {
		out = append(out, Change{Set: []string{fmt.Sprintf("train.max_length=%.0f", n/2)}}, Change{Set: []string{fmt.Sprintf("train.max_length=%.0f", n/4)}})
	}
	if has("train.parallel") && j.Recipe != "rlhf" && p.text("peft", "") != "qlora" && p.text("dpo.reference", "") != "second_adapter" {
		for n := max(2, j.Ranks); n <= mostRanks; n *= 2 {
			if n > j.Ranks || p.text("train.parallel", "ddp") == "ddp" {
				out = append(out, Change{Set: []string{"train.parallel=fsdp"}, Ranks: n})
			}
		}
	}
	return out
}
