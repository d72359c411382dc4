package slurm

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// readAgain is how soon records are read again that nothing has pointed at, where inotify does not see other machines; readOthers where
// each reading is a process of its own; readWatched where inotify sees all of an attempt's directories: to open those of ten thousand at
// every look is most of what looking costs.
const (
	readAgain   = 500 * time.Millisecond
	readOthers  = 3 * time.Second
	readWatched = time.Minute
)

// pace is how patient an executor is. Tests are less so.
type pace struct {
	// stubborn is how long a shim may take to carry out a stop, beyond the grace of its ranks, before Slurm ends it: a stop is
	// asked for once, so nobody else would.
	stubborn time.Duration
	// again is how soon something is asked of Slurm again about the same attempt.
	again time.Duration
	// stuck is how much shorter than stuckFor a reason that never clears is believed to.
	stuck time.Duration
}

var usual = pace{stubborn: 10 * time.Second, again: 10 * time.Second, stuck: 1}

// Poll looks at attempts. An id that cannot be judged is unknown and spoils nothing for the others; the error is only ever
// the context's. It may be called as often as one likes: Slurm is asked at its own pace, and no record is read for nothing.
func (e *Executor) Poll(ctx context.Context, ids []forge.ExternalID) ([]forge.Observation, error) {
	list := make([]*attempt, len(ids))
	errs := make([]error, len(ids))
	for i, id := range ids {
		list[i], errs[i] = e.attempt(id)
	}
	e.mu.Lock()
	for _, a := range list {
		if a != nil {
			a.polled = time.Now()
		}
	}
	e.mu.Unlock()
	e.refresh(ctx)
	e.read(ctx, list)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]forge.Observation, len(ids))
	for i, a := range list {
		if a == nil {
			out[i] = forge.Observation{ID: ids[i], AsOf: time.Now().UTC(), State: forge.ObservUnknown, Detail: errs[i].Error(), ByUID: -1}
			continue
		}
		out[i] = e.observe(ctx, a)
	}
	return out, nil
}

// read brings the records of attempts up to date, those of an account in one request. An attempt that Slurm has in its queue has
// none.
func (e *Executor) read(ctx context.Context, list []*attempt) {
	byAccount := map[string][]*attempt{}
	var anew []rundir.Attempt
	now, again := time.Now(), readAgain
	if !e.self {
		again = readOthers
	}
	e.mu.Lock()
	for _, a := range list {
		if a == nil || now.Sub(a.looked) < again || e.near && a.watched() && now.Sub(a.looked) < readWatched {
			continue
		}
		if !a.looked.IsZero() && a.blind == "" && a.records.Claim == nil && a.job.phase() == phaseWaiting {
			continue
		}
		a.looked = now // before they are read: what happens meanwhile is news
		if a.unfinished() {
			anew = append(anew, a.at)
		}
		byAccount[a.account] = append(byAccount[a.account], a)
	}
	e.mu.Unlock()
	if own, ok := e.hand.(*Own); ok {
		own.Forget(anew)
	}
	for account, as := range byAccount {
		ats := make([]rundir.Attempt, len(as))
		for i, a := range as {
			ats[i] = a.at
		}
		got, err := e.hand.Records(ctx, account, ats)
		e.mu.Lock()
		for i, a := range as {
			switch {
			case err != nil || len(got) != len(as):
				a.blind, a.looked = "its records cannot be read: "+wordsOfAny(err), time.Time{}
			case got[i].Error != "":
				a.blind = "its records cannot be read: " + got[i].Error
			default:
				a.blind, a.records = "", got[i]
			}
		}
		e.mu.Unlock()
		for _, a := range as {
			e.watch(a)
		}
	}
}

// watched: inotify sees all of its directories, and its end, which changes what is looked for, has not been seen. Locked by mu.
func (a *attempt) watched() bool {
	return a.blind == "" && a.endSeen.IsZero() && a.records.Launched != nil && len(a.watching) == watchesOf(a.records)
}

// unfinished: its job is over, and not all shims have had their last word. What ranks and srun left then counts, and lies where no
// directory that is looked at changes by it. Locked by mu.
func (a *attempt) unfinished() bool {
	return (a.gone || a.job.phase() == phaseOver) && !(sight{records: a.records}).complete()
}

func wordsOfAny(err error) string {
	if err == nil {
		return "too few answers"
	}
	return wordsOf(err)
}

