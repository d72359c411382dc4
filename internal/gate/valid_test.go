package gate_test

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// spoil changes one thing of one side. Each must be found, by its field, whichever side it is on.
var spoilt = []struct {
	what, field string
	both        bool // on both sides alike it is found too
	spoil       func(*gate.Side)
}{
	{"another suite", "suite", false, func(s *gate.Side) { s.Suite = "theirs" }},
	{"a suite that was changed", "suite_sha256", false, func(s *gate.Side) { s.SuiteSHA256 = strings.Repeat("0", 64) }},
	{"no digest of the suite", "suite_sha256", true, func(s *gate.Side) { s.SuiteSHA256 = "" }},
	{"an eval of other bytes than it says", "model_sha256", true, func(s *gate.Side) { s.Facts.ModelSHA256 = "other" }},
	{"a limited eval", "limit", true, func(s *gate.Side) { s.Limited = true }},
	{"a limit among the facts alone", "limit", true, func(s *gate.Side) { s.Facts.Limit = 10 }},
	{"another number format", "dtype", false, func(s *gate.Side) { s.Facts.DType = "float32" }},
	{"no number format", "dtype", true, func(s *gate.Side) { s.Facts.DType = "" }},
	{"another device", "device", false, func(s *gate.Side) { s.Facts.Device = "cpu" }},
	{"no device", "device", true, func(s *gate.Side) { s.Facts.Device = "" }},
	{"another batch size", "batch_size", false, func(s *gate.Side) { s.Facts.BatchSize = 1 }},
	{"another longest input", "max_length", false, func(s *gate.Side) { s.Facts.MaxLength = 512 }},
	{"another seed", "seed", false, func(s *gate.Side) { s.Facts.Seed++ }},
	{"another chat template", "chat_template", false, func(s *gate.Side) { s.Facts.ChatTemplate = "" }},
	{"another lm_eval", "harness.lm_eval", false, func(s *gate.Side) { s.Facts.Harness["lm_eval"] = "0.4.12" }},
	{"no lm_eval", "harness.lm_eval", true, func(s *gate.Side) { delete(s.Facts.Harness, "lm_eval") }},
	{"no harness", "harness.lm_eval", true, func(s *gate.Side) { s.Facts.Harness = nil }},
	{"another torch", "harness.torch", false, func(s *gate.Side) { s.Facts.Harness["torch"] = "2.12.0" }},
	{"no transformers", "harness.transformers", false, func(s *gate.Side) { delete(s.Facts.Harness, "transformers") }},
	{"no tasks", "tasks", true, func(s *gate.Side) { s.Facts.Tasks = nil }},
	{"a task that was not run", "tasks.u", false, func(s *gate.Side) { s.Facts.Tasks = s.Facts.Tasks[:1] }},
	{"another version of a task", "tasks.t.version", false, func(s *gate.Side) { s.Facts.Tasks[0].Version = "2.0" }},
	{"another hash of a task", "tasks.t.hash", false, func(s *gate.Side) { s.Facts.Tasks[0].Hash = "other" }},
	{"no hash of a task", "tasks.t.hash", true, func(s *gate.Side) { s.Facts.Tasks[0].Hash = "" }},
	{"another number of examples", "tasks.t.n_shot", false, func(s *gate.Side) { s.Facts.Tasks[0].NShot = 0 }},
	{"a group on one side", "tasks.t.group", false, func(s *gate.Side) { s.Facts.Tasks[0].Group = true }},
	{"a group whose tasks nobody knows", "samples.t", true, func(s *gate.Side) { s.Facts.Tasks[0].Group = true }},
	{"more samples that the task has", "tasks.t.original", false, func(s *gate.Side) { s.Facts.Tasks[0].Original++ }},
	{"samples that were not evaluated", "tasks.t.effective", true, func(s *gate.Side) { s.Facts.Tasks[0].Effective-- }},
	{"no score", "scores.t.acc.none", true, func(s *gate.Side) { s.Scores = s.Scores[1:] }},
	{"a score that is no number", "scores.t.acc.none", true, func(s *gate.Side) { s.Scores[0].Value = math.NaN() }},
	{"a score without end", "scores.t.acc.none", true, func(s *gate.Side) { s.Scores[0].Value = math.Inf(-1) }},
	{"a score that is no mean", "scores.t.acc.none", true, func(s *gate.Side) { s.Scores[0].Aggregation = "perplexity" }},
	{"a score that its samples do not have", "scores.t.acc.none", true, func(s *gate.Side) { s.Scores[0].Value += 1e-6 }},
	{"no samples", "samples.t", true, func(s *gate.Side) { s.Samples = s.Samples[1:] }},
	{"empty columns", "samples.t", true, func(s *gate.Side) {
		s.Samples[0] = gate.Samples{Task: "t", Filter: "none", Scores: map[string][]float64{"acc": {}}}
	}},
	{"no column of the metric", "samples.t", true, func(s *gate.Side) { delete(s.Samples[0].Scores, "acc") }},
	{"a short column of scores", "samples.t", true, func(s *gate.Side) { s.Samples[0].Scores["acc"] = s.Samples[0].Scores["acc"][1:] }},
	{"a short column of hashes", "samples.t", true, func(s *gate.Side) { s.Samples[0].Asked = s.Samples[0].Asked[1:] }},
	{"a short column of clusters", "samples.t", true, func(s *gate.Side) { s.Samples[0].Cluster = []uint64{1} }},
	{"a sample that is no number", "samples.t", true, func(s *gate.Side) { s.Samples[0].Scores["acc"][3] = math.NaN() }},
	{"a sample without end", "samples.t", true, func(s *gate.Side) { s.Samples[0].Scores["acc"][3] = math.Inf(1) }},
	{"a document twice", "samples.t", true, func(s *gate.Side) { s.Samples[0].Doc[4] = 3 }},
	{"documents out of order", "samples.t", true, func(s *gate.Side) { s.Samples[0].Doc[4] = 0 }},
	{"another document", "samples.t", false, func(s *gate.Side) { s.Samples[0].Doc[19] = 77 }},
	{"fewer samples than were evaluated", "samples.t", true, func(s *gate.Side) {
		c := &s.Samples[0]
		c.Doc, c.Asked, c.Scores["acc"] = c.Doc[:19], c.Asked[:19], c.Scores["acc"][:19]
	}},
	{"another question", "samples.t.asked", false, func(s *gate.Side) { s.Samples[0].Asked[7][0]++ }},
	{"no hash of the question", "samples.t.asked", true, func(s *gate.Side) { s.Samples[0].Asked[7] = [16]byte{} }},
	{"clusters on one side", "samples.t.cluster", false, func(s *gate.Side) { s.Samples[0].Cluster = make([]uint64, 20) }},
}

