// Package estimate says how much work runs have left, from what was seen of them and of others: it makes the forge.Work values that
// planning orders by. It is told a story, call by call, in the order in which things happened, and has no clock of its own: the
// same story gives the same estimates, and nothing that was not told can reach them.
//
//	came, started, stopped, ended, progress, lost ─► Estimator ─► Work of a run, arrivals whose service is known, when to ask again
//
// What is believed, in order of trust:
//
//	progress   somebody observed what is left (or knew it at arrival: the simulator's oracle). It counts down exactly.
//	probe      the run reports its progress but has not worked for Params.Probe: what the probe still takes is its whole claim, so
//	           that every new run is probed soon. For the sum of waiting work it is taken to last as long as runs like it did.
//	history    neither; at least three runs like it ended. The rank is the index.
//	index      neither, and nothing alike ended.
//
// The index (hazard.go) is the least GPU time per completion to be expected over all horizons (Gittins), from a hazard that is learned on line:
// service is cut into levels that double, and at each level it is counted how many runs entered it and how many ended in
// it. A run that has not ended counts for the levels that it passed and for no other. The counts of the run's neighbours, those that came just
// before and just after it among the same tenant, recipe and size, say most (sweeps: the next run of a series mostly ends like the last);
// where they say nothing all runs of the same size do, then all runs. With no history half of the runs end at every doubling, and the order is
// that of plain levels of attained service.
//
// A rank changes when its run crosses a level, starts or stops, and when others ended: an end has its neighbours looked at again, and a
// few more runs in turn, so that all that wait learn from it in time and none of 100,000 costs more than another. A change by a little is none:
// the plan that was made stays the plan. Who changed without being named in a call is told by Advance; Next says when the passing of time alone changes something.
//
// Work that is lost with a checkpoint is owed: until it is done again no end can come, so that it stands before all horizons.
//
// Cost: a call is a few additions for each of 16 neighbours and 24 levels; what has ended and can be nobody's neighbour any more is forgotten.
package estimate
