package scheduler

func (pl *planner) repack() {}
