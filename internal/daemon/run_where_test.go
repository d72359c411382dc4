package daemon

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/slurm"
	"github.com/forge-ml/forge-ml/store"
)

// site of nodes in racks, with two kinds of GPU.
func racked(cluster forge.ClusterName) []forge.Node {
	n := func(name forge.NodeName, rack, typ string, gib int64, gpus int) forge.Node {
		x := gpuNode(name, gpus)
		x.Cluster, x.Labels = cluster, map[string]string{"rack": rack}
		for i := range x.GPUs {
			x.GPUs[i].Type, x.GPUs[i].MemoryMiB = typ, gib<<10
		}
		return x
	}
	return []forge.Node{n("a1", "r1", "A100-SXM4-40GB", 40, 4), n("h1", "r1", "H100 80GB HBM3", 80, 4), n("h2", "r2", "H100 80GB HBM3", 80, 4), n("h3", "r2", "H100 80GB HBM3", 80, 4)}
}

func startRacked(t *testing.T, nodes ...forge.Node) *rig {
	t.Helper()
	fake := executortest.NewFake(nodes...)
	r := start(t, 0, func(o *Options) { o.Clusters[0].Executor, o.Clusters[0].Files = fake, fake })
	r.fake = fake
	r.refreshNodes(t.Context())
	return r
}

