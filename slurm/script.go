package slurm

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
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
	at := rundir.At(l.RunDir, l.Attempt)
	p, soft, err := o.plan(l)
	if err != nil {
		return Job{}, err
	}
	say, err := o.say(l.Spec, p, l.Alike)
	if err != nil {
		return Job{}, err
	}
	p.GPUType = cmp.Or(say.gpuType, p.GPUType)
	b := cmp.Or(l.Spec.Batch, &forge.BatchOptions{})
	raw, err := CheckRaw(b.Raw, o.With.Allow)
	if err != nil {
		return Job{}, err
	}
	job := Job{Name: JobName(o.Cluster, l.Run, l.Attempt), Script: script(l, o, p, soft)}
	opt := func(name, value string) {
		if value != "" {
			job.Args = append(job.Args, "--"+name+"="+value)
		}
	}
	// What users pass comes first: of two options of one name sbatch takes the last.
	job.Args = append(append(job.Args, raw...), "--parsable")
	opt("job-name", job.Name)
	opt("partition", cmp.Or(b.Partition, p.Name))
	opt("account", cmp.Or(b.Account, p.Account))
	opt("qos", cmp.Or(b.QOS, p.QOS))
	opt("constraint", say.constraint)
	if say.switches {
		opt("switches", "1")
	}
	opt("reservation", b.Reservation)
	opt("mail-type", b.MailType)
	job.Args = append(job.Args, shape(l, o, p)...)
	if limit := l.Spec.TimeLimit.D(); limit > 0 {
		opt("time", strconv.FormatInt(int64((limit+time.Minute-1)/time.Minute), 10))
	}
	if lead := leadOf(l); lead > 0 {
		opt("signal", fmt.Sprintf("USR2@%d", int64((lead+time.Second-1)/time.Second)))
	}
	if l.Nice > 0 {
		opt("nice", strconv.Itoa(l.Nice))
	}
	opt("exclude", strings.Join(nonEmpty(append([]string{b.Exclude}, names(leaveOut(l))...)...), ","))
	opt("nodelist", cmp.Or(placedOn(l.Placement), b.Nodelist))
	log := strings.ReplaceAll(filepath.Join(at.Dir(), "batch.log"), "%", "%%")
	opt("chdir", at.Dir())
	opt("output", log)
	opt("error", log)
	opt("open-mode", "append")
	opt("input", "/dev/null")
	// Not --export=NONE, which means the same and has slurmd run the account's login shell before the script: a second for every
	// job, and one that hangs or fails has Slurm hold the job.
	opt("export-file", "/dev/null")
	job.Args = append(job.Args, "--no-requeue")
	return job, nil
}

