package slurm

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// maxLead is what sbatch takes of seconds in --signal.
const maxLead = 65535 * time.Second

// Render makes the job of one attempt: a function of values, so that a dry run shows what a real one submits.
// Options are arguments of sbatch and never lines of the script: nothing is read twice, and by nobody but Slurm.
func Render(l forge.Launch, o Options) (Job, error) {
	g, at := l.Spec.Gang, rundir.At(l.RunDir, l.Attempt)
	b := cmp.Or(l.Spec.Batch, &forge.BatchOptions{})
	p, err := o.partition(b.Partition)
	if err != nil {
		return Job{}, err
	}
	if g.Nodes < 1 || g.GPUsPerNode < 1 {
		return Job{}, forge.Invalidf("gang", "%d nodes with %d GPUs each: want at least one of both", g.Nodes, g.GPUsPerNode)
	}
	for _, path := range []string{l.RunDir, o.Shim} {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, "\n\x00\\") {
			return Job{}, forge.Invalidf("run_dir", "%q: want an absolute path without line breaks and backslashes", path)
		}
	}
	cpus := g.GPUsPerNode * cmp.Or(g.CPUsPerGPU, p.CPUsPerGPU, 1)
	memory := int64(g.GPUsPerNode) * cmp.Or(g.MemoryMiBPerGPU, p.MemoryMiBPerGPU)

	job := Job{Name: JobName(o.Cluster, l.Run, l.Attempt)}
	opt := func(name, value string) {
		if value != "" {
			job.Args = append(job.Args, "--"+name+"="+value)
		}
	}
	// What users pass comes first: of two options of one name sbatch takes the last.
	job.Args = append(job.Args, b.Raw...)
	job.Args = append(job.Args, "--parsable")
	opt("job-name", job.Name)
	opt("partition", cmp.Or(b.Partition, p.Name))
	opt("account", cmp.Or(b.Account, p.Account))
	opt("qos", cmp.Or(b.QOS, p.QOS))
	opt("constraint", b.Constraint)
	opt("reservation", b.Reservation)
	opt("mail-type", b.MailType)
	opt("nodes", strconv.Itoa(g.Nodes))
	opt("ntasks-per-node", "1")
	opt("gres", strings.Join(nonEmpty(cmp.Or(o.With.GRES, "gpu"), p.GPUType, strconv.Itoa(g.GPUsPerNode)), ":"))
	opt("cpus-per-task", strconv.Itoa(cpus))
	if memory > 0 {
		opt("mem", strconv.FormatInt(memory, 10)+"M")
	}
	if limit := l.Spec.TimeLimit.D(); limit > 0 {
		opt("time", strconv.FormatInt(int64((limit+time.Minute-1)/time.Minute), 10))
	}
	if lead := min(l.SaveLead.D(), maxLead); lead > 0 {
		opt("signal", fmt.Sprintf("USR2@%d", int64((lead+time.Second-1)/time.Second)))
	}
	if l.Nice > 0 {
		opt("nice", strconv.Itoa(l.Nice))
	}
	opt("exclude", strings.Join(nonEmpty(append([]string{b.Exclude}, names(l.Exclude)...)...), ","))
	if placed := placedOn(l.Placement); placed != "" {
		opt("nodelist", placed)
	} else {
		opt("nodelist", b.Nodelist)
	}
	log := strings.ReplaceAll(filepath.Join(at.Dir(), "batch.log"), "%", "%%")
	opt("chdir", at.Dir())
	opt("output", log)
	opt("error", log)
	opt("open-mode", "append")
	opt("input", "/dev/null")
	opt("export", "NONE") // and what the login shell adds is taken away by the script
	opt("kill-on-invalid-dep", "yes")
	job.Args = append(job.Args, "--no-requeue")
	job.Script = script(l, o, at, cpus, memory)
	return job, nil
}

// script is what the first node runs: it clears the environment and becomes srun, which starts a shim per node.
func script(l forge.Launch, o Options, at rundir.Attempt, cpus int, memory int64) string {
	srun := []string{"srun", "--ntasks-per-node=1", "--nodes=" + strconv.Itoa(l.Spec.Gang.Nodes), "--cpus-per-task=" + strconv.Itoa(cpus)}
	if memory > 0 {
		srun = append(srun, "--mem="+strconv.FormatInt(memory, 10)+"M")
	}
	srun = append(srun, "--kill-on-bad-exit=1", "--unbuffered", "--export=ALL", "--mpi=none")
	if o.Tools.Bin != "" {
		srun[0] = filepath.Join(o.Tools.Bin, "srun")
	}
	srun = append(append(srun, o.Shim, "shim"), rundir.AttemptFlags(at)...)
	srun = append(srun, "--slurm")
	for i, word := range srun {
		srun[i] = quote(word)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/bash\n# forge: attempt %d of run %d (%s)\n", l.Attempt, l.Number, l.Run)
	b.WriteString("set -u\n")
	b.WriteString(`for name in $(compgen -e); do
  case $name in
    SLURM*|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|TMPDIR|HOME|USER|LOGNAME|SHELL) ;;
    *) unset "$name" 2>/dev/null ;;
  esac
done
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8
export SLURM_EXPORT_ENV=ALL
`)
	fmt.Fprintf(&b, "exec %s\n", strings.Join(srun, " "))
	return b.String()
}

// LaunchOptions is what the shims of an attempt get beside its launch.
func LaunchOptions(l forge.Launch, o Options) (rundir.LaunchOptions, error) {
	b := cmp.Or(l.Spec.Batch, &forge.BatchOptions{})
	p, err := o.partition(b.Partition)
	if err != nil {
		return rundir.LaunchOptions{}, err
	}
	env := map[string]string{}
	if !o.With.Network {
		env["HF_HUB_OFFLINE"] = "1"
	}
	maps.Copy(env, o.With.Env)
	maps.Copy(env, p.Env)
	return rundir.LaunchOptions{
		Python: o.With.Python, PythonPath: o.PythonPath, Env: env, PortMin: o.PortMin, PortMax: o.PortMax, Batch: rundir.BatchSlurm,
	}, nil
}

// partition finds what the site said of a partition; "" is the default one.
func (o Options) partition(name string) (Partition, error) {
	if len(o.With.Partitions) == 0 {
		return Partition{Name: name}, nil
	}
	var have []string
	for _, p := range o.With.Partitions {
		if name == "" || p.Name == name {
			return p, nil
		}
		have = append(have, p.Name)
	}
	return Partition{}, forge.Invalidf("partition", "%q is not one that forge uses on cluster %q; there are: %s", name, o.Cluster, strings.Join(have, ", "))
}

// quote makes one word of shell of whatever it is given.
func quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func nonEmpty(words ...string) []string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

func names(nodes []forge.NodeName) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = string(n)
	}
	return out
}

func placedOn(shares []forge.Share) string {
	nodes := make([]forge.NodeName, len(shares))
	for i, s := range shares {
		nodes[i] = s.Node
	}
	return strings.Join(names(nodes), ",")
}