func TestWhereARunMayGoIsHeldAgainstTheNodesThatThereAre(t *testing.T) {
	r := startRacked(t, racked("local")...)
	for name, c := range map[string]struct {
		asked *forge.Constraints
		gang  forge.Gang
		want  *forge.Constraints
		notes string
		field string
		says  []string
	}{
		"nothing":                         {asked: nil},
		"nothing in so many words":        {asked: &forge.Constraints{}},
		"a type as people call it":        {asked: &forge.Constraints{GPUTypes: []string{"h100"}}, want: &forge.Constraints{GPUTypes: []string{"H100 80GB HBM3"}}},
		"two types, one twice":            {asked: &forge.Constraints{GPUTypes: []string{"h100", "H100 80GB HBM3", "a100"}}, want: &forge.Constraints{GPUTypes: []string{"A100-SXM4-40GB", "H100 80GB HBM3"}}},
		"a type that there is not":        {asked: &forge.Constraints{GPUTypes: []string{"h200"}}, field: "where.gpu_types", says: []string{`"h200"`, "there is A100-SXM4-40GB, H100 80GB HBM3"}},
		"a type without a name":           {asked: &forge.Constraints{GPUTypes: []string{""}}, field: "where.gpu_types"},
		"less than no memory":             {asked: &forge.Constraints{GPUMemoryMiB: -1}, field: "where.gpu_memory_mib", says: []string{"-1"}},
		"a label":                         {asked: &forge.Constraints{Labels: map[string]string{"rack": "r2"}}, want: &forge.Constraints{Labels: map[string]string{"rack": "r2"}}},
		"a label that no node has":        {asked: &forge.Constraints{Labels: map[string]string{"room": "a"}}, field: "where.labels", says: []string{`"room"`, "there is rack"}},
		"a value that no node has":        {asked: &forge.Constraints{Labels: map[string]string{"rack": "r9"}}, field: "where.labels", says: []string{"rack=r9", "rack is r1, r2"}},
		"within":                          {asked: &forge.Constraints{Within: "rack"}, gang: forge.Gang{Nodes: 2, GPUsPerNode: 4}, want: &forge.Constraints{Within: "rack"}},
		"within, for one node":            {asked: &forge.Constraints{Within: "rack"}},
		"within a label that none has":    {asked: &forge.Constraints{Within: "pod"}, field: "where.within", says: []string{`"pod"`, "there is rack"}},
		"nodes in Slurm's short form":     {asked: &forge.Constraints{Exclude: []forge.NodeName{"h[1-2]", "a1,h1"}}, want: &forge.Constraints{Exclude: []forge.NodeName{"a1", "h1", "h2"}}},
		"a node that is not there":        {asked: &forge.Constraints{Exclude: []forge.NodeName{"h1", "x9"}}, want: &forge.Constraints{Exclude: []forge.NodeName{"h1", "x9"}}, notes: "no node is called x9"},
		"no list of nodes":                {asked: &forge.Constraints{Exclude: []forge.NodeName{"h[1-"}}, field: "where.exclude", says: []string{"gpu-[1-3,7]"}},
		"far too many nodes":              {asked: &forge.Constraints{Exclude: []forge.NodeName{"h[1-100000]"}}, field: "where.exclude", says: []string{"at most 4096"}},
		"a gang that fits no such rack":   {asked: &forge.Constraints{GPUTypes: []string{"h100"}, Labels: map[string]string{"rack": "r1"}}, gang: forge.Gang{Nodes: 2, GPUsPerNode: 4}, field: "where", says: []string{"1 node with 4 GPUs", "rack=r1"}},
		"a gang that fits within none":    {asked: &forge.Constraints{Within: "rack"}, gang: forge.Gang{Nodes: 3, GPUsPerNode: 4}, field: "where", says: []string{"within one rack"}},
		"a gang that fits nowhere at all": {asked: &forge.Constraints{Within: "rack"}, gang: forge.Gang{Nodes: 3, GPUsPerNode: 8}, field: "gpus_per_node"},
		"memory that no node has":         {gang: forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 1, MemoryMiBPerGPU: 1 << 40}, field: "memory_mib_per_gpu", says: []string{"1 node × 1 GPU, each with 1 CPU and"}},
		"CPUs that no node has":           {gang: forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 1 << 20}, field: "cpus_per_gpu"},
		"nodes that there are not":        {gang: forge.Gang{Nodes: 99, GPUsPerNode: 1}, field: "nodes", says: []string{"99 nodes × 1 GPU,"}},
		"memory that there is not":        {asked: &forge.Constraints{GPUMemoryMiB: 96 << 10}, field: "where", says: []string{"none of them has one of 96G or more"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := script(1)
			if c.gang.Nodes > 0 {
				spec.Gang = c.gang
			}
			notes, err := r.resolveWhere(&spec, c.asked)
			if err == nil {
				err = r.checkPlaceable(spec)
			}
			if c.field != "" {
				if forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), c.field+": ") {
					t.Errorf("got %v, want %s refused", err, c.field)
				}
				for _, w := range c.says {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q does not say %q", err, w)
					}
				}
				return
			}
			if err != nil || !reflect.DeepEqual(spec.Where, c.want) || !strings.Contains(strings.Join(notes, "\n"), c.notes) || c.notes == "" && len(notes) > 0 {
				t.Errorf("got %+v, notes %q, %v; want %+v", spec.Where, notes, err, c.want)
			}
		})
	}
	t.Run("what was asked for stays as it was", func(t *testing.T) {
		asked := &forge.Constraints{GPUTypes: []string{"h100"}, Labels: map[string]string{"rack": "r1"}, Exclude: []forge.NodeName{"h[1-2]"}, Within: "rack"}
		spec := script(1)
		if _, err := r.resolveWhere(&spec, asked); err != nil || asked.GPUTypes[0] != "h100" || len(asked.Exclude) != 1 || asked.Within == "" {
			t.Errorf("%+v, %v", asked, err)
		}
	})
}

