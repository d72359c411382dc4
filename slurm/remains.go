package slurm

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Remains lists every run that has a directory or a job, sorted by id, whether or not anybody remembers it. What is alive is named
// by the ids of its jobs. It changes nothing. An error means that nothing is known.
func (e *Executor) Remains(ctx context.Context) ([]forge.Remains, error) {
	unavailable := func(err error) error { return forge.Errorf(forge.KindUnavailable, "slurm.remains", "%w", err) }
	accounts, err := e.accounts()
	if err != nil {
		return nil, unavailable(err)
	}
	all := map[forge.RunID]*forge.Remains{}
	for _, account := range accounts {
		list, err := e.hand.Remains(ctx, account, e.runRoot(account))
		if err != nil {
			return nil, unavailable(err)
		}
		for _, r := range list {
			all[r.Run] = &r
		}
	}
	// By name and not by user: the jobs of people whose directories are gone count, too.
	out, err := squeue(ctx, e.o.Tools, nil)
	if err != nil {
		return nil, unavailable(err)
	}
	for name, jobs := range parseSqueue(out, e.ours).jobs {
		run, n, _ := ParseJobName(e.o.Cluster, name)
		for _, j := range jobs {
			id, err := strconv.Atoi(j.ID)
			if err != nil || j.phase() == phaseOver {
				continue
			}
			if all[run] == nil {
				all[run] = &forge.Remains{Run: run}
			}
			if all[run].Alive == nil {
				all[run].Alive = map[int][]int{}
			}
			all[run].Alive[n] = append(all[run].Alive[n], id)
		}
	}
	list := make([]forge.Remains, 0, len(all))
	for _, r := range all {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b forge.Remains) int { return strings.Compare(string(a.Run), string(b.Run)) })
	return list, nil
}

// accounts are those that have a run root: everybody's is looked for by its path.
func (e *Executor) accounts() ([]string, error) {
	before, after, ok := strings.Cut(e.o.RunRoot, accountMark)
	if e.self || !ok {
		return []string{""}, nil
	}
	paths, err := filepath.Glob(before + "*" + after)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range paths {
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(p, before), after))
	}
	return out, nil
}
