package apitest

import (
	"context"
	"slices"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// AddEvent commits an event, of tenant T1 when it names none, and tells those who wait.
func (f *Fake) AddEvent(e forge.Event) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addEvent(e)
}

func (f *Fake) addEvent(e forge.Event) int64 {
	e.Seq = int64(len(f.events)) + 1
	if e.Tenant == "" {
		e.Tenant = "T1"
	}
	if e.Time.IsZero() {
		e.Time = f.now
	}
	f.events = append(f.events, e)
	close(f.changed)
	f.changed = make(chan struct{})
	return e.Seq
}

// EventsAfter implements api.Events.
func (f *Fake) EventsAfter(_ context.Context, p forge.Principal, q api.EventFilter, limit int) ([]forge.Event, error) {
	run, after := q.Run, q.After
	leave, err := f.enter("EventsAfter")
	if err != nil {
		return nil, err
	}
	defer leave()
	if run != "" {
		if _, err := f.find(p, run); err != nil {
			return nil, err
		}
	}
	var out []forge.Event
	for _, e := range f.events[min(after, int64(len(f.events))):] {
		if e.Tenant != p.Tenant || run != "" && string(e.Run) != run && strconv.FormatInt(e.Number, 10) != run {
			continue
		}
		if len(q.Types) > 0 && !slices.Contains(q.Types, e.Type) || q.Actor != "" && e.Actor != q.Actor || e.Time.Before(q.Since) {
			continue
		}
		if out = append(out, e); len(out) == limit {
			break
		}
	}
	return out, nil
}

// Changed implements api.Events.
func (f *Fake) Changed() (int64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.events)), f.changed
}
