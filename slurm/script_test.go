package slurm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func hpc() Options {
	return Options{
		Cluster: "hpc", RunRoot: "/scratch/forge", Shim: "/opt/forge/bin/forged", PythonPath: "/scratch/forge/.forge/python/forge_train-1", Binding: BindEager,
		With: With{Python: "/opt/venv/bin/python", GRES: "gpu", Env: map[string]string{"HF_HOME": "/scratch/hf", "TOKEN": "hunter2"},
			Partitions: []Partition{{Name: "gpu", GPUType: "h100", CPUsPerGPU: 8, MemoryMiBPerGPU: 65536, Account: "lab", QOS: "normal", Env: map[string]string{"NCCL_SOCKET_IFNAME": "ib0"}}, {Name: "any"}},
			Allow:      []string{"--comment", "licenses"}},
	}
}

func gang() forge.Launch {
	return forge.Launch{Key: "01RUN.2", Run: "01RUN", Number: 17, Tenant: "T", Attempt: 2, RunDir: "/scratch/forge/01RUN",
		Inputs: []forge.Manifest{{Root: "/data/chat"}},
		Spec: forge.RunSpec{Launch: forge.LaunchRank, Entry: forge.Entry{Module: "forge_train.lora_sft"},
			Gang: forge.Gang{Nodes: 2, GPUsPerNode: 4, CPUsPerGPU: 1}, TimeLimit: forge.Duration(4 * time.Hour)}}
}

