package slurm

import (
	"cmp"
	"context"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// programs are those that forge calls; without sacct a cluster can do.
var programs = []string{"sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun", "sacct"}

// skewLimit is how far a node's clock may be off: times of records of different nodes are compared.
const skewLimit = 2 * time.Second

// slowAnswer of the controller makes polls slow.
const slowAnswer = 2 * time.Second

// checkCluster looks at everything, each with its own bound: programs, controller, settings, partitions; then with a job.
// What it leaves behind is removed, also when ctx ends.
func checkCluster(ctx context.Context, o Options, by CheckedBy) []Finding {
	out := []Finding{checkPrograms(ctx, o.Tools)}
	begin := time.Now()
	conf, err := configOf(ctx, o.Tools)
	if err != nil {
		return append(out, found("controller", FindingFail, "no answer: %v", err).
			means("nothing can be submitted and nothing is known of what runs there; it goes on").fix("scontrol ping; is SLURM_CONF right in clusters[].slurm.conf?"))
	}
	took := time.Since(begin)
	f := found("controller", FindingOK, "cluster %s answers in %s; limit %s", conf["ClusterName"], took.Round(time.Millisecond), slowAnswer)
	if took > slowAnswer {
		f.Status = FindingWarn
		f = f.means("every look at jobs takes that long; forge looks less often by itself").fix("sdiag shows who asks the controller so much")
	}
	out = append(out, f, found("slurm_conf", FindingOK, "the controller was configured by %s, these programs by %s", conf["SLURM_CONF"], cmp.Or(o.Tools.Conf, "Slurm's own place")))
	out = append(out, judgeSettings(conf, o)...)
	parts, err := partitionsOf(ctx, o.Tools)
	if err != nil {
		return append(out, found("partitions", FindingUnknown, "%v", err))
	}
	nodes, err := listNodes(ctx, o)
	if err != nil {
		out = append(out, found("nodes", FindingUnknown, "%v", err).means("what forge knew of the nodes stays as it was"))
	}
	out = append(out, judgePartitions(parts, nodes, o)...)
	out = append(out, checkByJob(ctx, o, by, parts, nodes)...)
	if hasAccounting(conf) {
		accounts, err := accountsOf(ctx, o, by.Since)
		if err != nil {
			out = append(out, found("gpu_hours", FindingUnknown, "%v", err))
		} else {
			out = append(out, judgeHours(compareHours(by.Uses, accounts), by.Since))
		}
	}
	return out
}

func checkPrograms(ctx context.Context, t Tools) Finding {
	var missing []string
	for _, p := range programs {
		path, err := t.path(p)
		if err == nil {
			_, err = exec.LookPath(path)
		}
		if err != nil {
			missing = append(missing, p)
		}
	}
	version, err := t.Run(ctx, "", "sinfo", "--version")
	where := cmp.Or(t.Bin, "PATH")
	f := found("slurm_programs", FindingOK, "%s in %s", strings.TrimSpace(version), where)
	switch {
	case slices.Equal(missing, []string{"sacct"}):
		f.Status = FindingWarn
		f.Found += "; without sacct"
		return f.means("ends of jobs cannot be looked up in the accounting")
	case len(missing) > 0:
		return found("slurm_programs", FindingFail, "%s are not in %s", strings.Join(missing, ", "), where).
			means("forge cannot use this cluster").fix("install Slurm's client programs on this host, or set clusters[].slurm.bin")
	case err != nil:
		return found("slurm_programs", FindingFail, "%v", err).means("forge cannot use this cluster").fix("clusters[].slurm.bin and .conf in config.yaml")
	}
	return f
}

// checkByJob runs the probe, with a GPU on each of two nodes if there are, else with less.
func checkByJob(ctx context.Context, o Options, by CheckedBy, parts []Limits, nodes []forge.Node) []Finding {
	p, _ := o.With.Partition("")
	name := p.Name
	for _, l := range parts {
		if name == "" && l.Default {
			name = l.Name
		}
	}
	ready, most := 0, 2
	for _, n := range nodes {
		if n.State == forge.NodeReady && n.Batch != nil && slices.Contains(n.Batch.Partitions, name) {
			ready++
		}
	}
	for _, l := range parts {
		if l.Name == name && l.MaxNodes > 0 {
			most = min(most, l.MaxNodes)
		}
	}
	x, err := newProbe(o, p, min(most, max(1, ready)))
	if err != nil {
		return []Finding{found("run_root_writable", FindingFail, "%s: %v", runRootOf(o), err).
			means("no run directory can be made: every run fails to start").fix("make run_root, owned by the account that forged runs as")}
	}
	x.gpus = true
	var out []Finding
	err = x.run(ctx, probeGPUWait)
	if TroubleOf(err) == TroubleNone && x.started == 0 && ctx.Err() == nil { // GPUs are taken: all but them can be looked at without
		busy := x.reason
		if x.cancel(ctx) == nil {
			x.gpus = false
			x.state, x.reason = "", ""
			err = x.run(ctx, probeWait)
		}
		out = append(out, found("probe_gpu", FindingUnknown, "no GPU came free within %s: %s", probeGPUWait, cmp.Or(busy, "no reason given")).means("whether jobs get their GPUs was not looked at"))
	}
	switch {
	case err != nil:
		out = append(out, found("probe_job", FindingFail, "Slurm did not take it: %v", err).means("runs are refused likewise").fix("clusters[].slurm.partitions: name, account and qos; or the site's rules for jobs"))
	default:
		out = append(out, x.judge(by)...)
	}
	if err := x.remove(ctx); err != nil {
		out = append(out, found("probe_removed", FindingWarn, "%v", err).means("the job ends by itself after %s minutes", probeLimit).fix("rm -r %s", x.dir))
	}
	return out
}

// judge says what the probe's answers mean.
func (x *probe) judge(by CheckedBy) []Finding {
	switch {
	case x.started == 0:
		return []Finding{found("probe_job", FindingUnknown, "job %s waited longer than %s: %s", x.id, probeWait, cmp.Or(x.reason, "no reason given")).
			means("the cluster is full or does not take jobs now; what needs a job was not looked at").fix("try again when something is free; squeue --start")}
	case len(x.answers) == 0:
		return []Finding{x.notShared()}
	}
	where := strings.Join(x.where(), ", ")
	out := []Finding{found("probe_job", FindingOK, "job %s started on %s after %s", x.id, where, x.started.Round(100*time.Millisecond))}
	f := found("shared_directory", FindingOK, "%s: %s and this host read each other's files there", x.o.RunRoot, where)
	wrong := ""
	for n := range x.nodes {
		if a := x.answers[n]; a == nil || a["nonce"] != x.nonce {
			wrong = x.node(n)
		}
	}
	if wrong != "" || !x.talked {
		f = found("shared_directory", FindingFail, "%s: %s did not see what this host wrote there while the job ran", x.o.RunRoot, cmp.Or(wrong, where)).
			means("stop requests, claims and records do not come through: attempts cannot be stopped or resumed safely").
			fix("run_root has to be on a filesystem that this host and all nodes share, mounted at the same path; NFS with noac or a short actimeo")
	}
	out = append(out, f,
		found("run_root_writable", FindingOK, "%s: jobs write there as uid %s", x.o.RunRoot, x.answers[firstOfMap(x.answers)]["uid"]))
	if len(x.skew) > 0 {
		out = append(out, x.judgeClocks())
	}
	out = append(out, x.judgeShim(by.Version), x.judgePlanted(), x.judgeFlock(), x.judgePython())
	if x.gpus {
		out = append(out, x.judgeGPUs())
	}
	return out
}

func firstOfMap(m map[int]map[string]string) int {
	first := -1
	for n := range m {
		if first < 0 || n < first {
			first = n
		}
	}
	return first
}

func (x *probe) notShared() Finding {
	log := strings.TrimSpace(x.read("job.out"))
	if log != "" { // the directory is there where the script runs, and something else was wrong
		if len(log) > 500 {
			log = log[len(log)-500:]
		}
		return found("probe_job", FindingFail, "job %s ended as %s (exit %s) without an answer: %s", x.id, x.state, x.exit, log).means("runs end likewise")
	}
	return found("shared_directory", FindingFail, "%s: job %s was %s on its nodes and nothing that it wrote there came back", x.o.RunRoot, x.id, cmp.Or(x.state, "started")).
		means("the nodes do not have this directory, or may not write in it: every run would be lost").
		fix("run_root has to be on a filesystem that this host and all nodes share, mounted at the same path and writable for the job's account")
}

func (x *probe) judgeClocks() Finding {
	worst, at := time.Duration(0), 0
	for n, d := range x.skew {
		if d.Abs() >= worst.Abs() {
			worst, at = d, n
		}
	}
	f := found("node_clocks", FindingOK, "off by at most %s against this host (%s); limit %s", worst.Round(time.Millisecond), x.node(at), skewLimit)
	if worst.Abs() > skewLimit {
		f.Status = FindingFail
		f = f.means("times in records of different nodes cannot be compared: limits and heartbeats are judged wrongly").fix("let the nodes follow a time server: chronyc tracking, on %s", x.node(at))
	}
	return f
}

// archOf is how uname calls what Go calls otherwise.
var archOf = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le"}

func (x *probe) judgeShim(version string) Finding {
	path := x.o.Shim
	for n := range x.nodes {
		a := x.answers[n]
		if a == nil {
			continue
		}
		said := a["forged"]
		switch {
		case strings.Contains(said, "version "+version):
			continue
		case strings.Contains(said, "forged version"):
			return found("shim", FindingFail, "%s on %s is %s; this forged is %s", path, x.node(n), said, version).
				means("records of one version may not be read by the other").fix("install the forged of this host there, or set clusters[].slurm.shim")
		}
		f := found("shim", FindingFail, "%s does not run on %s (%s): %s", path, x.node(n), a["arch"], cmp.Or(said, "it said nothing")).means("no rank can be started")
		if arch := archOf[runtime.GOARCH]; arch != "" && a["arch"] != "" && a["arch"] != arch {
			return f.fix("the node is %s and this host %s: set clusters[].slurm.shim to a forged for it", a["arch"], arch)
		}
		return f.fix("put forged where all nodes see it, and its path into clusters[].slurm.shim")
	}
	return found("shim", FindingOK, "%s runs there and is %s", path, version)
}

func (x *probe) judgePlanted() Finding {
	for n, a := range x.answers {
		if a["planted"] != "" {
			return found("environment_cleared", FindingFail, "a variable of forged's own environment is set on %s: the site does not honour --export-file=/dev/null", x.node(n)).
				means("what forged's environment holds could be read by jobs").fix("look for SBATCH_EXPORT, cli_filter and job_submit plugins that change --export")
		}
	}
	return found("environment_cleared", FindingOK, "--export-file=/dev/null is honoured: no variable of forged's reached the job")
}

func (x *probe) judgeFlock() Finding {
	said := map[string]bool{}
	for _, a := range x.answers {
		said[a["flock"]] = true
	}
	f := found("flock", FindingOK, "file locks in the run root: %s", strings.Join(sortedKeys(said), ", "))
	return f.means("forge does not rely on them between nodes; within one they help to see that a shim lives")
}

func (x *probe) judgePython() Finding {
	const name = "python_environment"
	soft, has := x.software()
	if !has {
		return found(name, FindingWarn, "the configuration names no training environment").means("only recipes that bring their own start command run here").
			fix("clusters[].python, or clusters[].runtime, in config.yaml")
	}
	what := cmp.Or(string(x.o.With.Runtime.Kind), soft.python)
	var versions []string
	for n := range x.nodes {
		said, done := x.python[n]
		body, rc, _ := strings.Cut(said, "rc=")
		body = strings.TrimSpace(body)
		switch {
		case !done:
			return found(name, FindingFail, "%s did not import torch on %s within %s", what, x.node(n), probeSoftware).means("ranks start as slowly, or not at all").fix("see what it waits for: is the environment on a filesystem that the nodes have?")
		case strings.TrimSpace(rc) != "0":
			if i := strings.LastIndexByte(body, '\n'); i >= 0 {
				body = body[i+1:]
			}
			return found(name, FindingFail, "%s does not import torch on %s: %.300s", what, x.node(n), body).means("ranks of the built-in recipes fail at once, with node_env").
				fix("contrib/python-env/install makes an environment; put its path where all nodes see it")
		}
		if i := strings.LastIndexByte(body, '\n'); i >= 0 {
			body = body[i+1:]
		}
		if !slices.Contains(versions, body) {
			versions = append(versions, body)
		}
	}
	f := found(name, FindingOK, "%s: %s", what, strings.Join(versions, "; "))
	if len(versions) > 1 {
		f.Status = FindingWarn
		f = f.means("the nodes differ: ranks of one gang may not understand each other").fix("one environment for all, on a shared filesystem")
	}
	return f
}

func (x *probe) judgeGPUs() Finding {
	for n := range x.nodes {
		if a := x.answers[n]; a != nil && a["gpus"] == "" {
			return found("probe_gpu", FindingFail, "the job was given a GPU on %s and CUDA_VISIBLE_DEVICES is empty there", x.node(n)).
				means("ranks do not know which GPU is theirs").fix("File= of the GPUs in gres.conf has to name device files; slurmd's log of the node says what is wrong")
		}
	}
	return found("probe_gpu", FindingOK, "CUDA_VISIBLE_DEVICES says which GPU is the job's")
}
