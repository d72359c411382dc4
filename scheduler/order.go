package scheduler

import (
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Order is the queue: every pending run, higher priority first, then older, then by id. Runs on
// hold keep their place in it.
func Order(s forge.Snapshot, _ Policy) []forge.RunID {
	queue := inOrder(s.Pending)
	ids := make([]forge.RunID, len(queue))
	for i, r := range queue {
		ids[i] = r.ID
	}
	return ids
}

// Queue is Order with the runs themselves, as the snapshot has them.
func Queue(s forge.Snapshot) []*forge.PendingRun { return inOrder(s.Pending) }

// Position is a run's place in the queue, 1 is next, and how many wait; 0 when it does not wait.
// It counts without sorting, since every submit asks.
func Position(s forge.Snapshot, _ Policy, run forge.RunID) (position, waiting int) {
	i := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == run })
	if i < 0 {
		return 0, len(s.Pending)
	}
	own := keyOf(&s.Pending[i])
	position = 1
	for j := range s.Pending {
		if other := keyOf(&s.Pending[j]); other.compare(own) < 0 {
			position++
		}
	}
	return position, len(s.Pending)
}

// orderKey is a run's rank in the queue in a form that compares fast.
type orderKey struct {
	priority int
	sec      int64
	nsec     int
	run      *forge.PendingRun
}

func keyOf(r *forge.PendingRun) orderKey {
	return orderKey{r.Priority, r.SubmittedAt.Unix(), r.SubmittedAt.Nanosecond(), r}
}

func (a orderKey) compare(b orderKey) int {
	switch {
	case a.priority != b.priority:
		return b.priority - a.priority
	case a.sec != b.sec:
		if a.sec < b.sec {
			return -1
		}
		return 1
	case a.nsec != b.nsec:
		return a.nsec - b.nsec
	}
	return strings.Compare(string(a.run.ID), string(b.run.ID))
}

func inOrder(pending []forge.PendingRun) []*forge.PendingRun {
	keys := make([]orderKey, len(pending))
	for i := range pending {
		keys[i] = keyOf(&pending[i])
	}
	slices.SortFunc(keys, orderKey.compare)
	out := make([]*forge.PendingRun, len(keys))
	for i, k := range keys {
		out[i] = k.run
	}
	return out
}
