package rundir

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// Sweep ends what is left of an attempt, look by look, until nothing is. It remembers whom it met: a process that dies loses its
// environment, and with it the marker, some time before it lets go of its files and of its GPU.
type Sweep struct {
	marker Marker
	mu     sync.Mutex
	met    map[Process]bool
	groups map[Cgroup]bool
}

// NewSweep begins one. known are processes of the attempt by other evidence than the marker.
func NewSweep(m Marker, known ...Process) *Sweep {
	s := &Sweep{marker: m, met: map[Process]bool{}}
	s.Expect(known...)
	return s
}

// Expect adds processes that belong to the attempt.
func (s *Sweep) Expect(known ...Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range known {
		s.met[p] = true
	}
}

// ExpectIn adds what is in a cgroup, now or later.
func (s *Sweep) ExpectIn(c Cgroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups == nil {
		s.groups = map[Cgroup]bool{}
	}
	s.groups[c] = true
}

// Remove removes the cgroups, once nothing is left.
func (s *Sweep) Remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.groups {
		_ = c.Remove() // one that cannot be removed costs a directory
	}
}

// Left lists what still runs, as far as it carries the marker, was met, or is in a cgroup of the attempt. An error means "not known", never "none".
func (s *Sweep) Left() ([]Process, error) {
	marked, err := s.marker.Processes()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.groups {
		inside, err := c.Processes()
		if err != nil {
			return nil, err
		}
		marked = append(marked, inside...)
	}
	for _, p := range marked {
		s.met[p] = true
	}
	var out []Process
	for p := range s.met {
		switch alive, err := p.Alive(); {
		case err != nil:
			return nil, err
		case alive:
			out = append(out, p)
		default:
			delete(s.met, p)
		}
	}
	return out, nil
}

// Kill sends KILL to all of them and says how many there were. Zero is the proof that none is left; after more than zero, ask again.
func (s *Sweep) Kill() (int, error) {
	left, err := s.Left()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range left {
		if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("kill %d: %w", p.PID, err))
		}
	}
	return len(left), errors.Join(errs...)
}
