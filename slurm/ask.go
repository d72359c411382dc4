package slurm

import (
	"context"
	"slices"
	"strings"
	"time"
)

// asker is when Slurm is asked for jobs and what came of it. Guarded by Executor.mu.
type asker struct {
	done     chan struct{} // closed when the question that is under way has an answer; nil: none is
	asked    time.Time     // when the last one was put
	answered time.Time     // when the last one was put that had an answer
	took     time.Duration
	pause    time.Duration // until the next
	troubles int           // in a row
	words    string        // of the last trouble
	soon     bool          // something has happened that only Slurm can explain

	noBooks time.Time // when the accounting last said that there is none
}

const (
	// answerShare is the most that questions may take of the time, whatever the number of jobs: one part in so many.
	answerShare = 50
	maxPause    = 2 * time.Minute
	// waitForAnswer is how long a look waits for Slurm. A squeue that hangs must not hide what the records say.
	waitForAnswer = 2 * time.Second
	// silentFor is how long everything stays as it was last seen while Slurm does not answer.
	silentFor = 3 * time.Minute
	// missingBefore is how many good answers in a row must lack a job before it is asked for by itself.
	missingBefore = 2
	// askedByName bounds how many jobs are asked for by themselves at once.
	askedByName = 200
	askedByID   = 20
	// maxAsks is how often the accounting, which is some seconds behind, is asked who cancelled a job.
	maxAsks = 10
)

// refresh asks Slurm if it is time to, and waits a little for the answer.
func (e *Executor) refresh(ctx context.Context) {
	e.mu.Lock()
	k, now := &e.asker, time.Now()
	if k.done == nil && e.due(now) && e.ctx.Err() == nil {
		done := make(chan struct{})
		k.done, k.asked, k.soon = done, now, false
		e.tasks.Go(func() {
			e.ask(now)
			e.mu.Lock()
			k.done = nil
			e.mu.Unlock()
			close(done)
		})
	}
	done, left := k.done, time.Until(k.asked.Add(waitForAnswer))
	e.mu.Unlock()
	if done == nil || left <= 0 {
		return
	}
	wait := time.NewTimer(left)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	case <-ctx.Done():
	}
}

// due: at its turn; a little earlier when something has happened, unless Slurm has trouble. Locked by mu.
func (e *Executor) due(now time.Time) bool {
	k := &e.asker
	since := now.Sub(k.asked)
	if k.soon && k.troubles == 0 {
		return since >= min(k.pause, max(min(time.Second, e.o.PollEvery), 10*k.took))
	}
	return since >= k.pause
}

// askSoon brings the next question forward.
func (e *Executor) askSoon() {
	e.mu.Lock()
	e.asker.soon = true
	e.mu.Unlock()
}

// ask puts one question about all jobs, and then those about what it left open. The number of commands does not depend on the
// number of jobs.
func (e *Executor) ask(begun time.Time) {
	out, err := squeue(e.ctx, e.o.Tools, e.users())
	took := time.Since(begun)
	l := parseSqueue(out, e.ours)
	e.mu.Lock()
	defer e.mu.Unlock()
	k := &e.asker
	k.took = took
	late := took > waitForAnswer
	if err != nil {
		e.trouble(err)
		return
	}
	k.answered, k.troubles, k.words = begun, 0, ""
	k.pause = max(e.o.PollEvery, min(answerShare*took, maxPause))
	changed := e.take(l, begun)
	e.forget(time.Now())
	lost, strangers := e.lost(), e.strangers(l)
	e.mu.Unlock()
	more := e.askFor(lost, begun)
	e.endStrangers(strangers)
	e.mu.Lock()
	if changed || more || late {
		e.nudge()
	}
}

// trouble waits longer each time. A controller that asks to be left alone is left alone. Locked by mu.
func (e *Executor) trouble(err error) {
	if e.ctx.Err() != nil {
		return
	}
	k := &e.asker
	k.troubles++
	k.words = wordsOf(err)
	longest := 30 * time.Second
	if TroubleOf(err) == TroubleBusy {
		longest = 5 * time.Minute
	}
	k.pause = max(e.o.PollEvery, min(longest, e.o.PollEvery<<min(k.troubles, 10)))
	l := e.log.Debug()
	if k.troubles == 1 {
		l = e.log.Warn()
	}
	l.Err(err).Dur("again_in", k.pause).Msg("Slurm does not answer; everything stays as it is")
}

