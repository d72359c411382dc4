package slurm

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Find says whether an attempt exists, after a submission whose answer was lost: by its records, then by its name in Slurm.
// When neither has it the claim is revoked, so that a job that Slurm creates later, which a controller that was frozen does,
// exits before work: only then is it absent. While Slurm does not answer nothing is said: the job is probably there, and to
// revoke its claim would waste an attempt for each minute of an outage.
func (e *Executor) Find(ctx context.Context, key, runDir string) forge.Lookup {
	unknown := func(err error) forge.Lookup { return forge.Lookup{State: forge.LookupUnknown, Evidence: err.Error()} }
	_, n, err := forge.ParseAttemptKey(key)
	if err != nil {
		return unknown(err)
	}
	account, err := e.accountOf(runDir)
	if err != nil {
		return unknown(err)
	}
	at := rundir.At(runDir, n)
	id := externalID(account, at)
	a := e.learn(account, at)
	if JobName(e.o.Cluster, a.run, n) != "forge-"+string(e.o.Cluster)+"-"+key {
		return unknown(fmt.Errorf("%s is not the directory of attempt %s", runDir, key))
	}
	defer e.lockKey(id)()
	found := func(evidence string) forge.Lookup {
		return forge.Lookup{State: forge.LookupFound, ID: id, Evidence: evidence}
	}
	list, err := e.hand.Records(ctx, account, []rundir.Attempt{at})
	switch {
	case err != nil:
		return unknown(err)
	case len(list) != 1:
		return unknown(fmt.Errorf("%d answers about one attempt", len(list)))
	case list[0].Error != "":
		return unknown(fmt.Errorf("its records cannot be read: %s", list[0].Error))
	}
	r := list[0]
	switch {
	case r.Claim != nil && r.Claim.Revoked && r.Batch != nil && r.Batch.Refused+r.Batch.Withdrawn != "":
		return found("Slurm refused it, or it was taken back: " + r.Batch.Refused + r.Batch.Withdrawn)
	case r.Claim != nil && r.Claim.Revoked:
		return forge.Lookup{State: forge.LookupAbsent, Evidence: "its claim is revoked"}
	case r.Claim != nil:
		return found("its shims have claimed it in job " + r.Claim.Holder)
	case r.Batch != nil && r.Batch.JobID != "":
		return found("Slurm took it as job " + r.Batch.JobID)
	}
	// Of its owner's jobs: anybody on the cluster may give a job of theirs its name, and the run would wait for that one.
	out, err := squeue(ctx, e.o.Tools, e.users(), "--name="+a.name)
	if err != nil {
		return unknown(err)
	}
	l := parseSqueue(out, e.ours)
	if jobs := e.owned(a, l.jobs[a.name]); len(jobs) > 0 {
		return found("Slurm has it as job " + jobs[0].ID + ", " + jobs[0].State)
	}
	if l.garble > 0 {
		return unknown(fmt.Errorf("%d lines of squeue's answer cannot be read", l.garble))
	}
	c, err := e.hand.Revoke(ctx, account, at)
	switch {
	case err != nil:
		return unknown(err)
	case c.Revoked:
		return forge.Lookup{State: forge.LookupAbsent, Evidence: "Slurm has no job of that name and no shim had claimed it; the claim is revoked now"}
	}
	return found("its shims claimed it just now, in job " + c.Holder)
}

// accountOf says whose a run directory is: by its path where that has the account in it, else by its owner.
func (e *Executor) accountOf(runDir string) (string, error) {
	if e.self {
		return "", e.confined("", runDir)
	}
	if before, after, ok := strings.Cut(e.o.RunRoot, accountMark); ok {
		rest, ok := strings.CutPrefix(runDir, before)
		end := strings.IndexByte(rest, '/')
		if !ok || end < 1 {
			return "", forge.Invalidf("run_dir", "%.200q does not lie in %s", runDir, before+accountMark+after)
		}
		account := rest[:end]
		return account, e.confined(account, runDir)
	}
	e.mu.Lock()
	for _, a := range e.known {
		if a.at.RunDir == runDir {
			e.mu.Unlock()
			return a.account, nil
		}
	}
	e.mu.Unlock()
	st, err := os.Stat(runDir)
	if err != nil {
		return "", fmt.Errorf("whose %s is cannot be told: %w", runDir, err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("whose %s is cannot be told", runDir)
	}
	u, err := user.LookupId(strconv.Itoa(int(sys.Uid)))
	if err != nil {
		return "", fmt.Errorf("whose %s is cannot be told: %w", runDir, err)
	}
	return u.Username, e.confined(u.Username, runDir)
}