// TestJobsLookAsTheyDid holds the job and the launch options of every kind of run: UPDATE=1 writes what is new.
func TestJobsLookAsTheyDid(t *testing.T) {
	for name, change := range map[string]func(*forge.Launch, *Options){
		"eager": func(l *forge.Launch, _ *Options) {
			l.Nice, l.SaveLead, l.Exclude = 500, forge.Duration(100*time.Second), []forge.NodeName{"n3", "n7"}
			l.Spec.Batch = &forge.BatchOptions{Account: "other", Constraint: "ib&rack1", Reservation: "spring", Exclude: "n[1-2]", Nodelist: "n[4-6]", MailType: "END,FAIL",
				Raw: []string{"--comm", "it's $HOME", "-Lmatlab:2"}}
		},
		"where eager": func(l *forge.Launch, o *Options) {
			o.Labels, o.With.Partitions[0].GPUMemoryMiB = map[string]string{"rack": "rack*", "net": "ib"}, 80<<10
			l.Spec.Batch, l.Exclude, l.Alike = &forge.BatchOptions{Constraint: "avx", Exclude: "n9"}, []forge.NodeName{"n3", "n7"}, []string{"rack1", "rack2"}
			l.Spec.Where = &forge.Constraints{GPUTypes: []string{"h200"}, GPUMemoryMiB: 80 << 10, Labels: map[string]string{"net": "ib"}, Exclude: []forge.NodeName{"n1", "n3"}, Within: "rack"}
		},
		"where eager, one switch": func(l *forge.Launch, _ *Options) {
			l.Spec.Where = &forge.Constraints{GPUTypes: []string{"a100", "h100"}, Within: LabelSwitch}
		},
		"where late": func(l *forge.Launch, o *Options) { // the plan has seen to the rest
			o.Binding, l.Placement = BindLate, []forge.Share{{Node: "n2", Slots: []int{0, 1, 2, 3}}, {Node: "n4", Slots: []int{0, 1, 2, 3}}}
			l.Spec.Where = &forge.Constraints{GPUTypes: []string{"h200"}, GPUMemoryMiB: 80 << 10, Labels: map[string]string{"room": "x"}, Exclude: []forge.NodeName{"n1"}, Within: "rack"}
		},
		"late": func(l *forge.Launch, o *Options) {
			o.Binding, l.Placement = BindLate, []forge.Share{{Node: "n2", Slots: []int{0, 1, 2, 3}}, {Node: "n4", Slots: []int{0, 1, 2, 3}}}
		},
		"untyped GPUs, no limit": func(l *forge.Launch, o *Options) {
			l.Spec.Batch, l.Spec.TimeLimit = &forge.BatchOptions{Partition: "any"}, 0
			l.Spec.Gang = forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 3, MemoryMiBPerGPU: 500}
		},
		"another generic resource": func(_ *forge.Launch, o *Options) { o.With.GRES = "accel" },
		"no partitions, Slurm elsewhere, a tenant's own group": func(_ *forge.Launch, o *Options) {
			o.With.Partitions, o.Tools.Bin = nil, "/opt/slurm/bin"
			o.TenantName, o.With.Owners = func(forge.TenantID) string { return "vision" }, map[string]Owner{"vision": {Group: "vision", Umask: "0007"}}
		},
		"launch node, network": func(l *forge.Launch, o *Options) {
			l.Spec.Launch, l.Spec.Entry, o.With.Network = forge.LaunchNode, forge.Entry{Command: []string{"torchrun", "train.py"}}, true
		},
		"a save that takes longer than half of the limit": func(l *forge.Launch, _ *Options) {
			l.Spec.TimeLimit, l.SaveLead = forge.Duration(10*time.Minute), forge.Duration(time.Hour)
		},
		"a scan": func(l *forge.Launch, _ *Options) {
			l.Inputs, l.Spec.Launch, l.Spec.Entry, l.Spec.Scan = nil, forge.LaunchNode, forge.Entry{Command: []string{"forged", "scan"}}, &forge.ScanAsk{Name: "chat", Paths: []string{"/data/chat"}}
			l.Spec.Gang = forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 2, MemoryMiBPerGPU: 1024}
		},
		"runtime venv":          runtimeOf(forge.Runtime{Kind: forge.RuntimeVenv, Path: "/sw/it's here"}),
		"runtime conda":         runtimeOf(forge.Runtime{Kind: forge.RuntimeConda, Path: "train"}),
		"runtime conda by path": runtimeOf(forge.Runtime{Kind: forge.RuntimeConda, Path: "/sw/conda/envs/train"}),
		"runtime module":        runtimeOf(forge.Runtime{Kind: forge.RuntimeModule, Modules: []string{"cuda/12.4", "pytorch/2.9"}}),
		"runtime script":        runtimeOf(forge.Runtime{Kind: forge.RuntimeScript, Path: "/sw/env.sh", Setup: []string{"export NCCL_DEBUG=INFO", "ulimit -l unlimited"}}),
		"runtime apptainer":     runtimeOf(forge.Runtime{Kind: forge.RuntimeApptainer, Image: "/images/torch.sif", Modules: []string{"apptainer"}, Mounts: []string{"/data", "/scratch/hf:/hf:ro"}}),
		"runtime pyxis":         runtimeOf(forge.Runtime{Kind: forge.RuntimePyxis, Image: "nvcr.io#nvidia/pytorch:25.10-py3", Mounts: []string{"/scratch/hf:/hf"}}),
		"a container that begins from another run's checkpoint": func(l *forge.Launch, o *Options) {
			l.Spec.Runtime = &forge.Runtime{Kind: forge.RuntimeApptainer, Image: "/images/torch.sif"}
			l.Spec.ResumeFrom = &forge.BranchPoint{Run: "01OTHER", Path: "/scratch/forge/01OTHER/held/0001-checkpoint-20-abc"}
		},
		"a run's runtime over the cluster's": func(l *forge.Launch, o *Options) {
			o.With.Runtime = forge.Runtime{Kind: forge.RuntimeVenv, Path: "/sw/venv", Modules: []string{"cuda"}}
			l.Spec.Runtime = &forge.Runtime{Kind: forge.RuntimeApptainer, Image: "docker://org/train:1"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, o := gang(), hpc()
			change(&l, &o)
			job, err := Render(l, o)
			if err != nil {
				t.Fatal(err)
			}
			lo, err := LaunchOptions(l, o)
			if err != nil {
				t.Fatal(err)
			}
			options, err := json.MarshalIndent(lo, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(fmt.Sprint(job), "hunter2") {
				t.Error("a value of a rank's environment is in the job, which Slurm keeps and shows")
			}
			syntax(t, job.Script)
			for _, line := range lo.Source {
				syntax(t, "{ "+line+"\n}")
			}
			same(t, filepath.Join("testdata", "jobs", strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)+".txt"),
				"sbatch "+strings.Join(job.Args, "\n  ")+"\n\n"+job.Script+"\n"+string(options)+"\n")
		})
	}
}

func runtimeOf(r forge.Runtime) func(*forge.Launch, *Options) {
	return func(l *forge.Launch, _ *Options) { l.Spec.Runtime = &r }
}

// syntax has a real bash read a script without running it.
func syntax(t *testing.T, script string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "--norc", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("bash does not read it: %s\n%s", out, script)
	}
}

func same(t *testing.T, golden, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s was\n%s\nand is\n%s", golden, want, got)
	}
}

