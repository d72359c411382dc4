package apitest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// AddRun puts a run of tenant T1 there as it is; its number must be the next.
func (f *Fake) AddRun(d api.RunDetail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d.Tenant = "T1"
	f.runs = append(f.runs, &d)
}

// ChangeRun changes the run of a number.
func (f *Fake) ChangeRun(number int64, change func(*api.RunDetail)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runs {
		if r.Number == number {
			change(r)
		}
	}
}

// WriteLog appends to what a rank of an attempt has written.
func (f *Fake) WriteLog(run forge.RunID, attempt, rank int, stream, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[logName{run, attempt, rank, stream}] += text
}

// SetMetrics sets a run's curves.
func (f *Fake) SetMetrics(run forge.RunID, m api.Metrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.metrics[run] = m
}

// SetCheckpoints sets a run's checkpoints.
func (f *Fake) SetCheckpoints(run forge.RunID, c ...forge.Checkpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saves[run] = c
}

// SetWhy sets why a run is where it is.
func (f *Fake) SetWhy(run forge.RunID, w api.Why) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.whys[run] = w
}

// SetQueue sets the queue.
func (f *Fake) SetQueue(q api.Queue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = &q
}

func (f *Fake) find(p forge.Principal, name string) (*api.RunDetail, error) {
	for _, r := range f.runs {
		if r.Tenant == p.Tenant && (string(r.ID) == name || strconv.FormatInt(r.Number, 10) == name) {
			return r, nil
		}
	}
	return nil, notFound("run", name)
}

// findOwn finds a run to act on: members act on their own only.
func (f *Fake) findOwn(p forge.Principal, op, name string) (*api.RunDetail, error) {
	r, err := f.find(p, name)
	if err != nil {
		return nil, err
	}
	if err := least(p, op, forge.RoleMember); err != nil {
		return nil, err
	}
	if !p.Role.Includes(forge.RoleAdmin) && r.User != p.Actor() {
		return nil, forge.Errorf(forge.KindForbidden, op, "run %d is %s's; members act on their own runs only", r.Number, r.User).
			WithHint("ask %s, or an admin of the tenant", r.User)
	}
	return r, nil
}

func least(p forge.Principal, op string, role forge.Role) error {
	if p.Role.Includes(role) {
		return nil
	}
	return forge.Errorf(forge.KindForbidden, op, "this needs the role %s; yours is %s", role, p.Role).WithHint("forgectl whoami says who you are here")
}

// memberMaxPriority is what the daemon's configuration says when it says nothing.
const memberMaxPriority = 60

func maxPriority(p forge.Principal) int {
	switch {
	case p.MaxPriority != nil:
		return *p.MaxPriority
	case p.Role.Includes(forge.RoleAdmin):
		return forge.MaxPriority
	}
	return memberMaxPriority
}

func mayAskFor(p forge.Principal, priority int) error {
	if limit := maxPriority(p); priority > limit {
		return (&forge.Error{Kind: forge.KindForbidden, Op: "run.submit", Field: "priority", Err: fmt.Errorf("%d is above the highest that you may ask for, %d", priority, limit)}).
			WithHint("ask for %d or less; an admin raises it: forgectl user edit %s --max-priority %d", limit, p.User, priority)
	}
	return nil
}

