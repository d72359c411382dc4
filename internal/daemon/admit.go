package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Admitter is what an executor may add whose cluster has rules of its own: it says at submit what would be refused or wait for ever there.
// It never refuses by what it does not know.
type Admitter interface {
	Admit(ctx context.Context, spec forge.RunSpec) (notes []string, err error)
}

// admit asks the clusters that a run may go to. It is refused only when none of them takes it, and noted only where it goes for certain.
func (d *Daemon) admit(ctx context.Context, spec forge.RunSpec) (notes []string, refused error) {
	live := d.live()
	for _, name := range live.order {
		if spec.Cluster != "" && spec.Cluster != name {
			continue
		}
		x, has := live.clusters[name].Executor.(Admitter)
		if !has {
			if spec.Batch.Empty() || spec.Cluster == name {
				return nil, nil // somewhere without such rules
			}
			continue
		}
		n, err := x.Admit(ctx, spec)
		if err == nil {
			if spec.Cluster == name || len(live.order) == 1 {
				notes = n
			}
			return notes, nil
		}
		if refused == nil {
			refused = err
		}
	}
	return nil, refused
}
