package daemon

import "github.com/forge-ml/forge-ml/internal/api"

// guarantees holds what tenants are promised together against what there is: of more than that somebody's runs wait, and nothing else says why.
func (d *Daemon) guarantees() finding {
	promised, there := d.world.promised(), 0
	for _, n := range d.world.nodeList() {
		there += len(n.GPUs)
	}
	f := fine("%d GPUs are guaranteed to tenants, of %d", promised, there)
	if promised > there {
		return f.but(api.CheckWarn, "not all can have theirs at once: give less (forgectl tenant edit TENANT --quota-gpus N; forgectl tenant list shows QUOTA), or add nodes")
	}
	return f
}

// promised adds up the guaranteed quotas of all tenants, in GPUs.
func (d *world) promised() (gpus int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, t := range d.ents.tenants {
		gpus += t.Quota.GPUs
	}
	return gpus
}
