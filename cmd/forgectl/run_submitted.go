package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// submitted says what became of a submission, and follows the run when asked to.
func (a *app) submitted(ctx context.Context, cl *client.Client, s api.Submitted, wait bool) error {
	p := a.printer()
	n := s.Run.Number
	gpuHours, cost := p.guess(s.Estimate)
	switch {
	case p.mode == modeJSON && wait: // the answer is the ended run
	case p.mode == modeJSON:
		return p.done(p.json(s))
	case p.mode == modeTSV:
		p.table().row(strconv.FormatInt(n, 10), string(s.Run.ID), string(s.Run.State), strconv.Itoa(s.Position), strconv.Itoa(s.Waiting), gpuHours, cost)
	default:
		p.line("run %d submitted: place %d of %d in the queue", n, s.Position, s.Waiting)
		if s.Estimate != nil {
			p.line("cost: %s", cost)
		}
		if !wait {
			p.line("next: forgectl run show %d --watch", n)
			p.line("      forgectl run why %d", n)
			p.line("      forgectl run logs %d -f", n)
		}
	}
	if err := p.done(nil); err != nil || !wait {
		return err
	}
	d, err := a.follow(ctx, cl, api.RunDetail{Run: s.Run}, followPoll)
	if err != nil {
		if ctx.Err() != nil {
			fmt.Fprintf(a.Err, "run %d goes on; see it again with: forgectl run show %d --watch\n", n, n)
		}
		return err
	}
	if p.mode == modeJSON {
		if err := p.done(p.json(d)); err != nil {
			return err
		}
	}
	if d.State != forge.RunCompleted {
		return forgeEnd(d)
	}
	if p.people() && d.Model != "" {
		p.line("run %d completed and registered %s", n, clean(d.Model))
		p.line("next: forgectl model show %s", clean(d.Model))
		return p.done(nil)
	}
	return nil
}

func forgeEnd(d api.RunDetail) error {
	return &forge.Error{Kind: forge.KindInternal, Err: &runEnded{number: d.Number, state: d.State, reason: d.Reason},
		Hint: fmt.Sprintf("forgectl run why %d; forgectl run logs %d --stderr", d.Number, d.Number)}
}

// showDryRun prints what a submission would run with, and where each value came from.
func (a *app) showDryRun(s api.Submitted) error {
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(s))
	}
	spec := &s.Run.Spec
	gpuHours, cost := p.guess(s.Estimate)
	p.fields(append([]string{"recipe", spec.Recipe, "dataset", refName(spec.Dataset), "base", refName(spec.Base), "shape", shape(spec.Gang), "where", spec.Where.Words(),
		"priority", strconv.Itoa(spec.Priority), "pinned", pinned(spec), "limits", limits(spec), "register", spec.Register, "secrets", spec.SecretsFile,
		"command", commandText(spec.Entry.Command), "launch", nodeLaunch(spec), "source", sourceText(spec.Source), "began from", branchText(spec.ResumeFrom), "gpu hours", gpuHours, "cost", cost}, inputFields(spec)...)...)
	if p.people() {
		p.line("")
	}
	t := p.table("PARAMETER", "VALUE", "FROM")
	for _, k := range slices.Sorted(maps.Keys(spec.Params)) {
		t.row(k, fmt.Sprint(spec.Params[k]), spec.Origins[k])
	}
	for _, f := range runtimeFields(spec) {
		if from := spec.Origins["runtime."+f.name]; from != "" {
			t.row("runtime."+f.name, f.value, from)
		}
	}
	t.flush()
	if p.people() && s.Start != nil {
		p.line("")
		p.fields("expected start", p.start(s.Start))
		if s.Effect != nil {
			p.fields("effect", effectOn("others that wait", *s.Effect))
		}
	}
	if b := s.Batch; b != nil {
		p.batch(b)
	}
	err := p.done(nil)
	fmt.Fprintln(a.Err, "dry run: this would be accepted; nothing was submitted")
	return err
}

// batch prints a job as one would type it: the options, and the script that goes to standard input.
func (p *printer) batch(b *api.JobPreview) {
	args := make([]string, len(b.Args))
	for i, a := range b.Args {
		args[i] = clean(a)
		if strings.ContainsAny(a, " '\"$`\\&|;<>()[]{}*?!#~") {
			args[i] = clean(shellWord(a))
		}
	}
	p.line("")
	p.line("sbatch %s <<'END'", strings.Join(args, " \\\n  "))
	for line := range strings.Lines(b.Script) {
		p.line("%s", clean(strings.TrimSuffix(line, "\n")))
	}
	p.line("END")
}

type runtimeField struct{ name, value string }

// runtimeFields are those that recipe and run have a say in; what only the cluster says has no value here.
func runtimeFields(spec *forge.RunSpec) []runtimeField {
	var r forge.Runtime
	if spec.Runtime != nil {
		r = *spec.Runtime
	}
	return []runtimeField{{"kind", string(r.Kind)}, {"path", r.Path}, {"image", r.Image}, {"mounts", strings.Join(r.Mounts, " ")},
		{"modules", strings.Join(r.Modules, " ")}, {"setup", strings.Join(r.Setup, "; ")}}
}
