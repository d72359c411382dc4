package slurm

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// partitions22 is what scontrol 22.05 printed, -o.
const partitions22 = `PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[1-4] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=64 TotalNodes=4 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=64,mem=250G,node=4,billing=64
PartitionName=low AllowGroups=ALL AllowAccounts=ml,other AllowQos=normal AllocNodes=ALL Default=NO QoS=N/A DefaultTime=00:30:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=120 Hidden=NO MaxNodes=2 MaxTime=1-01:00:00 MinNodes=1 LLN=NO MaxCPUsPerNode=8 Nodes=n[1-2] PriorityJobFactor=1 PriorityTier=0 RootOnly=NO ReqResv=NO OverSubscribe=EXCLUSIVE OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=32 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerCPU=4000 MaxMemPerNode=64000 TRES=cpu=32,mem=125G,node=2,billing=32,gres/gpu=8
PartitionName=off AllowGroups=ALL DenyAccounts=guests DenyQos=low AllocNodes=ALL Default=NO QoS=N/A DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=2 Nodes=n4 OverSubscribe=NO State=DRAIN TotalCPUs=16 TotalNodes=1
`

func knownRules(t *testing.T) *rules {
	t.Helper()
	list, err := parsePartitions(partitions22)
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	return &rules{known: list, at: time.Now()}
}

