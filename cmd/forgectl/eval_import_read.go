package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// The bounds of what is read of a harness's output.
const (
	maxHarnessResults = 64 << 20
	maxHarnessFiles   = 10_000
	maxHarnessLine    = 64 << 20 // a sample with all of its requests
)

// harnessDoc is results_*.json of lm-evaluation-harness. What older releases do not write is absent.
type harnessDoc struct {
	Results       map[string]map[string]json.RawMessage `json:"results"`
	Groups        map[string]map[string]json.RawMessage `json:"groups"`
	GroupSubtasks map[string][]string                   `json:"group_subtasks"`
	Configs       map[string]struct {
		MetricList []struct {
			Metric      any `json:"metric"`
			Aggregation any `json:"aggregation"`
		} `json:"metric_list"`
	} `json:"configs"`
	Versions map[string]json.RawMessage  `json:"versions"`
	NShot    map[string]any              `json:"n-shot"`
	Higher   map[string]map[string]*bool `json:"higher_is_better"`
	NSamples map[string]struct {
		Original  int64 `json:"original"`
		Effective int64 `json:"effective"`
	} `json:"n-samples"`
	Config struct {
		Model      string `json:"model"`
		BatchSize  any    `json:"batch_size"`
		Device     any    `json:"device"`
		Limit      any    `json:"limit"`
		ModelDType string `json:"model_dtype"`
		Seed       *int64 `json:"random_seed"`
	} `json:"config"`
	Date         any               `json:"date"`
	TaskHashes   map[string]string `json:"task_hashes"`
	ModelName    string            `json:"model_name"`
	LMEval       string            `json:"lm_eval_version"`
	Transformers string            `json:"transformers_version"`
	TemplateSHA  json.RawMessage   `json:"chat_template_sha"`
	MaxLength    any               `json:"max_length"`
	Seconds      string            `json:"total_evaluation_time_seconds"`
}

// harnessRead is an eval of a harness, read and held against itself.
type harnessRead struct {
	dir   string
	head  api.EvalHead
	files []harnessSamples
}

// resultsForm is the name of a results file; releases before 0.4.3 called it results.json.
var resultsForm = regexp.MustCompile(`^results(_.+)?\.json$`)

func harnessFault(file string, line int, field, format string, args ...any) error {
	where := filepath.Base(file)
	if line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	return forge.Invalidf(field, "%s: %s", where, fmt.Sprintf(format, args...))
}

// readHarness reads the newest results below a directory.
func readHarness(dir, called string, suite recipes.Suite) (*harnessRead, error) {
	file, err := newestResults(dir, called)
	if err != nil {
		return nil, err
	}
	body, err := readBounded(file, maxHarnessResults)
	if err != nil {
		return nil, err
	}
	var doc harnessDoc
	if offset, err := decodePython(body, &doc); err != nil {
		return nil, harnessFault(file, 1+strings.Count(string(body[:offset]), "\n"), "results", "is not whole JSON: %v", err)
	}
	r := &harnessRead{dir: filepath.Dir(file)}
	r.head.Files = []forge.EvalFile{fileOf(filepath.Base(file), body)}
	if err := r.facts(file, doc); err != nil {
		return nil, err
	}
	for _, t := range slices.Clone(r.head.Facts.Tasks) {
		if err := r.scores(file, doc, t); err != nil {
			return nil, err
		}
	}
	if err := r.holds(file, suite); err != nil {
		return nil, err
	}
	return r, r.findSamples(file, suite)
}

func newestResults(dir, called string) (string, error) {
	byModel := map[string][]string{}
	seen := 0
	err := filepath.WalkDir(filepath.Join(dir, called), func(path string, e os.DirEntry, err error) error {
		if seen++; seen > maxHarnessFiles {
			return forge.Invalidf("dir", "%s has more than %d files: name the directory that lm_eval wrote", dir, maxHarnessFiles)
		}
		if err != nil {
			return forge.Invalidf("dir", "%v", err)
		}
		if e.Type().IsRegular() && resultsForm.MatchString(e.Name()) {
			byModel[filepath.Dir(path)] = append(byModel[filepath.Dir(path)], path)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	switch len(byModel) {
	case 0:
		return "", forge.Invalidf("dir", "%s has no results_*.json: lm_eval ends well also when it could write nothing", filepath.Join(dir, called)).WithHint("it is what lm_eval was given as --output_path, with --log_samples")
	case 1:
	default:
		var names []string
		for d := range byModel {
			names = append(names, cmp.Or(strings.TrimPrefix(d, filepath.Clean(dir)+"/"), "."))
		}
		slices.Sort(names)
		return "", forge.Invalidf("called", "%s has results of several models: %s", dir, strings.Join(names, ", ")).WithHint("--called %s", names[0])
	}
	for _, files := range byModel {
		return slices.MaxFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) }), nil // the date is in the name
	}
	return "", nil
}

