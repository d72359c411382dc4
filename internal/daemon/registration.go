package daemon

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// maxRegistrations is how many registrations of one user are told about at once. Those beyond it are carried out
// all the same: nobody's flood takes memory, or the place of others.
const maxRegistrations = 32

// registrations are the requests that read data right now, and how far they are. They are kept by whose they are
// first: no key leads to those of anyone else. It implements api.Progresses.
type registrations struct {
	mu sync.Mutex
	of map[owner]map[string]*registration // by Idempotency-Key
}

type owner struct {
	tenant forge.TenantID
	user   forge.UserID
}

type registration struct {
	op          string
	began       time.Time
	done, total atomic.Int64
}

// read is fed by whoever reads. The total goes first and Progress takes it last: done is never more.
func (r *registration) read(done, total int64) {
	r.total.Store(total)
	r.done.Store(done)
}

// begin notes a request that is going to read. Its owner can follow it until end is called, if it has a key.
func (s *registrations) begin(p forge.Principal, now time.Time) (read func(done, total int64), end func()) {
	r := &registration{op: p.Once.Op, began: now}
	who, key := owner{p.Tenant, p.UserID}, p.Once.Key
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.of[who]
	if key == "" || own[key] == nil && len(own) >= maxRegistrations {
		return r.read, func() {}
	}
	if own == nil {
		own = map[string]*registration{}
		if s.of == nil {
			s.of = map[owner]map[string]*registration{}
		}
		s.of[who] = own
	}
	own[key] = r
	return r.read, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if own[key] != r { // a request sent again, whose first one had not ended, took its place
			return
		}
		if delete(own, key); len(own) == 0 {
			delete(s.of, who)
		}
	}
}

// Progress implements api.Progresses.
func (s *registrations) Progress(_ context.Context, p forge.Principal, key string) (api.Progress, error) {
	s.mu.Lock()
	r := s.of[owner{p.Tenant, p.UserID}][key]
	s.mu.Unlock()
	if r == nil {
		return api.Progress{}, forge.Errorf(forge.KindNotFound, "progress.get", "no registration of yours with this key is under way").
			WithHint("it has ended or not begun yet; the request itself answers how it went")
	}
	done := r.done.Load()
	return api.Progress{Op: r.op, BytesDone: done, BytesTotal: r.total.Load(), StartedAt: r.began.UTC()}, nil
}
