package slurm

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// The limits that settings are held against.
const (
	oldestMajor, oldestMinor = 22, 5
	killWaitLow              = 10 * time.Second // what a rank needs at least to flush and leave
	lostSlow                 = 5 * time.Minute
)

// judgeSettings says what Slurm's settings mean for runs: a function of values.
func judgeSettings(c settings, o Options) []Finding {
	var out []Finding
	add := func(f Finding) { out = append(out, f) }

	version := c["SLURM_VERSION"]
	f := found("slurm_version", FindingOK, "Slurm %s", version)
	if major, minor, ok := majorMinor(version); ok && (major < oldestMajor || major == oldestMajor && minor < oldestMinor) {
		f.Status = FindingWarn
		f = f.means("forge is tested with 22.05 to 24.11; older versions lack fields that it asks for").fix("upgrade Slurm, oldest daemons first")
	}
	add(f)

	if d, ok := c.seconds("KillWait"); ok {
		f := found("kill_wait", FindingOK, "KillWait=%s", d).means("a rank has this long between TERM and KILL at the time limit and at scancel; forge asks for a save before that, by --signal")
		if d < killWaitLow {
			f.Status = FindingWarn
			f = f.fix("KillWait=30 in slurm.conf; until then keep --grace of runs below it")
		}
		add(f)
	}
	add(preemption(c))
	if d, ok := c.seconds("MinJobAge"); ok {
		poll := cmp.Or(o.PollEvery, 10*time.Second)
		f := found("min_job_age", FindingOK, "MinJobAge=%s, forge looks every %s", d, poll).means("a job that has ended is shown this long; how it ended is then known from the shims' own records and, where there is one, the accounting")
		if d < 2*poll {
			f.Status = FindingWarn
			f = f.means("jobs may be gone before forge has seen their end: NODE_FAIL and PREEMPTED then look like a lost attempt, unless the accounting tells").
				fix("MinJobAge=300 in slurm.conf, or poll_every of at most %s in clusters[]", (d / 2).Round(time.Second))
		}
		add(f)
	}
	add(lostNode(c))
	f = found("job_requeue", FindingOK, "JobRequeue=%s", c["JobRequeue"]).means("forge submits with --no-requeue, so that every attempt is a job of its own")
	add(f)
	add(rateLimit(c))
	add(accounting(c))
	f = found("enforce_part_limits", FindingOK, "EnforcePartLimits=%s", c["EnforcePartLimits"])
	if strings.EqualFold(c["EnforcePartLimits"], "NO") {
		f = f.means("Slurm takes jobs that exceed their partition's limits and never starts them; forge refuses such runs at submit and gives up those whose reason never clears")
	} else {
		f = f.means("Slurm refuses at once what exceeds a partition's limits")
	}
	add(f)
	if plugins := c["JobSubmitPlugins"]; plugins != "" && plugins != "(null)" {
		add(found("job_submit_plugins", FindingOK, "JobSubmitPlugins=%s", plugins).means("the site changes or refuses jobs by rules of its own; their words are shown with the run"))
	}
	return out
}

func majorMinor(version string) (major, minor int, ok bool) {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major, minor, err == nil && err2 == nil
}

