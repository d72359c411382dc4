package daemon

import (
	"context"
	"fmt"
	"time"
)

// nodesEvery is how often executors are asked what nodes there are.
const nodesEvery = 30 * time.Second

func (d *Daemon) nodesLoop(ctx context.Context) {
	tick := time.NewTicker(nodesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.refreshNodes(ctx)
		}
	}
}

// refreshNodes asks each executor once. No answer changes nothing: what was known stays.
func (d *Daemon) refreshNodes(ctx context.Context) {
	live := d.live()
	for _, name := range live.order {
		cctx, cancel := context.WithTimeout(ctx, execTimeout)
		nodes, err := live.clusters[name].Executor.Nodes(cctx)
		cancel()
		if err == nil {
			err = d.db.RecordNodes(ctx, name, nodes, time.Now())
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Str("cluster", string(name)).Msg("nodes not refreshed")
		}
	}
}

// attemptName is the directory of an attempt inside its run directory.
func attemptName(n int) string { return fmt.Sprintf("%04d", n) }
