package slurm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Remains lists every run that has a directory or a job, sorted by id, whether or not anybody remembers it. What is alive is named
// by the ids of its jobs. It changes nothing. An error means that nothing is known. Whom forged may not act for hides nobody
// else: it is a problem of that account's runs.
func (e *Executor) Remains(ctx context.Context) ([]forge.Remains, error) {
	unavailable := func(err error) error { return forge.Errorf(forge.KindUnavailable, "slurm.remains", "%w", err) }
	jobs, err := e.jobsForSure(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	accounts, err := e.accounts(jobs)
	if err != nil {
		return nil, unavailable(err)
	}
	all := map[forge.RunID]*forge.Remains{}
	blind := map[string]string{} // accounts, and why nothing is known of their directories
	var errs []error
	for _, account := range accounts {
		list, err := e.hand.Remains(ctx, account, e.runRoot(account))
		if err != nil {
			errs = append(errs, err)
			blind[account] = fmt.Sprintf("the directories of account %q cannot be read: %v", account, err)
			continue
		}
		for _, r := range list {
			all[r.Run] = &r
		}
	}
	if len(errs) > 0 && len(errs) == len(accounts) || ctx.Err() != nil {
		return nil, unavailable(errors.Join(append(errs, ctx.Err())...))
	}
	for _, why := range blind {
		e.log.Warn().Msg(why)
	}
	for _, j := range jobs {
		r := all[j.run]
		if r == nil {
			r = &forge.Remains{Run: j.run, Problem: blind[j.user]}
			all[j.run] = r
		}
		if r.Alive == nil {
			r.Alive = map[int][]int{}
		}
		r.Alive[j.attempt] = append(r.Alive[j.attempt], j.id)
	}
	list := make([]forge.Remains, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		list = append(list, *all[id])
	}
	return list, nil
}

// living is a job of ours that is not over.
type living struct {
	run     forge.RunID
	attempt int
	id      int
	user    string
}

const (
	// surely is how many answers are asked for at most until one is like the one before it.
	surely = 6
	// apart is how far apart they are.
	apart = time.Second
)

// jobsForSure lists the jobs of ours that are not over. After a restore they are all that keeps work that nobody remembers from being
// started a second time, and squeue has been seen to exit 0 and say nothing: two answers have to be alike, and the
// controller has to have said something with each.
func (e *Executor) jobsForSure(ctx context.Context) ([]living, error) {
	var before []living
	for n := range surely {
		now, err := e.livingJobs(ctx)
		if err != nil {
			return nil, err
		}
		if n > 0 && reflect.DeepEqual(before, now) {
			return now, nil
		}
		before = now
		wait := time.NewTimer(apart)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("%d answers of squeue were all different", surely)
}

func (e *Executor) livingJobs(ctx context.Context) ([]living, error) {
	// By name and not by user: the jobs of people whose directories are gone count, too.
	out, err := squeue(ctx, e.o.Tools, nil)
	if err != nil {
		return nil, err
	}
	l := parseSqueue(out, e.ours)
	if l.lines == l.garble { // not even a job of somebody else, which Slurm may hide
		if said, err := e.o.Tools.Run(ctx, "", "scontrol", "ping"); err != nil || !strings.Contains(said, "is UP") {
			return nil, fmt.Errorf("squeue says nothing, and no controller says that it is up: %s", firstOf(cut(strings.TrimSpace(said), 200), wordsOfAny(err)))
		}
	}
	listed := 0
	for _, jobs := range l.jobs {
		listed += len(jobs)
	}
	if n := mentions(out, "forge-"+string(e.o.Cluster)+"-", e.ours); n != listed {
		return nil, fmt.Errorf("%d lines of squeue are about jobs of forge's, and %d of them can be read", n, listed)
	}
	var list []living
	for name, jobs := range l.jobs {
		run, n, _ := ParseJobName(e.o.Cluster, name)
		for _, j := range jobs {
			if id, err := strconv.Atoi(j.ID); err == nil && j.phase() != phaseOver {
				user := j.User
				if e.self {
					user = ""
				}
				list = append(list, living{run, n, id, user})
			}
		}
	}
	slices.SortFunc(list, func(a, b living) int { return a.id - b.id })
	return list, nil
}

// mentions counts lines that are about jobs of ours, or could be: of a line that is cut off, or torn, a part of the name counts.
func mentions(out, prefix string, ours func(string) bool) int {
	n := 0
	for line := range strings.Lines(out) {
		if j, ok := parseSqueueLine(strings.TrimRight(line, "\r\n")); ok && ours(j.Name) || !ok && strings.Contains(line, prefix) {
			n++
		}
	}
	return n
}

// accounts are those that have a run root, everybody's being looked for by its path, and those that have jobs.
func (e *Executor) accounts(jobs []living) ([]string, error) {
	if e.self || !strings.Contains(e.o.RunRoot, accountMark) {
		return []string{""}, nil
	}
	out, err := e.accountsIn(e.o.RunRoot)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		out = append(out, j.user)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// accountsIn are the accounts that have a root of their own. Only the directory that holds them all is read, which is the site's.
func (e *Executor) accountsIn(template string) (out []string, err error) {
	before, after, _ := strings.Cut(template, accountMark)
	paths, err := filepath.Glob(before + "*" + after)
	for _, p := range paths {
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(p, before), after))
	}
	return out, err
}