func tried(f func(*gate.Side), s *gate.Side) (ok bool) {
	defer func() { ok = recover() == nil }()
	f(s)
	return true
}

func pair() (b, c gate.Side) {
	return side("1", map[string][]float64{"t": passes(20, 2), "u": passes(30)}), side("2", map[string][]float64{"t": passes(20, 2, 5), "u": passes(30, 4)})
}

func TestTwoEvalsThatDidNotAskTheSameAreNotCompared(t *testing.T) {
	suite := []gate.Benchmark{bench("t", 0.1), bench("u", 0.1)}
	find := func(t *testing.T, b, c gate.Side, field string) {
		t.Helper()
		got, flips := gate.Compare(b, c, suite, gate.Options{Flips: 5})
		if got.Verdict != forge.CompareIncomparable || len(got.Benchmarks) > 0 || flips != nil {
			t.Errorf("%s with %d benchmarks and %d flips", got.Verdict, len(got.Benchmarks), len(flips))
		}
		if !slices.ContainsFunc(got.Invalid, func(i forge.Invalidity) bool { return i.Field == field && i.Why != "" }) {
			t.Errorf("%s is not among %+v", field, got.Invalid)
		}
	}
	for _, x := range spoilt {
		t.Run(x.what, func(t *testing.T) {
			b, c := pair()
			x.spoil(&b)
			find(t, b, c, x.field)
			b, c = pair()
			x.spoil(&c)
			find(t, b, c, x.field)
			b, c = pair()
			x.spoil(&b)
			x.spoil(&c)
			if x.both {
				find(t, b, c, x.field)
			}
		})
	}
	t.Run("nothing is wrong with the two as they are", func(t *testing.T) {
		b, c := pair()
		got, flips := gate.Compare(b, c, suite, gate.Options{Flips: 5})
		if len(got.Invalid) > 0 || len(got.Benchmarks) != 2 || len(flips) != 2 {
			t.Errorf("%+v %+v", got, flips)
		}
	})
	t.Run("all reasons are listed", func(t *testing.T) {
		b, c := pair()
		c.Facts.DType, c.Facts.Seed, c.Samples[1].Asked[3], c.Samples[1].Asked[9] = "float32", 7, [16]byte{1}, [16]byte{2}
		got, _ := gate.Compare(b, c, suite, gate.Options{})
		var fields []string
		for _, i := range got.Invalid {
			fields = append(fields, i.Field)
		}
		if !reflect.DeepEqual(fields, []string{"dtype", "seed", "samples.u.asked"}) {
			t.Errorf("%v", fields)
		}
		if last := got.Invalid[2].Why; !strings.Contains(last, "2 of 30 documents") || !strings.Contains(last, "the first is 3") {
			t.Error(last)
		}
	})
	t.Run("with the values of both sides", func(t *testing.T) {
		b, c := pair()
		b.Facts.BatchSize, b.Limited, c.Facts.Limit, c.Facts.Tasks[1].Effective = 4, true, 10, 29
		got, _ := gate.Compare(b, c, suite, gate.Options{})
		said := map[string][2]string{}
		for _, i := range got.Invalid {
			said[i.Field] = [2]string{i.Baseline, i.Candidate}
		}
		for field, want := range map[string][2]string{"limit": {"limited", "10"}, "batch_size": {"4", "8"}, "tasks.u.effective": {"30 of 30", "29 of 30"}, "samples.u": {"", "30 samples of 29 that were evaluated"}} {
			if said[field] != want {
				t.Errorf("%s: %q, want %q", field, said[field], want)
			}
		}
		b, c = pair()
		c.Limited = true
		if got, _ := gate.Compare(b, c, suite, gate.Options{}); got.Invalid[0].Baseline != "none" {
			t.Errorf("%+v", got.Invalid)
		}
	})
	t.Run("a question that one side did not record is not one that was asked otherwise", func(t *testing.T) {
		b, c := pair()
		b.Samples[0].Asked[7] = [16]byte{}
		if got, _ := gate.Compare(b, c, suite, gate.Options{}); len(got.Invalid) != 1 || !strings.Contains(got.Invalid[0].Why, "of 1 of 20 documents it is not recorded") {
			t.Errorf("%+v", got.Invalid)
		}
	})
	t.Run("two things at once hide neither, and stop nothing", func(t *testing.T) {
		for i, x := range spoilt {
			for _, y := range spoilt[i+1:] {
				b, c := pair()
				if !tried(x.spoil, &c) || !tried(y.spoil, &c) {
					continue // the one has taken away what the other would spoil
				}
				if got, _ := gate.Compare(b, c, suite, gate.Options{}); got.Verdict != forge.CompareIncomparable {
					t.Errorf("%s and %s: %s", x.what, y.what, got.Verdict)
				}
			}
		}
	})
	t.Run("a suite without benchmarks", func(t *testing.T) {
		b, c := pair()
		if got, _ := gate.Compare(b, c, nil, gate.Options{}); got.Verdict != forge.CompareIncomparable || got.Invalid[0].Field != "benchmarks" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a margin below 0", func(t *testing.T) {
		b, c := pair()
		if got, _ := gate.Compare(b, c, []gate.Benchmark{bench("t", -0.1)}, gate.Options{}); got.Verdict != forge.CompareIncomparable {
			t.Errorf("%+v", got)
		}
	})
	t.Run("another card of the same kind is the same", func(t *testing.T) {
		b, c := pair()
		c.Facts.Device = "cuda:3"
		if got, _ := gate.Compare(b, c, suite, gate.Options{}); len(got.Invalid) > 0 {
			t.Errorf("%+v", got.Invalid)
		}
	})
}

func TestEveryFactOfAnEvalIsHeldAgainstTheOtherOrNamedAsOneThatMayDiffer(t *testing.T) {
	mayDiffer := map[string]string{
		"SuiteVersion": "the suite's digest says more", "ModelSHA256": "it is what is compared", "BaseSHA256": "it is part of the model", "Samples": "counted by task", "SamplesSHA": "answers are meant to differ",
		"Seconds": "speed changes no score", "Leak": "a rule of its own", "Harness": "by its keys", "Tasks": "by their fields",
	}
	held := map[string]string{"DType": "dtype", "Device": "device", "BatchSize": "batch_size", "Seed": "seed", "MaxLength": "max_length", "Limit": "limit", "ChatTemplate": "chat_template"}
	for f := range reflect.TypeFor[forge.EvalFacts]().Fields() {
		field, is := held[f.Name]
		if !is {
			if mayDiffer[f.Name] == "" {
				t.Errorf("EvalFacts.%s is new: hold it against the other side, or say why it may differ", f.Name)
			}
			continue
		}
		b, c := pair()
		v := reflect.ValueOf(&c.Facts).Elem().FieldByIndex(f.Index)
		if v.CanInt() {
			v.SetInt(v.Int() + 1)
		} else {
			v.SetString("other")
		}
		got, _ := gate.Compare(b, c, []gate.Benchmark{bench("t", 0.1)}, gate.Options{})
		if !slices.ContainsFunc(got.Invalid, func(i forge.Invalidity) bool { return i.Field == field }) {
			t.Errorf("EvalFacts.%s differs, and %+v says nothing of it", f.Name, got.Invalid)
		}
	}
}
