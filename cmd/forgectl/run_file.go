package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// maxRunFile bounds a run file; one with every parameter of a recipe has a few KB.
const maxRunFile = 1 << 20

// runFile is api.SubmitRunRequest as people write it: the same fields (a test holds the two
// equal), with durations and memory in all the forms that flags take.
type runFile struct {
	Name         string              `yaml:"name"`
	Recipe       string              `yaml:"recipe"`
	Dataset      string              `yaml:"dataset"`
	Base         string              `yaml:"base"`
	RewardModel  string              `yaml:"reward_model"`
	Model        string              `yaml:"model"`
	Suite        string              `yaml:"suite"`
	Baseline     string              `yaml:"baseline"`
	Params       map[string]any      `yaml:"params"`
	Nodes        int                 `yaml:"nodes"`
	GPUsPerNode  int                 `yaml:"gpus_per_node"`
	GPUs         int                 `yaml:"gpus"`
	CPUsPerGPU   int                 `yaml:"cpus_per_gpu"`
	Memory       word                `yaml:"memory_mib_per_gpu"`
	MemPerGPU    word                `yaml:"mem_per_gpu"` // the flag's name for the same
	TimeLimit    word                `yaml:"time_limit"`
	TotalTime    word                `yaml:"total_time"`
	StartTimeout word                `yaml:"start_timeout"`
	StallTimeout word                `yaml:"stall_timeout"`
	Grace        word                `yaml:"grace"`
	Priority     *int                `yaml:"priority"`
	MaxRetries   int                 `yaml:"max_retries"`
	Register     string              `yaml:"register"`
	After        []word              `yaml:"after"`
	Cluster      string              `yaml:"cluster"`
	Where        *runWhere           `yaml:"where"`
	Preemptible  *bool               `yaml:"preemptible"`
	Batch        *forge.BatchOptions `yaml:"batch"`
	Runtime      *forge.Runtime      `yaml:"runtime"`
	SecretsFile  string              `yaml:"secrets_file"`
	ResumeFrom   string              `yaml:"resume_from"`
	Command      []string            `yaml:"command"`
	Launch       forge.LaunchMode    `yaml:"launch"`
	Workdir      string              `yaml:"workdir"` // relative to where forgectl is started
}

// runWhere is forge.Constraints with memory in the forms of the flag.
type runWhere struct {
	forge.Constraints `yaml:",inline"`
	GPUMemory         word `yaml:"gpu_memory"` // the flag's name for gpu_memory_mib
}

// word is a scalar as it was written: YAML would make a number of 90 and of 1:30 something
// else, and a run is named by number or id alike.
type word string

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (w *word) UnmarshalYAML(b []byte) error {
	s := strings.TrimSpace(string(b))
	var quoted string
	if err := yaml.Unmarshal(b, &quoted); err == nil {
		s = quoted
	} else if strings.ContainsAny(s, "\n{[") {
		return fmt.Errorf("want one value, not %q", s)
	}
	*w = word(s)
	return nil
}

// fileOf is what --file names; nil without it.
func (a *app) fileOf(c *cli.Context) ([]byte, error) {
	if !c.IsSet("file") {
		return nil, nil
	}
	return a.readRunFile(c.String("file"))
}

func (a *app) readRunFile(path string) ([]byte, error) {
	in := a.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			var pe *os.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return nil, forge.Invalidf("file", "%s cannot be read: %w", path, err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxRunFile+1))
	if err != nil {
		return nil, forge.Invalidf("file", "%s cannot be read: %w", path, err)
	}
	if len(b) > maxRunFile {
		return nil, forge.Invalidf("file", "%s is larger than %d bytes; a run file is not", path, maxRunFile)
	}
	return b, nil
}

// parseRunFile decodes strictly: a key that nobody knows is a mistake that would otherwise
// cost a night of training with a default.
func parseRunFile(path string, b []byte) (api.SubmitRunRequest, error) {
	var f runFile
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return api.SubmitRunRequest{}, yamlError(path, err)
	}
	if err := dec.Decode(&runFile{}); !errors.Is(err, io.EOF) {
		return api.SubmitRunRequest{}, forge.Invalidf("file", "%s holds more than one document; one file is one run", path)
	}
	return f.request(path)
}