// besideSlurm puts a cluster of kind slurm with nodes of its own beside the rig's.
func (r *rig) besideSlurm(t *testing.T, binding forge.Binding) {
	t.Helper()
	nodes := []forge.Node{gpuNode("s1", 8), gpuNode("s2", 8)}
	for i := range nodes {
		nodes[i].Labels = map[string]string{"rack": "rack1", "switch": "leaf1"}
		for j := range nodes[i].GPUs {
			nodes[i].GPUs[j].Type, nodes[i].GPUs[j].MemoryMiB = "h100", 80<<10
		}
	}
	fake := executortest.NewFake(nodes...)
	o := slurm.Options{Cluster: "hpc", Shim: "/opt/forged", Labels: map[string]string{"rack": "rack*"}, With: slurm.With{Partitions: []slurm.Partition{{Name: "gpu", GPUMemoryMiB: 80 << 10}}}}
	if binding != forge.BindEager {
		o.Binding = slurm.BindLate
	}
	s := *r.live()
	s.clusters = maps.Clone(s.clusters)
	s.clusters["hpc"] = &Cluster{Name: "hpc", Kind: KindSlurm, RunRoot: "/scratch", Slurm: &o, Binding: binding, Executor: fake, Files: fake, PollEvery: time.Hour}
	s.order = append(slices.Clone(s.order), "hpc")
	r.settings.Store(&s)
	r.refreshNodes(t.Context())
}

func TestWhatAQueueHasNoWordsForIsRefusedWhereARunWouldGoThere(t *testing.T) {
	r := startRacked(t, racked("local")...)
	r.besideSlurm(t, forge.BindEager)
	bySwitch := &forge.Constraints{Labels: map[string]string{"switch": "leaf1"}}
	for name, c := range map[string]struct {
		spec  forge.RunSpec
		where *forge.Constraints
		field string
		hint  string
	}{
		"it can be said":                                 {script(1), &forge.Constraints{GPUTypes: []string{"h100"}, GPUMemoryMiB: 80 << 10}, "", ""},
		"it cannot, and the run goes there":              {script(1, func(s *forge.RunSpec) { s.Cluster = "hpc" }), bySwitch, "where.labels", "--within switch"},
		"it cannot, and no other cluster would do":       {script(1), bySwitch, "where.labels", "--within switch"},
		"it cannot, and the run goes elsewhere":          {script(1, func(s *forge.RunSpec) { s.Cluster = "local" }), &forge.Constraints{GPUTypes: []string{"a100", "h100"}}, "", ""},
		"of several types it has one, and takes that":    {script(1), &forge.Constraints{GPUTypes: []string{"a100", "h100"}}, "", ""},
		"a run that does not fit there need not be said": {script(1), &forge.Constraints{GPUTypes: []string{"a100"}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := c.spec
			_, err := r.resolveWhere(&spec, c.where)
			if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.HasPrefix(err.Error(), c.field+": ") || !strings.Contains(forge.HintOf(err), c.hint)) {
				t.Errorf("got %v (%s), want %q refused", err, forge.HintOf(err), c.field)
			}
		})
	}
	t.Run("it cannot, and another cluster would do: the run has to say which", func(t *testing.T) {
		r.live().clusters["hpc"].Slurm.With.Partitions[0].GPUMemoryMiB = 0 // since the nodes were looked at
		spec := script(1)
		_, err := r.resolveWhere(&spec, &forge.Constraints{GPUMemoryMiB: 80 << 10})
		if err == nil || !strings.HasPrefix(err.Error(), "cluster: is missing") || forge.HintOf(err) != "--cluster local" {
			t.Errorf("got %v (%s)", err, forge.HintOf(err))
		}
	})
}

func TestNodesThatARunKeepsAwayFromAreThePlansToKnowWhereThePlanChooses(t *testing.T) {
	for binding, want := range map[forge.Binding]bool{forge.BindPlan: true, forge.BindEager: false} {
		r := startRacked(t, racked("local")...)
		r.besideSlurm(t, binding)
		spec := script(1, func(s *forge.RunSpec) {
			s.Cluster, s.Batch = "hpc", &forge.BatchOptions{Partition: "gpu", Exclude: "s[1-2]"}
		})
		before := spec.Batch
		if _, err := r.resolveWhere(&spec, nil); err != nil {
			t.Fatal(err)
		}
		if moved := spec.Batch.Exclude == "" && spec.Where != nil && len(spec.Where.Exclude) == 2; moved != want || before.Exclude == "" || spec.Batch.Partition != "gpu" {
			t.Errorf("%s: batch %+v, where %+v", binding, spec.Batch, spec.Where)
		}
	}
}

