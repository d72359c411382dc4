package slurm

import (
	"path/filepath"
	"time"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// strangersAtOnce bounds how many jobs of attempts that nobody asks for are looked into at once, and strangerAgain how often one is.
	strangersAtOnce = 50
	strangerAgain   = time.Minute
)

// stranger is a job by one of our names that belongs to no attempt in hand.
type stranger struct {
	job     entry
	account string
	at      rundir.Attempt
}

// strangers lists jobs that wait or run for attempts that nobody asks for: of a submission whose answer was lost, and whose attempt was
// declared absent, and those of a forged that we know nothing of. Locked by mu.
func (e *Executor) strangers(l listing) []stranger {
	known := map[string]bool{}
	for _, a := range e.known {
		known[a.name] = true
	}
	now := time.Now()
	for id, at := range e.asked {
		if now.Sub(at) > strangerAgain {
			delete(e.asked, id)
		}
	}
	var out []stranger
	for name, jobs := range l.jobs {
		if known[name] || len(out) >= strangersAtOnce {
			continue
		}
		run, n, _ := ParseJobName(e.o.Cluster, name)
		for _, j := range jobs {
			if _, lately := e.asked[j.ID]; lately || j.phase() != phaseWaiting && j.phase() != phaseActive {
				continue
			}
			account := j.User
			if e.self {
				account = ""
			}
			runDir := filepath.Join(e.runRoot(account), string(run))
			if e.confined(account, runDir) != nil {
				continue
			}
			e.asked[j.ID] = now
			out = append(out, stranger{job: j, account: account, at: rundir.At(runDir, n)})
		}
	}
	return out
}

// endStrangers cancels those whose claim is revoked: they could only start, find that out, and end. Whatever else it is may be
// somebody's work.
func (e *Executor) endStrangers(all []stranger) {
	for _, s := range all {
		got, err := e.hand.Records(e.ctx, s.account, []rundir.Attempt{s.at})
		if err != nil || len(got) != 1 || got[0].Claim == nil || !got[0].Claim.Revoked {
			continue
		}
		e.log.Info().Str("job", s.job.ID).Str("name", s.job.Name).Msg("a job of an attempt that never began is taken out of Slurm")
		if _, err := e.hand.Act(e.ctx, s.account, Action{Verb: ActCancel, JobIDs: []string{s.job.ID}, Name: s.job.Name}); err != nil {
			e.log.Warn().Err(err).Str("job", s.job.ID).Msg("job not cancelled; it is tried again, and so are the rest")
			return // while these wait for their time-outs nobody asks Slurm for anything
		}
	}
}
