package daemon

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// gpuBoard is the newest that is known of every GPU: from forged's own watcher on direct nodes, from shims elsewhere. It is for showing, and
// nothing is decided by it. What a job says of GPUs is bounded here: files of its run directory may be its user's.
type gpuBoard struct {
	mu    sync.RWMutex
	every time.Duration // between looks, as configured
	now   func() time.Time
	gpus  map[gpuKey]*gpuKept
	nodes map[nodeKey]*nodeSeen
}

type gpuKey struct {
	nodeKey
	uuid string
}

// Bounds of the board.
const (
	boardGPUs      = 256 // of one node, MIG instances among them
	boardProcesses = 64  // of one GPU
	boardText      = 200 // bytes of a word
	boardXIDs      = 16  // numbers told apart of one GPU
	boardRecent    = 60  // looks that are remembered for a sparkline
	boardKept      = 24 * time.Hour
	staleLooks     = 3 // intervals
	slowestLook    = time.Minute
	stalledAfter   = 10 * time.Minute
	stalledMiB     = 64 // a context that holds nothing is not work that stands still
	skewNoted      = 30 * time.Second
)

// gpuSeen is the newest reading of one GPU.
type gpuSeen struct {
	forge.GPUReading
	At      time.Time   // by the clock of the node
	Got     time.Time   // by ours: when this reading was news. Age is counted from here, whatever the node's clock says
	Run     forge.RunID // whose shim told; "": forged's own watcher
	XID     int         // the last one that is known; 0: none of the last day, nor since forged began
	XIDAt   time.Time
	XIDRule string
}

// gpuKept is that with what is remembered of the looks before.
type gpuKept struct {
	gpuSeen
	came   time.Time     // when the last look came
	gap    time.Duration // between the last two
	idle   time.Time     // since when memory is held at 0 %; zero: it is not
	recent []int8        // utilisation, oldest first; -1: not said
	minute gpuSum
	xids   map[int]int64 // how often since forged began; otherXID beyond boardXIDs numbers
}

const otherXID = -1

// nodeSeen is what was last said of NVML on a node.
type nodeSeen struct {
	State  forge.NVMLState
	Detail string
	Driver string
	At     time.Time
	Got    time.Time
	came   time.Time
	gap    time.Duration
	skew   time.Duration // ours minus the node's; as long as only one look came, not known
	gpus   int
}

func newGPUBoard() *gpuBoard {
	return &gpuBoard{every: DefaultSampleEvery, now: time.Now, gpus: map[gpuKey]*gpuKept{}, nodes: map[nodeKey]*nodeSeen{}}
}

// look takes a look in. One of a run says nothing of the node's other GPUs.
func (b *gpuBoard) look(at nodeKey, l forge.GPULook) { b.lookOf(at, "", l) }

// lookOf takes in the look of a run's shim, which knows whose GPUs these are.
func (b *gpuBoard) lookOf(at nodeKey, run forge.RunID, l forge.GPULook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	n := b.nodes[at]
	if n == nil {
		n = &nodeSeen{}
		b.nodes[at] = n
	}
	if got, gap, news := b.news(now, l.At, n.At, n.Got, n.came); news {
		if !n.Got.IsZero() {
			n.skew = got.Sub(l.At)
		}
		gap = gapOf(run, gap)
		*n = nodeSeen{State: l.State, Detail: short(l.Detail), Driver: short(l.Driver), At: l.At, Got: got, came: now, gap: gap, skew: n.skew, gpus: n.gpus}
	}
	for _, g := range l.GPUs {
		k := gpuKey{at, g.UUID}
		if !plainID(g.UUID) {
			continue
		}
		s := b.gpus[k]
		if s == nil {
			if n.gpus >= boardGPUs {
				continue
			}
			n.gpus++
			s = &gpuKept{}
			b.gpus[k] = s
		}
		got, gap, news := b.news(now, l.At, s.At, s.Got, s.came)
		if !news {
			continue
		}
		s.take(bounded(g), l.At, got, gapOf(run, gap), b.limit(s.gap))
		s.came, s.Run = now, run
	}
}