func TestAScriptClearsWhateverItFindsAndKeepsSlurmsOwn(t *testing.T) {
	dir := t.TempDir()
	// In the place of srun a program that prints what it gets.
	if err := os.WriteFile(filepath.Join(dir, "srun"), []byte("#!/bin/sh\numask\nenv\nprintf 'ARG %s\\n' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := hpc()
	o.Tools.Bin = dir
	job, err := Render(gang(), o)
	if err != nil {
		t.Fatal(err)
	}
	usual := []string{"ENVIRONMENT=leak", "HOSTNAME=leak", "SLURM_JOB_ID=7", "SLURM_JOB_USER=ada", "SLURM_EXPORT_ENV=NONE", "CUDA_VISIBLE_DEVICES=0,1", "HOME=/home/u"}
	for name, more := range map[string][]string{
		"what Slurm always sets": nil,
		"a function":             {"BASH_FUNC_module%%=() {  echo leak\n}"},
		"one word more":          {"slurm_x=leak"},
		"much": {"SECRET=leak", "LD_PRELOAD=/nowhere.so", "PYTHONPATH=/evil", "PATH=/usr/bin:/bin",
			"lower=x", "BASH_FUNC_module%%=() {  echo leak\n}", "MULTI=a\nSLURM_FAKE=b"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/bin/bash")
			cmd.Stdin, cmd.Env = strings.NewReader(job.Script), slices.Concat(usual, more)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			text := string(out)
			for _, want := range []string{"0027\n", "SLURM_JOB_ID=7\n", "SLURM_EXPORT_ENV=ALL\n", "CUDA_VISIBLE_DEVICES=0,1\n", "HOME=/home/u\n", "USER=ada\n", "LOGNAME=ada\n",
				"ARG --kill-on-bad-exit=1\n", "ARG --cpus-per-task=32\n", "ARG --mem=262144M\n", "ARG --gpus-per-node=h100:4\n", "ARG --slurm\n", "ARG /scratch/forge/01RUN\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			for _, bad := range []string{"leak", "LD_PRELOAD", "PYTHONPATH", "lower=", "MULTI", "SLURM_FAKE"} {
				if strings.Contains(text, bad) {
					t.Errorf("%q came through in\n%s", bad, text)
				}
			}
		})
	}
}

func TestWhatAJobCannotBeMadeOfIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*forge.Launch, *Options)
		field  string
	}{
		"a partition that the site does not name": {func(l *forge.Launch, _ *Options) { l.Spec.Batch = &forge.BatchOptions{Partition: "debug"} }, "batch.partition"},
		"a host list that is a file":              {func(l *forge.Launch, _ *Options) { l.Spec.Batch = &forge.BatchOptions{Nodelist: "/etc/passwd"} }, "batch.nodelist"},
		"an exclusion that is a file":             {func(l *forge.Launch, _ *Options) { l.Spec.Batch = &forge.BatchOptions{Exclude: "./x"} }, "batch.exclude"},
		"nodes of a user's own on a late cluster": {func(l *forge.Launch, o *Options) {
			o.Binding, l.Spec.Batch = BindLate, &forge.BatchOptions{Nodelist: "n1"}
		}, "batch.nodelist"},
		"mail of a kind that there is not":  {func(l *forge.Launch, _ *Options) { l.Spec.Batch = &forge.BatchOptions{MailType: "END,SOMETIMES"} }, "batch.mail_type"},
		"a gang of nobody":                  {func(l *forge.Launch, _ *Options) { l.Spec.Gang.Nodes = 0 }, "gang"},
		"a run directory with a line break": {func(l *forge.Launch, _ *Options) { l.RunDir = "/a\nb" }, "run_dir"},
		"a runtime without its image":       {runtimeOf(forge.Runtime{Kind: forge.RuntimePyxis}), "runtime.image"},
		"raw words that are not allowed":    {func(l *forge.Launch, _ *Options) { l.Spec.Batch = &forge.BatchOptions{Raw: []string{"--requeue"}} }, "batch.raw"},
	} {
		t.Run(name, func(t *testing.T) {
			l, o := gang(), hpc()
			c.change(&l, &o)
			_, err := Render(l, o)
			if forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), c.field+": ") {
				t.Errorf("%v; want %s", err, c.field)
			}
			if _, err := LaunchOptions(l, o); c.field != "batch.raw" && err == nil {
				t.Error("and its shims would get options")
			}
		})
	}
}

