package daemon

import (
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// gpuBoard is the newest that is known of every GPU: from forged's own watcher on direct nodes, from shims elsewhere. It is for showing, and
// nothing is decided by it.
type gpuBoard struct {
	mu   sync.RWMutex
	gpus map[gpuKey]gpuSeen
}

type gpuKey struct {
	nodeKey
	uuid string
}

// gpuSeen is the newest reading of one GPU.
type gpuSeen struct {
	forge.GPUReading
	At      time.Time
	XID     int // the last one; 0: none since forged began
	XIDAt   time.Time
	XIDRule string
}

func newGPUBoard() *gpuBoard { return &gpuBoard{gpus: map[gpuKey]gpuSeen{}} }

// look takes a look in. One of a run says nothing of the node's other GPUs.
func (b *gpuBoard) look(at nodeKey, l forge.GPULook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range l.GPUs {
		k := gpuKey{at, g.UUID}
		s := b.gpus[k]
		s.GPUReading, s.At = g, l.At
		b.gpus[k] = s
	}
}

// event takes in what the driver said.
func (b *gpuBoard) event(at nodeKey, e forge.GPUEvent) {
	if e.Kind != forge.GPUEventXID {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := gpuKey{at, e.UUID}
	s := b.gpus[k]
	s.XID, s.XIDAt = e.XID, e.At
	b.gpus[k] = s
}

// gpu is the newest of one GPU.
func (b *gpuBoard) gpu(at nodeKey, uuid string) (gpuSeen, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, ok := b.gpus[gpuKey{at, uuid}]
	return s, ok
}
