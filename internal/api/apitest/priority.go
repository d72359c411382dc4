package apitest

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// PriorityEffect implements api.Priorities: place 3 of 5 becomes 1 or 5.
func (f *Fake) PriorityEffect(_ context.Context, p forge.Principal, run string, priority int) (api.PriorityEffect, error) {
	leave, err := f.enter("PriorityEffect")
	if err != nil {
		return api.PriorityEffect{}, err
	}
	defer leave()
	r, err := f.waitsFor(p, run, priority)
	if err != nil {
		return api.PriorityEffect{}, err
	}
	e := api.PriorityEffect{Run: r.Number, State: r.State, Was: r.Spec.Priority, Priority: priority, Position: 3, WouldBe: 3, Waiting: 5}
	if f.batchQueue == "" {
		at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
		e.Start, e.Then, e.Effect = &api.Start{At: at.Add(2 * time.Hour)}, &api.Start{At: at}, &api.Effect{Later: 2, Most: forge.Duration(time.Hour)}
	}
	switch {
	case f.batchQueue != "":
		e.Position, e.WouldBe, e.Waiting, e.Queue = 0, 0, 0, f.batchQueue
	case priority > r.Spec.Priority:
		e.WouldBe = 1
	case priority < r.Spec.Priority:
		e.WouldBe = 5
	}
	return e, nil
}

// SetPriority implements api.Priorities.
func (f *Fake) SetPriority(_ context.Context, p forge.Principal, run string, priority int) (forge.Run, error) {
	leave, err := f.enter("SetPriority")
	if err != nil {
		return forge.Run{}, err
	}
	defer leave()
	r, err := f.waitsFor(p, run, priority)
	if err != nil {
		return forge.Run{}, err
	}
	r.Spec.Priority = priority
	f.remember(p, string(r.ID))
	return r.Run, nil
}

// SetBatchQueue has a batch system have all that wait.
func (f *Fake) SetBatchQueue(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batchQueue = name
}

func (f *Fake) waitsFor(p forge.Principal, run string, priority int) (*api.RunDetail, error) {
	r, err := f.findOwn(p, "run.priority", run)
	if err != nil {
		return nil, err
	}
	if err := mayAskFor(p, priority); err != nil {
		return nil, err
	}
	if r.State != forge.RunPending {
		return nil, forge.Errorf(forge.KindPrecondition, "run.priority", "run %d is %s; only the priority of a run that waits changes anything", r.Number, r.State).
			WithHint("forgectl run why %d says where it is", r.Number)
	}
	return r, nil
}
