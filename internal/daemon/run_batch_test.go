package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/slurm"
)

// beside puts clusters of kind slurm beside the rig's one, as far as submissions look at them.
func (r *rig) beside(users bool, names ...forge.ClusterName) {
	s := *r.live()
	clusters := map[forge.ClusterName]*Cluster{}
	for n, c := range s.clusters {
		clusters[n] = c
	}
	s.clusters, s.order = clusters, slices.Clone(s.order)
	dumb := executortest.NewFake() // the daemon's loops may ask it
	dumb.Silence(true)
	for _, n := range names {
		o := slurm.Options{Cluster: n, Shim: "/opt/forged", With: slurm.With{
			Runtime: forge.Runtime{Kind: forge.RuntimeVenv, Path: "/sw/venv", Modules: []string{"cuda"}}, Allow: []string{"comment"}, Partitions: []slurm.Partition{{Name: "gpu"}}}}
		s.clusters[n] = &Cluster{Name: n, Kind: KindSlurm, RunRoot: "/scratch", Slurm: &o, UserRuntime: users, Executor: dumb, Files: dumb, PollEvery: time.Hour}
		s.order = append(s.order, n)
	}
	r.settings.Store(&s)
}

func TestWhatARunAsksOfSlurmBindsItToAClusterThatHasIt(t *testing.T) {
	r := start(t, 1)
	image := &forge.Runtime{Kind: forge.RuntimeApptainer, Image: "/i.sif"}
	for name, c := range map[string]struct {
		clusters []forge.ClusterName
		closed   bool // runs may not name a runtime
		spec     forge.RunSpec
		q        api.SubmitRunRequest
		recipe   forge.Runtime
		goes     forge.ClusterName
		origins  map[string]string
		field    string // of the refusal
		says     string
	}{
		"nothing asked":                          {clusters: []forge.ClusterName{"hpc"}},
		"a partition, and one cluster has them":  {clusters: []forge.ClusterName{"hpc"}, q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Partition: "gpu"}}, goes: "hpc", origins: map[string]string{"runtime.kind": "cluster hpc", "runtime.path": "cluster hpc", "runtime.modules": "cluster hpc"}},
		"a partition, and two clusters have any": {clusters: []forge.ClusterName{"hpc", "two"}, q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Partition: "gpu"}}, field: "cluster", says: "hpc, two"},
		"a partition, and the cluster is named":  {clusters: []forge.ClusterName{"hpc", "two"}, spec: forge.RunSpec{Cluster: "two"}, q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Partition: "gpu"}}, goes: "two"},
		"a partition, and a direct cluster":      {clusters: []forge.ClusterName{"hpc"}, spec: forge.RunSpec{Cluster: "local"}, q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Partition: "gpu"}}, field: "batch", says: "there is hpc"},
		"a partition, and no Slurm":              {q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Partition: "gpu"}}, field: "batch", says: "there is none"},
		"a partition of another site":            {clusters: []forge.ClusterName{"hpc"}, q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Partition: "cpu"}}, field: "batch.partition", says: "it has gpu"},
		"a raw option that would hide the job":   {clusters: []forge.ClusterName{"hpc"}, q: api.SubmitRunRequest{Batch: &forge.BatchOptions{Raw: []string{"--job-n=x"}}}, field: "batch.raw", says: "by their name"},
		"a runtime of its own": {clusters: []forge.ClusterName{"hpc"}, q: api.SubmitRunRequest{Runtime: image}, recipe: forge.Runtime{Setup: []string{"true"}, Modules: []string{"nccl"}}, goes: "hpc",
			origins: map[string]string{"runtime.kind": "run", "runtime.image": "run", "runtime.setup": "recipe", "runtime.modules": "recipe"}},
		"a runtime of its own where they share an account": {clusters: []forge.ClusterName{"hpc"}, closed: true, q: api.SubmitRunRequest{Runtime: image}, field: "runtime", says: "share an account"},
		"the recipe's where they share an account":         {clusters: []forge.ClusterName{"hpc"}, closed: true, recipe: *image, goes: "hpc", origins: map[string]string{"runtime.kind": "recipe", "runtime.image": "recipe", "runtime.modules": "cluster hpc"}},
		"a runtime that is not whole":                      {clusters: []forge.ClusterName{"hpc"}, q: api.SubmitRunRequest{Runtime: &forge.Runtime{Kind: forge.RuntimePyxis}}, field: "runtime.image", says: "is missing"},
		"a runtime of no kind":                             {clusters: []forge.ClusterName{"hpc"}, q: api.SubmitRunRequest{Runtime: &forge.Runtime{Kind: "docker"}}, field: "runtime.kind", says: "apptainer"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.live()
			defer r.settings.Store(before)
			r.beside(!c.closed, c.clusters...)
			spec := c.spec
			spec.Origins = map[string]string{"lora.r": "set"}
			err := r.resolveBatch(&spec, c.q, recipes.Recipe{Runtime: c.recipe})
			if c.field != "" {
				if forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), c.field+": ") || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v; want %s: … %s", err, c.field, c.says)
				}
				return
			}
			if err != nil || spec.Cluster != c.goes || spec.Origins["lora.r"] != "set" {
				t.Errorf("it goes to %q (%v), %v", spec.Cluster, spec.Origins, err)
			}
			if c.origins != nil {
				c.origins["lora.r"] = "set"
				for k, v := range c.origins {
					if spec.Origins[k] != v {
						t.Errorf("%s is from %q, want %q", k, spec.Origins[k], v)
					}
				}
				if len(spec.Origins) != len(c.origins) {
					t.Errorf("origins %v", spec.Origins)
				}
			}
		})
	}
}