// SubmitRun implements api.Runs. It knows the recipe lora_sft and two parameters of it, and script.
func (f *Fake) SubmitRun(_ context.Context, p forge.Principal, r api.SubmitRunRequest) (api.Submitted, error) {
	leave, err := f.enter("SubmitRun")
	if err != nil {
		return api.Submitted{}, err
	}
	defer leave()
	if r.Recipe != "lora_sft" && r.Recipe != "script" {
		return api.Submitted{}, forge.Invalidf("recipe", "there is no recipe %q; there are: lora_sft", r.Recipe)
	}
	run := forge.Run{ID: forge.RunID(f.id("R")), Tenant: p.Tenant, User: p.Actor(), State: forge.RunPending, SubmittedAt: f.now}
	run.Spec = forge.RunSpec{Name: r.Name, Recipe: r.Recipe, Launch: forge.LaunchRank, Entry: forge.Entry{Module: "forge_train.lora_sft"},
		Params: map[string]any{"lora.r": 8, "train.learning_rate": 2e-4}, Origins: map[string]string{"lora.r": "default", "train.learning_rate": "default"},
		Gang:     forge.Gang{Nodes: max(1, r.Nodes), GPUsPerNode: max(1, r.GPUsPerNode), CPUsPerGPU: max(1, r.CPUsPerGPU), MemoryMiBPerGPU: r.MemoryMiBPerGPU},
		Priority: min(forge.DefaultPriority, maxPriority(p)), TimeLimit: r.TimeLimit, TotalTime: r.TotalTime, Grace: forge.Duration(forge.DefaultGrace),
		MaxRetries: r.MaxRetries, Register: r.Register, Cluster: forge.ClusterName(r.Cluster), Batch: r.Batch, Runtime: r.Runtime,
		Where: r.Where, SecretsFile: r.SecretsFile, Pinned: r.Preemptible != nil && !*r.Preemptible}
	if r.Dataset != "" {
		run.Spec.Dataset = &forge.InputRef{Name: r.Dataset}
	}
	if r.Base != "" {
		run.Spec.Base = &forge.InputRef{Name: r.Base}
	}
	if r.Params != nil {
		run.Spec.Params = r.Params
	}
	if r.ResumeFrom != "" {
		run.Spec.ResumeFrom = &forge.BranchPoint{Run: "R3", Number: 3, Attempt: 1, Step: 20, Path: "/runs/3/attempts/0001/checkpoints/checkpoint-20", SHA256: "5d41402a"}
	}
	if r.Recipe == "script" {
		run.Spec.Entry, run.Spec.Params, run.Spec.Origins = forge.Entry{Command: r.Command}, map[string]any{}, map[string]string{}
		if run.Spec.Source = r.Source; r.Launch != "" {
			run.Spec.Launch = r.Launch
		}
	}
	if r.Priority != nil {
		run.Spec.Priority = *r.Priority
	}
	if err := mayAskFor(p, run.Spec.Priority); err != nil {
		return api.Submitted{}, err
	}
	if err := setParams(&run.Spec, r); err != nil {
		return api.Submitted{}, err
	}
	if r.Dataset != "" {
		run.Spec.Dataset = &forge.InputRef{Name: r.Dataset, SHA256: "5d41402a"}
	}
	if r.Base != "" {
		run.Spec.Base = &forge.InputRef{Name: r.Base, SHA256: "7d793037"}
	}
	for _, a := range r.After {
		other, err := f.find(p, a)
		if err != nil {
			return api.Submitted{}, forge.Invalidf("after", "%w", err)
		}
		run.Spec.After = append(run.Spec.After, other.ID)
	}
	if r.DryRun {
		out := api.Submitted{Run: run, Estimate: guessOf(r)}
		if b := r.Batch; b != nil {
			out.Batch = &api.JobPreview{Args: append(b.Raw, "--partition="+b.Partition, "--parsable"), Script: "#!/bin/bash\nexec srun --nodes=1 forged shim\n"}
		}
		return out, nil
	}
	f.remember(p, string(run.ID))
	f.remember(p, string(run.ID))
	out := f.queueRun(run)
	out.Estimate = guessOf(r)
	return out, nil
}

// guessOf knows the time of runs on two bases, and of one what its GPUs cost.
func guessOf(r api.SubmitRunRequest) *api.CostGuess {
	cost := 12.5
	switch r.Base {
	case "priced":
		return &api.CostGuess{GPUHours: 5, Cost: &cost, Currency: "EUR", From: "history"}
	case "unpriced":
		return &api.CostGuess{GPUHours: 5, Currency: "EUR", From: "operations"}
	}
	return nil
}

func setParams(spec *forge.RunSpec, r api.SubmitRunRequest) error {
	set := func(key string, v any, origin string) error {
		if _, known := spec.Params[key]; !known {
			return forge.Invalidf("params."+key, "lora_sft has no such parameter; it has lora.r, train.learning_rate").
				WithHint("did you mean lora.r?")
		}
		spec.Params[key], spec.Origins[key] = v, origin
		return nil
	}
	for k, v := range r.Params {
		if err := set(k, v, "file"); err != nil {
			return err
		}
	}
	for _, kv := range r.Set {
		k, text, _ := strings.Cut(kv, "=")
		var v any = text
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			v = n
		}
		if err := set(k, v, "set"); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fake) queueRun(run forge.Run) api.Submitted {
	waiting := 1
	for _, r := range f.runs {
		run.Number = max(run.Number, r.Number)
		if r.State == forge.RunPending {
			waiting++
		}
	}
	run.Number++
	f.runs = append(f.runs, &api.RunDetail{Run: run, Attempts: []forge.Attempt{}})
	f.addEvent(forge.Event{Type: forge.EventRunSubmitted, Tenant: run.Tenant, Actor: run.User, Run: run.ID, Number: run.Number, Message: "submitted"})
	return api.Submitted{Run: run, Position: waiting, Waiting: waiting}
}

