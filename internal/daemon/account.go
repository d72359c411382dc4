package daemon

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/slurm"
)

// accountFor is how long it is believed which account a user's jobs belong to: the answer may come from a directory server.
const accountFor = time.Minute

// accounts remembers the system's accounts of users, so that a plan is applied without asking anybody.
type accounts struct {
	mu sync.Mutex
	m  map[jobOwnerKey]account
}

type jobOwnerKey struct {
	tenant forge.TenantID
	user   string
}

type account struct {
	name string
	at   time.Time
}

func (a *accounts) get(r forge.Run) (account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	got, ok := a.m[jobOwnerKey{r.Tenant, r.User}]
	return got, ok
}

func (a *accounts) put(r forge.Run, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil {
		a.m = map[jobOwnerKey]account{}
	}
	a.m[jobOwnerKey{r.Tenant, r.User}] = account{name, time.Now()}
}

// accountOf is the system's account that jobs of a user belong to under identity as_user. KindPrecondition, for one who has none.
func (d *Daemon) accountOf(ctx context.Context, tenant forge.TenantID, user string) (string, error) {
	uid, err := d.db.UnixUID(ctx, tenant, user)
	if err != nil {
		return "", err
	}
	return slurm.AccountOf(uid)
}

// mayOwnJobs refuses a run that could only go where jobs belong to people, of somebody who has no account there.
func (d *Daemon) mayOwnJobs(ctx context.Context, p forge.Principal, cluster forge.ClusterName) error {
	live := d.live()
	asked := live.order
	if cluster != "" {
		asked = []forge.ClusterName{cluster}
	}
	for _, name := range asked {
		if c := live.clusters[name]; c == nil || !c.AsUser {
			return nil
		}
	}
	_, err := d.accountOf(ctx, p.Tenant, p.Actor())
	return err
}

// meetOwners finds the accounts of all whose jobs a plan would make, before it is applied. A run whose owner has none any
// more is held with the reason; one of which it cannot be told now is left for the next plan.
func (d *Daemon) meetOwners(ctx context.Context, plan *forge.Plan) (all bool) {
	live, all := d.live(), true
	plan.Place = slices.DeleteFunc(plan.Place, func(p forge.Place) bool {
		if c := live.clusters[p.Cluster]; c == nil || !c.AsUser {
			return false
		}
		r, ok := d.world.run(p.Run)
		if !ok {
			return false // Apply says so
		}
		if got, ok := d.accounts.get(r); ok && time.Since(got.at) < accountFor {
			return false
		}
		name, err := d.accountOf(ctx, r.Tenant, r.User)
		if err == nil {
			d.accounts.put(r, name)
			return false
		}
		all = false
		log := d.runLog(r.ID).Logger()
		log.Warn().Err(err).Msg("its job would belong to nobody")
		if forge.KindOf(err) == forge.KindPrecondition {
			if err := d.db.HoldRun(ctx, r.ID, forge.Hold{By: actorForged, At: time.Now(), Reason: err.Error()}); err != nil {
				log.Warn().Err(err).Msg("not held")
			}
		}
		return true
	})
	return all
}

// runDir is where a run lies on a cluster. Under as_user its owner has been met before.
func (d *Daemon) runDir(id forge.RunID, cluster forge.ClusterName) string {
	c := d.live().clusters[cluster]
	root := c.RunRoot
	if c.AsUser {
		if r, ok := d.world.run(id); ok {
			if got, ok := d.accounts.get(r); ok {
				root = slurm.RunRootOf(root, got.name)
			}
		}
	}
	return filepath.Join(root, string(id))
}

// CheckSite looks at what a configuration needs of its host, beside being valid.
func CheckSite(ctx context.Context, cfg Config) error {
	as := ""
	if st, err := os.Stat(cfg.StateDir); err == nil && os.Geteuid() == 0 { // root looks for the one that will serve
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
			if u, err := user.LookupId(strconv.Itoa(int(sys.Uid))); err == nil {
				as = u.Username
			}
		}
	}
	for i, cl := range cfg.Clusters {
		if cl.Slurm == nil || cl.Slurm.Identity != IdentityAsUser {
			continue
		}
		if err := asUser(cl).Installed(ctx, as); err != nil {
			return err
		}
		if err := checkArtifactRoot(cl, fmt.Sprintf("clusters[%d].", i)); err != nil {
			return err
		}
	}
	return nil
}

// asUser is the hand of a cluster whose jobs belong to people.
func asUser(cl ClusterConfig) *slurm.AsUser {
	return &slurm.AsUser{Cluster: forge.ClusterName(cl.Name), Helper: cl.Slurm.AsUser.Helper, Sudo: cl.Slurm.AsUser.Sudo}
}
