package daemon

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/slurm"
)

// resolveBatch takes what a run asks of a cluster's batch system and which software it starts in, and binds the run to a
// cluster where both mean something.
func (d *Daemon) resolveBatch(spec *forge.RunSpec, q api.SubmitRunRequest, rec recipes.Recipe) error {
	if !q.Batch.Empty() {
		b := *q.Batch
		spec.Batch = &b
	}
	asked := q.Runtime != nil && !q.Runtime.Empty()
	var run forge.Runtime
	if asked {
		run = *q.Runtime
	}
	mine, _ := forge.MergeRuntime(forge.RuntimeLayer{Origin: "recipe", Runtime: rec.Runtime}, forge.RuntimeLayer{Origin: "run", Runtime: run})
	if !mine.Empty() {
		if err := mine.Check(); err != nil {
			return err
		}
		spec.Runtime = &mine
	}
	if spec.Batch == nil && spec.Runtime == nil {
		if c := d.live().clusters[spec.Cluster]; c != nil && c.Slurm != nil {
			return d.checkSlurm(c, spec, rec, run)
		}
		return nil
	}
	c, err := d.batchCluster(spec, asked)
	if err != nil {
		return err
	}
	spec.Cluster = c.Name
	if asked && !c.UserRuntime {
		return forge.Invalidf("runtime", "cluster %s takes its software from its configuration and from recipes: its jobs share an account, and lines of a run could read what others left", c.Name).
			WithHint("an operator allows it with slurm.user_runtime: true, or gives each user's jobs an account with slurm.identity: as_user")
	}
	return d.checkSlurm(c, spec, rec, run)
}

// checkSlurm holds the whole of it, merged, against the cluster, and notes where each field of the runtime came from.
func (d *Daemon) checkSlurm(c *Cluster, spec *forge.RunSpec, rec recipes.Recipe, run forge.Runtime) error {
	o := *c.Slurm
	whole, from := forge.MergeRuntime(forge.RuntimeLayer{Origin: "cluster " + string(c.Name), Runtime: o.With.Runtime},
		forge.RuntimeLayer{Origin: "recipe", Runtime: rec.Runtime}, forge.RuntimeLayer{Origin: "run", Runtime: run})
	if err := whole.CheckWhole(); err != nil {
		return err
	}
	if len(from) > 0 {
		spec.Origins = maps.Clone(spec.Origins)
		if spec.Origins == nil {
			spec.Origins = map[string]string{}
		}
		maps.Copy(spec.Origins, from)
	}
	return o.CheckBatch(o.With, spec.Batch)
}

// batchCluster is the one that a run with words for Slurm can go to.
func (d *Daemon) batchCluster(spec *forge.RunSpec, asked bool) (*Cluster, error) {
	field := "batch"
	if spec.Batch == nil {
		field = "runtime"
	}
	var fit []string
	live := d.live()
	for _, name := range live.order {
		c := live.clusters[name]
		if c.Slurm == nil {
			continue
		}
		if spec.Cluster == name {
			return c, nil
		}
		fit = append(fit, string(name))
	}
	switch {
	case len(fit) == 0:
		return nil, forge.Invalidf(field, "is for clusters of kind %s, and there is none", KindSlurm)
	case spec.Cluster != "" && live.clusters[spec.Cluster] == nil:
		return nil, forge.Invalidf("cluster", "%q is not configured", spec.Cluster).WithHint("forgectl cluster list")
	case spec.Cluster != "":
		return nil, forge.Invalidf(field, "is for clusters of kind %s, and %s is not one; there is %s", KindSlurm, spec.Cluster, strings.Join(fit, ", "))
	case len(fit) > 1:
		return nil, forge.Invalidf("cluster", "is missing: the run asks for what only clusters of kind %s have; name one of %s", KindSlurm, strings.Join(fit, ", "))
	}
	return live.clusters[forge.ClusterName(fit[0])], nil
}

// preview is what a dry run shows of a run that can only go to one cluster of kind slurm: nil for all others.
func (d *Daemon) preview(ctx context.Context, p forge.Principal, spec forge.RunSpec) (*api.JobPreview, error) {
	live := d.live()
	name := spec.Cluster
	if name == "" && len(live.order) == 1 {
		name = live.order[0]
	}
	c := live.clusters[name]
	if c == nil || c.Slurm == nil {
		return nil, nil
	}
	r := forge.Run{ID: "RUN", Tenant: p.Tenant, Spec: withoutPending(spec)}
	l, err := d.launchOf(ctx, r, forge.Attempt{Run: r.ID, Number: 1, Cluster: c.Name, RunDir: filepath.Join(c.RunRoot, "RUN")})
	if err != nil {
		return nil, err
	}
	job, err := slurm.Render(l, *c.Slurm)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return &api.JobPreview{Args: job.Args, Script: job.Script}, nil
}
