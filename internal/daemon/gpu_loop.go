package daemon

import (
	"context"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
	"github.com/forge-ml/forge-ml/nvml"
)

// gpuWatcher tells what is seen of this host's GPUs.
type gpuWatcher interface {
	Run(ctx context.Context, tell func(nvml.News))
	Now(ctx context.Context) (forge.GPULook, error)
}

// gpusTick is how often what waits is written, and what is due looked at.
const gpusTick = 2 * time.Second

// gpusLoop takes in what is seen of this host's GPUs, and does what the rules of their health say. The watcher runs once there is a cluster whose
// GPUs these are.
func (d *Daemon) gpusLoop(ctx context.Context) {
	d.wg.Go(func() { d.recallXIDs(ctx) })
	tick := time.NewTicker(gpusTick)
	defer tick.Stop()
	news := make(chan nvml.News)
	watching := false
	done := make(chan struct{})
	for {
		if !watching && d.watchesGPUs() {
			watching = true
			d.gpus.remember(ctx)
			go func() {
				defer close(done)
				d.watcher.Run(ctx, func(n nvml.News) {
					select {
					case news <- n:
					case <-ctx.Done():
					}
				})
			}()
		}
		select {
		case <-ctx.Done():
			if watching {
				<-done
				d.gpus.keepLook(time.Now(), true)
			}
			return
		case n := <-news:
			d.gpus.news(ctx, n, time.Now())
			if slices.ContainsFunc(n.Events, health.LookNow) {
				d.wg.Go(func() { d.lookNow(ctx, news) })
			}
		case now := <-tick.C:
			d.gpus.tick(ctx, now)
		}
	}
}

// recallXIDs lets the board know what drivers said last, before forged began.
func (d *Daemon) recallXIDs(ctx context.Context) {
	all, err := d.db.LastXIDs(ctx, time.Now().Add(-boardKept))
	if err != nil && ctx.Err() == nil {
		d.log.Warn().Err(err).Msg("the last XIDs of GPUs are not known")
	}
	for _, e := range all {
		d.board.recall(nodeKey{e.Cluster, e.Node}, e.UUID, e.XID, e.At)
	}
}

// lookNow looks at once: what the driver said is of no use without a reading.
func (d *Daemon) lookNow(ctx context.Context, news chan<- nvml.News) {
	cctx, cancel := context.WithTimeout(ctx, nvmlTimeout)
	defer cancel()
	if l, err := d.watcher.Now(cctx); err == nil {
		select {
		case news <- nvml.News{Look: &l}:
		case <-ctx.Done():
		}
	}
}

// watchesGPUs says whether a cluster has this host's GPUs.
func (d *Daemon) watchesGPUs() bool {
	for _, c := range d.clusterList() {
		if c.GPUs != nil {
			return true
		}
	}
	return false
}

// watchedNodes are the nodes of which forged sees all GPUs itself: this host, once for every cluster that it is in.
func (d *Daemon) watchedNodes() []forge.Node {
	var out []forge.Node
	for _, c := range d.clusterList() {
		if c.GPUs != nil {
			out = append(out, d.world.nodesOf(c.Name)...)
		}
	}
	return out
}

// showLook and showEvent pass on what is for showing.
func (d *Daemon) showLook(at nodeKey, run forge.RunID, l forge.GPULook) { d.board.lookOf(at, run, l) }
func (d *Daemon) showEvent(at nodeKey, e forge.GPUEvent)                { d.board.event(at, e) }