// RetryRun implements api.Runs.
func (f *Fake) RetryRun(_ context.Context, p forge.Principal, run string) (api.Submitted, error) {
	leave, err := f.enter("RetryRun")
	if err != nil {
		return api.Submitted{}, err
	}
	defer leave()
	old, err := f.findOwn(p, "run.retry", run)
	if err != nil {
		return api.Submitted{}, err
	}
	if err := mayAskFor(p, old.Spec.Priority); err != nil {
		return api.Submitted{}, err
	}
	switch {
	case old.State.Terminal():
	case old.Hold == nil:
		return api.Submitted{}, forge.Errorf(forge.KindPrecondition, "run.retry", "run %d is %s; only an ended or held run can be retried", old.Number, old.State).
			WithHint("forgectl run cancel %d ends it first", old.Number)
	default:
		old.State, old.EndedAt = forge.RunCancelled, f.now
	}
	next := forge.Run{ID: forge.RunID(f.id("R")), Tenant: p.Tenant, User: p.Actor(), Spec: old.Spec, State: forge.RunPending, Parent: old.ID, SubmittedAt: f.now}
	f.remember(p, string(next.ID))
	return f.queueRun(next), nil
}

// CancelRun implements api.Runs.
func (f *Fake) CancelRun(_ context.Context, p forge.Principal, run string, mode forge.CancelMode) (forge.Run, error) {
	leave, err := f.enter("CancelRun")
	if err != nil {
		return forge.Run{}, err
	}
	defer leave()
	r, err := f.findOwn(p, "run.cancel", run)
	if err != nil {
		return forge.Run{}, err
	}
	if r.State.Terminal() {
		return forge.Run{}, forge.Errorf(forge.KindPrecondition, "run.cancel", "run %d is %s already", r.Number, r.State)
	}
	r.Cancel = mode
	f.remember(p, string(r.ID))
	if r.State == forge.RunPending {
		r.State, r.EndedAt = forge.RunCancelled, f.now
	}
	return r.Run, nil
}

// Run implements api.Runs.
func (f *Fake) Run(_ context.Context, p forge.Principal, run string) (api.RunDetail, error) {
	leave, err := f.enter("Run")
	if err != nil {
		return api.RunDetail{}, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return api.RunDetail{}, err
	}
	return *r, nil
}

// Runs implements api.Runs.
func (f *Fake) Runs(_ context.Context, p forge.Principal, q api.RunFilter) (api.List[forge.Run], error) {
	leave, err := f.enter("Runs")
	if err != nil {
		return api.List[forge.Run]{}, err
	}
	defer leave()
	var seen []forge.Run
	for _, r := range f.runs {
		switch {
		case r.Tenant != p.Tenant, q.User != "" && r.User != q.User, q.Recipe != "" && r.Spec.Recipe != q.Recipe, !strings.HasPrefix(r.Spec.Name, q.Name),
			q.Pipeline != "" && (r.Spec.Pipeline == nil || r.Spec.Pipeline.Name != q.Pipeline && r.Spec.Pipeline.ID != q.Pipeline),
			q.Batch != "" && !slices.ContainsFunc(r.Attempts, func(a forge.Attempt) bool { return a.Batch != nil && a.Batch.ID == q.Batch }),
			q.Model != "" && !strings.HasPrefix(r.Model, q.Model+"@"), !q.Since.IsZero() && r.SubmittedAt.Before(q.Since),
			!q.Until.IsZero() && !r.SubmittedAt.Before(q.Until), len(q.States) > 0 && !slices.Contains(q.States, r.State):
			continue
		}
		seen = append(seen, r.Run)
	}
	if err := sortRuns(seen, q.Sort); err != nil {
		return api.List[forge.Run]{}, err
	}
	return pageOf(seen, func(r forge.Run) string { return string(r.ID) }, q.Limit, q.Cursor,
		bound(p, "runs", cmp.Or(q.Sort, "-number"), q.States, q.User, q.Recipe, q.Name, q.Model, q.Batch, q.Pipeline, q.Since, q.Until))
}
