package sim

// Series is what happened over time, in at most maxPoints points of equal length: a replay of years takes no more
// room than one of hours.
type Series struct {
	Step   int64 // ms of each point
	Points []Point
	total  int64 // GPUs
	length int64 // ms
}

// Point is the mean over one step.
type Point struct {
	Busy   float64 // GPUs held
	Queued float64 // runs that wait
	Wanted float64 // GPUs that they ask for
}

const (
	maxPoints = 2048
	firstStep = 60_000
)

func newSeries(gpus int) *Series { return &Series{Step: firstStep, total: int64(gpus)} }

// add says what was so from one time to another.
func (s *Series) add(from, to, busy, queued, wanted int64) {
	if s == nil {
		return
	}
	for (to-1)/s.Step >= maxPoints {
		s.halve()
	}
	for at := from; at < to; {
		k := at / s.Step
		until := min(to, (k+1)*s.Step)
		for int64(len(s.Points)) <= k {
			s.Points = append(s.Points, Point{})
		}
		p, part := &s.Points[k], float64(until-at)
		p.Busy += part * float64(busy)
		p.Queued += part * float64(queued)
		p.Wanted += part * float64(wanted)
		at = until
	}
}

// halve makes points of twice the length. They hold sums until the end.
func (s *Series) halve() {
	n := (len(s.Points) + 1) / 2
	for k := range n {
		p := s.Points[2*k]
		if 2*k+1 < len(s.Points) {
			q := s.Points[2*k+1]
			p.Busy, p.Queued, p.Wanted = p.Busy+q.Busy, p.Queued+q.Queued, p.Wanted+q.Wanted
		}
		s.Points[k] = p
	}
	s.Points = s.Points[:n]
	s.Step *= 2
}

// end turns sums into means.
func (s *Series) end(at int64) {
	if s == nil {
		return
	}
	s.length = at
	for k := range s.Points {
		part := float64(min(at, int64(k+1)*s.Step) - int64(k)*s.Step)
		if part <= 0 {
			continue
		}
		p := &s.Points[k]
		p.Busy, p.Queued, p.Wanted = p.Busy/part, p.Queued/part, p.Wanted/part
	}
}

// Length is how long the replay took, in ms of its own time.
func (s *Series) Length() int64 { return s.length }

// Columns is the series in at most so many columns: the part of the GPUs that were held, and the runs that waited.
func (s *Series) Columns(most int) (used, queued []float64) {
	n := min(most, len(s.Points))
	for c := range n {
		from, to := c*len(s.Points)/n, (c+1)*len(s.Points)/n
		var u, q float64
		for _, p := range s.Points[from:to] {
			u, q = u+p.Busy, q+p.Queued
		}
		used = append(used, u/float64(to-from)/float64(max(1, s.total)))
		queued = append(queued, q/float64(to-from))
	}
	return used, queued
}
