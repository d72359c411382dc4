package gate_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

const suiteSHA = "5f1de5f1de5f1de5f1de5f1de5f1de5f1de5f1de5f1de5f1de5f1de5f1de5f1d"

// bench is the benchmark acc of a task.
func bench(task string, margin float64) gate.Benchmark {
	return gate.Benchmark{Task: task, Filter: "none", Metric: "acc", Threshold: 0.5, Margin: margin}
}

// side is a whole eval with these scores by task, and everything recorded that there is to record.
func side(name string, tasks map[string][]float64) gate.Side {
	s := gate.Side{EvalBrief: forge.EvalBrief{Eval: name, Model: "chat@" + name, ModelSHA256: "sha-" + name, CreatedAt: time.Unix(1e9, 0)},
		Suite: "ours", SuiteSHA256: suiteSHA,
		Facts: forge.EvalFacts{SuiteVersion: 1, Harness: map[string]string{"lm_eval": "0.4.13", "torch": "2.11.0", "transformers": "5.20.0"}, ModelSHA256: "sha-" + name,
			DType: "bfloat16", Device: "cuda:0", BatchSize: 8, Seed: 42, MaxLength: 2048, ChatTemplate: "c0ffee"}}
	for _, task := range sortedKeys(tasks) {
		scores := tasks[task]
		col := gate.Samples{Task: task, Filter: "none", Scores: map[string][]float64{"acc": scores}}
		sum := 0.
		for i, v := range scores {
			col.Doc = append(col.Doc, int64(i))
			var asked [16]byte
			copy(asked[:], task)
			binary.BigEndian.PutUint64(asked[8:], uint64(i)+1)
			col.Asked = append(col.Asked, asked)
			sum += v
		}
		n := int64(len(scores))
		s.Samples = append(s.Samples, col)
		s.Scores = append(s.Scores, forge.EvalScore{Task: task, Filter: "none", Metric: "acc", Value: sum / float64(n), N: n, Aggregation: "mean"})
		s.Facts.Tasks = append(s.Facts.Tasks, forge.EvalTask{Task: task, Version: "1.0", Hash: "hash of " + task, NShot: 5, Original: n, Effective: n})
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// passes are n scores of 0 and 1, of which so many are 0: the first ones from a place on.
func passes(n int, failed ...int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = 1
	}
	for _, i := range failed {
		out[i] = 0
	}
	return out
}

// upTo counts 0 to n-1.
func upTo(from, to int) []int {
	var out []int
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func seeded(words ...any) *rand.Rand {
	s := fmt.Sprint(words...)
	var seed [32]byte
	copy(seed[:], s)
	return rand.New(rand.NewChaCha8(seed))
}