// silence is why Slurm is not believed to be watching any more; "" while it is. Locked by mu.
func (e *Executor) silence(now time.Time) string {
	k := &e.asker
	switch {
	case k.answered.IsZero() && k.troubles == 0:
		return ""
	case k.answered.IsZero():
		return "Slurm has not answered so far: " + k.words
	case k.troubles > 0 && now.Sub(k.answered) > max(silentFor, 3*k.pause):
		return "Slurm has not answered since " + k.answered.UTC().Format(time.RFC3339) + ": " + k.words
	}
	return ""
}

func (e *Executor) ours(name string) bool {
	_, _, ok := ParseJobName(e.o.Cluster, name)
	return ok
}

// users are the accounts whose jobs are asked for.
func (e *Executor) users() []string {
	users := []string{e.me}
	if e.self {
		return users
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.known {
		if a.account != "" && !slices.Contains(users, a.account) {
			users = append(users, a.account)
		}
	}
	slices.Sort(users)
	return users
}

// take compares an answer with what was known, and says whether anything is different. Locked by mu.
func (e *Executor) take(l listing, begun time.Time) (changed bool) {
	for _, a := range e.known {
		if !begun.After(a.made) {
			continue // it was asked before the job can have been there
		}
		job, strays := a.choose(e.owned(a, l.jobs[a.name]))
		a.strays = strays
		if job == nil {
			a.missing++
			continue
		}
		changed = changed || a.job == nil || a.job.State != job.State
		a.heard(job, begun)
	}
	return changed
}

// owned leaves out jobs that carry the name of an attempt and belong to somebody else.
func (e *Executor) owned(a *attempt, all []entry) []entry {
	if e.self {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(j entry) bool { return j.User != "" && j.User != a.account })
}

// heard takes Slurm's word about the job of an attempt. What only the accounting knew is kept.
func (a *attempt) heard(job *entry, at time.Time) {
	if a.job != nil && a.job.ID == job.ID && job.ByUID < 0 {
		job.ByUID = a.job.ByUID
	}
	if a.job == nil || a.job.State != job.State {
		a.looked = time.Time{} // its records are news, too
	}
	a.job, a.jobAt, a.missing, a.gone = job, at, 0, false
}

// choose finds the job that counts among those of one name: the one that holds the claim; before there is a claim, the one that is
// furthest on. The others are strays once the claim is taken.
func (a *attempt) choose(all []entry) (job *entry, strays []entry) {
	if len(all) == 0 {
		return nil, nil
	}
	if c := a.records.Claim; c != nil && !c.Revoked && c.Holder != "" {
		id, _ := parseHolder(c.Holder)
		for i := range all {
			if all[i].ID == id {
				job = &all[i]
			} else if all[i].phase() != phaseOver {
				strays = append(strays, all[i])
			}
		}
		return job, strays
	}
	rank := map[phase]int{phaseOver: 1, phaseWaiting: 2, phaseEnding: 3, phaseActive: 4}
	best := 0
	for i := range all {
		if i > 0 && (rank[all[i].phase()] > rank[all[best].phase()] ||
			rank[all[i].phase()] == rank[all[best].phase()] && all[i].Submitted.After(all[best].Submitted)) {
			best = i
		}
	}
	return &all[best], nil
}

// lost lists whom Slurm has not shown for a while, and whose canceller only the accounting knows. Locked by mu.
func (e *Executor) lost() []*attempt {
	var out []*attempt
	for _, a := range e.known {
		over := a.job.phase() == phaseOver
		switch {
		case len(out) >= askedByName, a.over:
		case a.missing >= missingBefore && !a.gone && !over:
			out = append(out, a)
		case over && a.job.State == "CANCELLED" && a.job.ByUID < 0 && a.records.Stop == nil && a.asks < maxAsks && time.Since(a.asked) >= time.Second && e.books():
			a.asks++
			a.asked = time.Now()
			out = append(out, a)
		}
	}
	return out
}

// books says whether the accounting may be worth a question. Locked by mu.
func (e *Executor) books() bool {
	return e.asker.noBooks.IsZero() || time.Since(e.asker.noBooks) > 10*time.Minute
}

// askFor asks for jobs by themselves: by name, then in the accounting, then by id. Only an answer about this very job counts.
func (e *Executor) askFor(lost []*attempt, begun time.Time) (changed bool) {
	if len(lost) == 0 {
		return false
	}
	var names []string
	for _, a := range lost {
		names = append(names, a.name)
	}
	out, err := squeue(e.ctx, e.o.Tools, e.users(), "--name="+strings.Join(names, ","))
	if err != nil {
		return false
	}
	byName := parseSqueue(out, e.ours)
	books, known := e.sacct(names, begun)
	asked, away := 0, false
	for _, a := range lost {
		e.mu.Lock()
		job, _ := a.choose(e.owned(a, byName.jobs[a.name]))
		id := a.jobID()
		if job == nil || job.State == "CANCELLED" {
			if b := jobs(e.owned(a, books[a.name])).latest(id); b != nil && b.phase() == phaseOver {
				job = b
			}
		}
		if job != nil {
			changed = true
			a.heard(job, begun)
		}
		e.mu.Unlock()
		if job != nil || id != "" && (away || asked >= askedByID) {
			continue
		}
		answer := presence{gone: byName.garble == 0}
		if id != "" {
			asked++
			answer = e.showJob(a.name, id)
			away = answer.away // twenty that each wait for their time-out would be minutes in which nothing else is asked
		}
		e.mu.Lock()
		switch {
		case answer.job != nil:
			changed = true
			a.heard(answer.job, begun)
		case answer.gone && (known || a.missing > missingBefore || !e.books()):
			changed = changed || !a.gone
			a.gone, a.looked = true, time.Time{}
		}
		e.mu.Unlock()
	}
	return changed
}

// jobID is the job to ask for by id: the claim's holder, or the one that was handed over. Locked by mu.
func (a *attempt) jobID() string {
	if c := a.records.Claim; c != nil && !c.Revoked {
		if id, _ := parseHolder(c.Holder); id != "" {
			return id
		}
	}
	if a.job != nil {
		return a.job.ID
	}
	if b := a.records.Batch; b != nil {
		return b.JobID
	}
	return ""
}

// presence is what Slurm says about one id.
type presence struct {
	job  *entry
	gone bool // it has no such job, or another one by that id
	away bool // nobody answers
}

// showJob asks for one job by its id. Ids are used again: only a job of the right name is the right one.
func (e *Executor) showJob(name, id string) presence {
	out, err := e.o.Tools.Run(e.ctx, "", "scontrol", "--oneliner", "show", "job", id)
	if err != nil {
		return presence{gone: strings.Contains(wordsOf(err), "Invalid job id"), away: TroubleOf(err) == TroubleAway}
	}
	p := pairs(out)
	j := entry{ID: p.get("JobId"), Name: p.get("JobName"), State: p.get("JobState"), Reason: p.get("Reason"), Partition: p.get("Partition"), Nodes: p.get("NodeList"), ByUID: -1}
	if j.ID != id {
		return presence{}
	}
	if j.Name != name {
		return presence{gone: true}
	}
	if j.Reason == "None" {
		j.Reason = ""
	}
	if j.Nodes == "(null)" {
		j.Nodes = ""
	}
	j.Restarts, _ = number(p.get("Restarts"))
	j.Status = statusOf(p.get("ExitCode"))
	j.Submitted, _ = instant(p.get("SubmitTime"))
	j.Started, _ = instant(p.get("StartTime"))
	j.Ended, _ = instant(p.get("EndTime"))
	j.Preempted, _ = instant(p.get("PreemptTime"))
	if j.phase() == phaseUnknown {
		return presence{}
	}
	return presence{job: &j}
}
