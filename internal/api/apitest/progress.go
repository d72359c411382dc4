package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type underWayKey struct {
	tenant forge.TenantID
	user   forge.UserID
	key    string
}

// UnderWay makes the request that p.Once names one that is being carried out, until end is called. Registrations
// are that by themselves: Hook makes them last.
func (f *Fake) UnderWay(p forge.Principal) (end func()) {
	k := underWayKey{p.Tenant, p.UserID, p.Once.Key}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.underWay[k] = p.Once.Op
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.underWay, k)
	}
}

// SetProgress says how far all that is under way is.
func (f *Fake) SetProgress(done, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.far.BytesDone, f.far.BytesTotal = done, total
}

// Progress implements api.Progresses.
func (f *Fake) Progress(_ context.Context, p forge.Principal, key string) (api.Progress, error) {
	leave, err := f.enter("Progress")
	if err != nil {
		return api.Progress{}, err
	}
	defer leave()
	op, ok := f.underWay[underWayKey{p.Tenant, p.UserID, key}]
	if !ok {
		return api.Progress{}, forge.Errorf(forge.KindNotFound, "", "no request of yours with this key is under way")
	}
	g := f.far
	g.Op, g.StartedAt = op, f.now
	return g, nil
}