func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, forge.Invalidf("dir", "%v", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, forge.Invalidf("dir", "%v", err)
	}
	if int64(len(b)) > most {
		return nil, harnessFault(file, 0, "results", "is larger than the %d bytes that are read", most)
	}
	return b, nil
}

// facts reads what two evals must share, and notes what the files do not tell.
func (r *harnessRead) facts(file string, doc harnessDoc) error {
	f := &r.head.Facts
	lacks := func(missing bool, what string) {
		if missing {
			r.head.Lacks = append(r.head.Lacks, what)
		}
	}
	f.Harness = map[string]string{}
	for name, v := range map[string]string{"lm_eval": doc.LMEval, "transformers": doc.Transformers} {
		if v != "" {
			f.Harness[name] = v
		}
	}
	lacks(doc.LMEval == "", "release of lm_eval")
	lacks(doc.Config.ModelDType == "", "number format of the weights")
	lacks(doc.TemplateSHA == nil, "whether there was a chat template")
	f.DType, f.Device = strings.TrimPrefix(doc.Config.ModelDType, "torch."), asText(doc.Config.Device)
	batch, whole := wholeOf(doc.Config.BatchSize)
	f.BatchSize = int(batch)
	lacks(!whole, "batch size")
	if doc.Config.Seed != nil {
		f.Seed = *doc.Config.Seed
	}
	lacks(doc.Config.Seed == nil, "seed")
	length, _ := wholeOf(doc.MaxLength)
	f.MaxLength = int(length)
	_ = json.Unmarshal(doc.TemplateSHA, &f.ChatTemplate) // null: none was used
	f.Seconds, _ = strconv.ParseFloat(doc.Seconds, 64)
	switch limit := doc.Config.Limit.(type) {
	case nil:
	case float64:
		if limit <= 0 {
			return harnessFault(file, 0, "config.limit", "is %v; want more than 0, or null", limit)
		}
		f.Limit = max(1, int64(limit)) // below 1 it is a share of each task
	default:
		return harnessFault(file, 0, "config.limit", "is %v; want a number, or null", limit)
	}
	r.head.Called = cmp.Or(doc.ModelName, doc.Config.Model, filepath.Base(r.dir))
	if at, is := doc.Date.(float64); is && at > 0 && at < 1e11 {
		r.head.MadeAt = time.Unix(int64(at), 0).UTC()
	}
	if len(doc.Results) == 0 {
		return harnessFault(file, 0, "results", "is empty: there are no scores")
	}
	lacks(len(doc.NSamples) == 0, "how many samples each task has")
	lacks(len(doc.TaskHashes) == 0, "digests of the tasks")
	for _, name := range slices.Sorted(maps.Keys(doc.Results)) {
		t := forge.EvalTask{Task: name, Version: strings.Trim(string(doc.Versions[name]), `"`), Hash: doc.TaskHashes[name], Group: r.isGroup(doc, name)}
		shots, _ := wholeOf(doc.NShot[name])
		t.NShot = int(shots)
		if err := r.countOf(file, doc, &t); err != nil {
			return err
		}
		f.Tasks = append(f.Tasks, t)
	}
	return nil
}

// isGroup says whether a row of results sums up others.
func (r *harnessRead) isGroup(doc harnessDoc, name string) bool {
	_, counted := doc.NSamples[name]
	return !counted && (len(doc.GroupSubtasks[name]) > 0 || doc.Groups[name] != nil)
}

