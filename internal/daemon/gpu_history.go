package daemon

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// gpuSum adds up the readings of a minute.
type gpuSum struct {
	util, memory, power gpuMean
	hottest             *float64
}

type gpuMean struct {
	sum float64
	n   int
}

func (m *gpuMean) add(v float64) { m.sum, m.n = m.sum+v, m.n+1 }

// mean is a whole number, of which the history needs no more; nil: nothing was said.
func (m gpuMean) mean() *float64 {
	if m.n == 0 {
		return nil
	}
	v := math.Round(m.sum / float64(m.n))
	return &v
}

func (s *gpuSum) add(g *forge.GPUReading) {
	if g.UtilPercent != nil {
		s.util.add(float64(*g.UtilPercent))
	}
	if g.MemoryUsedMiB != nil {
		s.memory.add(float64(*g.MemoryUsedMiB))
	}
	if g.PowerWatts != nil {
		s.power.add(*g.PowerWatts)
	}
	if g.TemperatureC != nil {
		t := float64(*g.TemperatureC)
		if s.hottest == nil || t > *s.hottest {
			s.hottest = &t
		}
	}
}

// minute takes out what the GPUs were like since it was last asked, by node and UUID. A GPU that said nothing has no sample: a gap stays one. more is
// how many are beyond the bound.
func (b *gpuBoard) minute() (out []forge.GPUSample, more int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	type one struct {
		key gpuKey
		forge.GPUSample
	}
	var all []one
	for k, s := range b.gpus {
		m := s.minute
		s.minute = gpuSum{}
		x := forge.GPUSample{UUID: k.uuid, UtilPercent: m.util.mean(), MemoryMiB: m.memory.mean(), PowerWatts: m.power.mean(), TemperatureC: m.hottest}
		if x.UtilPercent != nil || x.MemoryMiB != nil || x.PowerWatts != nil || x.TemperatureC != nil {
			all = append(all, one{k, x})
		}
	}
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.key.cluster, b.key.cluster), cmp.Compare(a.key.node, b.key.node), cmp.Compare(a.key.uuid, b.key.uuid))
	})
	seen := map[string]bool{} // one host may be two nodes, in two clusters
	for _, x := range all {
		switch {
		case seen[x.UUID]:
		case len(out) == store.GPUSamplesAtOnce:
			more++
		default:
			seen[x.UUID] = true
			out = append(out, x.GPUSample)
		}
	}
	return out, more
}

// gpuPruneEvery is how often the history of GPUs that say nothing any more is looked through.
const gpuPruneEvery = time.Hour

// gpuHistoryLoop keeps what GPUs were like, a minute at a time.
func (d *Daemon) gpuHistoryLoop(ctx context.Context) {
	h := gpuHistory{d: d}
	for {
		now := time.Now()
		turn := time.NewTimer(now.Truncate(store.GPUMinute).Add(store.GPUMinute).Sub(now))
		select {
		case <-ctx.Done():
			turn.Stop()
			return
		case now = <-turn.C:
			h.step(ctx, now)
		}
	}
}

// gpuHistory is told at the turn of each minute, give or take what a timer does.
type gpuHistory struct {
	d      *Daemon
	pruned time.Time
	after  string // where pruning goes on
	told   bool
}

func (h *gpuHistory) step(ctx context.Context, now time.Time) {
	h.d.board.prune()
	samples, more := h.d.board.minute()
	if more > 0 && !h.told {
		h.told = true
		h.d.log.Warn().Int("gpus", more).Int("bound", store.GPUSamplesAtOnce).Msg("more GPUs than the history has room for: these have none")
	}
	if err := h.d.db.AddGPUSamples(ctx, now.Add(-store.GPUMinute/2), samples); err != nil && ctx.Err() == nil {
		h.d.log.Warn().Err(err).Msg("what GPUs were like is not kept")
	}
	if h.after == "" && now.Sub(h.pruned) < gpuPruneEvery {
		return
	}
	next, err := h.d.db.PruneGPUSamples(ctx, h.after, now)
	if err != nil && ctx.Err() == nil {
		h.d.log.Warn().Err(err).Msg("old history of GPUs not dropped")
	}
	if h.after, h.pruned = next, now; err != nil {
		h.after = ""
	}
}
