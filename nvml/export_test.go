//go:build linux && cgo

package nvml

import "time"

// PretendStuck gives the prober a child that cannot be killed, as one that hangs inside the
// kernel (state D), which no test can make. Closing the channel lets it go.
func PretendStuck(p *Prober, pid int) chan struct{} {
	done := make(chan struct{})
	p.stuck = &child{pid: pid, done: done}
	return done
}

// Hasten makes a watcher's patience and pauses short.
func Hasten(w *Watcher, patience, pause, steady time.Duration) {
	w.times = watchTimes{first: patience, later: patience, pause: pause, last: 8 * pause, steady: steady, absent: pause, kill: 2 * time.Second}
}

// SelfOf is the binary that a watcher starts.
func SelfOf(w *Watcher) string { return w.o.Self }