func TestASlurmConfigurationIsStrictAndNamesTheFieldTheValueAndWhatIsAllowed(t *testing.T) {
	for in, says := range map[string][]string{
		`run_root: ""`:                  {"clusters[0].run_root", "missing"},
		`run_root: runs`:                {"clusters[0].run_root", `"runs"`, "absolute"},
		`run_root: "/r/{account}"`:      {"clusters[0].run_root", "as_user"},
		`cpu_slots: 2`:                  {"clusters[0].cpu_slots", "direct"},
		`node: n`:                       {"clusters[0].node", "direct"},
		`network: none`:                 {"clusters[0].network", "several nodes"},
		`artifact_root: x`:              {"clusters[0].artifact_root", "absolute"},
		`artifact_root: "/k/{account}"`: {"clusters[0].artifact_root", "as_user"},
		`run_root: "/r/{account}", artifact_root: /k, slurm: {identity: as_user}`: {"clusters[0].artifact_root", `"/k"`, "{account}"},
		`runtime: {kind: docker}`:                                  {"clusters[0].runtime.kind", `"docker"`, "venv, conda, module, apptainer, pyxis, script"},
		`runtime: {kind: venv}`:                                    {"clusters[0].runtime.path", "absolute"},
		`runtime: {kind: apptainer, image: a, mounts: [b]}`:        {"clusters[0].runtime.mounts[0]", "absolute"},
		`env: {"A B": x}`:                                          {"clusters[0].env", `"A B"`},
		`slurm: {colour: red}`:                                     {"colour"},
		`slurm: {binding: lazy}`:                                   {"clusters[0].slurm.binding", `"lazy"`, "eager, late"},
		`slurm: {identity: root}`:                                  {"clusters[0].slurm.identity", `"root"`, "self, as_user"},
		`slurm: {drain: hard}`:                                     {"clusters[0].slurm.drain", "exclude, scontrol"},
		`slurm: {bin: slurm/bin}`:                                  {"clusters[0].slurm.bin", "absolute"},
		`slurm: {poll_every: 10ms}`:                                {"clusters[0].slurm.poll_every", "10ms", "1s to 10m"},
		`slurm: {bind_timeout: 36h}`:                               {"clusters[0].slurm.bind_timeout", "36h", "24h"},
		`slurm: {max_pending: -1}`:                                 {"clusters[0].slurm.max_pending", "-1", "1 to"},
		`slurm: {nice_step: -1}`:                                   {"clusters[0].slurm.nice_step", "-1"},
		`slurm: {gres: "gpu:h100"}`:                                {"clusters[0].slurm.gres", `"gpu:h100"`},
		`slurm: {partitions: [{name: "a b"}]}`:                     {"clusters[0].slurm.partitions[0].name", `"a b"`},
		`slurm: {partitions: [{name: a}, {name: a}]}`:              {"clusters[0].slurm.partitions[1].name", "twice"},
		`slurm: {partitions: [{name: a, memory_per_gpu: much}]}`:   {"clusters[0].slurm.partitions[0].memory_per_gpu", "much"},
		`slurm: {partitions: [{name: a, cpus_per_gpu: -2}]}`:       {"clusters[0].slurm.partitions[0].cpus_per_gpu", "-2"},
		`slurm: {partitions: [{name: a, gpu_type: "h100:4"}]}`:     {"clusters[0].slurm.partitions[0].gpu_type"},
		`slurm: {partitions: [{name: a, price_per_gpu_hour: -1}]}`: {"clusters[0].slurm.partitions[0].price_per_gpu_hour"},
		`slurm: {allow: [--requeue]}`:                              {"clusters[0].slurm.allow[0]", "--requeue", "each attempt"},
		`slurm: {allow: [x]}`:                                      {"clusters[0].slurm.allow[0]", "--comment"},
		`slurm: {owners: {lab: {umask: "0022"}}}`:                  {"clusters[0].slurm.owners.lab.umask", `"0022"`, "0027"},
		`slurm: {owners: {lab: {group: "a b"}}}`:                   {"clusters[0].slurm.owners.lab.group", `"a b"`},
		`slurm: {labels: {rack: "a*b*"}}`:                          {"clusters[0].slurm.labels.rack", "one *"},
		`slurm: {labels: {switch: "x"}}`:                           {"clusters[0].slurm.labels", "topology"},
		`kind: direct, slurm: {}`:                                  {"clusters[0].slurm", "kind slurm"},
		`kind: direct, runtime: {kind: venv, path: /v}`:            {"clusters[0].runtime", "kind slurm"},
		`kind: pbs`: {"clusters[0].kind", `"pbs"`, "direct, slurm"},
	} {
		t.Run(in, func(t *testing.T) {
			base := "name: hpc"
			if !strings.Contains(in, "kind: direct") && !strings.HasPrefix(in, "kind: pbs") {
				base += ", kind: slurm"
			}
			if !strings.HasPrefix(in, "run_root") {
				base += ", run_root: /r"
			}
			c, err := ParseConfig([]byte("state_dir: /s\nclusters:\n  - {" + base + ", " + in + "}\n"))
			if err == nil {
				_, err = c.resolve()
			}
			if err == nil {
				t.Fatal("it is accepted")
			}
			for _, w := range says {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v\ndoes not say %q", err, w)
				}
			}
		})
	}
	c, err := ParseConfig([]byte("clusters: [{name: hpc, kind: slurm, run_root: /r}]"))
	if err != nil {
		t.Fatal(err)
	}
	c.StateDir = "/s"
	if c, err = c.resolve(); err != nil || c.Clusters[0].Slurm == nil || c.Clusters[0].Slurm.Share != "/r/.forge" || *c.Clusters[0].Slurm.UserRuntime {
		t.Errorf("without a slurm block: %+v, %v", c.Clusters[0].Slurm, err)
	}
}