// countOf says how many samples a task has seen, where the file has it: older ones do not, and their samples are counted.
func (r *harnessRead) countOf(file string, doc harnessDoc, t *forge.EvalTask) error {
	if len(doc.NSamples) == 0 {
		return nil
	}
	for _, leaf := range r.leaves(doc, t.Task, 0) {
		n, known := doc.NSamples[leaf]
		at := "n-samples." + leaf
		switch {
		case !known:
			return harnessFault(file, 0, at, "is missing")
		case n.Effective < 1:
			return harnessFault(file, 0, at, "has seen %d samples: a score over nothing says nothing", n.Effective)
		case n.Effective > n.Original || n.Effective != n.Original && r.head.Facts.Limit == 0:
			return harnessFault(file, 0, at, "has seen %d of %d samples, and no limit was set", n.Effective, n.Original)
		}
		t.Original, t.Effective = t.Original+n.Original, t.Effective+n.Effective
	}
	return nil
}

func (r *harnessRead) leaves(doc harnessDoc, name string, depth int) []string {
	if _, counted := doc.NSamples[name]; counted || len(doc.GroupSubtasks[name]) == 0 || depth > 16 {
		return []string{name}
	}
	var out []string
	for _, child := range doc.GroupSubtasks[name] {
		out = append(out, r.leaves(doc, child, depth+1)...)
	}
	return out
}

// scores reads the numbers of a task: keys are "metric,filter".
func (r *harnessRead) scores(file string, doc harnessDoc, t forge.EvalTask) error {
	values := doc.Results[t.Task]
	for _, key := range slices.Sorted(maps.Keys(values)) {
		metric, filter, is := strings.Cut(key, ",")
		if !is || strings.HasSuffix(metric, "_stderr") {
			continue
		}
		at := fmt.Sprintf("results.%s.%s", t.Task, key)
		v, ok := numberOf(values[key])
		if !ok {
			return harnessFault(file, 0, at, "is %.40s; want a number", values[key])
		}
		s := forge.EvalScore{Task: t.Task, Filter: filter, Metric: metric, Value: v, N: t.Effective, Higher: doc.Higher[t.Task][metric]}
		if raw, has := values[metric+"_stderr,"+filter]; has && string(raw) != `"N/A"` && string(raw) != "null" {
			e, ok := numberOf(raw)
			if !ok {
				return harnessFault(file, 0, fmt.Sprintf("results.%s.%s_stderr,%s", t.Task, metric, filter), `is %.40s; want a number, or "N/A"`, raw)
			}
			s.StdErr = &e
		}
		for _, m := range doc.Configs[t.Task].MetricList {
			if m.Metric == metric {
				s.Aggregation, _ = m.Aggregation.(string)
			}
		}
		r.head.Scores = append(r.head.Scores, s)
	}
	return nil
}

// holds says whether the results have what the suite asks for, as it asks for it.
func (r *harnessRead) holds(file string, suite recipes.Suite) error {
	for _, b := range suite.Benchmarks {
		i := slices.IndexFunc(r.head.Facts.Tasks, func(t forge.EvalTask) bool { return t.Task == b.Task })
		if i < 0 {
			return harnessFault(file, 0, "results."+b.Task, "is missing: suite %s asks for it", suite.Name)
		}
		if !slices.ContainsFunc(r.head.Scores, func(s forge.EvalScore) bool { return s.Task == b.Task && s.Metric == b.Metric && s.Filter == b.Filter }) {
			return harnessFault(file, 0, fmt.Sprintf("results.%s.%s,%s", b.Task, b.Metric, b.Filter), "is missing: suite %s asks for it", suite.Name)
		}
		t := r.head.Facts.Tasks[i]
		if v := suite.TaskVersions[b.Task]; v != "" && v != t.Version {
			return harnessFault(file, 0, "versions."+b.Task, "is %q; suite %s has version %s of the task: its numbers mean something else", t.Version, suite.Name, v)
		}
		if b.NumFewshot != nil && t.NShot != *b.NumFewshot {
			return harnessFault(file, 0, "n-shot."+b.Task, "is %d; suite %s asks for %d", t.NShot, suite.Name, *b.NumFewshot)
		}
	}
	return nil
}

func numberOf(raw json.RawMessage) (float64, bool) {
	var v float64
	if len(raw) == 0 || raw[0] == '"' || json.Unmarshal(raw, &v) != nil || string(raw) == "null" {
		return 0, false
	}
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

func wholeOf(v any) (int64, bool) {
	switch v := v.(type) {
	case float64:
		return int64(v), v == math.Trunc(v)
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	}
	return 0, false
}

func asText(v any) string {
	s, _ := v.(string)
	return s
}

func fileOf(name string, body []byte) forge.EvalFile {
	sum := sha256.Sum256(body)
	return forge.EvalFile{Name: name, Bytes: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}
}
