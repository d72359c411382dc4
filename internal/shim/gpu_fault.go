package shim

import (
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// xidCleanup is what the driver says whenever a process that used a GPU is gone, by whatever way.
const xidCleanup = 45

// follow are causes that a fault of a GPU may have had as its first effect: the program was faster to end, or to hang, than the driver to speak.
var follow = []forge.StopCause{"", forge.StopRankExit, forge.StopStall, forge.StopStartTimeout, forge.StopTimeLimit, forge.StopGPUError}

// gpu is what was found of a GPU of these ranks.
func (g *gang) gpu(f forge.Finding, patience time.Duration, now time.Time) {
	switch {
	case f.Over || g.running() == 0 && g.endedWell(): // it did so before
	case f.Run == forge.RunElsewhere:
		g.condemned(f, now)
	case f.Run == forge.RunFails && g.fault == nil && !g.cleanup(f):
		g.fault = &f
		g.failBy = now.Add(patience)
	}
}

// condemned ends the gang at once and unsaved: what such a GPU computes is not to be kept.
func (g *gang) condemned(f forge.Finding, now time.Time) {
	if slices.Contains(follow, g.cause) {
		if g.cause == "" {
			g.detail = f.Words
		} else {
			g.detail = sentence(f.Words, g.detail)
		}
		g.cause, g.fault = forge.StopGPUFault, &f
	}
	g.ask(levelKill, forge.StopGPUFault, f.Words, now)
}

// cleanup says that an XID is only what the end of a process looks like.
func (g *gang) cleanup(f forge.Finding) bool {
	return f.XID == xidCleanup && (g.level > levelNone || slices.ContainsFunc(g.members, func(m *member) bool { return m.ended }))
}

// blame is the fault that the end is put down to, and the end in words. A program that ended by itself is told what its GPU had said.
func (g *gang) blame() (*forge.Finding, string) {
	switch {
	case g.fault == nil:
		return nil, g.detail
	case g.cause == forge.StopGPUFault, g.cause == forge.StopGPUError:
		return g.fault, g.detail
	case g.cause == forge.StopRankExit && g.failed() != nil:
		return g.fault, g.detail + ", after " + g.fault.Words
	}
	return nil, g.detail
}

// endedWell says that every local rank has done its work, or saved.
func (g *gang) endedWell() bool {
	return !slices.ContainsFunc(g.members, func(m *member) bool { return !m.ended || m.exit.Code != 0 && m.exit.Code != forge.ExitCheckpointed })
}

// failed is the local rank that failed by itself, the first of them.
func (g *gang) failed() *member {
	var first *member
	for _, m := range g.members {
		if m.ended && m.exit.Code != 0 && m.exit.Code != forge.ExitCheckpointed && !m.exit.ByShim && (first == nil || m.exit.EndedAt.Before(first.exit.EndedAt)) {
			first = m
		}
	}
	return first
}
