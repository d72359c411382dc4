package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) runShowCommand() *cli.Command {
	return &cli.Command{Name: "show", Usage: "show a run and its attempts", ArgsUsage: "RUN",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "follow it live until it ends; with -o json a line a change"},
			&cli.StringFlag{Name: "slurm-job", Usage: "the run of this Slurm job, in the place of RUN"},
			&cli.StringFlag{Name: "interval", Usage: "how often to look: 5s, 1m", DefaultText: followPoll.String()},
		},
		Action: func(c *cli.Context) error {
			run, err := a.runOrJob(c)
			if err != nil {
				return err
			}
			w, err := parseWatch(c, followPoll)
			if err != nil {
				return err
			}
			if w.on && a.output == "json" {
				return a.watch(c.Context, w, func(ctx context.Context, cl *client.Client) (view, error) { return detailView(ctx, cl, run) })
			}
			return a.runShow(c.Context, run, w)
		}}
}

// runOrJob is the run that was named by itself, or by the job that Slurm knows it as.
func (a *app) runOrJob(c *cli.Context) (string, error) {
	job := c.String("slurm-job")
	if !c.IsSet("slurm-job") {
		args, err := positionals(c, "RUN")
		if err != nil {
			return "", err
		}
		return args[0], nil
	}
	if _, err := positionals(c); err != nil {
		return "", err
	}
	if strings.TrimLeft(job, "0123456789") != "" || job == "" {
		return "", forge.Invalidf("slurm-job", "%q is no job id; it is a number, as squeue shows it", job)
	}
	cl, err := a.connect()
	if err != nil {
		return "", err
	}
	found, err := cl.Runs(c.Context, api.RunFilter{Batch: job, Limit: 2})
	switch {
	case err != nil:
		return "", err
	case len(found.Items) == 0:
		return "", forge.Errorf(forge.KindNotFound, "run.show", "no run of yours was job %s", job).WithHint("forgectl run list")
	case len(found.Items) > 1: // another cluster's, or years ago
		fmt.Fprintf(a.Err, "job %s was also run %d's; shown is the newer one\n", job, found.Items[1].Number)
	}
	return strconv.FormatInt(found.Items[0].Number, 10), nil
}

// detailView is a run as programs watch it, until it ends.
func detailView(ctx context.Context, cl *client.Client, run string) (view, error) {
	d, err := cl.Run(ctx, run)
	return view{value: d, print: func(p *printer) { p.runDetail(d) }, last: d.State.Terminal(), key: func() any {
		still := d
		still.ETA, still.Cost = time.Time{}, nil // they are reckoned anew at each look
		return still
	}}, err
}

func (a *app) runShow(ctx context.Context, run string, w watchOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	d, err := cl.Run(ctx, run)
	if err != nil {
		return err
	}
	if w.on && !d.State.Terminal() {
		if d, err = a.follow(ctx, cl, d, w.every); err != nil {
			return err
		}
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(d))
	}
	p.runDetail(d)
	return p.done(nil)
}

// branchText names the checkpoint of another run that this one began from.
func branchText(b *forge.BranchPoint) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("run %d at step %d", b.Number, b.Step)
}

func (p *printer) runDetail(d api.RunDetail) {
	s := &d.Spec
	if p.people() {
		title := fmt.Sprintf("run %d", d.Number)
		if s.Name != "" {
			title += " " + clean(s.Name)
		}
		p.w.WriteString(title + ": ")
		p.paint(string(d.State), "STATE", false)
		if d.Reason != "" && string(d.Reason) != string(d.State) {
			p.w.WriteString(" (" + clean(string(d.Reason)) + ")")
		}
		p.line("")
	} else {
		p.fields("number", strconv.FormatInt(d.Number, 10), "id", string(d.ID), "name", s.Name, "state", string(d.State), "reason", string(d.Reason))
	}
	hold, cancel := "", string(d.Cancel)
	if d.State.Terminal() {
		d.ETA = time.Time{}
	}
	if d.Hold != nil {
		hold = "by " + d.Hold.By + ": " + d.Hold.Reason
	}
	p.fields(append([]string{"held", hold, "cancel", cancel, "recipe", s.Recipe, "dataset", refName(s.Dataset), "base", refName(s.Base), "shape", shape(s.Gang), "where", s.Where.Words(), "priority", strconv.Itoa(s.Priority), "pinned", pinned(s), "limits", limits(s), "params", params(s), "register", s.Register, "model", d.Model,
		"step", steps(d.Step, d.TotalSteps), "loss", lossText(d.Loss), "eta", timeOrNone(p, d.ETA), "saved step", strconv.FormatInt(d.SavedStep, 10),
		"user", d.User, "submitted", p.time(d.SubmittedAt), "started", timeOrNone(p, d.StartedAt), "ended", timeOrNone(p, d.EndedAt),
		"not before", timeOrNone(p, d.NotBefore), "avoids", joinAny(d.Avoid), "retries", strconv.Itoa(d.Retries), "parent", string(d.Parent), "job", jobText(p, d.Attempts),
		"command", commandText(s.Entry.Command), "launch", nodeLaunch(s), "source", sourceText(s.Source), "began from", branchText(s.ResumeFrom)}, append(p.costFields(d), inputFields(s)...)...)...)
	p.chain(d.Chain, d.Number)
	if len(d.Attempts) == 0 {
		return
	}
	if p.people() {
		p.line("")
	}
	heads := []string{">ATTEMPT", "STATE", "REASON", "NODES", ">RESUMED:2", ">LAST:3", ">SAVED:4", "PLACED:1", "TOOK:5", "DETAIL"}
	jobs := !p.people() || slices.ContainsFunc(d.Attempts, func(a forge.Attempt) bool { return a.Batch != nil })
	if jobs {
		heads = append(heads, "JOB")
	}
	t := p.table(heads...)
	for i := range d.Attempts {
		at := &d.Attempts[i]
		cells := []string{strconv.Itoa(at.Number), attemptState(at), p.orDash(string(at.Reason)), placement(at.Placement),
			strconv.FormatInt(at.ResumeStep, 10), strconv.FormatInt(at.LastStep, 10), strconv.FormatInt(at.SavedStep, 10),
			p.time(at.PlacedAt), took(p, at), at.Detail}
		if jobs && at.Batch != nil {
			cells = append(cells, at.Batch.ID)
		} else if jobs {
			cells = append(cells, p.orDash(""))
		}
		if !p.people() {
			cells = append([]string{"attempt"}, cells...)
		}
		t.row(cells...)
	}
	t.flush()
}

