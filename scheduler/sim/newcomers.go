package sim

import (
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// What is not there yet delays what waits, where short runs go first: every second sample has runs come as runs came lately, the others
// and the expected replay know of no newcomers: an interval spans both.
const (
	pastSpan      = 7 * 24 * time.Hour // how far back arrivals are taken from
	fewArrivals   = 20                 // so few say nothing of what will come
	mostNewcomers = 400                // in one sample
)

// newcomers draws who comes in a sample: the days that went by, from one that is drawn on, once more and again.
func newcomers(s *forge.Snapshot, o ForecastOptions, sample int) []run {
	if sample%2 == 0 || len(s.Arrived) == 0 {
		return nil
	}
	var past []forge.Arrival
	known := map[forge.RunID]bool{}
	for _, a := range s.Arrived {
		if ago := s.Now.Sub(a.At); ago > 0 && ago <= pastSpan && a.GPUs > 0 && a.Service > 0 {
			past = append(past, a)
			known[a.Run] = true
		}
	}
	if len(past) < fewArrivals {
		return nil
	}
	// Some came of whom nothing is known yet: they are as those of whom something is.
	came := len(past)
	var tenants []forge.TenantID
	for i := range s.Pending {
		r := &s.Pending[i]
		tenants = append(tenants, r.Tenant)
		if ago := s.Now.Sub(r.SubmittedAt); !known[r.ID] && ago <= pastSpan {
			came++
		}
	}
	for i := range s.Active {
		a := &s.Active[i]
		tenants = append(tenants, a.Tenant)
		if ago := s.Now.Sub(a.SubmittedAt); !known[a.Run] && ago <= pastSpan {
			came++
		}
	}
	more := float64(came)/float64(len(past)) - 1
	largest := 1
	for i := range s.Nodes {
		largest = max(largest, len(s.Nodes[i].GPUs))
	}
	span := s.Now.Sub(past[0].At)
	shift := time.Duration(chance(o.Seed, uint64(sample), 101) * float64(span))
	if day := 24 * time.Hour; span >= day { // a night stays a night
		span = span.Truncate(day)
		shift = shift.Truncate(day)
	}
	var out []run
	draw := uint64(0)
	add := func(a forge.Arrival, at time.Duration) {
		gang, fits := (Cluster{len(s.Nodes), largest}).gang(a.GPUs)
		if !fits {
			return
		}
		draw++
		lasts := time.Duration(int64(a.Service)/int64(a.GPUs)) * time.Millisecond
		r := run{PendingRun: forge.PendingRun{ID: forge.RunID(fmt.Sprintf("~%06d", draw)), SubmittedAt: s.Now.Add(at), Gang: gang, Priority: forge.DefaultPriority,
			Work: forge.Work{Left: lasts, Known: true, Source: forge.WorkProgress}}, submit: at.Milliseconds(), need: max(1, lasts.Milliseconds())}
		if len(tenants) > 0 {
			r.Tenant = tenants[int(chance(o.Seed, uint64(sample), 1000+draw)*float64(len(tenants)))]
		}
		out = append(out, r)
	}
	for round := time.Duration(0); round*span < o.Horizon && len(out) < mostNewcomers; round++ {
		for _, a := range past {
			back := s.Now.Sub(a.At) // it comes as long after now as it came after the moment that is taken for now
			if back > span {
				continue
			}
			at := (2*span-back-shift)%span + round*span
			add(a, at)
			if chance(o.Seed, uint64(sample), draw) < more-float64(int(more)) {
				add(a, at)
			}
			for range int(more) {
				add(a, at)
			}
		}
	}
	return out
}
