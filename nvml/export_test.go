//go:build linux && cgo

package nvml

// PretendStuck gives the prober a child that cannot be killed, as one that hangs inside the
// kernel (state D), which no test can make. Closing the channel lets it go.
func PretendStuck(p *Prober, pid int) chan struct{} {
	done := make(chan struct{})
	p.stuck = &child{pid: pid, done: done}
	return done
}