func TestAPartitionsLimitsAreReadAsTheyStand(t *testing.T) {
	got := knownRules(t).known[1]
	want := Limits{Name: "low", State: "UP", MaxTime: 25 * time.Hour, DefaultTime: 30 * time.Minute, MinNodes: 1, MaxNodes: 2, TotalNodes: 2, MaxCPUsPerNode: 8,
		DefMemPerCPUMiB: 4000, MaxMemPerNode: 64000, AllowAccounts: []string{"ml", "other"}, AllowQOS: []string{"normal"}, Exclusive: true,
		GraceTime: 2 * time.Minute, PreemptMode: "REQUEUE", TRES: map[string]string{"cpu": "32", "mem": "125G", "node": "2", "billing": "32", "gres/gpu": "8"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v\nwant\n%+v", got, want)
	}
	if d := knownRules(t).known[0]; !d.Default || d.MaxTime != 0 || d.AllowAccounts != nil || d.MaxNodes != 0 {
		t.Errorf("one without limits: %+v", d)
	}
}

func TestARunThatDoesNotFitItsPartitionIsRefusedByTheLimitsName(t *testing.T) {
	spec := func(change func(*forge.RunSpec)) forge.RunSpec {
		s := forge.RunSpec{TimeLimit: forge.Duration(time.Hour), Gang: forge.Gang{Nodes: 2, GPUsPerNode: 4, CPUsPerGPU: 2, MemoryMiBPerGPU: 1024},
			Batch: &forge.BatchOptions{Partition: "low", Account: "ml", QOS: "normal"}}
		if change != nil {
			change(&s)
		}
		return s
	}
	o := Options{Cluster: "hpc", Tools: Tools{Bin: t.TempDir()}, With: With{Partitions: []Partition{{Name: "main"}, {Name: "low", Account: "strangers"}}}}
	for _, c := range []struct {
		name   string
		change func(*forge.RunSpec)
		field  string // "": admitted
		says   string
	}{
		{"fits", nil, "", ""},
		{"too long", func(s *forge.RunSpec) { s.TimeLimit = forge.Duration(26 * time.Hour); s.Batch.QOS = "" }, "time_limit", "MaxTime=25h0m0s"},
		{"too many nodes", func(s *forge.RunSpec) { s.Gang.Nodes = 3; s.Batch.QOS = "" }, "nodes", "MaxNodes=2"},
		{"an account that may not", func(s *forge.RunSpec) { s.Batch.Account = "guests" }, "batch.account", "AllowAccounts=ml,other"},
		{"the site's account for that partition", func(s *forge.RunSpec) { s.Batch.Account = "" }, "batch.account", "strangers"},
		{"an account in capitals", func(s *forge.RunSpec) { s.Batch.Account = "ML" }, "", ""},
		{"a QOS that may not", func(s *forge.RunSpec) { s.Batch.QOS = "high" }, "batch.qos", "AllowQos=normal"},
		{"too many CPUs", func(s *forge.RunSpec) { s.Gang.CPUsPerGPU = 3 }, "cpus_per_gpu", "MaxCPUsPerNode=8"},
		{"too much memory", func(s *forge.RunSpec) { s.Gang.MemoryMiBPerGPU = 20000 }, "memory_mib_per_gpu", "MaxMemPerNode=62.5G"},
		{"no such partition", func(s *forge.RunSpec) { s.Batch.Partition = "gpu" }, "batch.partition", "there is main, low, off"},
		{"one that takes nothing", func(s *forge.RunSpec) { s.Batch.Partition = "off" }, "batch.partition", "State=DRAIN"},
		{"one of two suits", func(s *forge.RunSpec) { s.Batch.Partition = "off,low" }, "", ""},
		{"the default of the configuration", func(s *forge.RunSpec) { s.Batch = nil }, "", ""},
		{"a QOS whose flags nobody tells", func(s *forge.RunSpec) { s.TimeLimit = forge.Duration(26 * time.Hour) }, "", ""},
	} {
		_, err := knownRules(t).admit(context.Background(), o, spec(c.change))
		var e *forge.Error
		errors.As(err, &e)
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: refused: %v", c.name, err)
		case c.field != "" && (e == nil || e.Field != c.field || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v; want %s with %q", c.name, err, c.field, c.says)
		}
	}
}

func TestWhatIsWorthKnowingOfAPartitionIsNoObstacle(t *testing.T) {
	notes, err := knownRules(t).admit(context.Background(), Options{Cluster: "hpc"}, forge.RunSpec{Gang: forge.Gang{Nodes: 2}, Batch: &forge.BatchOptions{Partition: "low"}})
	said := strings.Join(notes, "\n")
	if err != nil || !strings.Contains(said, "after 30m0s") || !strings.Contains(said, "EXCLUSIVE") {
		t.Errorf("%q, %v", said, err)
	}
}

// TestAPartOfANodeIsRefusedWhereAPartitionGivesWholeOnesAndForgePlans: the plan would put another run beside it, and Slurm would not.
func TestAPartOfANodeIsRefusedWhereAPartitionGivesWholeOnesAndForgePlans(t *testing.T) {
	admit := func(b Binding, partition string, gpus int) error {
		_, err := knownRules(t).admit(context.Background(), Options{Cluster: "hpc", Binding: b}, forge.RunSpec{Gang: forge.Gang{Nodes: 1, GPUsPerNode: gpus}, Batch: &forge.BatchOptions{Partition: partition}})
		return err
	}
	if err := admit(BindLate, "low", 3); err == nil || !strings.HasPrefix(err.Error(), "gpus_per_node: partition low: 3 GPUs are a part of a node") || !strings.HasSuffix(err.Error(), "want 4") {
		t.Errorf("3 of 4 on a late cluster: %v", err)
	}
	for what, err := range map[string]error{"all 4 of a node": admit(BindLate, "low", 4), "where Slurm plans": admit(BindEager, "low", 3), "where nodes are shared": admit(BindLate, "main", 3)} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNothingIsRefusedWhenSlurmDoesNotAnswer(t *testing.T) {
	r := &rules{}
	none := Options{Cluster: "hpc", Tools: Tools{Bin: t.TempDir()}} // there is no scontrol in it
	if notes, err := r.admit(context.Background(), none, forge.RunSpec{Batch: &forge.BatchOptions{Partition: "nowhere"}}); err != nil || notes != nil {
		t.Errorf("%v, %v", notes, err)
	}
	old := knownRules(t)
	old.at = time.Now().Add(-2 * rulesStale)
	if _, err := old.admit(context.Background(), none, forge.RunSpec{Batch: &forge.BatchOptions{Partition: "nowhere"}}); err != nil {
		t.Errorf("by what was true long ago: %v", err)
	}
}

func TestSettingsAreReadByName(t *testing.T) {
	c := parseConfig("Configuration data as of 2026-11-25T23:10:33\nKillWait                = 30 sec\nSlurmctldHost[0]        = vm(127.0.0.1)\n" +
		"SlurmctldParameters     = preempt_send_user_signal,rl_enable,rl_refill_rate=2\nSLURM_VERSION           = 24.11.5\n\nSlurmctld(primary) at vm is UP\n")
	if d, ok := c.seconds("KillWait"); !ok || d != 30*time.Second {
		t.Errorf("KillWait: %v, %v", d, ok)
	}
	if _, ok := c.seconds("MinJobAge"); ok {
		t.Error("MinJobAge is not said")
	}
	if !c.has("SlurmctldParameters", "rl_enable") || !c.has("SlurmctldParameters", "rl_refill_rate") || c.has("SlurmctldParameters", "enable_configless") {
		t.Errorf("%v", c)
	}
}

func FuzzPartitions(f *testing.F) {
	f.Add(partitions22)
	f.Fuzz(func(t *testing.T, out string) {
		list, err := parsePartitions(out)
		for _, l := range list {
			if err == nil && (l.Name == "" || l.MaxTime < 0 || l.MaxNodes < 0) {
				t.Errorf("%q gave %+v", out, l)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("KillWait = 30 sec\nA = B\n")
	f.Fuzz(func(t *testing.T, out string) {
		c := parseConfig(out)
		for key := range c {
			if d, ok := c.seconds(key); ok && d < 0 {
				t.Errorf("%q gave %s=%s", out, key, d)
			}
		}
	})
}
