package gate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// paired is one benchmark with the scores of both sides beside each other.
type paired struct {
	Benchmark
	doc     []int64
	b, c    []float64 // as they were scored
	cluster []uint64
	task    []string // of each, where the benchmark sums up several tasks
	weight  []float64
	shares  bool // all scores are 0 or 1
}

// pair finds the samples of a benchmark on both sides and holds them against each other; what is wrong is added to d, and the pairs are nil then.
func (d *differences) pair(m Benchmark, b, c Side) *paired {
	at := m.Task + "." + m.Metric + "." + m.Filter
	before := len(d.found)
	if !finite(m.Margin) || m.Margin < 0 {
		d.add("margin."+at, "", number(m.Margin), "a margin is 0 or more")
	}
	bs, inB := scoreOf(b, m)
	cs, inC := scoreOf(c, m)
	if !inB || !inC {
		d.add("scores."+at, there(inB), there(inC), "the benchmark has no score")
		return nil
	}
	if !finite(bs.Value) || !finite(cs.Value) {
		d.add("scores."+at, number(bs.Value), number(cs.Value), "the score is no number")
	}
	parts := []string{m.Task}
	if taskOf(b, m.Task).Group || taskOf(c, m.Task).Group {
		parts = partsOf(b, m.Task)
		if other := partsOf(c, m.Task); len(parts) == 0 || !slices.Equal(parts, other) {
			d.add("samples."+m.Task, strings.Join(parts, ", "), strings.Join(other, ", "), "it sums up other tasks, and it is not known of both that they are the same ones")
			return nil
		}
	}
	out := &paired{Benchmark: m, shares: true}
	for _, task := range parts {
		d.samples(out, task, len(parts) > 1, b, c)
	}
	if len(d.found) > before {
		return nil
	}
	d.mean(out, at, bs, cs, parts)
	if len(d.found) > before {
		return nil
	}
	return out
}

// samples adds the pairs of one task.
func (d *differences) samples(to *paired, task string, several bool, b, c Side) {
	x, _ := samplesOf(b, task, to.Filter)
	y, _ := samplesOf(c, task, to.Filter)
	field := "samples." + task
	before := len(d.found)
	columns := func(s Samples, t forge.EvalTask) string {
		n, score := len(s.Doc), s.Scores[to.Metric]
		switch {
		case n == 0:
			return "there are none under filter " + to.Filter
		case score == nil:
			return "the samples have no " + to.Metric
		case len(score) != n || len(s.Asked) != n || s.Cluster != nil && len(s.Cluster) != n:
			return fmt.Sprintf("columns of unequal length: %d documents, %d of %s, %d hashes, %d clusters", n, len(score), to.Metric, len(s.Asked), len(s.Cluster))
		case int64(n) != t.Effective:
			return fmt.Sprintf("%d samples of %d that were evaluated", n, t.Effective)
		}
		for i := 1; i < n; i++ {
			if s.Doc[i] == s.Doc[i-1] {
				return fmt.Sprintf("document %d is there twice", s.Doc[i])
			} else if s.Doc[i] < s.Doc[i-1] {
				return fmt.Sprintf("documents are not in order: %d after %d", s.Doc[i], s.Doc[i-1])
			}
		}
		for i, v := range score {
			if !finite(v) {
				return fmt.Sprintf("document %d has %s %v, which is no number", s.Doc[i], to.Metric, v)
			}
		}
		return ""
	}
	if l, r := columns(x, taskOf(b, task)), columns(y, taskOf(c, task)); l != "" || r != "" {
		d.add(field, l, r, "the samples are not whole")
		return
	}
	if !slices.Equal(x.Doc, y.Doc) {
		only, first := unlike(x.Doc, y.Doc)
		d.add(field, whole(len(x.Doc)), whole(len(y.Doc)), "%d documents are in one of them alone, the first is %d", only, first)
		return
	}
	d.asked(field, x, y)
	if (x.Cluster == nil) != (y.Cluster == nil) || !slices.Equal(x.Cluster, y.Cluster) {
		d.add(field+".cluster", clustered(x), clustered(y), "samples are grouped otherwise")
	}
	if len(d.found) > before {
		return
	}
	bs, cs := x.Scores[to.Metric], y.Scores[to.Metric]
	for i := range bs {
		if (bs[i] != 0 && bs[i] != 1) || (cs[i] != 0 && cs[i] != 1) {
			to.shares = false
			break
		}
	}
	if !several { // the columns themselves, of which nothing is changed
		to.doc, to.b, to.c, to.cluster = x.Doc, bs, cs, x.Cluster
		return
	}
	to.doc, to.b, to.c = append(to.doc, x.Doc...), append(to.b, bs...), append(to.c, cs...)
	for range x.Doc {
		to.task = append(to.task, task)
	}
	if x.Cluster != nil {
		to.cluster = append(to.cluster, x.Cluster...)
	}
	if to.cluster != nil && len(to.cluster) != len(to.doc) {
		d.add(field+".cluster", "", "", "some of its tasks are grouped and some are not")
	}
}

