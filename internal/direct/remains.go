package direct

import (
	"context"
	"os"
	"path/filepath"
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
	entries, err := os.ReadDir(e.o.RunRoot)
	if err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "direct.remains", "%w", err)
	}
	alive, err := rundir.Alive(e.o.RunRoot)
	if err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "direct.remains", "%w", err)
	}
	all := map[forge.RunID]*forge.Remains{}
	for run, attempts := range alive {
		all[run] = &forge.Remains{Run: run, Alive: attempts}
	}
	for _, d := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		run := forge.RunID(d.Name())
		if !d.IsDir() || !isRun(d.Name()) {
			continue
		}
		if all[run] == nil {
			all[run] = &forge.Remains{Run: run}
		}
		r := all[run]
		if r.Newest, err = rundir.Newest(filepath.Join(e.o.RunRoot, d.Name())); err != nil {
			r.Problem = err.Error()
		}
	}
	out := make([]forge.Remains, 0, len(all))
	for _, r := range all {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b forge.Remains) int { return strings.Compare(string(a.Run), string(b.Run)) })
	return out, nil
}

// isRun: run directories are named by ULIDs, 26 letters and digits; whatever else lies in the root is somebody's own.
func isRun(name string) bool {
	return len(name) == 26 && strings.Trim(name, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
