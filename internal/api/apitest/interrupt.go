package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// InterruptRun implements api.Runs.
func (f *Fake) InterruptRun(_ context.Context, p forge.Principal, run string, as forge.InterruptAs) (forge.Run, error) {
	leave, err := f.enter("InterruptRun")
	if err != nil {
		return forge.Run{}, err
	}
	defer leave()
	r, err := f.findOwn(p, "run.interrupt", run)
	if err != nil {
		return forge.Run{}, err
	}
	if r.State != forge.RunRunning {
		return forge.Run{}, forge.Errorf(forge.KindPrecondition, "run.interrupt", "run %d is %s; only a run that runs can be interrupted", r.Number, r.State).
			WithHint("forgectl run why %d says where it is", r.Number)
	}
	r.State, r.Reason = forge.RunPending, forge.EndCheckpointedPreempt
	if as == forge.InterruptTimeout {
		r.Reason = forge.EndCheckpointedLimit
	}
	f.remember(p, string(r.ID))
	return r.Run, nil
}

// SetSeat says where ranks run; none does otherwise.
func (f *Fake) SetSeat(seat api.RunSeat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seat = seat
}

// RunSeat implements api.Runs.
func (f *Fake) RunSeat(_ context.Context, p forge.Principal, run string, rank int) (api.RunSeat, error) {
	leave, err := f.enter("RunSeat")
	if err != nil {
		return api.RunSeat{}, err
	}
	defer leave()
	r, err := f.findOwn(p, "run.shell", run)
	if err != nil {
		return api.RunSeat{}, err
	}
	if r.State != forge.RunRunning || f.seat.Job == "" {
		return api.RunSeat{}, forge.Errorf(forge.KindPrecondition, "run.shell", "run %d is %s; a shell needs a rank that runs", r.Number, r.State).
			WithHint("forgectl run why %d says where it is", r.Number)
	}
	seat := f.seat
	seat.Run, seat.Rank = r.Number, rank
	return seat, nil
}
