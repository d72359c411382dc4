package scheduler

import (
	"cmp"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// promised is the guaranteed quota of a tenant, and who could be entitled to it.
type promised struct {
	gpus  int
	waits []claimant // of higher classes first, then as they stand in line
	runs  []claimant // likewise, of one plan
	holds []*entry   // those of waits that are entitled
}

// claimant is a run that may be within its tenant's guaranteed quota.
type claimant struct {
	class      int32
	timed      bool // it may have to wait for a time
	gpus       int
	rank, came int64
	id         forge.RunID
	e          *entry  // of one that waits
	runner     *runner // of one that runs
}

func claimantOf(e *entry) claimant {
	return claimant{class: e.turn.class, timed: e.pend != nil && !e.pend.NotBefore.IsZero(), gpus: e.gpus, rank: e.turn.rank, came: e.turn.came, id: e.id, e: e}
}

func compareClaimants(a, b claimant) int {
	switch {
	case a.class != b.class:
		return cmp.Compare(b.class, a.class)
	case a.rank != b.rank:
		return cmp.Compare(a.rank, b.rank)
	case a.came != b.came:
		return cmp.Compare(a.came, b.came)
	}
	return strings.Compare(string(a.id), string(b.id))
}

// guarantee follows what tenants are promised. Where somebody gets or loses a promise the line is made anew.
func (w *world) guarantee() {
	w.promises = w.promises[:0]
	for _, a := range w.accounts {
		switch promises := a.quota != nil && a.quota.GPUs > 0; {
		case !promises && a.promised != nil:
			a.promised, w.lineStale = nil, true
		case promises && a.promised == nil:
			a.promised, w.lineStale = &promised{}, true
		}
		if a.promised != nil {
			a.promised.gpus = a.quota.GPUs
			w.promises = append(w.promises, a.promised)
		}
	}
}

// entitles says whether a run takes part in what its tenant is promised. Who could not start whatever is free takes nobody's part.
func (e *entry) entitles() bool { return e.account.promised != nil && e.idles == nil && !e.eval() }

// promise and unpromise tell of runs that wait.
func (w *world) promise(list []*entry) {
	for _, e := range list {
		if !e.entitles() {
			continue
		}
		p, c := e.account.promised, claimantOf(e)
		if len(list) > fewNew {
			p.waits = append(p.waits, c)
			continue
		}
		i, _ := slices.BinarySearchFunc(p.waits, c, compareClaimants)
		p.waits = slices.Insert(p.waits, i, c)
	}
	if len(list) > fewNew {
		for _, p := range w.promises {
			slices.SortFunc(p.waits, compareClaimants)
		}
	}
}

// fewNew is up to how many new runs are put in one by one.
const fewNew = 16

// manyNew is from how many on sorting them is worth another processor.
const manyNew = 4096

func (w *world) unpromise(e *entry) {
	if !e.entitles() {
		return
	}
	p := e.account.promised
	if i, ok := slices.BinarySearchFunc(p.waits, claimantOf(e), compareClaimants); ok {
		p.waits = slices.Delete(p.waits, i, i+1)
	}
	if e.entitled {
		p.holds = slices.DeleteFunc(p.holds, func(x *entry) bool { return x == e })
	}
}

// entitle puts the runs of tenants with a guaranteed quota into the first tier, as many as it holds: of higher classes first, of one class
// those that run first, so that what is entitled changes seldom.
func (pl *planner) entitle() {
	w := pl.w
	for _, p := range w.promises {
		slices.SortFunc(p.runs, compareClaimants)
		left := p.gpus
		had := p.holds
		p.holds = nil
		for i, j := 0, 0; i < len(p.runs) || j < len(p.waits); {
			var c *claimant
			if j == len(p.waits) || i < len(p.runs) && p.runs[i].class >= p.waits[j].class {
				c = &p.runs[i]
				i++
			} else {
				c = &p.waits[j]
				if j++; c.timed && c.e.idle.code != "" {
					continue
				}
			}
			if c.gpus > left {
				continue
			}
			left -= c.gpus
			if c.runner != nil {
				c.runner.group = groupOf(0, c.class)
				continue
			}
			c.e.granted = w.undo.plan
			p.holds = append(p.holds, c.e)
		}
		clear(p.runs)
		p.runs = p.runs[:0]
		for _, e := range had {
			if e.granted != w.undo.plan {
				pl.changeTier(e, false)
			}
		}
		for _, e := range p.holds {
			if !e.entitled {
				pl.changeTier(e, true)
			}
		}
	}
}

func (pl *planner) changeTier(e *entry, entitled bool) {
	was := e.inLine
	if was {
		pl.w.exit(e)
	}
	e.entitled = entitled
	e.turn.tier = pl.tierOf(e)
	if was {
		pl.enter(e)
	}
}

// tierOf is where a waiting run stands: share decides who starts, never who is stopped.
func (pl *planner) tierOf(e *entry) int32 {
	if e.entitled {
		return 0
	}
	return 1 + pl.bands[e.pend.Tenant]
}