// gapOf is the time from one look to the next. Shims of jobs write theirs no oftener than every ten seconds, so that the first is current for as long.
func gapOf(run forge.RunID, gap time.Duration) time.Duration {
	if run == "" {
		return gap
	}
	return max(gap, 10*time.Second)
}

// news says whether something of a time by the node's clock is newer than what is known, and since when it is known by ours. Clocks of nodes
// are wrong now and then, so that the first look may be as old as its clock says, and each that follows is as old as it is here. One that is older
// counts when nothing has come for long: a clock was set back.
func (b *gpuBoard) news(now, at, was, got, came time.Time) (since time.Time, gap time.Duration, ok bool) {
	switch {
	case got.IsZero():
		if at.After(now) {
			at = now
		}
		return at, 0, true
	case at.Equal(was), at.Before(was) && now.Sub(got) <= b.limit(0):
		return got, 0, false
	}
	return now, now.Sub(came), true
}

// limit is how old a reading may be that is shown as current: as slow as looks really come, but for those that come hardly ever.
func (b *gpuBoard) limit(gap time.Duration) time.Duration {
	return staleLooks * max(b.every, min(gap, slowestLook))
}

func (s *gpuKept) take(g forge.GPUReading, at, got time.Time, gap, limit time.Duration) {
	s.GPUReading, s.At, s.Got, s.gap = g, at, got, gap
	held := g.MemoryUsedMiB != nil && *g.MemoryUsedMiB > stalledMiB && g.UtilPercent != nil && *g.UtilPercent == 0
	switch {
	case !held:
		s.idle = time.Time{}
	case s.idle.IsZero() || gap > limit: // what it did in between nobody saw
		s.idle = got
	}
	util := int8(-1)
	if g.UtilPercent != nil {
		util = int8(min(max(*g.UtilPercent, 0), 100))
	}
	if len(s.recent) >= boardRecent {
		s.recent = append(s.recent[:0], s.recent[1:]...)
	}
	s.recent = append(s.recent, util)
	s.minute.add(&g)
}

// event takes in what the driver said.
func (b *gpuBoard) event(at nodeKey, e forge.GPUEvent) {
	if e.Kind != forge.GPUEventXID || !plainID(e.UUID) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.heardOf(at, e.UUID)
	if s == nil {
		return
	}
	if s.xids == nil {
		s.xids = map[int]int64{}
	}
	number := e.XID
	if _, known := s.xids[number]; !known && len(s.xids) >= boardXIDs {
		number = otherXID
	}
	s.xids[number] += int64(max(1, e.Count))
	s.last(e.XID, e.At)
}

// recall takes in what the driver said before forged began: it is the last that is known, and is counted no more.
func (b *gpuBoard) recall(at nodeKey, uuid string, xid int, when time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.heardOf(at, uuid); s != nil {
		s.last(xid, when)
	}
}

func (s *gpuKept) last(xid int, at time.Time) {
	if !at.Before(s.XIDAt) {
		s.XID, s.XIDAt = xid, at
	}
}

// heardOf is a GPU of which something was told, perhaps before any look; nil beyond the bound of a node. Under the lock.
func (b *gpuBoard) heardOf(at nodeKey, uuid string) *gpuKept {
	k := gpuKey{at, uuid}
	s := b.gpus[k]
	if s == nil {
		n := b.nodes[at]
		if n == nil {
			n = &nodeSeen{}
			b.nodes[at] = n
		}
		if n.gpus >= boardGPUs {
			return nil
		}
		n.gpus++
		s = &gpuKept{gpuSeen: gpuSeen{GPUReading: forge.GPUReading{UUID: uuid}}}
		b.gpus[k] = s
	}
	return s
}

// gpu is the newest of one GPU.
func (b *gpuBoard) gpu(at nodeKey, uuid string) (gpuSeen, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, ok := b.gpus[gpuKey{at, uuid}]
	if !ok {
		return gpuSeen{}, false
	}
	return s.gpuSeen, true
}

