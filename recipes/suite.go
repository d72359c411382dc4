package recipes

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	forge "github.com/forge-ml/forge-ml"
)

// A Suite is a directory: suite.yaml, and beside it tasks of its own with their data (docs/evals.md).
type Suite struct {
	Name         string            `json:"name"`
	Doc          string            `json:"doc"`
	Version      int               `json:"version" doc:"Counted up by whoever changes what its numbers mean"`
	ChatTemplate string            `json:"chat_template" doc:"Whether prompts are written with the model's chat template: never, auto (where it has one) or always"`
	Safety       bool              `json:"safety,omitempty" doc:"All its benchmarks are of safety"`
	Benchmarks   []Benchmark       `json:"benchmarks"`
	Offline      bool              `json:"offline" doc:"All tasks and their data are its own: it runs without network and cache"`
	SHA256       string            `json:"sha256" doc:"Digest of all its files"`
	TaskVersions map[string]string `json:"task_versions,omitempty" doc:"Of its own tasks, where they say one"`
	Path         string            `json:"path,omitempty" doc:"Directory of a site's own suite, which nodes must see under the same path; absent where it comes with the training package"`
}

// Benchmark is one number of a suite that counts.
type Benchmark struct {
	Task       string   `json:"task" yaml:"task" doc:"Name of the task in lm-evaluation-harness, or of the suite's own"`
	Metric     string   `json:"metric" yaml:"metric"`
	Filter     string   `json:"filter" yaml:"filter" doc:"What was done to the answer before it was scored; none where nothing was"`
	Direction  string   `json:"direction" yaml:"direction" doc:"Which way is better: higher or lower"`
	Threshold  *float64 `json:"threshold,omitempty" yaml:"threshold" doc:"What it must reach"`
	Margin     *float64 `json:"margin,omitempty" yaml:"margin" doc:"By how much it may be worse than a baseline and still count as no worse"`
	Safety     bool     `json:"safety,omitempty" yaml:"safety" doc:"Tested alone when two evals are compared: its p is not corrected for the others, since to miss a drop here costs more"`
	Cluster    string   `json:"cluster,omitempty" yaml:"cluster" doc:"Field of the document whose value says which samples belong together: of one text, one author; they are resampled as one"`
	NumFewshot *int     `json:"num_fewshot,omitempty" yaml:"num_fewshot" doc:"Examples before each question; absent: what the task says"`
}

// Tasks are the tasks of the suite, each once.
func (s Suite) Tasks() []string {
	var out []string
	for _, b := range s.Benchmarks {
		if !slices.Contains(out, b.Task) {
			out = append(out, b.Task)
		}
	}
	return out
}

// SuiteFile is the file that makes a directory a suite.
const SuiteFile = "suite.yaml"

// The bounds of a suite: it is read whole when forged starts, and again by every eval.
const (
	MaxSuiteBytes = 16 << 20
	MaxSuiteFiles = 1000
	maxBenchmarks = 256
)