// request is the same with durations and memory as numbers.
func (f runFile) request(path string) (api.SubmitRunRequest, error) {
	r := api.SubmitRunRequest{Name: f.Name, Recipe: f.Recipe, Dataset: f.Dataset, Base: f.Base, RewardModel: f.RewardModel, Model: f.Model, Suite: f.Suite, Baseline: f.Baseline, Params: f.Params, Nodes: f.Nodes,
		GPUsPerNode: f.GPUsPerNode, GPUs: f.GPUs, CPUsPerGPU: f.CPUsPerGPU, Priority: f.Priority, MaxRetries: f.MaxRetries,
		Register: f.Register, Cluster: f.Cluster, Preemptible: f.Preemptible, Batch: f.Batch, Runtime: f.Runtime, SecretsFile: f.SecretsFile, ResumeFrom: f.ResumeFrom,
		Command: f.Command, Launch: f.Launch, Workdir: f.Workdir}
	if err := where(&r, f.Where, path); err != nil {
		return r, err
	}
	for _, id := range f.After {
		r.After = append(r.After, string(id))
	}
	for _, d := range []struct {
		name string
		from word
		to   *forge.Duration
	}{{"time_limit", f.TimeLimit, &r.TimeLimit}, {"total_time", f.TotalTime, &r.TotalTime}, {"start_timeout", f.StartTimeout, &r.StartTimeout},
		{"stall_timeout", f.StallTimeout, &r.StallTimeout}, {"grace", f.Grace, &r.Grace}} {
		if d.from == "" {
			continue
		}
		v, err := forge.ParseDuration(string(d.from))
		if err != nil {
			return r, forge.Invalidf(d.name, "%w (in %s)", err, path)
		}
		*d.to = forge.Duration(v)
	}
	return r, memory(&r, f, path)
}

func where(r *api.SubmitRunRequest, f *runWhere, path string) error {
	if f == nil {
		return nil
	}
	w := f.Constraints
	if f.GPUMemory != "" {
		m, err := forge.ParseMemoryMiB(string(f.GPUMemory))
		if err != nil {
			return forge.Invalidf("where.gpu_memory", "%w (in %s)", err, path)
		}
		if w.GPUMemoryMiB != 0 {
			return forge.Invalidf("where.gpu_memory", "and gpu_memory_mib mean the same; %s has both", path)
		}
		w.GPUMemoryMiB = m
	}
	if !w.Empty() {
		r.Where = &w
	}
	return nil
}

func memory(r *api.SubmitRunRequest, f runFile, path string) error {
	name, from := "memory_mib_per_gpu", f.Memory
	if f.MemPerGPU != "" {
		if from != "" {
			return forge.Invalidf("mem_per_gpu", "and memory_mib_per_gpu mean the same; %s has both", path)
		}
		name, from = "mem_per_gpu", f.MemPerGPU
	}
	if from == "" {
		return nil
	}
	m, err := forge.ParseMemoryMiB(string(from))
	if err != nil {
		return forge.Invalidf(name, "%w (in %s)", err, path)
	}
	r.MemoryMiBPerGPU = m
	return nil
}

// yamlError keeps the line and the reason of goccy's errors and drops its drawing of the source.
func yamlError(path string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil || ye.GetToken().Position == nil {
		return forge.Invalidf("file", "%s: %s", path, firstLine(err.Error()))
	}
	where := fmt.Sprintf("%s line %d", path, ye.GetToken().Position.Line)
	e := forge.Invalidf("file", "%s: %s", where, firstLine(ye.GetMessage()))
	if name, ok := strings.CutPrefix(firstLine(ye.GetMessage()), "unknown field "); ok {
		return forge.Invalidf("file", "%s: unknown field %s", where, name).
			WithHint("a run file takes name, recipe, dataset, base, reward_model, model, suite, baseline, params, nodes, gpus_per_node, gpus, cpus_per_gpu, mem_per_gpu, time_limit, total_time, " +
				"start_timeout, stall_timeout, grace, priority, max_retries, register, after, cluster, where, preemptible, batch, runtime, secrets_file, resume_from, command, launch, workdir; parameters of the recipe go under params")
	}
	return e
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
