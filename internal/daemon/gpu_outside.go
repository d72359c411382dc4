package daemon

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// outsideAgain is when a batch system that did not answer, or where somebody else had drained the node, is asked again.
const outsideAgain = 5 * time.Minute

// tellOutside has batch systems drain what rules of GPU health hold, where the configuration lets forge ask them. Here it is held already.
func (g *gpuHealth) tellOutside(ctx context.Context, now time.Time) {
	ns := nodes{g.d}
	for _, n := range g.d.world.nodeList() {
		for _, h := range n.Holds {
			if h.Rule == "" || h.Outside || !n.HoldsNode(h) {
				continue
			}
			x := ns.drainer(n.Cluster)
			if x == nil || !g.mayAsk(outsideKey{nodeKey{n.Cluster, n.Name}, h.UUID, h.Rule}, now) {
				continue
			}
			cctx, cancel := context.WithTimeout(ctx, execTimeout)
			kept, err := x.DrainNode(cctx, n.Name, h.Words())
			cancel()
			switch {
			case err == nil && kept == "":
				err = g.d.db.HeldOutside(ctx, n.Cluster, n.Name, h.UUID, h.Rule)
			case err == nil:
				g.d.log.Info().Str("node", string(n.Name)).Str("kept", kept).Msg("it is drained in the batch system already, by somebody else, which stays")
			}
			if err != nil && ctx.Err() == nil {
				g.d.log.Warn().Err(err).Str("node", string(n.Name)).Msg("the batch system was not told of what is held back; nothing of forge's goes there all the same, and it is asked again")
			}
		}
	}
}

func (g *gpuHealth) mayAsk(k outsideKey, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.outside[k]) {
		return false
	}
	g.outside[k] = now.Add(outsideAgain)
	return true
}

// takeBackOutside takes a drain back in the batch system, once nothing of forge's is left that asked for it.
func (g *gpuHealth) takeBackOutside(ctx context.Context, at nodeKey, was forge.NodeHold) {
	x := nodes{g.d}.drainer(at.cluster)
	if !was.Outside || x == nil {
		return
	}
	n := g.known(at)
	if n.Drain != nil && n.Drain.Outside {
		return
	}
	for _, h := range n.Holds {
		if h.Outside {
			return
		}
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	if _, err := x.UndrainNode(cctx, at.node); err != nil && ctx.Err() == nil {
		g.d.log.Warn().Err(err).Str("node", string(at.node)).Msg("the batch system did not take forge's drain back: forgectl node undrain, or by hand")
	}
}
