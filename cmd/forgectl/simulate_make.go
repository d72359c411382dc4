package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

// generateTrace writes a trace to standard output.
func (a *app) generateTrace(c *cli.Context) error {
	for _, name := range []string{"trace", "plot", "policy", "estimates", "restart-cost", "checkpoint-every", "grace-ok", "node-mtbf"} {
		if c.IsSet(name) {
			return forge.Invalidf(name, "does not go with --generate, which replays nothing")
		}
	}
	cluster, err := sim.ParseCluster(c.String("cluster"))
	if err != nil {
		return err
	}
	jobs, err := sim.Generate(sim.GenerateOptions{Jobs: c.Int("generate"), Seed: c.Uint64("seed"), Cluster: cluster, Load: c.Float64("load")})
	if err != nil {
		return err
	}
	if err := sim.WriteTrace(a.Out, jobs); err != nil && !isClosedPipe(err) {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// replaying shows on the terminal how far a replay is. In a pipe there is nothing. Whoever calls it calls what it returns.
func (a *app) replaying(ctx context.Context, what string, opt *sim.Options) (stop func()) {
	if !a.ErrTTY {
		return func() {}
	}
	var done, total atomic.Int64
	opt.Progress = func(d, t int) { done.Store(int64(d)); total.Store(int64(t)) }
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		began, shown := time.Now(), false
		tick := time.NewTimer(spinAfter)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				if shown {
					io.WriteString(a.Err, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			fmt.Fprintf(a.Err, "\r%s\x1b[K", replayLine(what, done.Load(), total.Load(), time.Since(began), a.Width))
			shown = true
			tick.Reset(spinEvery)
		}
	}()
	return func() { cancel(); <-ended }
}

func replayLine(what string, done, total int64, took time.Duration, width int) string {
	tail := fmt.Sprintf("%3d%%  %d/%d runs  %s", 100*done/max(1, total), done, total, span(took))
	cells := max(barLeast, min(barMost, width-len(tail)-cutLeast-6))
	full := int(int64(cells) * done / max(1, total))
	room := max(cutLeast, width-len(tail)-cells-6)
	return fitWidth("replay "+clean(what), room) + " [" + strings.Repeat("█", full) + strings.Repeat("░", cells-full) + "] " + tail
}