// leaveOut are the nodes that the run keeps away from and those that forge does, each once.
func leaveOut(l forge.Launch) []forge.NodeName {
	var out []forge.NodeName
	if w := l.Spec.Where; w != nil && len(l.Placement) == 0 { // else forge's plan has left them out
		out = append(out, w.Exclude...)
	}
	for _, n := range l.Exclude {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// plan is what script and shims are made from: the partition, and how ranks are started.
func (o Options) plan(l forge.Launch) (Partition, software, error) {
	g := l.Spec.Gang
	if g.Nodes < 1 || g.GPUsPerNode < 1 {
		return Partition{}, software{}, forge.Invalidf("gang", "%d nodes with %d GPUs each: want at least one of both", g.Nodes, g.GPUsPerNode)
	}
	for _, path := range []string{l.RunDir, o.Shim} {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, "\n\x00\\") {
			return Partition{}, software{}, forge.Invalidf("run_dir", "%q: want an absolute path without line breaks and backslashes", path)
		}
	}
	if err := o.CheckBatch(o.With, l.Spec.Batch); err != nil {
		return Partition{}, software{}, err
	}
	name := ""
	if l.Spec.Batch != nil {
		name = l.Spec.Batch.Partition
	}
	p, _ := o.With.Partition(name) // checked just now
	run, _ := forge.MergeRuntime(forge.RuntimeLayer{Runtime: o.With.Runtime}, forge.RuntimeLayer{Runtime: *cmp.Or(l.Spec.Runtime, &forge.Runtime{})})
	if err := run.CheckWhole(); err != nil {
		return Partition{}, software{}, err
	}
	reads := nonEmpty(o.PythonPath)
	if run.Kind == forge.RuntimePyxis {
		reads = append(reads, filepath.Dir(o.Shim))
	}
	for _, m := range l.Inputs {
		reads = append(reads, m.Root)
	}
	if from := l.Spec.ResumeFrom; from != nil {
		reads = append(reads, from.Path)
	}
	return p, softwareOf(run, o.With.Python, []string{l.RunDir}, reads), nil
}

// shape is the gang as options of sbatch and, since a step takes over neither CPUs nor memory of its job in every version, of srun.
func shape(l forge.Launch, o Options, p Partition) []string {
	g := l.Spec.Gang
	if l.Spec.NoGPU() { // what the partition gives beside each GPU is not for it
		p.CPUsPerGPU, p.MemoryMiBPerGPU = 0, 0
	}
	out := []string{"--nodes=" + strconv.Itoa(g.Nodes), "--ntasks-per-node=1"}
	gpus := strings.Join(nonEmpty(p.GPUType, strconv.Itoa(g.GPUsPerNode)), ":")
	switch gres := cmp.Or(o.With.GRES, "gpu"); {
	case l.Spec.NoGPU(): // a job that reads data must not keep a GPU from one that trains
	case gres == "gpu":
		out = append(out, "--gpus-per-node="+gpus)
	default:
		out = append(out, "--gres="+gres+":"+gpus)
	}
	out = append(out, "--cpus-per-task="+strconv.Itoa(g.GPUsPerNode*max(g.CPUsPerGPU, p.CPUsPerGPU, 1)))
	if m := int64(g.GPUsPerNode) * max(g.MemoryMiBPerGPU, p.MemoryMiBPerGPU); m > 0 {
		out = append(out, "--mem="+strconv.FormatInt(m, 10)+"M")
	}
	return out
}

// leadOf never takes more than half of the limit: a run whose saves are slow must still do something before it saves.
func leadOf(l forge.Launch) time.Duration {
	lead := min(l.SaveLead.D(), maxLead)
	if limit := l.Spec.TimeLimit.D(); limit > 0 {
		lead = min(lead, limit/2)
	}
	return lead
}

// minimal is what every job of ours begins with: nothing else gives it a PATH.
const minimal = `export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 SLURM_EXPORT_ENV=ALL
export HOME=${HOME:-~} USER=${USER:-${SLURM_JOB_USER:-$(id -un)}}
export LOGNAME=${LOGNAME:-$USER}`

// kept is what a job keeps of its environment until srun has started the shims, as a pattern of bash.
const kept = `SLURM*|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK|TMPDIR|HOME|USER|LOGNAME|SHELL`

// clearing takes away what Slurm and the site's prologs have put into the environment. Slurm and bash always put the first line's
// there; only where there is more is it worth the processes that $( ) forks.
const clearing = `unset -v _ ENVIRONMENT HOSTNAME OLDPWD PWD SHLVL
shopt -s extglob
if compgen -e -X '@(` + kept + `)' >/dev/null; then
  for name in $(compgen -e); do
    case $name in
      ` + kept + `) ;;
      *) unset -v "$name" 2>/dev/null ;;
    esac
  done
fi
if compgen -A function >/dev/null; then
  for name in $(compgen -A function); do unset -f "$name"; done
fi
`

// script is what the first node runs: it clears the environment and becomes srun, which starts a shim per node. What ranks get
// is in the launch file and never here: Slurm keeps scripts, and shows them.
func script(l forge.Launch, o Options, p Partition, soft software) string {
	srun := []string{"srun"}
	if o.Tools.Bin != "" {
		srun[0] = filepath.Join(o.Tools.Bin, "srun")
	}
	srun = append(srun, shape(l, o, p)...)
	srun = append(srun, "--kill-on-bad-exit=1", "--unbuffered", "--mpi=none")
	srun = append(srun, soft.srun...)
	srun = append(append(srun, o.Shim, "shim"), rundir.AttemptFlags(rundir.At(l.RunDir, l.Attempt))...)
	srun = append(srun, "--slurm")
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/bash\n# forge: attempt %d of run %d (%s)\n", l.Attempt, l.Number, l.Run)
	b.WriteString(clearing)
	fmt.Fprintf(&b, "umask %s\n", quote(o.OwnerOf(o.With, l.Tenant).Umask))
	b.WriteString(minimal + "\n")
	fmt.Fprintf(&b, "exec %s\n", quoteAll(srun))
	return b.String()
}

// LaunchOptions is what the shims of an attempt get beside its launch.
func LaunchOptions(l forge.Launch, o Options) (rundir.LaunchOptions, error) {
	p, soft, err := o.plan(l)
	if err != nil {
		return rundir.LaunchOptions{}, err
	}
	env := map[string]string{}
	if o.With.Network {
		for _, k := range []string{"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"} { // the shim's defaults are 1
			env[k] = "0"
		}
	}
	maps.Copy(env, o.With.Env)
	maps.Copy(env, p.Env)
	return rundir.LaunchOptions{
		Python: soft.python, PythonPath: o.PythonPath, Env: env, PortMin: o.PortMin, PortMax: o.PortMax, Batch: rundir.BatchSlurm,
		LogLimit: o.With.LogLimit, GPU: o.With.GPU,
		Source: soft.source, Wrap: soft.wrap, Inherit: soft.inherit,
	}, nil
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
