package daemon

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/server"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/scheduler"
)

// settings is all that a reload may replace, in one value that never changes once it is in force:
// whoever takes it sees one configuration, whole.
type settings struct {
	cfg      Config
	policy   scheduler.Policy
	recipes  recipes.Library
	suites   recipes.Suites
	gates    gateBook
	health   forge.HealthRules // the site's changes
	clusters map[forge.ClusterName]*Cluster
	order    []forge.ClusterName
	handler  http.Handler

	certificate *tls.Certificate // nil: TCP is served without TLS
}

// live is what is in force now. Take it once for what belongs together.
func (d *Daemon) live() *settings { return d.settings.Load() }

// clusterList is the clusters in force, in their order.
func (d *Daemon) clusterList() []*Cluster {
	s := d.live()
	list := make([]*Cluster, 0, len(s.order))
	for _, name := range s.order {
		list = append(list, s.clusters[name])
	}
	return list
}

// policy is the scheduler's, as the configuration in force has it.
func (d *Daemon) policy() scheduler.Policy { return d.live().policy }

// build makes settings of a configuration and touches nothing that is in force. What it opened is
// pushed on undo; given is what tests have opened in place of the configuration's clusters.
func (d *Daemon) build(cfg Config, old *settings, given []Cluster, undo *stopStack) (*settings, error) {
	s := &settings{cfg: cfg, clusters: map[forge.ClusterName]*Cluster{}}
	var err error
	if s.policy, err = cfg.Policy.policy(); err != nil {
		return nil, err
	}
	if s.recipes, err = recipes.Builtin(); err != nil {
		return nil, err
	}
	if cfg.RecipesDir != "" {
		if s.recipes, err = s.recipes.With(cfg.RecipesDir); err != nil {
			return nil, err
		}
	}
	if s.suites, err = recipes.BuiltinSuites(); err != nil {
		return nil, err
	}
	if cfg.SuitesDir != "" {
		if s.suites, err = s.suites.With(cfg.SuitesDir); err != nil {
			return nil, err
		}
	}
	if s.gates, err = readGates(cfg.GatesFile, s.suites); err != nil {
		return nil, err
	}
	if s.health, err = cfg.GPUs.healthRules(); err != nil {
		return nil, err
	}
	add := func(c Cluster) {
		s.clusters[c.Name], s.order = &c, append(s.order, c.Name)
	}
	if given != nil {
		for _, c := range given {
			if c.GPUs != nil {
				c.GPUs.d = d
			}
			add(c)
		}
	} else {
		for i, cl := range cfg.Clusters {
			if old != nil && old.clusters[forge.ClusterName(cl.Name)] != nil { // its executor goes on
				if err := checkPython(cl, i); err != nil {
					return nil, err
				}
				c := *old.clusters[forge.ClusterName(cl.Name)]
				c.follow(cl)
				c.GPUs.expect(cl.ExpectGPUs)
				add(c)
				continue
			}
			c, err := d.open(cl, i, cfg.GPUs.shims(s.health))
			if err != nil {
				return nil, err
			}
			if x, ok := c.Executor.(interface{ Close() error }); ok {
				undo.push("cluster "+cl.Name, x.Close)
			}
			add(c)
		}
	}
	if s.certificate, err = loadCertificate(cfg, time.Now()); err != nil {
		return nil, err
	}
	if old != nil && reflect.DeepEqual(old.cfg.Limits, cfg.Limits) && *old.cfg.Listen.Metrics == *cfg.Listen.Metrics {
		s.handler = old.handler
	} else {
		s.handler = d.newHandler(cfg)
	}
	return s, nil
}

func (d *Daemon) newHandler(cfg Config) http.Handler {
	return server.New(api.Services{Auth: d, Once: d, Tenants: tenants{d}, Users: users{d}, Datasets: datasets{d}, Models: models{d}, Registry: registry{d}, Gates: gates{d}, Progress: &d.reading, Runs: runs{d}, Estimates: runs{d}, Holds: holds{d}, Priority: priorities{d}, RunData: rundata{d}, Measures: measures{d}, Samples: samples{d}, Pipelines: pipelines{d},
		Keys: keys{d}, Logins: logins{d}, Site: site{d}, Clusters: clusters{d}, Nodes: nodes{d}, NodeHolds: nodes{d}, GPUs: gpus{d}, Events: events{d}, Recipes: recipeBook{d}, Evals: evals{d}, Schedules: schedules{d}, Costs: costs{d}, Snapshots: snapshots{d}, Bundles: bundles{d}, GC: collector{d}, Hooks: hooks{d}}, d.options(cfg))
}

func checkPython(cl ClusterConfig, i int) error {
	if cl.Kind == KindSlurm {
		return checkReloaded(cl, fmt.Sprintf("clusters[%d].", i))
	}
	if err := checkArtifactRoot(cl, fmt.Sprintf("clusters[%d].", i)); err != nil || cl.Python == "" {
		return err
	}
	if st, err := os.Stat(cl.Python); err != nil || st.Mode()&0o111 == 0 {
		return forge.Invalidf(fmt.Sprintf("clusters[%d].python", i), "%q is not an executable file", cl.Python).
			WithHint("contrib/python-env/install makes an environment and prints its path")
	}
	return nil
}
