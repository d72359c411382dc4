package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// nodesEvery is how often executors are asked what nodes there are; a batch system's as often as its configuration says, looked up
// each nodesTick.
const (
	nodesEvery = 30 * time.Second
	nodesTick  = 5 * time.Second
)

func (d *Daemon) nodesLoop(ctx context.Context) {
	tick := time.NewTicker(nodesTick)
	defer tick.Stop()
	asked := map[forge.ClusterName]time.Time{}
	began := time.Now() // all were asked before the loop
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.askNodes(ctx, func(c *Cluster) bool {
				every := nodesEvery
				if c.Slurm != nil && c.Slurm.NodesEvery > 0 {
					every = c.Slurm.NodesEvery
				}
				last, ok := asked[c.Name]
				if !ok {
					last = began
				}
				if now.Sub(last) < every {
					return false
				}
				asked[c.Name] = now
				return true
			})
		}
	}
}

// refreshNodes asks each executor once.
func (d *Daemon) refreshNodes(ctx context.Context) {
	d.askNodes(ctx, func(*Cluster) bool { return true })
}

// askNodes asks side by side, so that a batch system that hangs does not keep the others' news back. No answer changes nothing: what was
// known stays.
func (d *Daemon) askNodes(ctx context.Context, due func(*Cluster) bool) {
	var wg sync.WaitGroup
	for _, c := range d.clusterList() {
		if !due(c) {
			continue
		}
		wg.Go(func() {
			cctx, cancel := context.WithTimeout(ctx, execTimeout)
			defer cancel()
			nodes, err := c.Executor.Nodes(cctx)
			if err == nil {
				nodes = c.GPUs.judge(nodes)
				err = d.db.RecordNodes(ctx, c.Name, nodes, time.Now())
			}
			if err != nil && ctx.Err() == nil {
				d.log.Warn().Err(err).Str("cluster", string(c.Name)).Msg("nodes not refreshed")
			}
		})
	}
	wg.Wait()
}

// attemptName is the directory of an attempt inside its run directory.
func attemptName(n int) string { return fmt.Sprintf("%04d", n) }
