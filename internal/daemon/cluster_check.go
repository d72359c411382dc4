package daemon

import (
	"context"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/slurm"
)

// Checker is what an executor may add that can look at its cluster with jobs on it. It cleans up after itself, also when ctx ends.
type Checker interface {
	Check(ctx context.Context, by slurm.CheckedBy) []slurm.Finding
}

// checkLimit bounds a whole check; its parts have bounds of their own.
const checkLimit = 4 * time.Minute

// checking knows which clusters are being looked at: two checks beside each other would find each other's jobs.
type checking struct {
	mu  sync.Mutex
	now map[string]bool
}

func (c *checking) begin(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now[name] {
		return false
	}
	if c.now == nil {
		c.now = map[string]bool{}
	}
	c.now[name] = true
	return true
}

func (c *checking) end(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.now, name)
}

// CheckCluster looks with the executor where that can, and at what the doctor knows of the cluster anywhere else.
func (s clusters) CheckCluster(ctx context.Context, p forge.Principal, name string, days int) ([]api.Check, error) {
	const op = "cluster.check"
	if err := least(p, op, forge.RoleOperator, "checking a cluster"); err != nil {
		return nil, err
	}
	cl := s.d.live().clusters[forge.ClusterName(name)]
	if cl == nil {
		return nil, forge.Errorf(forge.KindNotFound, op, "no cluster %.100q is configured", name).WithHint("forgectl cluster list")
	}
	x, can := cl.Executor.(Checker)
	if !can {
		var list []check
		for _, c := range s.d.list() {
			if _, of, ok := strings.Cut(c.name, "/"); ok && of == name {
				list = append(list, c)
			}
		}
		return s.d.look(ctx, list), nil
	}
	if !s.d.checking.begin(name) {
		return nil, forge.Errorf(forge.KindConflict, op, "cluster %s is being checked by somebody else", name).WithHint("try again in some minutes")
	}
	defer s.d.checking.end(name)
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	since := time.Now().AddDate(0, 0, -max(1, days))
	uses, err := s.d.db.GPUUses(ctx, cl.Name, since)
	if err != nil {
		return nil, err
	}
	by := slurm.CheckedBy{Version: s.d.version, Since: since, Uses: uses}
	if cl.AsUser {
		if by.Account, err = s.d.accountOf(ctx, p.Tenant, p.Actor()); err != nil {
			by.Account, by.NoAccount = "", err.Error()
		}
	}
	found := x.Check(ctx, by)
	out := make([]api.Check, len(found))
	for i, f := range found {
		out[i] = api.Check{Name: f.Name, Status: api.CheckStatus(f.Status), Found: f.Found, Means: f.Means, Fix: f.Fix}
	}
	return out, nil
}
