package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/slurm"
)

// shareDir, below a run root, is what forged puts there for all nodes: its training package.
const shareDir = ".forge"

// openSlurm makes the executor of one cluster of kind slurm.
func (d *Daemon) openSlurm(cl ClusterConfig, field string) (Cluster, error) {
	python, err := prepareSlurm(cl, field)
	if err != nil {
		return Cluster{}, err
	}
	o := d.slurmOptions(cl, python)
	as := cl.Slurm.Identity == IdentityAsUser
	if as {
		o.Hand = asUser(cl)
	}
	x, err := slurm.New(o)
	if err != nil {
		return Cluster{}, err
	}
	c := Cluster{Name: o.Cluster, Kind: cl.Kind, Executor: x, Files: x, RunRoot: cl.RunRoot, AsUser: as, Slurm: &o}
	c.follow(cl)
	return c, nil
}

// follow takes over what a reload may change.
func (c *Cluster) follow(cl ClusterConfig) {
	c.ArtifactRoot = cl.ArtifactRoot
	c.PollEvery, c.UserPrograms = cl.PollEvery.D(), cl.UserPrograms != nil && *cl.UserPrograms
	if cl.Kind != KindSlurm {
		c.Modules, c.Python = cl.Python != "", cl.Python
		return
	}
	c.Modules = cl.Python != "" || cl.Runtime.Kind != "" // or the run brings its own: checkPlaceable
	c.MaxPending, c.NiceStep, c.UserRuntime = cl.Slurm.MaxPending, *cl.Slurm.NiceStep, *cl.Slurm.UserRuntime
	if cl.Slurm.Binding == DefaultBinding {
		c.Binding = forge.BindEager
	}
	if c.Slurm != nil {
		o := *c.Slurm
		o.With = slurmWith(cl)
		c.Slurm = &o
	}
}

// slurmOptions is a cluster of kind slurm as its room wants it; the configuration has been checked.
func (d *Daemon) slurmOptions(cl ClusterConfig, python string) slurm.Options {
	s := cl.Slurm
	lo, hi, _ := parsePorts(cl.Ports)
	return slurm.Options{
		Cluster: forge.ClusterName(cl.Name), Tools: slurm.Tools{Bin: s.Bin, Conf: s.Conf, Timeout: s.Timeout.D()}, RunRoot: cl.RunRoot, Shim: s.Shim,
		Binding: slurm.Binding(s.Binding), BindTimeout: s.BindTimeout.D(), NiceStep: *s.NiceStep,
		PollEvery: s.PollEvery.D(), NodesEvery: s.NodesEvery.D(), Labels: s.Labels, Topology: s.Topology, Drain: slurm.Drain(s.Drain),
		TenantName: d.tenantName, PythonPath: python, PortMin: lo, PortMax: hi, With: slurmWith(cl), Log: d.log,
	}
}

// slurmWith is what a reload may replace of a cluster that is open.
func slurmWith(cl ClusterConfig) slurm.With {
	s := cl.Slurm
	limit, _ := mebibytes(cl.LogLimit)
	w := slurm.With{LogLimit: limit << 20, Python: cl.Python, Env: maps.Clone(cl.Env), Runtime: cl.Runtime, Allow: s.Allow, Network: s.Network, GRES: s.GRES, Owners: map[string]slurm.Owner{}}
	if s.Identity == IdentityAsUser {
		w.ArtifactRoot = cl.ArtifactRoot
	}
	for _, p := range s.Partitions {
		memory, _ := mebibytes(p.MemoryPerGPU)
		gpu, _ := mebibytes(p.GPUMemory)
		w.Partitions = append(w.Partitions, slurm.Partition{Name: p.Name, GPUType: p.GPUType, CPUsPerGPU: p.CPUsPerGPU, MemoryMiBPerGPU: memory, GPUMemoryMiB: gpu,
			PricePerGPUHour: p.PricePerGPUHour, Account: p.Account, QOS: p.QOS, Env: maps.Clone(p.Env)})
	}
	for name, o := range s.Owners {
		w.Owners[name] = slurm.Owner{Group: o.Group, Umask: o.Umask}
	}
	return w
}

