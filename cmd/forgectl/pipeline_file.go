package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// pipelineFile is a chain of runs as people write it: each step is a run file.
type pipelineFile struct {
	Pipeline string             `yaml:"pipeline"`
	Steps    map[string]runFile `yaml:"steps"`
}

// isPipeline tells a pipeline from a run file, which has no such key.
func isPipeline(b []byte) bool {
	var keys map[string]any
	if yaml.Unmarshal(b, &keys) != nil {
		return false
	}
	_, pipeline := keys["pipeline"]
	_, steps := keys["steps"]
	return pipeline || steps
}

// parsePipeline decodes as strictly as a run file, and keeps the order of the steps as they were written.
func parsePipeline(path string, b []byte) (api.PipelineRequest, error) {
	var f pipelineFile
	var q api.PipelineRequest
	dec := yaml.NewDecoder(strings.NewReader(string(b)), yaml.Strict())
	if err := dec.Decode(&f); err != nil {
		return q, yamlError(path, err)
	}
	if err := dec.Decode(&pipelineFile{}); !errors.Is(err, io.EOF) {
		return q, forge.Invalidf("file", "%s holds more than one document; one file is one pipeline", path)
	}
	switch {
	case f.Pipeline == "":
		return q, forge.Invalidf("pipeline", "%s has steps and no name: pipeline: NAME", path)
	case len(f.Steps) == 0:
		return q, forge.Invalidf("steps", "%s has none: a name each, and under it what a run file has", path)
	}
	var order struct {
		Steps yaml.MapSlice `yaml:"steps"`
	}
	if err := yaml.Unmarshal(b, &order); err != nil {
		return q, yamlError(path, err)
	}
	q.Name = f.Pipeline
	for _, item := range order.Steps {
		name := fmt.Sprint(item.Key)
		r, err := f.Steps[name].request(path)
		if err != nil {
			return q, atStep(name, err)
		}
		q.Steps = append(q.Steps, api.StepRequest{Step: name, Run: r})
	}
	return q, nil
}

// atStep says which step an error is about.
func atStep(step string, err error) error {
	var e *forge.Error
	if !errors.As(err, &e) || e.Field == "" || e.Field == "file" {
		return err
	}
	of := *e
	of.Field = "steps." + step + "." + e.Field
	return &of
}

// pipelineFlags may stand beside the file of a pipeline: the others say something of one run.
var pipelineFlags = []string{"file", "f", "dry-run", "wait", "no-check", "force", "include-untracked", "snapshot-limit"}

func (a *app) submitPipeline(c *cli.Context, path string, b []byte) error {
	if words := c.Args().Slice(); len(words) > 0 {
		return forge.Invalidf("", "%q is one argument too many: %s says what its steps run", words[0], path)
	}
	for _, name := range c.LocalFlagNames() {
		if !slices.Contains(pipelineFlags, name) {
			return forge.Invalidf(name, "says something of one run, and %s is a pipeline: write it into the steps that it is for", path)
		}
	}
	q, err := parsePipeline(path, b)
	if err != nil {
		return err
	}
	if q.DryRun = c.Bool("dry-run"); q.DryRun && c.Bool("wait") {
		return forge.Invalidf("wait", "cannot be used with --dry-run: nothing is submitted")
	}
	source, err := programFlags(c, &api.SubmitRunRequest{Workdir: "."}, nil)
	if err != nil {
		return err
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	for i := range q.Steps {
		r := &q.Steps[i].Run
		r.NoCheck, r.Force, r.DryRun = c.Bool("no-check"), c.Bool("force"), q.DryRun
		if err := a.secretsFile(c, r); err != nil {
			return atStep(q.Steps[i].Step, err)
		}
		if r.Workdir == "" {
			continue
		}
		if r.Source, err = a.takeSource(c.Context, cl, submitOptions{request: *r, source: source}); err != nil {
			return atStep(q.Steps[i].Step, err)
		}
	}
	s, err := cl.SubmitPipeline(c.Context, q)
	if err != nil {
		return err
	}
	for _, x := range s.Steps {
		for _, w := range x.Warnings {
			fmt.Fprintf(a.Err, "warning: step %s: %s\n", clean(x.Step), clean(w))
		}
	}
	return a.pipelineSubmitted(c.Context, cl, s, q.DryRun, c.Bool("wait"))
}

func (a *app) pipelineSubmitted(ctx context.Context, cl *client.Client, s api.SubmittedPipeline, dry, wait bool) error {
	p := a.printer()
	switch {
	case p.mode == modeJSON && wait:
	case p.mode == modeJSON:
		return p.done(p.json(s))
	default:
		t := p.table(">RUN", "STEP", "RECIPE", "BASE", "REWARD MODEL", "MODEL", "REGISTERS")
		for _, x := range s.Steps {
			spec := &x.Run.Spec
			n := strconv.FormatInt(x.Run.Number, 10)
			if dry {
				n = p.orDash("")
			}
			from := spec.Base
			if spec.Start != nil {
				from = spec.Start
			}
			t.row(n, x.Step, spec.Recipe, p.orDash(refName(from)), p.orDash(refName(spec.RewardModel)), p.orDash(refName(spec.Model)), p.orDash(spec.Register))
		}
		t.flush()
	}
	if p.people() && !dry && len(s.Steps) > 0 {
		p.line("pipeline %s submitted: %s", clean(s.Name), plural(len(s.Steps), "run"))
		if !wait {
			p.line("next: forgectl run show %d", s.Steps[len(s.Steps)-1].Run.Number)
			p.line("      forgectl run list --pipeline %s", clean(s.Name))
		}
	}
	if err := p.done(nil); err != nil {
		return err
	}
	if dry {
		fmt.Fprintln(a.Err, "dry run: this would be accepted; nothing was submitted")
	}
	if !wait {
		return nil
	}
	var ended []api.RunDetail
	for _, x := range s.Steps { // in an order in which none waits for one behind it
		d, err := a.follow(ctx, cl, api.RunDetail{Run: x.Run}, followPoll)
		if err != nil {
			return err
		}
		ended = append(ended, d)
		if d.State != forge.RunCompleted {
			return forgeEnd(d)
		}
	}
	if p.mode == modeJSON {
		return p.done(p.json(ended))
	}
	return nil
}

// chain prints a pipeline as its steps stand, of a run that is one of them.
func (p *printer) chain(steps []forge.PipelineStep, own int64) {
	if len(steps) == 0 {
		return
	}
	if p.people() {
		p.line("")
	}
	heads := []string{"STEP", ">RUN", "STATE", "RECIPE:2", "AFTER:1", "MODEL"}
	t := p.table(heads...)
	for _, s := range steps {
		state := string(s.State)
		if s.Held && p.people() {
			state += " (held)"
		}
		name := s.Step
		if s.Run == own && p.people() {
			name += " *"
		}
		cells := []string{name, strconv.FormatInt(s.Run, 10), state, s.Recipe, p.orDash(strings.Join(s.After, ",")), p.orDash(s.Model)}
		if !p.people() {
			cells = append([]string{"step"}, cells...)
		}
		t.row(cells...)
	}
	t.flush()
}
