package sim

// event is something that happens to a run or a node at a time.
type event struct {
	at   int64 // ms
	kind kind
	what int32  // index of the run or the node
	gen  uint32 // of the run's attempt: what was said of an earlier one is void
}

// kind orders what happens at the same instant: GPUs come free before somebody asks for them.
type kind uint8

const (
	nodeBack kind = iota
	finishes
	yields // leaves as it was asked to, and waits again
	nodeFails
	arrives
	reports // says for the first time how far it is
	saves   // a periodic checkpoint
)

func (a event) before(b event) bool {
	switch {
	case a.at != b.at:
		return a.at < b.at
	case a.kind != b.kind:
		return a.kind < b.kind
	}
	return a.what < b.what
}

// agenda is a binary heap: container/heap would box every event.
type agenda []event

func (h *agenda) push(e event) {
	q := append(*h, e)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(q[up]) {
			break
		}
		q[i], i = q[up], up
	}
	q[i] = e
	*h = q
}

func (h *agenda) pop() event {
	q := *h
	top, last := q[0], q[len(q)-1]
	q = q[:len(q)-1]
	*h = q
	if len(q) == 0 {
		return top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(q) {
			break
		}
		if down+1 < len(q) && q[down+1].before(q[down]) {
			down++
		}
		if !q[down].before(last) {
			break
		}
		q[i], i = q[down], down
	}
	q[i] = last
	return top
}