// asked wants one question behind each pair.
func (d *differences) asked(field string, x, y Samples) {
	var none [16]byte
	absent, differ, first := 0, 0, int64(0)
	for i := range x.Doc {
		if x.Asked[i] == none || y.Asked[i] == none {
			absent++
		} else if x.Asked[i] != y.Asked[i] {
			if differ == 0 {
				first = x.Doc[i]
			}
			differ++
		}
	}
	if absent > 0 {
		d.add(field+".asked", "", "", "of %d of %d documents it is not recorded what was asked", absent, len(x.Doc))
	}
	if differ > 0 {
		d.add(field+".asked", "", "", "%d of %d documents were asked otherwise, the first is %d", differ, len(x.Doc), first)
	}
}

// mean wants the score to be the mean of the samples: of all, or of the means of a group's tasks. Else (a perplexity, an F1 over all) differences of
// samples say nothing of the difference of scores.
func (d *differences) mean(p *paired, at string, bs, cs forge.EvalScore, parts []string) {
	for _, s := range []forge.EvalScore{bs, cs} {
		if s.Aggregation != "" && s.Aggregation != "mean" {
			d.add("scores."+at, bs.Aggregation, cs.Aggregation, "it is no mean of its samples, so samples cannot be paired for it")
			return
		}
	}
	if near(meanOf(p.b), bs.Value) && near(meanOf(p.c), cs.Value) {
		return
	}
	if len(parts) > 1 {
		p.weight = make([]float64, len(p.doc))
		count := map[string]int{}
		for _, t := range p.task {
			count[t]++
		}
		for i, t := range p.task {
			p.weight[i] = float64(len(p.doc)) / float64(len(parts)*count[t])
		}
		if near(meanOf(times(p.b, p.weight)), bs.Value) && near(meanOf(times(p.c, p.weight)), cs.Value) {
			return
		}
	}
	d.add("scores."+at, number(bs.Value), number(cs.Value), "the samples have means of %s and %s: the score is not the mean of its samples", number(meanOf(p.b)), number(meanOf(p.c)))
}

// partsOf are the tasks that a group sums up: as the eval has them, else those that bear its name before their own, which is how lm-eval names them
// (blimp, blimp_ellipsis_n_bar_1), if they have all its samples. Whether they are the right ones shows when the mean of their samples is its score.
func partsOf(s Side, group string) []string {
	if named := s.Parts[group]; len(named) > 0 {
		return named
	}
	var out []string
	n := int64(0)
	for _, t := range s.Facts.Tasks {
		if !t.Group && strings.HasPrefix(t.Task, group+"_") {
			out, n = append(out, t.Task), n+t.Effective
		}
	}
	if n != taskOf(s, group).Effective {
		return nil
	}
	slices.Sort(out)
	return out
}

func scoreOf(s Side, m Benchmark) (forge.EvalScore, bool) {
	i := slices.IndexFunc(s.Scores, func(e forge.EvalScore) bool { return e.Task == m.Task && e.Filter == m.Filter && e.Metric == m.Metric })
	if i < 0 {
		return forge.EvalScore{}, false
	}
	return s.Scores[i], true
}

func samplesOf(s Side, task, filter string) (Samples, bool) {
	i := slices.IndexFunc(s.Samples, func(e Samples) bool { return e.Task == task && e.Filter == filter })
	if i < 0 {
		return Samples{}, false
	}
	return s.Samples[i], true
}

func taskOf(s Side, task string) forge.EvalTask {
	i := slices.IndexFunc(s.Facts.Tasks, func(e forge.EvalTask) bool { return e.Task == task })
	if i < 0 {
		return forge.EvalTask{}
	}
	return s.Facts.Tasks[i]
}

// unlike counts what is in one of two ascending columns alone.
func unlike(x, y []int64) (n int, first int64) {
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case j == len(y) || i < len(x) && x[i] < y[j]:
			if n == 0 {
				first = x[i]
			}
			n, i = n+1, i+1
		case i == len(x) || y[j] < x[i]:
			if n == 0 {
				first = y[j]
			}
			n, j = n+1, j+1
		default:
			i, j = i+1, j+1
		}
	}
	return n, first
}

func clustered(s Samples) string {
	if s.Cluster == nil {
		return "each for itself"
	}
	seen := map[uint64]bool{}
	for _, c := range s.Cluster {
		seen[c] = true
	}
	return fmt.Sprintf("%d groups", len(seen))
}

func times(x, by []float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i] * by[i]
	}
	return out
}

func meanOf(x []float64) float64 {
	sum := 0.
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a)) }

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func number(x float64) string { return fmt.Sprintf("%.6g", x) }
