package direct

import (
	"context"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Remains lists every run that has a directory below the run root or a living process, sorted by id, whether or not
// anybody remembers it. It changes nothing. An error means that nothing is known.
func (e *Executor) Remains(ctx context.Context) ([]forge.Remains, error) {
	if err := e.rootPresent(); err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "direct.remains", "%w", err)
	}
	list, err := rundir.Runs(ctx, e.o.RunRoot)
	if err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "direct.remains", "%w", err)
	}
	alive, err := rundir.Alive(e.o.RunRoot)
	if err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "direct.remains", "%w", err)
	}
	for i, r := range list {
		list[i].Alive = alive[r.Run]
		delete(alive, r.Run)
	}
	for run, attempts := range alive {
		list = append(list, forge.Remains{Run: run, Alive: attempts})
	}
	slices.SortFunc(list, func(a, b forge.Remains) int { return strings.Compare(string(a.Run), string(b.Run)) })
	return list, nil
}
