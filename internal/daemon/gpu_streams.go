package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

// What shims leave of GPUs is read in turn: each cluster has so much time for it in every interval, and goes on where it stopped. A cluster with thousands
// of attempts is seen more slowly, and one whose file system hangs keeps no other waiting.
const (
	streamsTurn    = 2 * time.Second // of a cluster's reading, in every interval
	streamsAtOnce  = 4
	streamTimeout  = 5 * time.Second
	maxGPULook     = 1 << 20
	maxGPUEvents   = 64 << 10 // of one read; the rest comes the next time
	maxEventsKept  = 64       // of one read are judged; a job's file may be its user's
	maxWordOfEvent = 100
)

// gpuStreamsLoop reads what shims have seen of GPUs that forged does not see itself.
func (d *Daemon) gpuStreamsLoop(ctx context.Context) {
	r := &shimReader{d: d, turns: map[forge.ClusterName]*streamTurn{}}
	tick := time.NewTicker(max(d.live().cfg.GPUs.SampleEvery.D(), time.Second))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, c := range d.clusterList() {
				if t := r.turn(c.Name); t.mu.TryLock() {
					wg.Go(func() {
						defer t.mu.Unlock()
						r.read(ctx, c, t, streamsTurn)
					})
				}
			}
		}
	}
}

type shimReader struct {
	d     *Daemon
	turns map[forge.ClusterName]*streamTurn
}

// streamTurn is how far the reading of one cluster is.
type streamTurn struct {
	mu    sync.Mutex // held by the one who reads
	after jobNode    // the last that was read
	at    map[jobNode]*streamAt
}

type streamAt struct {
	offset int64
	looked time.Time // At of the newest look
}

func (r *shimReader) turn(c forge.ClusterName) *streamTurn {
	t := r.turns[c]
	if t == nil {
		t = &streamTurn{at: map[jobNode]*streamAt{}}
		r.turns[c] = t
	}
	return t
}

// streamOf is one shim of an attempt, with the node that it is on.
type streamOf struct {
	jobNode
	node forge.NodeName
	id   forge.ExternalID
	gpus int
}

func compareJobs(a, b jobNode) int {
	return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.attempt, b.attempt), cmp.Compare(a.index, b.index))
}

// streamsOf lists the shims of a cluster that run, in the order in which they are read.
func (d *Daemon) streamsOf(c *Cluster) []streamOf {
	devices := map[forge.NodeName]bool{}
	for _, n := range d.world.nodesOf(c.Name) {
		devices[n.Name] = slices.ContainsFunc(n.GPUs, func(g forge.GPU) bool { return g.Kind == forge.GPUDevice })
	}
	var out []streamOf
	for _, a := range d.world.open() {
		if a.Cluster != c.Name || a.ExternalID == "" || a.State != forge.AttemptRunning && a.State != forge.AttemptStopping {
			continue
		}
		for i, s := range a.Placement {
			if devices[s.Node] {
				out = append(out, streamOf{jobNode{a.Run, a.Number, i}, s.Node, a.ExternalID, a.GPUs()})
			}
		}
	}
	slices.SortFunc(out, func(a, b streamOf) int { return compareJobs(a.jobNode, b.jobNode) })
	return out
}

// read goes on where the last turn stopped, for so long, and says how many it read.
func (r *shimReader) read(ctx context.Context, c *Cluster, t *streamTurn, budget time.Duration) int {
	all := r.d.streamsOf(c)
	r.d.gpus.forgetJobs(c.Name, t, all)
	if len(all) == 0 {
		return 0
	}
	from, _ := slices.BinarySearchFunc(all, t.after, func(s streamOf, after jobNode) int {
		if compareJobs(s.jobNode, after) <= 0 {
			return -1
		}
		return 1
	})
	end := time.Now().Add(budget)
	n := 0
	for n < len(all) && ctx.Err() == nil && (n == 0 || time.Now().Before(end)) {
		var wg sync.WaitGroup
		for range min(streamsAtOnce, len(all)-n) {
			s := all[(from+n)%len(all)]
			at := t.at[s.jobNode]
			if at == nil {
				at = &streamAt{}
				t.at[s.jobNode] = at
			}
			t.after = s.jobNode
			n++
			wg.Go(func() { r.readOne(ctx, c, s, at) })
		}
		wg.Wait()
		r.d.gpus.save(ctx)
	}
	return n
}

// readOne reads what is new of one shim. What cannot be read is read the next time.
func (r *shimReader) readOne(ctx context.Context, c *Cluster, s streamOf, at *streamAt) {
	cctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	node := nodeKey{c.Name, s.node}
	chunk, err := c.Files.Read(cctx, s.id, fmt.Sprintf("%s.%d", forge.StreamGPUEvents, s.index), at.offset, maxGPUEvents)
	if err == nil {
		events, read := gpuEvents(chunk)
		if at.offset = chunk.Next - int64(len(chunk.Data)) + int64(read); len(events) > 0 {
			r.d.gpus.jobEvents(ctx, node, job{s.run, s.attempt}, s.gpus, events, time.Now())
		}
	}
	if c.GPUs != nil { // forged looks itself
		return
	}
	chunk, err = c.Files.Read(cctx, s.id, fmt.Sprintf("%s.%d", forge.StreamGPUs, s.index), 0, maxGPULook)
	var l forge.GPULook
	if err != nil || len(chunk.Data) == 0 || json.Unmarshal(chunk.Data, &l) != nil || !l.At.After(at.looked) {
		return
	}
	at.looked = l.At
	r.d.showLook(node, s.run, l)
	r.d.gpus.jobLook(ctx, node, s, l, time.Now())
}