var (
	taskName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	fieldForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)
	metricForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.@/-]{0,63}$`)
)

type suiteDoc struct {
	Name         string      `yaml:"name"`
	Doc          string      `yaml:"doc"`
	Version      int         `yaml:"version"`
	ChatTemplate string      `yaml:"chat_template"`
	Safety       bool        `yaml:"safety"`
	Benchmarks   []Benchmark `yaml:"benchmarks"`
}

// parseSuite reads a directory; source is what errors call it.
func parseSuite(source string, dir fs.FS) (Suite, error) {
	files, err := suiteFiles(source, dir)
	if err != nil {
		return Suite{}, err
	}
	i := slices.IndexFunc(files, func(f pythonFile) bool { return f.path == SuiteFile })
	if i < 0 {
		return Suite{}, suiteInvalid("suite", "%s has no %s", source, SuiteFile)
	}
	var in suiteDoc
	d := document{source: path.Join(source, SuiteFile)}
	if err := d.decode(files[i].body, &in); err != nil {
		return Suite{}, err
	}
	s := Suite{Name: in.Name, Doc: strings.TrimSpace(in.Doc), Version: in.Version, ChatTemplate: in.ChatTemplate, Safety: in.Safety, Benchmarks: in.Benchmarks, SHA256: digestOf(files)}
	if s.ChatTemplate == "" {
		s.ChatTemplate = "never"
	}
	if err := d.checkSuite(s); err != nil {
		return Suite{}, err
	}
	own, err := ownTasks(source, files)
	if err != nil {
		return Suite{}, err
	}
	s.Offline = true
	for i := range s.Benchmarks {
		b := &s.Benchmarks[i]
		b.Safety = b.Safety || s.Safety
		if b.Filter == "" {
			b.Filter = "none"
		}
		task, ok := own[b.Task]
		s.Offline = s.Offline && ok
		if !ok {
			continue
		}
		if task.version != "" {
			if s.TaskVersions == nil {
				s.TaskVersions = map[string]string{}
			}
			s.TaskVersions[b.Task] = task.version
		}
		if !slices.Contains(task.metrics, b.Metric) {
			return Suite{}, d.fault(fmt.Sprintf("benchmarks[%d].metric", i), "task %s has no metric %q; it has %s", b.Task, b.Metric, orNone(task.metrics))
		}
		if !slices.Contains(task.filters, b.Filter) {
			return Suite{}, d.fault(fmt.Sprintf("benchmarks[%d].filter", i), "task %s has no filter %q; it has %s", b.Task, b.Filter, orNone(task.filters))
		}
	}
	return s, nil
}

// suiteFiles are the files of a suite in the order of their paths; hidden ones are none of it.
func suiteFiles(source string, dir fs.FS) ([]pythonFile, error) {
	var files []pythonFile
	total := int64(0)
	err := fs.WalkDir(dir, ".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return suiteInvalid("suite", "%s cannot be read: %w", source, err)
		case p == ".":
			return nil
		case strings.HasPrefix(e.Name(), ".") || e.Name() == "__pycache__":
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		case !e.Type().IsRegular(): // a link may lead to what other nodes do not have, a FIFO is waited for for ever
			return suiteInvalid("suite", "%s: %s is not a regular file", source, p)
		}
		f, err := dir.Open(p)
		if err != nil {
			return suiteInvalid("suite", "%s cannot be read: %w", source, err)
		}
		defer f.Close()
		body, err := io.ReadAll(io.LimitReader(f, MaxSuiteBytes-total+1))
		if err != nil {
			return suiteInvalid("suite", "%s: %s cannot be read: %w", source, p, err)
		}
		if total += int64(len(body)); total > MaxSuiteBytes || len(files) >= MaxSuiteFiles {
			return suiteInvalid("suite", "%s is larger than %d MiB in %d files", source, MaxSuiteBytes>>20, MaxSuiteFiles)
		}
		files = append(files, pythonFile{p, body})
		return nil
	})
	slices.SortFunc(files, func(a, b pythonFile) int { return strings.Compare(a.path, b.path) })
	return files, err
}

func (d *document) checkSuite(s Suite) error {
	switch {
	case forge.CheckName(s.Name) != nil:
		return d.fault("name", "%w", forge.CheckName(s.Name))
	case s.Doc == "":
		return d.fault("doc", "is empty; say in a line what the suite measures")
	case s.Version < 1:
		return d.fault("version", "%d: want 1 or more; count it up when its numbers come to mean something else", s.Version)
	case !slices.Contains([]string{"never", "auto", "always"}, s.ChatTemplate):
		return d.fault("chat_template", "%q is not allowed; want never, auto or always", s.ChatTemplate)
	case len(s.Benchmarks) == 0:
		return d.fault("benchmarks", "is empty; a suite without benchmarks says nothing: each wants task, metric, direction, threshold and margin")
	case len(s.Benchmarks) > maxBenchmarks:
		return d.fault("benchmarks", "has %d; want at most %d", len(s.Benchmarks), maxBenchmarks)
	}
	seen, clusters := map[string]bool{}, map[string]string{}
	for i, b := range s.Benchmarks {
		at := fmt.Sprintf("benchmarks[%d]", i)
		switch key := b.Task + "," + b.Metric + "," + b.Filter; {
		case !taskName.MatchString(b.Task):
			return d.fault(at+".task", "%q is not the name of a task", b.Task)
		case !metricForm.MatchString(b.Metric):
			return d.fault(at+".metric", "%q is not the name of a metric", b.Metric)
		case b.Filter != "" && !taskName.MatchString(b.Filter):
			return d.fault(at+".filter", "%q is not the name of a filter", b.Filter)
		case b.Direction != "higher" && b.Direction != "lower":
			return d.fault(at+".direction", "%q: want higher or lower, whichever is better", b.Direction)
		case b.Threshold == nil:
			return d.fault(at+".threshold", "is missing; say what the benchmark must reach")
		case math.IsNaN(*b.Threshold) || math.IsInf(*b.Threshold, 0):
			return d.fault(at+".threshold", "%v is not a number", *b.Threshold)
		case b.Margin == nil || !(*b.Margin >= 0) || math.IsInf(*b.Margin, 0):
			return d.fault(at+".margin", "is missing or below 0; say by how much it may be worse than a baseline")
		case b.Cluster != "" && !fieldForm.MatchString(b.Cluster):
			return d.fault(at+".cluster", "%q is not the name of a field of a document", b.Cluster)
		case b.Cluster != "" && clusters[b.Task] != "" && clusters[b.Task] != b.Cluster:
			return d.fault(at+".cluster", "%q: the samples of task %s are grouped by %q already, in another benchmark of it", b.Cluster, b.Task, clusters[b.Task])
		case b.NumFewshot != nil && (*b.NumFewshot < 0 || *b.NumFewshot > 100):
			return d.fault(at+".num_fewshot", "%d is out of range; want 0 to 100", *b.NumFewshot)
		case seen[key]:
			return d.fault(at, "%s %s is named twice", b.Task, b.Metric)
		default:
			seen[key] = true
			clusters[b.Task] = cmp.Or(b.Cluster, clusters[b.Task])
		}
	}
	return nil
}

func suiteInvalid(field, format string, args ...any) *forge.Error {
	return forge.Invalidf(field, format, args...).WithOp("suite.load")
}

// task is what of a suite's own task can be checked without the harness.
type task struct {
	metrics, filters []string
	version          string
}

// harnessFilters are those of lm_eval 0.4.13; the rank asks the harness itself.
var harnessFilters = []string{"custom", "decontaminate", "format_span", "lowercase", "majority_vote", "map", "multi_choice_regex", "regex", "regex_pos",
	"remove_whitespace", "take_first", "take_first_k", "uppercase"}

// harnessMetrics likewise.
var harnessMetrics = []string{"acc", "acc_all", "acc_bytes", "acc_mutual_info", "acc_norm", "bits_per_byte", "bleu", "brier_score", "byte_perplexity", "chrf",
	"exact_match", "f1", "likelihood", "mcc", "perplexity", "ter", "word_perplexity"}

// versionText is a task's version as Python writes the same number: 1.0, and not 1.
func versionText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		if v == math.Trunc(v) {
			return strconv.FormatFloat(v, 'f', 1, 64)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

type taskDoc struct {
	Task          string `yaml:"task"`
	DatasetPath   string `yaml:"dataset_path"`
	TestSplit     string `yaml:"test_split"`
	DatasetKwargs struct {
		DataFiles map[string]string `yaml:"data_files"`
	} `yaml:"dataset_kwargs"`
	FilterList []struct {
		Name   string `yaml:"name"`
		Filter []struct {
			Function string `yaml:"function"`
		} `yaml:"filter"`
	} `yaml:"filter_list"`
	MetricList []struct {
		Metric string `yaml:"metric"`
	} `yaml:"metric_list"`
	Metadata struct {
		Version any `yaml:"version"`
	} `yaml:"metadata"`
}

// ownTasks reads the suite's own tasks. Their YAML has more keys than are read here, and no code: tags are refused, as in recipes.
func ownTasks(source string, files []pythonFile) (map[string]task, error) {
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(f pythonFile) bool { return f.path == name })
	}
	out := map[string]task{}
	for _, f := range files {
		if path.Ext(f.path) != ".yaml" || f.path == SuiteFile {
			continue
		}
		d := document{source: path.Join(source, f.path)}
		var all map[string]any
		if err := d.decode(f.body, &all); err != nil {
			return nil, err
		}
		var in taskDoc
		if err := yaml.Unmarshal(f.body, &in); err != nil {
			return nil, yamlError(d.source, d.tree, err)
		}
		switch {
		case !taskName.MatchString(in.Task):
			return nil, d.fault("task", "%q is not the name of a task", in.Task)
		case out[in.Task].metrics != nil:
			return nil, d.fault("task", "%q is also in another file of the suite", in.Task)
		case in.DatasetPath != "json":
			return nil, d.fault("dataset_path", "%q: a suite's own task reads json files that lie in the suite", in.DatasetPath)
		case len(in.DatasetKwargs.DataFiles) == 0:
			return nil, d.fault("dataset_kwargs.data_files", "is missing; want a file for each split")
		case in.DatasetKwargs.DataFiles[in.TestSplit] == "":
			return nil, d.fault("test_split", "%q is no split of data_files", in.TestSplit)
		case len(in.MetricList) == 0:
			return nil, d.fault("metric_list", "is empty; say what is measured")
		}
		for split, file := range in.DatasetKwargs.DataFiles {
			if !fs.ValidPath(file) || !has(file) {
				return nil, d.fault("dataset_kwargs.data_files."+split, "there is no file %q in the suite", file)
			}
		}
		t := task{filters: []string{}, version: versionText(in.Metadata.Version)}
		for i, l := range in.FilterList {
			for j, step := range l.Filter {
				if !slices.Contains(harnessFilters, step.Function) {
					return nil, d.fault(fmt.Sprintf("filter_list[%d].filter[%d].function", i, j), "there is no filter %q; there are %s", step.Function, strings.Join(harnessFilters, ", "))
				}
			}
			t.filters = append(t.filters, l.Name)
		}
		if len(t.filters) == 0 {
			t.filters = []string{"none"}
		}
		for i, m := range in.MetricList {
			if !slices.Contains(harnessMetrics, m.Metric) {
				return nil, d.fault(fmt.Sprintf("metric_list[%d].metric", i), "there is no metric %q; there are %s", m.Metric, strings.Join(harnessMetrics, ", "))
			}
			t.metrics = append(t.metrics, m.Metric)
		}
		out[in.Task] = t
	}
	return out, nil
}
