package gate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// differences collects what two evals had to share and do not.
type differences struct{ found []forge.Invalidity }

func (d *differences) add(field, baseline, candidate, why string, args ...any) {
	d.found = append(d.found, forge.Invalidity{Field: field, Baseline: baseline, Candidate: candidate, Why: fmt.Sprintf(why, args...)})
}

// same wants a fact to be there on both sides and to be equal: what nobody recorded is not assumed to be alike.
func (d *differences) same(field, baseline, candidate, why string) {
	switch {
	case baseline == "" || candidate == "":
		d.add(field, baseline, candidate, "it is not recorded, so nobody knows whether it was the same")
	case baseline != candidate:
		d.add(field, baseline, candidate, "%s", why)
	}
}

// equal is same for what may well be absent or 0.
func (d *differences) equal(field, baseline, candidate, why string) {
	if baseline != candidate {
		d.add(field, baseline, candidate, "%s", why)
	}
}

// facts holds two evals against each other before any score is looked at.
func (d *differences) facts(b, c Side) {
	d.same("suite", b.Suite, c.Suite, "they are of two suites")
	d.same("suite_sha256", b.SuiteSHA256, c.SuiteSHA256, "the suite was changed in between")
	d.whole(b, c)
	f, g := b.Facts, c.Facts
	if b.ModelSHA256 != f.ModelSHA256 || c.ModelSHA256 != g.ModelSHA256 {
		d.add("model_sha256", f.ModelSHA256, g.ModelSHA256, "one of the evals is of other bytes than the version that it stands for")
	}
	d.same("dtype", f.DType, g.DType, "the number format of the weights moves scores by itself")
	// one card of a kind or another may be told apart (cuda:1); CPU and GPU add up in another order, which turns answers that were close
	kind := func(s string) string { k, _, _ := strings.Cut(s, ":"); return k }
	d.same("device", kind(f.Device), kind(g.Device), "CPU and GPU round differently, which turns answers that are close")
	d.equal("batch_size", whole(f.BatchSize), whole(g.BatchSize), "the batch size changes padding and rounding, and with them answers that are close")
	d.equal("max_length", whole(f.MaxLength), whole(g.MaxLength), "longer inputs were cut at another place")
	d.equal("seed", whole(f.Seed), whole(g.Seed), "examples and answers were drawn from another seed")
	d.equal("chat_template", f.ChatTemplate, g.ChatTemplate, "prompts were written with another chat template")
	if len(f.Harness) == 0 || len(g.Harness) == 0 || f.Harness["lm_eval"] == "" || g.Harness["lm_eval"] == "" {
		d.add("harness.lm_eval", f.Harness["lm_eval"], g.Harness["lm_eval"], "the harness and its version are not recorded")
	}
	versions := maps.Clone(f.Harness)
	if versions == nil {
		versions = map[string]string{}
	}
	maps.Copy(versions, g.Harness)
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		if name != "lm_eval" || f.Harness[name] != "" && g.Harness[name] != "" {
			d.same("harness."+name, f.Harness[name], g.Harness[name], "another release may score otherwise")
		}
	}
	d.tasks(f.Tasks, g.Tasks)
}

// whole wants every sample of both.
func (d *differences) whole(b, c Side) {
	if b.Limited || c.Limited || b.Facts.Limit != 0 || c.Facts.Limit != 0 {
		say := func(s Side) string {
			switch {
			case s.Facts.Limit != 0:
				return whole(s.Facts.Limit)
			case s.Limited:
				return "limited"
			}
			return "none"
		}
		d.add("limit", say(b), say(c), "a limited eval has not seen every sample; no comparison takes it")
	}
}

func (d *differences) tasks(b, c []forge.EvalTask) {
	index := func(tasks []forge.EvalTask) map[string]forge.EvalTask {
		out := map[string]forge.EvalTask{}
		for _, t := range tasks {
			out[t.Task] = t
		}
		return out
	}
	if len(b) == 0 || len(c) == 0 {
		d.add("tasks", whole(len(b)), whole(len(c)), "which tasks were run is not recorded")
	}
	left, right := index(b), index(c)
	all := maps.Clone(left)
	maps.Copy(all, right)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x, inB := left[name]
		y, inC := right[name]
		at := "tasks." + name
		if !inB || !inC {
			d.add(at, there(inB), there(inC), "the task was not run")
			continue
		}
		d.equal(at+".version", x.Version, y.Version, "another version of the task asks or scores otherwise")
		d.equal(at+".n_shot", whole(x.NShot), whole(y.NShot), "another number of examples stood before each question")
		d.equal(at+".group", strconv.FormatBool(x.Group), strconv.FormatBool(y.Group), "it sums up other tasks in one of them alone")
		if !x.Group || !y.Group { // a group asks nothing itself
			d.same(at+".hash", x.Hash, y.Hash, "documents, prompts or targets are not the same")
		}
		d.equal(at+".original", whole(x.Original), whole(y.Original), "the task has another number of samples")
		if x.Effective != x.Original || y.Effective != y.Original {
			d.add(at+".effective", fmt.Sprintf("%d of %d", x.Effective, x.Original), fmt.Sprintf("%d of %d", y.Effective, y.Original), "not every sample was evaluated")
		}
	}
}

func there(is bool) string {
	if is {
		return "there"
	}
	return ""
}

func whole[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }
