package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// maxSampleText is how much of a prompt or an answer is kept, in characters: as an eval of forge's keeps it.
const maxSampleText = 1000

// harnessSamples is where the samples of a task lie.
type harnessSamples struct {
	task, path, cluster string
	filters, metrics    []string // that it has scores of
}

// findSamples finds the samples of every task, beside its results.
func (r *harnessRead) findSamples(results string, suite recipes.Suite) error {
	dir, stem := filepath.Dir(results), strings.TrimSuffix(strings.TrimPrefix(filepath.Base(results), "results"), ".json")
	var gone []string
	for _, t := range r.head.Facts.Tasks {
		if t.Group {
			continue
		}
		f := harnessSamples{task: t.Task, path: filepath.Join(dir, "samples_"+t.Task+stem+".jsonl")}
		if stem == "" { // before 0.4.3: ARGUMENTS_OF_THE_MODEL_TASK.jsonl
			if found, _ := filepath.Glob(filepath.Join(dir, "*_"+t.Task+".jsonl")); len(found) == 1 {
				f.path = found[0]
			}
		}
		asked := false
		for _, b := range suite.Benchmarks {
			if b.Task == t.Task {
				asked = true
				f.cluster = b.Cluster
			}
		}
		if _, err := os.Stat(f.path); err != nil {
			if !asked && t.Effective == 0 {
				gone = append(gone, t.Task)
				continue
			}
			return harnessFault(f.path, 0, "samples."+t.Task, "is missing: two evals are compared sample by sample; lm_eval writes them with --log_samples")
		}
		for _, s := range r.head.Scores {
			if s.Task != t.Task {
				continue
			}
			if !slices.Contains(f.filters, s.Filter) {
				f.filters = append(f.filters, s.Filter)
			}
			if !slices.Contains(f.metrics, s.Metric) {
				f.metrics = append(f.metrics, s.Metric)
			}
		}
		r.files = append(r.files, f)
	}
	r.head.Facts.Tasks = slices.DeleteFunc(r.head.Facts.Tasks, func(t forge.EvalTask) bool { return slices.Contains(gone, t.Task) })
	r.head.Scores = slices.DeleteFunc(r.head.Scores, func(s forge.EvalScore) bool { return slices.Contains(gone, s.Task) })
	return nil
}

// samples writes every sample as a line, and holds them against the scores the first time.
func (r *harnessRead) samples(to io.Writer) error {
	first := r.head.Facts.Samples == 0
	counts := map[[2]string]int64{}
	total := int64(0)
	for _, f := range r.files {
		sum, size, err := f.each(func(s api.TaskSample) error {
			counts[[2]string{s.Task, s.Filter}]++
			total++
			line, err := json.Marshal(s)
			if err == nil {
				_, err = to.Write(append(line, '\n'))
			}
			return err
		})
		if err != nil {
			return err
		}
		if first {
			r.head.Files = append(r.head.Files, forge.EvalFile{Name: filepath.Base(f.path), Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
		}
	}
	if !first {
		return nil
	}
	r.head.Facts.Samples = total
	return r.counted(counts)
}

// counted holds the number of samples against what each score is over. Where the results do not say it, the samples do.
func (r *harnessRead) counted(counts map[[2]string]int64) error {
	of := map[string]*forge.EvalTask{}
	for i := range r.head.Facts.Tasks {
		of[r.head.Facts.Tasks[i].Task] = &r.head.Facts.Tasks[i]
	}
	for _, f := range r.files {
		t := of[f.task]
		for _, filter := range f.filters {
			n := counts[[2]string{f.task, filter}]
			switch {
			case n == 0:
				return harnessFault(f.path, 0, "filter", "has no sample of filter %q, and the results have a score of it", filter)
			case t.Effective == 0:
				t.Original, t.Effective = n, n
			case n < t.Effective:
				return harnessFault(f.path, int(n), "doc_id", "has %d samples of filter %q, and its scores are over %d: some are missing", n, filter, t.Effective)
			case n > t.Effective:
				return harnessFault(f.path, int(n), "doc_id", "has %d samples of filter %q, and its scores are over %d: there are more samples than scores", n, filter, t.Effective)
			}
		}
	}
	for i := range r.head.Scores {
		s := &r.head.Scores[i]
		if s.N = of[s.Task].Effective; s.N == 0 {
			return forge.Invalidf("results."+s.Task, "%s: sums up tasks of which nobody says how many samples they have", filepath.Base(r.dir))
		}
	}
	return nil
}

// each reads a file of samples line by line.
func (f harnessSamples) each(do func(api.TaskSample) error) (sum hash.Hash, size int64, err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, 0, forge.Invalidf("samples", "%v", err)
	}
	defer file.Close()
	sum = sha256.New()
	counted := &counting{}
	lines := bufio.NewScanner(io.TeeReader(file, io.MultiWriter(sum, counted)))
	lines.Buffer(make([]byte, 0, 64<<10), maxHarnessLine)
	seen := map[string]map[int64]bool{}
	n := 0
	for lines.Scan() {
		n++
		s, err := f.sample(n, lines.Bytes())
		if err != nil {
			return nil, 0, err
		}
		if seen[s.Filter] == nil {
			seen[s.Filter] = map[int64]bool{}
		}
		if seen[s.Filter][s.DocID] {
			return nil, 0, harnessFault(f.path, n, "doc_id", "%d (filter %q) is there twice", s.DocID, s.Filter)
		}
		seen[s.Filter][s.DocID] = true
		if err := do(s); err != nil {
			return nil, 0, err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, 0, harnessFault(f.path, n+1, "samples", "is longer than the %d bytes that are read of a line", maxHarnessLine)
	case err != nil:
		return nil, 0, forge.Invalidf("samples", "%s: %v", filepath.Base(f.path), err)
	case n == 0:
		return nil, 0, harnessFault(f.path, 0, "samples", "is empty: a score over nothing says nothing")
	}
	return sum, counted.n, nil
}

// sample reads one line. Releases before 0.4.3 write no filter and no digests: the one filter that there is, and digests of the same bytes,
// take their place.
func (f harnessSamples) sample(n int, line []byte) (api.TaskSample, error) {
	out := api.TaskSample{Task: f.task}
	var row map[string]json.RawMessage
	if _, err := decodePython(line, &row); err != nil {
		return out, harnessFault(f.path, n, "samples", "is not whole JSON: %v", err)
	}
	fault := func(field, format string, args ...any) (api.TaskSample, error) {
		return out, harnessFault(f.path, n, field, format, args...)
	}
	text := func(field string) string {
		var s string
		_ = json.Unmarshal(row[field], &s) // what is no text is none
		return s
	}
	if json.Unmarshal(row["doc_id"], &out.DocID) != nil || out.DocID < 0 {
		return fault("doc_id", "is %.40s; want the number of the document", row["doc_id"])
	}
	if out.Filter = text("filter"); out.Filter == "" {
		if len(f.filters) != 1 {
			return fault("filter", "is missing, and the task has several: %s", strings.Join(f.filters, ", "))
		}
		out.Filter = f.filters[0]
	}
	if !slices.Contains(f.filters, out.Filter) {
		return fault("filter", "is %q, and the results have no score of it; they have %s", out.Filter, strings.Join(f.filters, ", "))
	}
	prompt := firstArgument(row["arguments"])
	out.DocHash, out.PromptHash, out.TargetHash = text("doc_hash"), text("prompt_hash"), text("target_hash")
	if out.DocHash == "" || out.PromptHash == "" {
		var doc bytes.Buffer
		if json.Indent(&doc, row["doc"], "", "  ") != nil || prompt == nil {
			return fault("doc_hash", "is missing, and there is no doc and arguments to make it of")
		}
		out.DocHash, out.PromptHash = hashOfText(doc.String()), hashOfText(*prompt)
	}
	if out.TargetHash == "" {
		out.TargetHash = hashOfText(plainText(row["target"]))
	}
	metrics := f.metrics
	if listed := row["metrics"]; listed != nil && json.Unmarshal(listed, &metrics) != nil {
		return fault("metrics", "is %.40s; want a list of names", listed)
	}
	out.Metrics = map[string]float64{}
	for _, m := range metrics {
		switch raw := string(row[m]); {
		case raw == "true":
			out.Metrics[m] = 1
		case raw == "false":
			out.Metrics[m] = 0
		case raw == `"NaN"`, raw == `"Infinity"`, raw == `"-Infinity"`:
			return fault(m, "is %s; want a number", strings.Trim(raw, `"`))
		default:
			if v, ok := numberOf(row[m]); ok {
				out.Metrics[m] = v
			}
		}
	}
	if f.cluster != "" {
		var doc map[string]json.RawMessage
		if json.Unmarshal(row["doc"], &doc) != nil || plainText(doc[f.cluster]) == "" {
			return fault("doc."+f.cluster, "is missing: the suite groups samples by it")
		}
		out.Cluster = plainText(doc[f.cluster])
	}
	if prompt != nil {
		out.Prompt = cutText(*prompt)
	}
	out.Target, out.Response = cutText(plainText(row["target"])), cutText(answerOf(row["filtered_resps"]))
	return out, nil
}

func hashOfText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func cutText(s string) string {
	if r := []rune(s); len(r) > maxSampleText {
		return string(r[:maxSampleText-1]) + "…"
	}
	return s
}

// plainText is a text itself, and of anything else what JSON writes.
func plainText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// answerOf is the answer that was scored: alone where it is the only one.
func answerOf(raw json.RawMessage) string {
	var all []json.RawMessage
	if json.Unmarshal(raw, &all) == nil && len(all) == 1 {
		raw = all[0]
	}
	return plainText(raw)
}

// firstArgument is the first request's prompt: {"gen_args_0": {"arg_0": …}}, or as older releases write it [["…", …], …].
func firstArgument(raw json.RawMessage) *string {
	var byName map[string]map[string]json.RawMessage
	var listed [][]json.RawMessage
	var first json.RawMessage
	switch {
	case json.Unmarshal(raw, &byName) == nil:
		first = byName["gen_args_0"]["arg_0"]
	case json.Unmarshal(raw, &listed) == nil && len(listed) > 0 && len(listed[0]) > 0:
		first = listed[0][0]
	}
	if first == nil {
		return nil
	}
	s := plainText(first)
	return &s
}

// decodePython reads JSON as Python writes it, which has numbers that JSON has not: they become texts, so that each can be named where it
// stands. offset is where it could not be read on.
func decodePython(b []byte, to any) (offset int, err error) {
	if err = json.Unmarshal(b, to); err == nil {
		return 0, nil
	}
	if again := json.Unmarshal(quoted(b), to); again == nil {
		return 0, nil
	}
	offset = len(b)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = min(int(syntax.Offset), len(b))
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return min(int(kind.Offset), len(b)), fmt.Errorf("%s is a %s", kind.Field, kind.Value)
	}
	return offset, err
}

var notNumbers = [][]byte{[]byte("NaN"), []byte("-Infinity"), []byte("Infinity")}

func quoted(b []byte) []byte {
	out := make([]byte, 0, len(b)+16)
	inside := false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case inside && c == '\\' && i+1 < len(b):
			out = append(out, c, b[i+1])
			i++
			continue
		case c == '"':
			inside = !inside
		case !inside && (c == 'N' || c == 'I' || c == '-'):
			if k := slices.IndexFunc(notNumbers, func(w []byte) bool { return bytes.HasPrefix(b[i:], w) }); k >= 0 {
				out = append(append(append(out, '"'), notNumbers[k]...), '"')
				i += len(notNumbers[k]) - 1
				continue
			}
		}
		out = append(out, c)
	}
	return out
}