// nvml is how the last look at a node went; nil: there was none.
func (b *gpuBoard) nvml(at nodeKey) *api.NodeNVML {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := b.nodes[at]
	if n == nil || n.State == "" {
		return nil
	}
	return &api.NodeNVML{State: n.State, Detail: n.Detail, Driver: n.Driver, At: n.At}
}

// gpuShown is what is shown of one GPU at a moment.
type gpuShown struct {
	gpuSeen
	fresh   bool
	stalled time.Duration // how long memory is held at 0 %; 0: it is not, or not for long
	recent  []int8
	xids    map[int]int64
	xidAge  time.Duration
}

// nodeShown is a node with those of its GPUs that the board knows, by PCI address.
type nodeShown struct {
	nodeSeen
	fresh bool
	gpus  []gpuShown
}

// shown copies what is known, so that who shows it holds up nobody who looks. With only, of one node.
func (b *gpuBoard) shown(only *nodeKey) map[nodeKey]*nodeShown {
	b.mu.RLock()
	defer b.mu.RUnlock()
	now := b.now()
	out := map[nodeKey]*nodeShown{}
	for at, n := range b.nodes {
		if only == nil || *only == at {
			out[at] = &nodeShown{nodeSeen: *n, fresh: !n.Got.IsZero() && now.Sub(n.Got) <= b.limit(n.gap)}
		}
	}
	for k, s := range b.gpus {
		n := out[k.nodeKey]
		if n == nil {
			continue
		}
		g := gpuShown{gpuSeen: s.gpuSeen, fresh: !s.Got.IsZero() && now.Sub(s.Got) <= b.limit(s.gap), recent: slices.Clone(s.recent)}
		if g.fresh && !s.idle.IsZero() {
			if d := now.Sub(s.idle); d > stalledAfter {
				g.stalled = d
			}
		}
		if s.XID != 0 {
			at := s.XIDAt
			if n.skew.Abs() > skewNoted {
				at = at.Add(n.skew)
			}
			g.xidAge = max(0, now.Sub(at))
		}
		if len(s.xids) > 0 {
			g.xids = make(map[int]int64, len(s.xids))
			for x, c := range s.xids {
				g.xids[x] = c
			}
		}
		n.gpus = append(n.gpus, g)
	}
	for _, n := range out {
		slices.SortFunc(n.gpus, func(a, b gpuShown) int {
			if c := strings.Compare(a.PCI, b.PCI); c != 0 {
				return c
			}
			return strings.Compare(a.UUID, b.UUID)
		})
	}
	return out
}

// prune forgets GPUs and nodes of which nothing was heard for a day.
func (b *gpuBoard) prune() {
	b.mu.Lock()
	defer b.mu.Unlock()
	long := b.now().Add(-boardKept)
	for k, s := range b.gpus {
		if s.Got.Before(long) && s.XIDAt.Before(long) {
			delete(b.gpus, k)
			if n := b.nodes[k.nodeKey]; n != nil {
				n.gpus--
			}
		}
	}
	for at, n := range b.nodes {
		if n.gpus == 0 && n.Got.Before(long) {
			delete(b.nodes, at)
		}
	}
}

// plainID holds that something is a name as the driver gives it, fit for a label.
func plainID(s string) bool {
	return s != "" && len(s) <= 96 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' })
}

// short cuts a word, and takes out of it what is no text.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if len(s) > boardText {
		s = strings.ToValidUTF8(s[:boardText], "")
	}
	return s
}

func bounded(g forge.GPUReading) forge.GPUReading {
	for _, s := range []*string{&g.PCI, &g.Type, &g.MIG, &g.Parent, &g.Problem, &g.HungCall} {
		*s = short(*s)
	}
	if len(g.Processes) > boardProcesses {
		g.Processes, g.Told = g.Processes[:boardProcesses], false
	}
	g.Processes = slices.Clone(g.Processes)
	for i := range g.Processes {
		g.Processes[i].Kind = short(g.Processes[i].Kind)
	}
	if len(g.Throttle) > boardXIDs {
		g.Throttle = g.Throttle[:boardXIDs]
	}
	return g
}
