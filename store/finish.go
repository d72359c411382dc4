package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Exit is the proof that an attempt is gone: what its executor said once every process had ended.
type Exit struct {
	Run     forge.RunID
	Attempt int
	Exits   []forge.RankExit
	At      time.Time

	// Recorded here when the attempt was never seen running. Without either it never ran.
	StartedAt time.Time // zero: as the exits tell
	Resume    *forge.Resume
}

// AttemptExited frees what the attempt held and asks for it to be finished, in one write. The caller has proof
// that its processes are gone; the store cannot know. Claims stay: they are for whoever was
// waiting for these very slots. KindConflict when superseded or ended; telling twice is fine.
func (db *DB) AttemptExited(ctx context.Context, x Exit) error {
	const op = "attempt.exited"
	return db.change(ctx, op, x.Run, x.Attempt, func(t *tx, r *runRow, a *attemptRow) error {
		moved, err := a.move(op, forge.AttemptExited)
		if err != nil || !moved {
			return err
		}
		if a.Exits, err = encode(len(x.Exits), x.Exits); err != nil {
			return err
		}
		if x.At.IsZero() {
			x.At = t.now
		}
		a.ExitedAt, a.UnheardAt, a.Unknown = stampOf(x.At), a.Unknown, 0
		if a.StartedAt == 0 && (x.Resume != nil || !x.StartedAt.IsZero()) { // it ran and ended between two looks
			if err := t.started(r, a, firstStart(x), x.Resume); err != nil {
				return err
			}
			if err := t.saveRun(r); err != nil {
				return err
			}
		}
		if err := t.saveAttempt(a); err != nil {
			return err
		}
		if err := t.charge(r.Tenant, a); err != nil {
			return err
		}
		if err := t.release(a); err != nil {
			return err
		}
		if err := t.dropOutbox(a.Run, a.Number); err != nil {
			return err
		}
		return t.outbox(OutboxFinish, a.Run, a.Number, forge.IntentNone)
	})
}

// firstStart is when the last rank had started, as far as is known.
func firstStart(x Exit) time.Time {
	if !x.StartedAt.IsZero() {
		return x.StartedAt
	}
	var at time.Time
	for _, e := range x.Exits {
		if e.StartedAt.After(at) {
			at = e.StartedAt
		}
	}
	if at.IsZero() {
		return x.At
	}
	return at
}

func (t *tx) release(a *attemptRow) error {
	_, err := t.exec(`DELETE FROM allocations WHERE run = ? AND attempt = ?`, string(a.Run), a.Number)
	return err
}

// End is the verdict on an attempt that has exited and what follows for its run.
type End struct {
	Run          forge.RunID
	Attempt      int
	Reason       forge.EndReason
	Detail       string
	Next         forge.RunState // pending, completed, failed or cancelled
	Hold         *forge.Hold    // with pending: not placed again until released
	NotBefore    time.Time
	Avoid        []forge.NodeName
	Fruitless    int
	Retries      int
	Checkpoints  []forge.Checkpoint    // all that there are; nil: nobody has looked
	Blamed       []Blame               // nodes that may have had their part in it
	Model        *forge.ModelVersion   // registered with the run's end; Name from the spec's register when empty
	Unregistered string                // why the model that was asked for is not registered, in words; with Model nil
	Eval         *EvalFound            // stored with it
	Dataset      *forge.DatasetVersion // that a scan has read; registered with it
	At           time.Time
	OutboxID     int64
}

// AttemptEnded records how an attempt ended and moves its run on: one write for the attempt, the
// run, its checkpoints, the model version, what an eval found and the outbox, so that no crash can register a model twice or
// lose it. A run that was asked to stop meanwhile does not go back to pending; it is cancelled. A model that
// cannot be registered under its name (a base model has it) does not keep the run from ending: its event says
// so. Asked again it answers with what the first call did. KindPrecondition before AttemptExited:
// only proof of death frees GPUs.
func (db *DB) AttemptEnded(ctx context.Context, e End) (forge.Run, *forge.ModelVersion, error) {
	const op = "attempt.ended"
	var r *runRow
	var model *forge.ModelVersion
	err := db.write(ctx, op, func(t *tx) error {
		model = nil
		row, a, err := t.newest(op, e.Run, e.Attempt)
		if err != nil {
			return err
		}
		r = row
		if a.State == forge.AttemptEnded {
			if model, err = t.modelOfRun(r); err != nil {
				return err
			}
			if err := t.specOf(r); err != nil {
				return err
			}
			return t.outboxDone(e.OutboxID)
		}
		if a.State != forge.AttemptExited {
			return forge.Errorf(forge.KindPrecondition, op, "attempt %d of %s is %s: it has not exited", e.Attempt, r.name(), a.State)
		}
		model, err = t.endAttempt(r, a, e)
		return err
	})
	if err != nil {
		return forge.Run{}, nil, err
	}
	run, err := r.forge(&db.specs)
	return run, model, classify(op, err)
}