// tenantName serves owners of files, which the site gives by name. Without an answer the tenant has no group of its own, and
// its files are closed to all others.
func (d *Daemon) tenantName(id forge.TenantID) string {
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	t, err := d.db.For(forge.Principal{Tenant: id, Role: forge.RoleOperator}).Tenant(ctx, string(id))
	if err != nil {
		d.log.Warn().Err(err).Str("tenant", string(id)).Msg("name of the tenant not known: its files get no group")
		return ""
	}
	return t.Name
}

// prepareSlurm makes what must be there before anything is submitted, and says which key is at fault where it cannot.
func prepareSlurm(cl ClusterConfig, field string) (pythonPath string, err error) {
	if root := fixedRoot(cl.RunRoot); root == cl.RunRoot {
		if err := os.MkdirAll(root, 0o750); err != nil {
			return "", forge.Invalidf(field+"run_root", "%v", err)
		}
	} else if st, err := os.Stat(root); err != nil || !st.IsDir() {
		return "", forge.Invalidf(field+"run_root", "%s is not a directory here; the directories of accounts lie below it", root)
	}
	if err := checkReloaded(cl, field); err != nil {
		return "", err
	}
	if st, err := os.Stat(cl.Slurm.Shim); err != nil || st.Mode()&0o111 == 0 {
		return "", forge.Invalidf(field+"slurm.shim", "%q is not an executable file here; it has to be forged's own program, under the same path on every node", cl.Slurm.Shim)
	}
	if pythonPath, err = recipes.ExtractPython(filepath.Join(cl.Slurm.Share, pythonDir)); err != nil {
		return "", forge.Invalidf(field+"slurm.share", "%v", err).WithHint("it must be a directory that forged can write and every node can read")
	}
	return pythonPath, nil
}

// checkReloaded looks at what a reload may name anew. Nothing of Slurm's nodes can be seen from here: cluster check does that.
func checkReloaded(cl ClusterConfig, field string) error {
	for name, o := range slurmWith(cl).Owners {
		if err := o.Check(); err != nil && cl.Slurm.Identity == IdentitySelf {
			return forge.Invalidf(field+"slurm.owners."+name, "%v", err)
		}
	}
	return checkArtifactRoot(cl, field)
}

// checkArtifactRoot looks where forged writes. What belongs to people the helper writes: whether root lets it is in its configuration, and whether
// the directory of one account is as it should be forgectl cluster check says.
func checkArtifactRoot(cl ClusterConfig, field string) error {
	if cl.ArtifactRoot != "" && cl.Slurm != nil && cl.Slurm.Identity == IdentityAsUser {
		fixed := fixedRoot(cl.ArtifactRoot)
		if st, err := os.Stat(fixed); err != nil || !st.IsDir() {
			return forge.Invalidf(field+"artifact_root", "%s is not a directory here; the directories of accounts lie below it", fixed)
		}
		if err := slurm.HelperKeeps(forge.ClusterName(cl.Name), cl.ArtifactRoot); err != nil {
			return forge.Invalidf(field+"artifact_root", "%v", err).WithHint("root says in %s where copies of people may lie; or leave the key out", slurm.HelperConfig)
		}
		return nil
	}
	if err := checkWritable(cl.ArtifactRoot); err != nil {
		return forge.Invalidf(field+"artifact_root", "%v", err).WithHint("make the directory and give it to the user that runs forged, or leave the key out")
	}
	return nil
}

// fixedRoot is a run root up to where the name of the account comes.
func fixedRoot(root string) string {
	before, _, found := strings.Cut(root, accountPart)
	if !found {
		return root
	}
	return filepath.Dir(before + "x")
}

// checkWritable makes a file and takes it away again.
func checkWritable(dir string) error {
	if dir == "" {
		return nil
	}
	f, err := os.CreateTemp(dir, ".forged-*.tmp")
	if err != nil {
		return fmt.Errorf("forged cannot write there: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
