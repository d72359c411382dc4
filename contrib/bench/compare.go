package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/store"
)

const (
	compareSamples = 100_000
	compareAsks    = 11
	compareFlips   = 5
	compareLimit   = 500 // ms
)

// compareMS compares two evals of 100,000 samples: of 0 and 1, and of any score. They are read from the database, paired and tested, and the
// samples of the flips that are shown are unpacked. The figure is the median of the slower kind.
func compareMS(ctx context.Context, e env) ([]figure, error) {
	worst := 0.0
	for _, metric := range []string{"acc", "score"} {
		took, err := compareOnce(ctx, e, metric)
		if err != nil {
			return nil, err
		}
		worst = max(worst, took)
	}
	return []figure{atMost("compare_ms", worst, "ms", "budget", compareLimit, 1)}, nil
}

func compareOnce(ctx context.Context, e env, metric string) (median float64, err error) {
	dir, err := os.MkdirTemp("", "forge-compare-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(ctx, filepath.Join(dir, "forge.db"), store.Options{})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	tenant, err := db.CreateTenant(ctx, "bench")
	if err != nil {
		return 0, err
	}
	_, secret, err := db.CreateKey(ctx, tenant.ID, "ana", forge.RoleMember, "bench")
	if err != nil {
		return 0, err
	}
	p, err := db.Authenticate(ctx, secret)
	if err != nil {
		return 0, err
	}
	t := db.For(p)
	r := rand.New(rand.NewPCG(1, e.seed))
	var names []string
	for _, drop := range []float64{0, 0.004} {
		found, err := madeEval(r, metric, drop)
		if err != nil {
			return 0, err
		}
		stored, err := t.ImportEval(ctx, found)
		if err != nil {
			return 0, err
		}
		names = append(names, stored.Name)
	}
	var took, read []float64
	for range compareAsks {
		began := time.Now()
		var sides []gate.Side
		var evals []forge.Eval
		for _, name := range names {
			x, err := t.Eval(ctx, name)
			if err != nil {
				return 0, err
			}
			columns, err := t.EvalColumns(ctx, x)
			if err != nil {
				return 0, err
			}
			s := gate.Side{EvalBrief: x.Brief(), Suite: x.Suite, SuiteSHA256: x.SuiteSHA256, Facts: x.Facts, Scores: x.Scores}
			for _, c := range columns {
				s.Samples = append(s.Samples, gate.Samples(c))
			}
			sides, evals = append(sides, s), append(evals, x)
		}
		read = append(read, ms(time.Since(began)))
		c, flips := gate.Compare(sides[0], sides[1], []gate.Benchmark{{Task: "t", Filter: "none", Metric: metric, Margin: 0.01}}, gate.Options{Flips: compareFlips})
		if len(c.Benchmarks) != 1 || len(flips) != compareFlips {
			return 0, fmt.Errorf("two evals of one suite compare to %+v with %d flips", c, len(flips))
		}
		for _, f := range flips {
			for _, x := range evals {
				if blocks, err := t.EvalBlocks(ctx, x, f.Task, f.Filter, []int64{f.DocID}); err != nil || len(blocks) != 1 {
					return 0, errors.Join(err, fmt.Errorf("document %d of eval %s has %d blocks", f.DocID, x.Name, len(blocks)))
				}
			}
		}
		took = append(took, ms(time.Since(began)))
	}
	slices.Sort(took)
	slices.Sort(read)
	if e.verbose {
		fmt.Printf("  compare_ms, %s: two evals of %d samples; median %.0f ms, of that reading %.0f, slowest %.0f\n", metric, compareSamples, took[len(took)/2], read[len(read)/2], took[len(took)-1])
	}
	return took[len(took)/2], nil
}

// madeEval makes an eval whose scores are lower than those of the first by so much.
func madeEval(r *rand.Rand, metric string, drop float64) (*store.EvalFound, error) {
	found := &store.EvalFound{Eval: forge.Eval{Model: "chat@1", ModelID: "V1", Suite: "bench", SuiteSHA256: "ab", Imported: &forge.EvalImport{Files: []forge.EvalFile{{Name: "x"}}}}}
	n := compareSamples
	found.Facts = forge.EvalFacts{SuiteVersion: 1, Harness: map[string]string{"lm_eval": "0.4.13", "torch": "2", "transformers": "5"}, ModelSHA256: "cd", DType: "bfloat16", Device: "cuda", BatchSize: 8, MaxLength: 4096, Samples: compareSamples}
	for _, b := range []struct{ task, metric string }{{"t", metric}} {
		c := store.EvalColumns{Task: b.task, Filter: "none", Scores: map[string][]float64{b.metric: make([]float64, n)}}
		var at store.EvalLines
		var data bytes.Buffer
		var zip *gzip.Writer
		mean, size := 0.0, int64(0)
		for doc := range n {
			v := r.Float64()
			hard := rand.New(rand.NewPCG(7, uint64(doc))).Float64() // of the question, and the same for both
			if b.metric == "acc" {
				v = map[bool]float64{true: 1}[0.9*hard+0.1*v > 0.4+drop]
			} else {
				v = hard + 0.1*v - drop
			}
			c.Doc, c.Scores[b.metric][doc] = append(c.Doc, int64(doc)), v
			sum := sha256.Sum256(fmt.Append(nil, b.task, doc))
			c.Asked = append(c.Asked, [16]byte(sum[:16]))
			at.Line = append(at.Line, uint32(doc))
			if doc%store.EvalBlock == 0 {
				if zip != nil {
					if err := zip.Close(); err != nil {
						return nil, err
					}
				}
				at.Blocks = append(at.Blocks, int64(data.Len()))
				zip = gzip.NewWriter(&data)
			}
			line := fmt.Appendf(nil, `{"task":%q,"filter":"none","doc_id":%d,"doc_hash":"%x","prompt_hash":"%x","metrics":{%q:%v},"target":"0","response":"%x","prompt":"%x"}`+"\n", b.task, doc, sum, sum, b.metric, v, sum, sum)
			if _, err := zip.Write(line); err != nil {
				return nil, err
			}
			size += int64(len(line))
			mean += v / float64(n)
		}
		if err := zip.Close(); err != nil {
			return nil, err
		}
		found.Columns, found.Lines = append(found.Columns, c), append(found.Lines, at)
		found.Samples = append(found.Samples, store.EvalSamples{Task: b.task, Filter: "none", N: int64(n), Bytes: size, Data: data.Bytes()})
		found.Facts.Tasks = append(found.Facts.Tasks, forge.EvalTask{Task: b.task, Version: "1.0", Hash: "h", Original: int64(n), Effective: int64(n)})
		found.Scores = append(found.Scores, forge.EvalScore{Task: b.task, Filter: "none", Metric: b.metric, Value: mean, N: int64(n), Higher: new(true), Aggregation: "mean"})
	}
	return found, nil
}
