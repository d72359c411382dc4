package daemon

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// changes names what of the world may be otherwise than the planner was told. It is a set, not a list: what happened to a run a thousand
// times since the last plan is told once, as it is then. It belongs to a world and is only touched under its lock.
type changes struct {
	to      *scheduler.Planner // who was told all but these; nil: nobody, and nothing need be named
	runs    map[forge.RunID]bool
	nodes   map[nodeKey]bool
	claims  map[forge.Claim]bool
	paused  map[forge.ClusterName]bool
	arrived map[forge.RunID]forge.Arrival
	shares  *sharesAt // as told
}

// mostChanges is from where on all is told: while nothing is planned (a damaged database) they would grow with every run that comes and goes.
const mostChanges = 100_000

// everything may be otherwise.
func (c *changes) everything() { *c = changes{} }

func (c *changes) run(id forge.RunID) {
	if c.to == nil {
		return
	}
	if c.runs[id] = true; len(c.runs) > mostChanges {
		c.everything()
	}
}

func (c *changes) node(k nodeKey) {
	if c.to != nil {
		c.nodes[k] = true
	}
}

func (c *changes) claim(k forge.Claim) {
	if c.to != nil {
		c.claims[k] = true
	}
}

func (c *changes) cluster(k forge.ClusterName) {
	if c.to != nil {
		c.paused[k] = true
	}
}

func (c *changes) arrival(a forge.Arrival) {
	if c.to != nil {
		c.arrived[a.Run] = a
	}
}

// tell has a planner know the world as it is now: what changed, or all of it if it is not the one that was told last.
func (d *world) tell(pl *scheduler.Planner, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.changes
	if c.to != pl {
		pl.Load(d.take(now))
		*c = changes{to: pl, runs: map[forge.RunID]bool{}, nodes: map[nodeKey]bool{}, claims: map[forge.Claim]bool{}, paused: map[forge.ClusterName]bool{}, arrived: map[forge.RunID]forge.Arrival{}, shares: d.ents.last.Load()}
		for id := range d.attempts {
			if d.drifts(id) {
				c.run(id)
			}
		}
		return
	}
	for k := range c.nodes {
		n := d.nodes[k]
		pl.Change(scheduler.Change{Node: &n})
	}
	for k := range c.paused {
		why, is := d.paused[k]
		pl.Change(scheduler.Change{Paused: &forge.PausedChange{PausedCluster: forge.PausedCluster{Cluster: k, Reason: why}, Gone: !is}})
	}
	for id := range c.runs {
		pl.Change(d.changeOf(id, now))
		if !d.drifts(id) {
			delete(c.runs, id)
		}
	}
	for k := range c.claims { // ends first: a slot is claimed for one run at a time
		pl.Change(scheduler.Change{Claim: &forge.ClaimChange{Claim: k, Gone: true}})
	}
	for k := range c.claims {
		if d.claims[k] {
			pl.Change(scheduler.Change{Claim: &forge.ClaimChange{Claim: k}})
		}
	}
	for _, a := range c.arrived {
		pl.Change(scheduler.Change{Arrived: &a})
	}
	if shares := d.shares(now); d.ents.last.Load() != c.shares {
		pl.Change(scheduler.Change{Tenants: shares})
		c.shares = d.ents.last.Load()
	}
	clear(c.nodes)
	clear(c.paused)
	clear(c.claims)
	clear(c.arrived)
}

// changeOf tells how a run is now.
func (d *world) changeOf(id forge.RunID, now time.Time) scheduler.Change {
	if i, waits := d.waits(id); waits {
		p := d.asPending(i)
		return scheduler.Change{Pending: &p}
	}
	if a, ok := d.attempts[id]; ok && a.State.Open() {
		x := d.asActive(&a, now)
		return scheduler.Change{Active: &x}
	}
	return scheduler.Change{Gone: id}
}
