package daemon

import (
	"context"
	"sync"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// events implements api.Events: out of the tail where it reaches, out of the tables before that.
// The two are the same events in the same order, so that a follower passes from one to the other
// anywhere.
type events struct{ d *Daemon }

func (s events) EventsAfter(ctx context.Context, p forge.Principal, q api.EventFilter, limit int) ([]forge.Event, error) {
	t := s.d.db.For(p)
	f := store.EventFilter{After: q.After, Types: q.Types, Actor: q.Actor, Since: q.Since}
	if q.Run != "" {
		id, err := s.d.runIDs.find(ctx, t, p.Tenant, q.Run)
		if err != nil {
			return nil, err
		}
		f.Run = id
	}
	if out, ok := s.d.tail.after(f.After, limit, func(e *forge.Event) bool { return t.Sees(f, e) }); ok {
		return out, nil
	}
	return t.Events(ctx, f, limit)
}

func (s events) Changed() (int64, <-chan struct{}) { return s.d.tail.next() }

// runIDs remembers what runs are called: a follower of one run names it at every event. A run never
// changes its number and is never another tenant's.
type runIDs struct {
	mu sync.Mutex
	m  map[runName]forge.RunID
}

type runName struct {
	tenant forge.TenantID
	name   string
}

const maxRunIDs = 4096

func (c *runIDs) find(ctx context.Context, t *store.Tenant, tenant forge.TenantID, name string) (forge.RunID, error) {
	k := runName{tenant, name}
	c.mu.Lock()
	id, ok := c.m[k]
	c.mu.Unlock()
	if ok {
		return id, nil
	}
	r, err := t.Run(ctx, name)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxRunIDs {
		c.m = map[runName]forge.RunID{}
	}
	c.m[k] = r.ID
	return r.ID, nil
}