// preemption: without the signal a preempted job has GraceTime, and its save must fit in there.
func preemption(c settings) Finding {
	mode, kind := c["PreemptMode"], c["PreemptType"]
	f := found("preemption", FindingOK, "PreemptType=%s, PreemptMode=%s, preempt_send_user_signal %s", kind, mode, onOff(c.has("SlurmctldParameters", "preempt_send_user_signal")))
	switch {
	case strings.HasSuffix(kind, "/none") || kind == "(null)":
		return f.means("Slurm preempts nobody")
	case strings.Contains(mode, "SUSPEND") || strings.Contains(mode, "GANG"):
		f.Status = FindingWarn
		return f.means("a preempted gang is suspended with its GPU memory taken, and its stall timeout goes on").fix("PreemptMode=CANCEL for the partitions that forge uses, with a GraceTime")
	case !c.has("SlurmctldParameters", "preempt_send_user_signal"):
		f.Status = FindingWarn
		return f.means("a preempted job gets TERM alone: it saves if its GraceTime is long enough, and is taken for preempted afterwards").
			fix("SlurmctldParameters=preempt_send_user_signal in slurm.conf, and GraceTime of the partition or QOS of at least the time of a save")
	}
	return f.means("a preempted job is told by the same signal as before its time limit, saves within GraceTime, and its run goes on later")
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// lostNode: how long it takes until Slurm gives a silent node up. Forwarding retries make it a multiple of MessageTimeout on top.
func lostNode(c settings) Finding {
	slurmd, ok := c.seconds("SlurmdTimeout")
	message, ok2 := c.seconds("MessageTimeout")
	if !ok || !ok2 {
		return found("node_lost", FindingUnknown, "SlurmdTimeout or MessageTimeout is not said")
	}
	f := found("node_lost", FindingOK, "SlurmdTimeout=%s, MessageTimeout=%s", slurmd, message)
	if slurmd == 0 {
		f.Status = FindingWarn
		return f.means("Slurm never gives up a node that does not answer: a run on it hangs until an administrator sets the node down").fix("SlurmdTimeout=300 in slurm.conf")
	}
	about := slurmd + 3*message
	f = f.means("a node that dies is known as lost after about %s; the next attempt is submitted then", about.Round(time.Second))
	if about > lostSlow+30*time.Second {
		f.Status = FindingWarn
		f = f.fix("a shorter SlurmdTimeout in slurm.conf, if the network allows")
	}
	return f
}

func rateLimit(c settings) Finding {
	if !c.has("SlurmctldParameters", "rl_enable") {
		return found("rate_limit", FindingOK, "no limit on requests by user (rl_enable is not set)")
	}
	var set []string
	for _, p := range strings.Split(c["SlurmctldParameters"], ",") {
		if strings.HasPrefix(strings.TrimSpace(p), "rl_") {
			set = append(set, strings.TrimSpace(p))
		}
	}
	return found("rate_limit", FindingOK, "%s", strings.Join(set, ", ")).means("Slurm turns users away that ask too often: forge then asks less often by itself, and news of jobs come later")
}

func accounting(c settings) Finding {
	kind := c["AccountingStorageType"]
	if !hasAccounting(c) {
		return found("accounting", FindingOK, "AccountingStorageType=%s", kind).
			means("how a job ended is known for MinJobAge only, and from the shims' own records; GPU-hours cannot be compared; account limits do not exist")
	}
	f := found("accounting", FindingOK, "AccountingStorageType=%s, AccountingStorageTRES=%s", kind, c["AccountingStorageTRES"]).means("ends of jobs are looked up there when the controller has forgotten them")
	if !slices.ContainsFunc(strings.Split(c["AccountingStorageTRES"], ","), func(s string) bool { return strings.HasPrefix(s, "gres/"+DefaultGRES) }) {
		f.Status = FindingWarn
		f = f.means("GPUs are not counted in Slurm's accounting: limits on them do not hold and GPU-hours cannot be compared").fix("AccountingStorageTRES=gres/gpu in slurm.conf")
	}
	return f
}

// hasAccounting: 22.05 says accounting_storage/none where there is none, 24.11 (null).
func hasAccounting(c settings) bool {
	kind := c["AccountingStorageType"]
	return kind != "" && kind != "(null)" && !strings.HasSuffix(kind, "/none")
}

// judgePartitions holds what the configuration names against what is there.
func judgePartitions(known []Limits, nodes []forge.Node, o Options) []Finding {
	used := o.With.Partitions
	if len(used) == 0 {
		for _, l := range known {
			if l.Default {
				used = []Partition{{Name: l.Name}}
			}
		}
	}
	if len(used) == 0 {
		return []Finding{found("partitions", FindingFail, "the configuration names no partition, and Slurm has no default one: it has %s", listNames(known)).
			means("no job can be submitted").fix("clusters[].slurm.partitions in config.yaml")}
	}
	var out []Finding
	for _, p := range used {
		i := slices.IndexFunc(known, func(l Limits) bool { return l.Name == p.Name })
		if i < 0 {
			out = append(out, found("partition/"+p.Name, FindingFail, "Slurm has no such partition; it has %s", listNames(known)).
				means("every job for it is refused").fix("correct clusters[].slurm.partitions in config.yaml"))
			continue
		}
		out = append(out, judgePartition(known[i], p, nodes, cmp.Or(o.With.GRES, DefaultGRES)))
	}
	return out
}

func judgePartition(l Limits, p Partition, nodes []forge.Node, gres string) Finding {
	count, ready, gpus, typed := 0, 0, 0, 0
	types := map[string]bool{}
	for _, n := range nodes {
		if n.Batch == nil || !slices.Contains(n.Batch.Partitions, l.Name) {
			continue
		}
		count++
		if n.State == forge.NodeReady {
			ready++
		}
		for _, g := range n.GPUs {
			gpus++
			types[g.Type] = true
			if p.GPUType == "" || g.Type == p.GPUType {
				typed++
			}
		}
	}
	f := found("partition/"+l.Name, FindingOK, "State=%s, %d nodes, %d ready, %d %s (%s); MaxTime=%s, MinNodes=%d, MaxNodes=%s, GraceTime=%s, PreemptMode=%s", l.State, count, ready, gpus,
		gres, strings.Join(sortedKeys(types), ", "), orUnlimited(l.MaxTime), l.MinNodes, orAll(l.MaxNodes), l.GraceTime, cmp.Or(l.PreemptMode, "-"))
	var means []string
	worse := func(s FindingStatus, fix, words string) {
		if f.Status == FindingOK || s == FindingFail {
			f.Status, f.Fix = s, fix
		}
		means = append(means, words)
	}
	switch {
	case l.State == "DOWN" || l.State == "INACTIVE" || l.State == "DRAIN":
		worse(FindingFail, "scontrol update partition="+l.Name+" state=up, by an administrator of Slurm", "no job starts there")
	case count == 0:
		worse(FindingFail, "", "it has no nodes")
	case gpus == 0:
		worse(FindingFail, "Gres= of the nodes in slurm.conf, or clusters[].slurm.gres if the site calls its GPUs otherwise", "its nodes have no GRES "+gres+": every job that asks for GPUs is refused")
	case typed == 0:
		worse(FindingFail, "gpu_type of the partition in config.yaml", "no node of it has "+gres+":"+p.GPUType+": every job is refused or waits for ever")
	case ready == 0:
		worse(FindingWarn, "sinfo -R says why", "nothing starts there until a node is ready")
	}
	if p.Account != "" && (l.AllowAccounts != nil && !among(l.AllowAccounts, p.Account) || l.AllowAccounts == nil && among(l.DenyAccounts, p.Account)) {
		worse(FindingFail, "account of the partition in config.yaml", "the configured account "+p.Account+" may not use it")
	}
	if p.QOS != "" && (l.AllowQOS != nil && !among(l.AllowQOS, p.QOS) || l.AllowQOS == nil && among(l.DenyQOS, p.QOS)) {
		worse(FindingFail, "qos of the partition in config.yaml", "the configured QOS "+p.QOS+" may not use it")
	}
	if l.MaxCPUsPerNode > 0 && p.CPUsPerGPU > l.MaxCPUsPerNode {
		worse(FindingFail, "cpus_per_gpu of the partition in config.yaml", "one GPU's CPUs are more than MaxCPUsPerNode="+strconv.Itoa(l.MaxCPUsPerNode)+": jobs wait for ever")
	}
	if l.Exclusive {
		means = append(means, "whole nodes are taken (OverSubscribe=EXCLUSIVE), whatever a run asks for")
	}
	if l.MaxTime > 0 {
		means = append(means, "an attempt ends after "+l.MaxTime.String()+" at the latest; the run goes on in the next from its last save")
	}
	f.Means = strings.Join(means, "; ")
	return f
}

func sortedKeys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func orUnlimited(d time.Duration) string {
	if d == 0 {
		return "UNLIMITED"
	}
	return d.String()
}

func orAll(n int) string {
	if n == 0 {
		return "UNLIMITED"
	}
	return strconv.Itoa(n)
}