// observe judges one attempt and sees to what its state needs.
func (e *Executor) observe(ctx context.Context, a *attempt) forge.Observation {
	s, strays := e.seen(a)
	o, n := judge(s)
	if n == needRevoke && e.revoke(ctx, a) || n == needNothing && e.takeBack(ctx, a, s, o) {
		s, strays = e.seen(a)
		o, n = judge(s)
	}
	switch n {
	case needCancel:
		strays = append(strays, *s.job)
	case needSlurm:
		e.askSoon()
		e.nudgeIn(min(time.Second, e.o.PollEvery))
	}
	if len(strays) > 0 {
		ids := make([]string, len(strays))
		for i, j := range strays {
			ids[i] = j.ID
		}
		e.act(a, Action{Verb: ActCancel, JobIDs: ids}, "a job that must not go on is taken out of Slurm: another one is the attempt's, or the attempt is over")
	}
	e.endStubborn(a, s, o)
	e.mu.Lock()
	a.over = o.Released
	e.mu.Unlock()
	return o
}

// seen gathers what is known of an attempt, and remembers since when it looks like over.
func (e *Executor) seen(a *attempt) (s sight, strays []entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	s = sight{id: a.id, now: now, records: a.records, blind: a.blind, job: a.job, jobAt: a.jobAt, heard: e.asker.answered, gone: a.gone, silent: e.silence(now), books: e.books()}
	if s.gone || s.complete() || a.job.phase() == phaseOver {
		if a.endSeen.IsZero() {
			a.endSeen = now
			e.nudgeIn(settleWithin + 10*time.Millisecond)
			e.nudgeIn(explainWithin + 10*time.Millisecond)
		}
	} else {
		a.endSeen = time.Time{}
	}
	s.endSeen = a.endSeen
	return s, a.strays
}

// revoke makes the absence of an attempt that never began certain, or finds that it has begun after all.
func (e *Executor) revoke(ctx context.Context, a *attempt) bool {
	defer e.lockKey(a.id)()
	c, err := e.hand.Revoke(ctx, a.account, a.at)
	if err != nil {
		e.logOf(a).Warn().Err(err).Msg("claim not revoked; it is tried again")
		return false
	}
	e.mu.Lock()
	a.records.Claim, a.looked = &c, time.Time{}
	e.mu.Unlock()
	return true
}

// act lets Slurm do something about an attempt, beside the look that found it necessary, and not at every look.
func (e *Executor) act(a *attempt, q Action, why string) {
	q.Name = a.name
	e.mu.Lock()
	now := time.Now()
	soon := now.Sub(a.acted) < e.pace.again
	if !soon {
		a.acted = now
	}
	closed := e.ctx.Err() != nil
	e.mu.Unlock()
	if soon || closed || len(q.JobIDs) == 0 {
		return
	}
	e.logOf(a).Info().Str("verb", string(q.Verb)).Str("signal", q.Signal).Strs("jobs", q.JobIDs).Msg(why)
	e.tasks.Go(func() {
		answer, err := e.hand.Act(e.ctx, a.account, q)
		if err != nil || answer.Code != 0 {
			e.logOf(a).Warn().Err(err).Str("said", answer.Err).Strs("jobs", q.JobIDs).Msg("Slurm did not do it; it is asked again")
			return
		}
		e.askSoon()
		e.nudgeIn(time.Second)
	})
}

// endStubborn lets Slurm end a job whose shims do not carry out a stop: frozen, or hanging in a read of their run directory. One that
// was asked to save is worth waiting for.
func (e *Executor) endStubborn(a *attempt, s sight, o forge.Observation) {
	stop, l := s.records.Stop, s.records.Launched
	if len(s.missed()) > 0 && o.State == forge.ObservStopping && s.job.phase() == phaseActive {
		e.act(a, Action{Verb: ActCancel, JobIDs: []string{s.job.ID}}, "a job one of whose nodes is gone, which Slurm has not noticed, is cancelled")
		return
	}
	if stop == nil || l == nil || o.State != forge.ObservStopping || s.complete() || s.job.phase() != phaseActive {
		return
	}
	patience := e.pace.stubborn
	switch stop.Signal {
	case forge.SignalCheckpoint:
		return
	case forge.SignalCancel:
		patience += l.Grace.D()
	}
	if time.Since(stop.At) > patience {
		e.act(a, Action{Verb: ActCancel, JobIDs: []string{s.job.ID}}, "a job that did not stop in time is cancelled")
	}
}