func TestAJobIsToldOfTheTypesAndRacksOfItsOwnClusterOnly(t *testing.T) {
	nodes := racked("hpc")
	where := &forge.Constraints{GPUTypes: []string{"A100-SXM4-40GB", "elsewhere"}, Within: "rack"}
	w, alike := whereOn(nodes, where)
	if !reflect.DeepEqual(w.GPUTypes, []string{"A100-SXM4-40GB"}) || !reflect.DeepEqual(alike, []string{"r1", "r2"}) || len(where.GPUTypes) != 2 {
		t.Errorf("got %+v, %v", w, alike)
	}
	if w, alike := whereOn(nodes, nil); w != nil || alike != nil {
		t.Errorf("of nothing: %+v, %v", w, alike)
	}
}

func TestThePlanIsToldWhereRunsMayGo(t *testing.T) {
	where := &forge.Constraints{Within: "rack"}
	submitted, now := time.Unix(1000, 0), time.Unix(2000, 0)
	spec := gang(2, 4)
	spec.Where, spec.Pinned = where, true
	s := SnapshotOf(store.World{
		Runs: []forge.Run{{ID: "R1", Spec: spec, State: forge.RunPending, SubmittedAt: submitted, Avoid: []forge.NodeName{"n3"}}, {ID: "R2", Spec: spec, State: forge.RunRunning, SubmittedAt: submitted},
			{ID: "R3", Spec: script(1), State: forge.RunPending}},
		Attempts: []forge.Attempt{{Run: "R2", Number: 1, State: forge.AttemptRunning, Cluster: "local"}},
		Nodes:    []forge.Node{{Name: "n1"}, {Name: "n2", Suspect: "2 different runs failed there within a day", Failures: 2}},
	}, now)
	if p := s.Pending[0]; p.Where != where || !reflect.DeepEqual(p.Avoid, []forge.NodeName{"n3"}) {
		t.Errorf("waits: %+v", p)
	}
	if p := s.Pending[1]; p.Where != nil || p.Avoid != nil {
		t.Errorf("a run that nothing happened to: %+v", p)
	}
	if a := s.Active[0]; a.Where != where || !a.Pinned || a.Gang != spec.Gang || !a.SubmittedAt.Equal(submitted) {
		t.Errorf("runs: %+v", a)
	}
	if s.Nodes[1].Failures != 2 || s.Nodes[1].Suspect == "" {
		t.Errorf("node: %+v", s.Nodes[1])
	}
}

func TestARunThatOnlyWaitsKeepsWhereItMayGoInMemory(t *testing.T) {
	spec := gang(2, 4)
	spec.Where, spec.Pinned = &forge.Constraints{Within: "rack"}, true
	if s := waitingSpec(spec); s.Where != spec.Where || !s.Pinned {
		t.Errorf("got %+v", s)
	}
}

