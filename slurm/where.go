package slurm

import (
	"maps"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// whereWords is where a run may go, in Slurm's words.
type whereWords struct {
	gpuType    string // typed GRES; "": the partition's
	constraint string // features
	switches   bool   // all nodes on one
}

// CheckWhere refuses what Slurm has no words for. alike are the values that the nodes of the cluster have of the label that a gang
// must not leave.
func (o Options) CheckWhere(spec forge.RunSpec, alike []string) error {
	name := ""
	if spec.Batch != nil {
		name = spec.Batch.Partition
	}
	p, ok := o.With.Partition(name)
	if !ok {
		return nil // that is said of the partition
	}
	_, err := o.say(spec, p, alike)
	return err
}

// say puts constraints into Slurm's words. Where forge's own plan has chosen the nodes there is nothing left to say but the type.
func (o Options) say(spec forge.RunSpec, p Partition, alike []string) (s whereWords, err error) {
	if spec.Batch != nil {
		s.constraint = spec.Batch.Constraint
	}
	w := spec.Where
	if w.Empty() {
		return s, nil
	}
	if s.gpuType, err = o.sayType(w.GPUTypes, p); err != nil || o.Binding == BindLate {
		return s, err
	}
	switch {
	case w.GPUMemoryMiB == 0:
	case p.GPUMemoryMiB == 0:
		return s, forge.Invalidf("where.gpu_memory", "Slurm does not know how much memory GPUs have, and the configuration of cluster %s does not say it of the partition", o.Cluster).
			WithHint("name the type of GPU instead: --gpu-type; an operator adds gpu_memory to slurm.partitions")
	case p.GPUMemoryMiB < w.GPUMemoryMiB:
		return s, forge.Invalidf("where.gpu_memory", "partition %s of cluster %s has GPUs of %s, which is less than %s", p.Name, o.Cluster, forge.FormatMiB(p.GPUMemoryMiB), forge.FormatMiB(w.GPUMemoryMiB)).
			WithHint("%s", o.roomier(w.GPUMemoryMiB))
	}
	return s, o.sayFeatures(w, alike, &s)
}

// sayType: Slurm gives a job GPUs of any type or of one.
func (o Options) sayType(types []string, p Partition) (string, error) {
	gres := o.With.GRES
	if gres == "" {
		gres = DefaultGRES
	}
	switch {
	case len(types) == 0 || slices.Contains(types, p.GPUType):
		return p.GPUType, nil
	case len(types) > 1:
		return "", forge.Invalidf("where.gpu_types", "Slurm gives a job of cluster %s GPUs of one type; name one of %s", o.Cluster, strings.Join(types, ", "))
	case types[0] == gres: // what GPUs are called that Slurm has no type for
		return "", nil
	case !slurmName(types[0]):
		return "", forge.Invalidf("where.gpu_types", "%.80q is no type of GPU of Slurm's", types[0])
	}
	return types[0], nil
}

func slurmName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(nameChars, r) })
}

// roomier names the partitions whose GPUs have that much memory.
func (o Options) roomier(mib int64) string {
	var enough []string
	for _, p := range o.With.Partitions {
		if p.GPUMemoryMiB >= mib {
			enough = append(enough, p.Name)
		}
	}
	if len(enough) == 0 {
		return "no partition has such GPUs: forgectl node list"
	}
	return "--partition " + strings.Join(enough, " or --partition ")
}

// sayFeatures makes features of labels: a label is the feature that its pattern found.
func (o Options) sayFeatures(w *forge.Constraints, alike []string, s *whereWords) error {
	var want []string
	for _, k := range slices.Sorted(maps.Keys(w.Labels)) {
		if err := o.feature("where.labels", k, w.Labels[k]); err != nil {
			return err
		}
		want = append(want, w.Labels[k])
	}
	switch {
	case w.Within == "":
	case w.Within == LabelSwitch || w.Within == LabelTopology:
		s.switches = true
	case w.Labels[w.Within] != "": // said already
	default:
		if len(alike) == 0 {
			return forge.Invalidf("where.within", "no node of cluster %s has a label %s", o.Cluster, w.Within)
		}
		for _, v := range alike {
			if err := o.feature("where.within", w.Within, v); err != nil {
				return err
			}
		}
		want = append(want, oneOf(alike))
	}
	if len(want) == 0 {
		return nil
	}
	if strings.ContainsAny(s.constraint, "|*[]()!,:") { // "a|b&c" means what a reader would not think
		return forge.Invalidf("batch.constraint", "%.80q cannot be joined with what where asks for: %s", s.constraint, strings.Join(want, "&")).
			WithHint("put all of it into --constraint, as Slurm writes it")
	}
	s.constraint = strings.Join(nonEmpty(append([]string{s.constraint}, want...)...), "&")
	return nil
}

// oneOf is Slurm's word for nodes that all have the same one of some features.
func oneOf(features []string) string {
	if len(features) == 1 {
		return features[0]
	}
	return "[" + strings.Join(features, "|") + "]"
}

func (o Options) feature(field, label, value string) error {
	switch {
	case label == LabelSwitch || label == LabelTopology:
		return forge.Invalidf(field, "Slurm has no word for nodes on one %s that is named", label).WithHint("--within switch keeps a gang on one")
	case o.Labels[label] == "":
		return forge.Invalidf(field, "cluster %s makes no label %s of its nodes' features", o.Cluster, label).WithHint("an operator adds it to slurm.labels")
	case !slurmName(value):
		return forge.Invalidf(field, "%s=%.80q: Slurm's features have no such names", label, value)
	}
	return nil
}