// jobText is what the cluster's batch system says of the newest attempt.
func jobText(p *printer, attempts []forge.Attempt) string {
	if len(attempts) == 0 || attempts[len(attempts)-1].Batch == nil {
		return ""
	}
	j := attempts[len(attempts)-1].Batch
	text := j.ID
	if j.Partition != "" {
		text += " on partition " + j.Partition
	}
	if !attempts[len(attempts)-1].State.Open() && j.EndedAt.IsZero() {
		return text + ": " + j.State + " when last seen" // nobody asks for an attempt that has ended: its shims' word was enough
	}
	text += ": " + j.State
	if j.Reason != "" && j.Reason != "None" {
		text += " (" + j.Reason + ")"
	}
	if !j.EstimatedStart.IsZero() && j.StartedAt.IsZero() {
		text += ", start expected " + p.time(j.EstimatedStart)
	}
	return text
}

func refName(r *forge.InputRef) string {
	if r == nil {
		return ""
	}
	return r.Name
}

func shape(g forge.Gang) string {
	s := fmt.Sprintf("%s × %s, %s", plural(g.Nodes, "node"), plural(g.GPUsPerNode, "GPU"), plural(g.CPUsPerGPU, "CPU"))
	if g.MemoryMiBPerGPU > 0 {
		s += " and " + forge.FormatMiB(g.MemoryMiBPerGPU)
	}
	return s + " per GPU"
}

// pinned says what is not usual.
func pinned(s *forge.RunSpec) string {
	if s.Pinned {
		return "must not be preempted"
	}
	return ""
}

func limits(s *forge.RunSpec) string {
	var out []string
	for _, l := range []struct {
		what string
		d    forge.Duration
	}{{"attempt", s.TimeLimit}, {"total", s.TotalTime}, {"first step", s.StartTimeout}, {"between steps", s.StallTimeout}, {"grace", s.Grace}} {
		if l.d > 0 {
			out = append(out, l.what+" "+l.d.String())
		}
	}
	return strings.Join(out, ", ")
}

// params shows what the user set; defaults are counted. All of them are in -o json.
func params(s *forge.RunSpec) string {
	var set []string
	defaults := 0
	for _, k := range slices.Sorted(maps.Keys(s.Params)) {
		if s.Origins[k] == "default" || s.Origins[k] == "" {
			defaults++
			continue
		}
		set = append(set, fmt.Sprintf("%s=%v", k, s.Params[k]))
	}
	if defaults > 0 {
		set = append(set, plural(defaults, "default"))
	}
	return strings.Join(set, ", ")
}

func lossText(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}

func timeOrNone(p *printer, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return p.time(t)
}

func attemptState(a *forge.Attempt) string {
	if !a.Unknown.IsZero() && a.State.Open() {
		return string(a.State) + " (unknown)"
	}
	return string(a.State)
}

func placement(shares []forge.Share) string {
	var out []string
	for _, s := range shares {
		slots := make([]string, len(s.Slots))
		for i, n := range s.Slots {
			slots[i] = strconv.Itoa(n)
		}
		out = append(out, string(s.Node)+":"+strings.Join(slots, ","))
	}
	return strings.Join(out, " ")
}

func took(p *printer, a *forge.Attempt) string {
	if a.StartedAt.IsZero() {
		return p.orDash("")
	}
	end := a.EndedAt
	if end.IsZero() {
		end = a.ExitedAt
	}
	if end.IsZero() {
		end = p.now
	}
	d := max(0, end.Sub(a.StartedAt))
	if p.people() {
		return span(d)
	}
	return d.Round(time.Second).String()
}