func (t *tx) endAttempt(r *runRow, a *attemptRow, e End) (*forge.ModelVersion, error) {
	if e.At.IsZero() {
		e.At = t.now
	}
	if err := t.checkpoints(r, a, e.Checkpoints); err != nil {
		return nil, err
	}
	if e.Checkpoints != nil {
		if err := t.goneSaves(r, e.Checkpoints); err != nil {
			return nil, err
		}
	}
	a.State, a.Reason, a.Detail, a.EndedAt = forge.AttemptEnded, e.Reason, clean(e.Detail), stampOf(e.At)
	if err := t.saveAttempt(a); err != nil {
		return nil, err
	}
	if err := t.runEvent(r, forge.Event{Type: forge.EventAttemptEnded, Attempt: a.Number, Reason: string(e.Reason),
		Message: fmt.Sprintf("attempt %d of %s ended: %s", a.Number, r.name(), sentence(e.Reason, e.Detail))}); err != nil {
		return nil, err
	}
	model, refused, err := t.registerOutput(r, a, e.Model)
	if err != nil {
		return nil, err
	}
	if e.Unregistered != "" {
		refused = clean(e.Unregistered)
	}
	if model != nil {
		r.Model = forge.Ref{Name: model.Name, Number: model.Number}.String()
	}
	if err := t.addEval(r, e.Eval); err != nil {
		return nil, err
	}
	if err := t.dropOutbox(a.Run, a.Number); err != nil {
		return nil, err
	}
	if err := t.noteFailures(a, e); err != nil {
		return nil, err
	}
	scanned, err := t.registerScan(r, e.Dataset)
	if err != nil {
		return nil, err
	}
	return model, t.moveOn(r, a, e, refused, scanned)
}

// moveOn takes the run to where the verdict sends it.
func (t *tx) moveOn(r *runRow, a *attemptRow, e End, refused, scanned string) error {
	r.Reason, r.Fruitless, r.Retries, r.NotBefore = e.Reason, e.Fruitless, e.Retries, stampOf(e.NotBefore)
	var err error
	if r.Avoid, err = encode(len(e.Avoid), e.Avoid); err != nil {
		return err
	}
	next, reason := e.Next, e.Reason
	if next == forge.RunPending && r.Cancel != forge.CancelNone {
		next, reason = forge.RunCancelled, forge.EndCancelled
	}
	if r.State == forge.RunPending { // it was handed over, and nobody saw what it had
		r.State = forge.RunProvisioning
	}
	if !forge.CanMoveRun(r.State, next) {
		return forge.Errorf(forge.KindPrecondition, "attempt.ended", "%s is %s and cannot become %q", r.name(), r.State, next)
	}
	if next.Terminal() {
		var why []string
		if reason != forge.EndCompleted {
			why = append(why, sentence(e.Reason, e.Detail))
		}
		switch {
		case scanned != "":
			why = append(why, scanned)
		case r.Model != "":
			why = append(why, "registered as "+r.Model)
		case refused != "":
			why = append(why, "the model was not registered: "+refused)
		}
		return t.end(r, next, reason, actorForged, strings.Join(why, "; "))
	}
	r.State = forge.RunPending
	if e.Hold != nil {
		return t.holdRun(r, *e.Hold)
	}
	if err := t.saveRun(r); err != nil {
		return err
	}
	if e.Reason == forge.EndCheckpointedPreempt {
		if err := t.runEvent(r, forge.Event{Type: forge.EventRunPreempted, Attempt: a.Number, Reason: string(forge.WhyPreempted),
			Message: fmt.Sprintf("%s was preempted %s; %s", r.name(), byWhom(a), madeRoom(r, a)), Data: map[string]any{"step": a.SavedStep}}); err != nil {
			return err
		}
	}
	return t.runEvent(r, forge.Event{Type: forge.EventRunRequeued, Attempt: a.Number, Reason: string(e.Reason),
		Message: fmt.Sprintf("%s waits again, to go on %s", r.name(), r.goesOn())})
}

// byWhom tells our preemption, which is recorded before it is asked for, from that of a cluster's own queue and from one that a user
// rehearsed.
func byWhom(a *attemptRow) string {
	switch {
	case a.Rehearsal:
		return "as a rehearsal, which was asked for"
	case a.Intent == forge.IntentNone:
		return "by the queue of cluster " + string(a.Cluster)
	}
	return "by a run ahead of it"
}

// madeRoom says what a preempted attempt kept of its work.
func madeRoom(r *runRow, a *attemptRow) string {
	if a.SavedStep > 0 && a.SavedStep >= a.LastStep {
		return fmt.Sprintf("saved at step %d, goes on later", a.SavedStep)
	}
	return fmt.Sprintf("did not save what it was at (step %d), goes on later %s", a.LastStep, r.goesOn())
}

// registerOutput registers the model that the run was asked for. A refusal for the name's sake
// comes back in words: the training is done and its outputs are safe.
func (t *tx) registerOutput(r *runRow, a *attemptRow, m *forge.ModelVersion) (*forge.ModelVersion, string, error) {
	if m == nil {
		return nil, "", nil
	}
	v := *m
	if v.Name == "" {
		v.Name = r.Register
	}
	if v.CreatedBy == "" {
		v.CreatedBy = r.User
	}
	v.Tenant, v.Kind = r.Tenant, forge.ModelTrained
	lineage := forge.Lineage{}
	if v.Lineage != nil {
		lineage = *v.Lineage
	}
	lineage.Run, lineage.RunNumber, lineage.Attempt = r.ID, r.Number, a.Number
	v.Lineage = &lineage
	err := t.sub(func() error { return t.addModelVersion(&v, r) })
	switch forge.KindOf(err) {
	case forge.KindConflict, forge.KindInvalid:
		return nil, err.Error(), nil
	}
	if err != nil {
		return nil, "", err
	}
	return &v, "", nil
}

func sentence(reason forge.EndReason, detail string) string {
	if detail = strings.TrimSpace(clean(detail)); detail != "" {
		return fmt.Sprintf("%s (%s)", detail, reason)
	}
	return string(reason)
}
