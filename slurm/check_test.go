package slurm

import (
	"math"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestSettingsAreHeldAgainstWhatRunsNeed(t *testing.T) {
	sound := settings{"SLURM_VERSION": "22.05.8", "KillWait": "30 sec", "MinJobAge": "300 sec", "SlurmdTimeout": "300 sec", "MessageTimeout": "10 sec", "JobRequeue": "1",
		"PreemptType": "preempt/none", "PreemptMode": "OFF", "AccountingStorageType": "accounting_storage/none", "EnforcePartLimits": "ALL"}
	judged := func(changes ...string) map[string]Finding {
		c := settings{}
		for k, v := range sound {
			c[k] = v
		}
		for i := 0; i+1 < len(changes); i += 2 {
			c[changes[i]] = changes[i+1]
		}
		out := map[string]Finding{}
		for _, f := range judgeSettings(c, Options{PollEvery: 10 * time.Second}) {
			if _, twice := out[f.Name]; twice || f.Found == "" {
				t.Errorf("%+v", f)
			}
			out[f.Name] = f
		}
		return out
	}
	for name, f := range judged() {
		if f.Status != FindingOK {
			t.Errorf("a sound cluster: %s: %+v", name, f)
		}
	}
	for _, c := range []struct {
		name    string
		changes []string
		says    string
	}{
		{"slurm_version", []string{"SLURM_VERSION", "20.11.9"}, "22.05"},
		{"kill_wait", []string{"KillWait", "3 sec"}, "KILL"},
		{"min_job_age", []string{"MinJobAge", "10 sec"}, "before forge has seen"},
		{"node_lost", []string{"SlurmdTimeout", "0 sec"}, "never gives up"},
		{"node_lost", []string{"SlurmdTimeout", "900 sec"}, "15m30s"},
		{"preemption", []string{"PreemptType", "preempt/qos", "PreemptMode", "REQUEUE"}, "GraceTime"},
		{"preemption", []string{"PreemptType", "preempt/qos", "PreemptMode", "GANG,SUSPEND", "SlurmctldParameters", "preempt_send_user_signal"}, "suspended"},
		{"accounting", []string{"AccountingStorageType", "accounting_storage/slurmdbd", "AccountingStorageTRES", "cpu,mem"}, "not counted"},
	} {
		if f := judged(c.changes...)[c.name]; f.Status != FindingWarn || !strings.Contains(f.Means, c.says) {
			t.Errorf("%v: %+v; want a warning that says %q", c.changes, f, c.says)
		}
	}
	fine := judged("PreemptType", "preempt/qos", "PreemptMode", "CANCEL", "SlurmctldParameters", "preempt_send_user_signal,rl_enable,rl_refill_rate=2")
	if f := fine["preemption"]; f.Status != FindingOK {
		t.Errorf("%+v", f)
	}
	if f := fine["rate_limit"]; !strings.Contains(f.Found, "rl_refill_rate=2") || f.Means == "" {
		t.Errorf("%+v", f)
	}
}

func TestPartitionsAreHeldAgainstTheConfiguration(t *testing.T) {
	known := knownRules(t).known
	node := forge.Node{Name: "n1", State: forge.NodeReady, GPUs: []forge.GPU{{Type: "h100"}}, Batch: &forge.NodeBatch{Partitions: []string{"main", "low"}}}
	bare := forge.Node{Name: "n2", State: forge.NodeReady, Batch: &forge.NodeBatch{Partitions: []string{"off"}}}
	for _, c := range []struct {
		part Partition
		want FindingStatus
		says string
	}{
		{Partition{Name: "main"}, FindingOK, ""},
		{Partition{Name: "main", GPUType: "h100"}, FindingOK, ""},
		{Partition{Name: "main", GPUType: "b900"}, FindingFail, "gpu:b900"},
		{Partition{Name: "gpu"}, FindingFail, "every job for it is refused"},
		{Partition{Name: "off"}, FindingFail, "no job starts there"},
		{Partition{Name: "low", Account: "strangers"}, FindingFail, "strangers"},
		{Partition{Name: "low", QOS: "high"}, FindingFail, "high"},
		{Partition{Name: "low", CPUsPerGPU: 9}, FindingFail, "MaxCPUsPerNode=8"},
		{Partition{Name: "low", Account: "ml", QOS: "normal", CPUsPerGPU: 8}, FindingOK, "whole nodes"},
	} {
		got := judgePartitions(known, []forge.Node{node, bare}, Options{With: With{Partitions: []Partition{c.part}}})
		if len(got) != 1 || got[0].Status != c.want || !strings.Contains(got[0].Means, c.says) {
			t.Errorf("%+v: %+v; want %s that says %q", c.part, got, c.want, c.says)
		}
	}
	if got := judgePartitions(known, []forge.Node{node}, Options{}); len(got) != 1 || got[0].Name != "partition/main" {
		t.Errorf("the default one: %+v", got)
	}
}

func TestGPUHoursAreComparedAttemptByAttempt(t *testing.T) {
	const a, b, c = forge.RunID("01JD0000000000000000000001"), forge.RunID("01JD0000000000000000000002"), forge.RunID("01JD0000000000000000000003")
	since := time.Unix(1_800_000_000, 0)
	accounts, err := parseAccounts("1800003600|3600|billing=4,cpu=4,gres/gpu=4,gres/gpu:h100=4,node=1|"+JobName("hpc", a, 1)+"\n"+
		"1800003600|1800|cpu=1,gres/gpu=2|"+JobName("hpc", b, 2)+"\n"+
		"1800003600|9999|cpu=1,gres/gpu=2|somebody-s\n"+
		"1800003600|9999|cpu=1,gres/gpu=2|"+JobName("other", a, 1)+"\n"+
		"Unknown|60|cpu=1,gres/gpu=2|"+JobName("hpc", c, 1)+"\n"+
		"1799999999|60|cpu=1,gres/gpu=2|"+JobName("hpc", c, 2)+"\n", "hpc", since)
	if err != nil || len(accounts) != 2 || accounts[0].gpus != 4 {
		t.Fatalf("%+v, %v", accounts, err)
	}
	at := since.Add(time.Hour)
	h := compareHours([]forge.GPUUse{{Run: a, Attempt: 1, GPUs: 4, From: at, To: at.Add(time.Hour + 36*time.Second)}, {Run: c, Attempt: 7, GPUs: 1, From: at, To: at.Add(time.Minute)}}, accounts)
	if h.Both != 1 || h.OnlyOurs != 1 || h.OnlyTheirs != 1 || math.Abs(h.Theirs-5) > 1e-9 || math.Abs(h.WorstBy-0.04) > 1e-9 || h.Worst != forge.AttemptKey(a, 1) {
		t.Errorf("%+v", h)
	}
	if f := judgeHours(h, since); f.Status != FindingWarn || f.Fix == "" {
		t.Errorf("one GPU-hour is missing: %+v", f)
	}
	if f := judgeHours(Hours{Ours: 100, Theirs: 99, Both: 9}, since); f.Status != FindingOK {
		t.Errorf("what is in between is no fault: %+v", f)
	}
	if _, err := parseAccounts("1800003600|many|gres/gpu=2|"+JobName("hpc", a, 1), "hpc", since); err == nil {
		t.Error("seconds that are none")
	}
}

func TestWhatAProbeFoundIsSaidWithWhatItMeans(t *testing.T) {
	sound := func() *probe {
		return &probe{o: Options{RunRoot: "/r", Shim: "/f/forged", With: With{Python: "/p/python"}}, nodes: 2, nonce: "abc", gpus: true, id: "7", started: time.Second, talked: true, state: "COMPLETED",
			answers: map[int]map[string]string{0: answer("n1"), 1: answer("n2")}, skew: map[int]time.Duration{0: 0, 1: time.Second},
			python: map[int]string{0: "a warning\npython 3.12 torch 2.9\nrc=0\n", 1: "python 3.12 torch 2.9\nrc=0\n"}}
	}
	for _, f := range sound().judge(CheckedBy{Version: "1.2.3"}) {
		if f.Status != FindingOK {
			t.Errorf("a sound cluster: %+v", f)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*probe)
		want   FindingStatus
		says   string
	}{
		{"probe_job", func(x *probe) { x.started = 0; x.reason = "Priority" }, FindingUnknown, "Priority"},
		{"shared_directory", func(x *probe) { x.answers = nil }, FindingFail, "nothing that it wrote there came back"},
		{"shared_directory", func(x *probe) { x.talked = false }, FindingFail, "did not see what this host wrote"},
		{"shared_directory", func(x *probe) { x.answers[1]["nonce"] = "old" }, FindingFail, "n2"},
		{"node_clocks", func(x *probe) { x.skew[1] = -5 * time.Second }, FindingFail, "n2"},
		{"shim", func(x *probe) { x.answers[1]["forged"] = "forged version 1.2.2 (x)" }, FindingFail, "1.2.2"},
		{"shim", func(x *probe) { x.answers[0]["forged"] = "sh: /f/forged: not found" }, FindingFail, "does not run"},
		{"environment_cleared", func(x *probe) { x.answers[1]["planted"] = "a secret" }, FindingFail, "--export-file"},
		{"python_environment", func(x *probe) { x.python[1] = "Traceback\nModuleNotFoundError: No module named 'torch'\nrc=1\n" }, FindingFail, "No module named 'torch'"},
		{"python_environment", func(x *probe) { delete(x.python, 1) }, FindingFail, "within"},
		{"python_environment", func(x *probe) { x.python[1] = "python 3.11 torch 2.1\nrc=0\n" }, FindingWarn, "torch 2.1"},
		{"probe_gpu", func(x *probe) { x.answers[0]["gpus"] = "" }, FindingFail, "CUDA_VISIBLE_DEVICES is empty"},
	} {
		x := sound()
		c.change(x)
		var got Finding
		for _, f := range x.judge(CheckedBy{Version: "1.2.3"}) {
			if f.Name == c.name {
				got = f
			}
		}
		if got.Status != c.want || !strings.Contains(got.Found, c.says) || got.Means == "" {
			t.Errorf("%s: %+v; want %s that says %q", c.name, got, c.want, c.says)
		}
	}
}

func answer(node string) map[string]string {
	return map[string]string{"node": node, "nonce": "abc", "arch": "x86_64", "planted": "", "gpus": "0", "uid": "0", "forged": "forged version 1.2.3 (abc)", "flock": "yes"}
}
