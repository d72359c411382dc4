package slurm

import (
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestWhereIsSaidInSlurmsWordsOrRefusedWithWhatToDo(t *testing.T) {
	labels := func(kv ...string) forge.Constraints {
		c := forge.Constraints{Labels: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			c.Labels[kv[i]] = kv[i+1]
		}
		return c
	}
	for name, c := range map[string]struct {
		where forge.Constraints
		batch *forge.BatchOptions
		gres  string
		alike []string
		want  []string // among the options
		field string
		says  string
		hint  string
	}{
		"the partition's type":              {where: forge.Constraints{GPUTypes: []string{"h100"}}, want: []string{"--gpus-per-node=h100:4"}},
		"another type":                      {where: forge.Constraints{GPUTypes: []string{"h200"}}, want: []string{"--gpus-per-node=h200:4"}},
		"any of two, one the partition's":   {where: forge.Constraints{GPUTypes: []string{"a100", "h100"}}, want: []string{"--gpus-per-node=h100:4"}},
		"any of two others":                 {where: forge.Constraints{GPUTypes: []string{"a100", "h200"}}, field: "where.gpu_types", says: "name one of a100, h200"},
		"GPUs that Slurm has no type for":   {where: forge.Constraints{GPUTypes: []string{"gpu"}}, batch: &forge.BatchOptions{Partition: "any"}, want: []string{"--gpus-per-node=4"}},
		"of another generic resource":       {where: forge.Constraints{GPUTypes: []string{"mi300"}}, gres: "accel", want: []string{"--gres=accel:mi300:4"}},
		"a type that is no word":            {where: forge.Constraints{GPUTypes: []string{"H100 80GB HBM3"}}, field: "where.gpu_types", says: "no type of GPU of Slurm's"},
		"memory that the partition has":     {where: forge.Constraints{GPUMemoryMiB: 80 << 10}, want: []string{"--gpus-per-node=h100:4"}},
		"memory that another partition has": {where: forge.Constraints{GPUMemoryMiB: 96 << 10}, field: "where.gpu_memory", says: "GPUs of 80G, which is less than 96G", hint: "--partition big"},
		"memory that none has":              {where: forge.Constraints{GPUMemoryMiB: 400 << 10}, field: "where.gpu_memory", hint: "no partition has such GPUs"},
		"memory that nobody has said":       {where: forge.Constraints{GPUMemoryMiB: 1}, batch: &forge.BatchOptions{Partition: "any"}, field: "where.gpu_memory", says: "does not say it of the partition", hint: "--gpu-type"},
		"a label":                           {where: labels("rack", "rack1"), want: []string{"--constraint=rack1"}},
		"two labels, beside a constraint":   {where: labels("rack", "rack1", "net", "ib"), batch: &forge.BatchOptions{Constraint: "avx&big"}, want: []string{"--constraint=avx&big&ib&rack1"}},
		"a label beside a choice":           {where: labels("rack", "rack1"), batch: &forge.BatchOptions{Constraint: "avx|big"}, field: "batch.constraint", says: "rack1", hint: "as Slurm writes it"},
		"a label that is no feature":        {where: labels("room", "a"), field: "where.labels", says: "makes no label room", hint: "slurm.labels"},
		"a switch by its name":              {where: labels("switch", "leaf1"), field: "where.labels", hint: "--within switch"},
		"a value that is no feature":        {where: labels("rack", "a b"), field: "where.labels", says: "no such names"},
		"within one rack":                   {where: forge.Constraints{Within: "rack"}, alike: []string{"rack1", "rack2"}, want: []string{"--constraint=[rack1|rack2]"}},
		"within one rack, and there is one": {where: forge.Constraints{Within: "rack"}, alike: []string{"rack1"}, want: []string{"--constraint=rack1"}},
		"within one rack that is named":     {where: forge.Constraints{Within: "rack", Labels: map[string]string{"rack": "rack2"}}, alike: []string{"rack1", "rack2"}, want: []string{"--constraint=rack2"}},
		"within a label that no node has":   {where: forge.Constraints{Within: "rack"}, field: "where.within", says: "no node"},
		"within one switch":                 {where: forge.Constraints{Within: "switch"}, want: []string{"--switches=1"}},
		"within a label of another cluster": {where: forge.Constraints{Within: "room"}, alike: []string{"a"}, field: "where.within"},
		"away from nodes":                   {where: forge.Constraints{Exclude: []forge.NodeName{"n1", "n2"}}, batch: &forge.BatchOptions{Exclude: "n[7-8]"}, want: []string{"--exclude=n[7-8],n1,n2"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, o := gang(), hpc()
			o.Labels = map[string]string{"rack": "rack*", "net": "ib"}
			o.With.Partitions[0].GPUMemoryMiB = 80 << 10
			o.With.Partitions = append(o.With.Partitions, Partition{Name: "big", GPUMemoryMiB: 140 << 10})
			if c.gres != "" {
				o.With.GRES = c.gres
			}
			l.Spec.Where, l.Spec.Batch, l.Alike = &c.where, c.batch, c.alike
			job, err := Render(l, o)
			if early := o.CheckWhere(l.Spec, l.Alike); (early == nil) != (err == nil) {
				t.Errorf("at submit it is %v, at the launch %v", early, err)
			}
			if c.field != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.field+": ") || !strings.Contains(err.Error(), c.says) || !strings.Contains(forge.HintOf(err), c.hint) {
					t.Errorf("got %v (%s)", err, forge.HintOf(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.want {
				if !slices.Contains(job.Args, w) {
					t.Errorf("%s is not among %q", w, job.Args)
				}
			}
			// What forge says, root's helper lets pass.
			for _, arg := range job.Args {
				opt, value, valued := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
				if form, ours := rendered[opt]; ours && valued && !form.MatchString(value) {
					t.Errorf("the helper would refuse %s", arg)
				}
			}
		})
	}
}

func TestHostsAreReadAsSlurmWritesThem(t *testing.T) {
	got, err := Hosts("n[1-2,05],login")
	if want := []forge.NodeName{"n1", "n2", "n05", "login"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := Hosts("n[1-"); err == nil {
		t.Errorf("accepted: %v", got)
	}
}