// n1 is the better fit, n2 the larger node.
func TestANodeIsLeftToOthersByTheRunItFailedAndByAllOnceItFailedTwo(t *testing.T) {
	small, large := gpuNode("n1", 2), gpuNode("n2", 8)
	small.Cluster, large.Cluster = "local", "local"
	r := startRacked(t, small, large)
	placed := func(run forge.Run, attempt int, want forge.NodeName) string {
		t.Helper()
		key := r.launched(t, run.ID, attempt)
		if a := r.attemptOfRun(t, run.ID, attempt); len(a.Placement) != 1 || a.Placement[0].Node != want {
			t.Fatalf("attempt %d of run %d is on %+v, want %s", attempt, run.Number, a.Placement, want)
		}
		return key
	}
	finish := func(run forge.Run, key string) {
		t.Helper()
		r.fake.Start(key)
		r.fake.Finish(key, 0)
		r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	}
	// lost is a run that n1 fails: n2 is taken meanwhile.
	lost := func() {
		t.Helper()
		filler := r.submit(t, script(8))
		taken := placed(filler, 1, "n2")
		run := r.submit(t, script(2))
		key := placed(run, 1, "n1")
		r.fake.Start(key)
		finish(filler, taken)
		r.fake.Lose(key)
		finish(run, placed(run, 2, "n2")) // never back to the node that killed it
	}
	lost()
	lost() // what one run went through keeps no other away
	third := r.submit(t, script(2))
	key := placed(third, 1, "n2")
	full := r.submit(t, script(6))
	placed(full, 1, "n2")
	fourth := r.submit(t, script(2)) // n1 is free, and not worth a night's work
	finish(third, key)
	placed(fourth, 1, "n2")
	if _, err := (nodes{r.Daemon}).UndrainNode(t.Context(), r.op, "local", "n1"); err != nil {
		t.Fatal(err)
	}
	placed(r.submit(t, script(2)), 1, "n1") // an operator has looked after it
	r.sameWorld(t)
}

func TestTheLabelsOfAHostAreWordsAndOnlyItsOwnToSay(t *testing.T) {
	c, err := ParseConfig([]byte("clusters: [{name: local, labels: {rack: r-1, floor: \"2\"}}]\n"))
	if err != nil || c.Clusters[0].Labels["rack"] != "r-1" {
		t.Errorf("%+v, %v", c.Clusters, err)
	}
	for text, says := range map[string]string{
		`{name: local, labels: {"a b": x}}`:                                "clusters[0].labels",
		`{name: local, labels: {rack: ""}}`:                                "clusters[0].labels",
		`{name: local, labels: {rack: "r1=x"}}`:                            "clusters[0].labels",
		`{name: hpc, kind: slurm, run_root: /r, labels: {rack: r1}}`:       "clusters[0].labels",
		`{name: local, labels: {rack: "r1\u001b[2J"}}`:                     "clusters[0].labels",
		`{name: local, labels: {rack: "` + strings.Repeat("r", 64) + `"}}`: "clusters[0].labels",
	} {
		c, err := ParseConfig([]byte("state_dir: /s\nclusters: [" + text + "]\n"))
		if err == nil {
			_, err = c.resolve()
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAGangOnMIGInstancesIsRefusedWithWhatIsAllowed(t *testing.T) {
	mig := gpuNode("m1", 4)
	for i := range mig.GPUs {
		mig.GPUs[i].Type, mig.GPUs[i].MIG, mig.GPUs[i].Parent = "H100 80GB HBM3 1g.10gb", "1g.10gb", "GPU-0"
	}
	const words = "MIG instances (H100 80GB HBM3 1g.10gb) take runs of 1 GPU only"
	r := startRacked(t, mig)
	whole := gpuNode("h1", 4)
	for _, c := range []struct {
		name  string
		comes *forge.Node
		gpus  int
		asked *forge.Constraints
		field string
	}{
		{name: "one", gpus: 1},
		{name: "two", gpus: 2, field: "gpus_per_node"},
		{name: "two, where there are whole GPUs as well", comes: &whole, gpus: 2},
		{name: "two of that type, where there are", gpus: 2, asked: &forge.Constraints{GPUTypes: []string{mig.GPUs[0].Type}}, field: "where"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.comes != nil {
				r.world.apply([]forge.Delta{{Node: c.comes}})
			}
			spec := script(c.gpus)
			_, err := r.resolveWhere(&spec, c.asked)
			if err == nil {
				err = r.checkPlaceable(spec)
			}
			if c.field == "" && err != nil || c.field != "" && (forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), c.field+": ") || !strings.Contains(err.Error(), words)) {
				t.Errorf("got %v", err)
			}
		})
	}
}