// gpuEvents takes the whole lines of a chunk apart, and says how many bytes they are. Lines that are no events are passed over; of very many the last
// are taken.
func gpuEvents(chunk forge.Chunk) (events []forge.GPUEvent, read int) {
	data := chunk.Data
	read = bytes.LastIndexByte(data, '\n') + 1
	if read == 0 && len(data) >= maxGPUEvents { // a line that never ends
		return nil, len(data)
	}
	for line := range bytes.Lines(data[:read]) {
		var e forge.GPUEvent
		if json.Unmarshal(line, &e) != nil || e.UUID == "" || len(e.UUID) > maxWordOfEvent || e.At.IsZero() {
			continue
		}
		if events = append(events, e); len(events) > maxEventsKept {
			events = events[1:]
		}
	}
	return events, read
}

// forgetJobs lets go of what was remembered of attempts that have ended.
func (g *gpuHealth) forgetJobs(_ forge.ClusterName, t *streamTurn, running []streamOf) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range t.at {
		if _, there := slices.BinarySearchFunc(running, k, func(s streamOf, k jobNode) int { return compareJobs(s.jobNode, k) }); !there {
			delete(t.at, k)
			delete(g.jobs, k)
		}
	}
}

// jobEvents judges what the driver said of the GPUs of an attempt. On a direct cluster forged has mostly heard it itself.
func (g *gpuHealth) jobEvents(ctx context.Context, at nodeKey, j job, gang int, events []forge.GPUEvent, now time.Time) {
	node := g.known(at)
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.node(ctx, at)
	for _, e := range events {
		if node.HasUUIDs() && !hasGPU(node, e.UUID) { // a file of a job's may say anything
			continue
		}
		if !node.HasUUIDs() {
			g.d.showEvent(at, e)
		}
		h.Gang(gang)
		found := h.EventOf(e, j.run)
		h.Gang(0)
		g.add(ctx, at, found, j, false, now)
	}
}

func hasGPU(n forge.Node, uuid string) bool {
	return slices.ContainsFunc(n.GPUs, func(g forge.GPU) bool { return g.UUID == uuid || g.Parent == uuid })
}

// jobLook judges a look of a shim. It is of the ranks' GPUs alone: of the others, and of the node as a whole, it says nothing.
func (g *gpuHealth) jobLook(ctx context.Context, at nodeKey, s streamOf, l forge.GPULook, now time.Time) {
	if l.At.After(now) { // the node's clock is ahead
		l.At = now
	}
	node := g.known(at)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.follow()
	h := g.jobs[s.jobNode]
	if h == nil {
		h = g.table.Watch()
		g.jobs[s.jobNode] = h
	}
	if l.State == forge.NVMLNoDriver { // no library there: the shim has nothing to say
		return
	}
	busy := map[string]bool{}
	for _, x := range l.GPUs {
		busy[x.UUID] = true
	}
	g.add(ctx, at, h.Look(l, health.Seen{Busy: busy}), job{s.run, s.attempt}, true, now)
	if l.State != forge.NVMLOK {
		return
	}
	var own []forge.NodeHold
	for _, x := range node.Holds { // a node is let back by who sees all of it
		if x.Act != forge.HoldNode && busy[x.UUID] {
			own = append(own, x)
		}
	}
	g.letBack(ctx, at, h, own, l.At)
}

// atEnd takes in what the shims of an attempt have left of GPUs, so that a bad one is held back even if nobody looked while it ran.
func (g *gpuHealth) atEnd(ctx context.Context, a forge.Attempt, o forge.Observation) {
	if o.GPUFault == nil && len(o.GPUEvents) == 0 {
		return
	}
	now := time.Now()
	by := map[forge.NodeName][]forge.GPUEvent{}
	for _, e := range o.GPUEvents {
		for i, s := range a.Placement {
			n := g.known(nodeKey{a.Cluster, s.Node})
			if len(a.Placement) == 1 || n.HasUUIDs() && hasGPU(n, e.UUID) || o.GPUFault != nil && o.GPUFault.UUID == e.UUID && o.GPUFault.Node == s.Node {
				by[a.Placement[i].Node] = append(by[a.Placement[i].Node], e)
				break
			}
		}
	}
	for node, events := range by {
		g.jobEvents(ctx, nodeKey{a.Cluster, node}, job{a.Run, a.Number}, a.GPUs(), events, now)
	}
	if f := o.GPUFault; f != nil {
		g.mu.Lock()
		g.add(ctx, nodeKey{a.Cluster, f.Node}, []forge.Finding{f.Finding}, job{a.Run, a.Number}, false, now)
		g.mu.Unlock()
	}
	g.save(ctx)
}