func TestRawOptionsAreReadAsSbatchReadsThem(t *testing.T) {
	allow := []string{"comment", "--licenses", "exclusive", "oversubscribe", "site-plugin"}
	for _, c := range []struct{ in, out string }{
		{"--comment=a b", "--comment=a b"}, {"--comment|x", "--comment=x"}, {"--comm=x", "--comment=x"}, {"--comment|--requeue", "--comment=--requeue"}, {"--comment=", "--comment="},
		{"-L|a:1", "--licenses=a:1"}, {"-La:1", "--licenses=a:1"}, {"--lic=a", "--licenses=a"}, {"--exclusive", "--exclusive"}, {"--exclusive=user", "--exclusive=user"}, {"-s", "--oversubscribe"},
		{"--site-plugin=1", "--site-plugin=1"}, {"--site-plugin", "--site-plugin"}, {"--exclusive|--comment=x", "--exclusive|--comment=x"},
	} {
		got, err := CheckRaw(strings.Split(c.in, "|"), allow)
		if err != nil || strings.Join(got, "|") != c.out {
			t.Errorf("%q gives %q, %v; want %q", c.in, got, err, c.out)
		}
	}
	for _, c := range []struct{ in, says string }{
		{"--wckey=x", "list"}, {"--comment", "needs a value"}, {"x", "script"}, {"--", "not an option"}, {"-", "not an option"}, {"--exclusive|user", "script"}, {"--oversubscribe=1", "takes no value"},
		{"-sx", "one option"}, {"-Z", "not an option"}, {"--co=x", "spell it out"}, {"--unknown=1", "not an option"}, {"--comment=a\nb", "control"}, {"--comment|a\x00b", "control"}, {"--=x", "not an option"},
		{"--site-plug=1", "not an option"}, {"--comment=" + strings.Repeat("x", 2000), "at most"},
	} {
		if got, err := CheckRaw(strings.Split(c.in, "|"), allow); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q gives %q, %v; want %q", c.in, got, err, c.says)
		}
	}
}

// TestWhatForgeReliesOnCannotBeTakenFromIt tries every spelling of every option that is never passed on.
func TestWhatForgeReliesOnCannotBeTakenFromIt(t *testing.T) {
	all := []string{} // a site that allows whatever it can
	for _, o := range options {
		if o.never == "" {
			all = append(all, o.name)
		}
	}
	tried := 0
	for _, o := range options {
		if o.never == "" {
			continue
		}
		if _, err := AllowName("--" + o.name); err == nil {
			t.Errorf("a site could allow --%s", o.name)
		}
		forms := [][]string{{"--" + o.name}, {"--" + o.name + "=1"}, {"--" + o.name, "1"}}
		if o.short != 0 {
			forms = append(forms, []string{"-" + string(o.short)}, []string{"-" + string(o.short) + "1"}, []string{"-" + string(o.short), "1"})
		}
		for n := 1; n < len(o.name); n++ {
			forms = append(forms, []string{"--" + o.name[:n] + "=1"}, []string{"--" + o.name[:n], "1"})
		}
		for _, f := range forms {
			tried++
			got, err := CheckRaw(f, all)
			if err == nil && strings.HasPrefix(got[0], "--"+o.name) {
				t.Errorf("%q comes through as %q", f, got)
			}
			if err == nil && len(f) == 1 && !slices.ContainsFunc(options, func(x option) bool {
				name, _, _ := strings.Cut(strings.TrimPrefix(f[0], "--"), "=")
				return x.never == "" && (x.name == name || strings.HasPrefix(x.name, name))
			}) {
				t.Errorf("%q was taken for %q", f, got)
			}
		}
		_, err := CheckRaw([]string{"--" + o.name + "=1"}, all)
		if err == nil || !strings.Contains(err.Error(), o.never) {
			t.Errorf("--%s is refused without its reason: %v", o.name, err)
		}
	}
	for _, name := range []string{"requeue", "job-name", "export", "array", "wrap", "output", "signal", "nodes", "dependency", "get-user-env", "chdir", "hold", "clusters", "no-kill", "uid"} {
		if !slices.ContainsFunc(options, func(o option) bool { return o.name == name && o.never != "" }) {
			t.Errorf("--%s may be allowed", name)
		}
	}
	if _, err := AllowName("--outp"); err == nil {
		t.Error("a site could allow the beginning of --output")
	}
	if tried < 500 {
		t.Errorf("only %d forms were tried", tried)
	}
}

// TestThisSlurmHasNoOptionThatIsNotKnown holds the table against the sbatch that is installed.
func TestThisSlurmHasNoOptionThatIsNotKnown(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "slurm.conf") // without one it does not even print its help
	if err := os.WriteFile(conf, []byte("ClusterName=none\nSlurmctldHost=localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sbatch", "--help")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "SLURM_CONF=" + conf}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	known := map[string]option{}
	for _, o := range options {
		known[o.name] = o
	}
	seen := 0
	for _, line := range strings.Split(string(out), "\n") {
		i := strings.Index(line, "--")
		if i < 0 || i > 7 {
			continue
		}
		name := line[i+2:]
		if j := strings.IndexAny(name, " =[,"); j >= 0 {
			name = name[:j]
		}
		seen++
		o, ok := known[name]
		if !ok {
			t.Errorf("sbatch has --%s", name)
			continue
		}
		if j := strings.Index(line[:i], "-"); j >= 0 && line[j+1] != o.short {
			t.Errorf("--%s is -%c", name, line[j+1])
		}
	}
	if seen < 60 {
		t.Errorf("only %d options were found in\n%s", seen, out)
	}
}
