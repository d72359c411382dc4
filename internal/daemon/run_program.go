package daemon

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/workdir"
	"github.com/forge-ml/forge-ml/recipes"
)

// The bounds of a command. What a kernel takes is more, and no program needs it.
const (
	maxWords      = 1024
	maxWordsBytes = 64 << 10
)

// launchers are programs that start the processes of a node themselves.
var launchers = []string{"torchrun", "accelerate", "deepspeed"}

// resolveProgram takes the program that a run brings, and binds the run to clusters that let runs bring one.
func (d *Daemon) resolveProgram(p forge.Principal, spec *forge.RunSpec, q api.SubmitRunRequest, rec recipes.Recipe) (notes []string, err error) {
	if !rec.NeedsCommand {
		for _, x := range []struct {
			field string
			given bool
		}{{"command", len(q.Command) > 0}, {"launch", q.Launch != ""}, {"source", q.Source != nil && !rec.Workdir}} {
			if x.given {
				return nil, forge.Invalidf(x.field, "recipe %s has a program of its own", rec.Name).
					WithHint("a program of yours is run by: forgectl run submit script --workdir . -- python train.py; options of sbatch begin with a dash: -- --comment=paper")
			}
		}
		if q.Source == nil {
			return nil, nil
		}
		// Code of the user's runs inside the recipe's ranks: as with a program of theirs, only where that may be.
		if err := d.resolveSource(p, spec, q); err != nil {
			return nil, err
		}
		if err := d.bindProgram(spec); err != nil {
			return nil, err
		}
		return nil, d.checkCrossing(p, spec, q.DryRun)
	}
	if err := checkCommand(q.Command); err != nil {
		return nil, err
	}
	spec.Entry = forge.Entry{Command: slices.Clone(q.Command)}
	switch q.Launch {
	case "":
	case forge.LaunchRank, forge.LaunchNode:
		spec.Launch = q.Launch
	default:
		return nil, forge.Invalidf("launch", "%q: want rank (a process for each GPU) or node (one for each node)", q.Launch)
	}
	if spec.Launch == forge.LaunchRank && spec.Gang.GPUs() > 1 && startsRanks(q.Command) {
		notes = append(notes, "the command starts processes itself, and is started once for each GPU; --launch node starts it once for each node")
	}
	if err := d.resolveSource(p, spec, q); err != nil {
		return nil, err
	}
	if err := d.bindProgram(spec); err != nil {
		return nil, err
	}
	return notes, d.checkCrossing(p, spec, q.DryRun)
}

func checkCommand(words []string) error {
	if len(words) == 0 {
		return forge.Invalidf("command", "is missing: the recipe runs a program of yours").
			WithHint("forgectl run submit script --workdir . -- python train.py --lr 1e-4; what follows -- and begins with a dash is taken for options of sbatch")
	}
	if words[0] == "" {
		return forge.Invalidf("command", "begins with an empty word; want the program first")
	}
	total := 0
	for _, w := range words {
		if total += len(w) + 1; !utf8.ValidString(w) || strings.ContainsRune(w, 0) {
			return forge.Invalidf("command", "%.80q is not text", w)
		}
	}
	if len(words) > maxWords || total > maxWordsBytes {
		return forge.Invalidf("command", "has %d words of %d bytes; want at most %d of %d", len(words), total, maxWords, maxWordsBytes).
			WithHint("put them into a file of the working directory")
	}
	return nil
}

// startsRanks knows a launcher by its name, as a program or as python -m.
func startsRanks(words []string) bool {
	first := path.Base(words[0])
	if slices.Contains(launchers, first) {
		return true
	}
	for i, w := range words[:len(words)-1] {
		if w == "-m" && strings.HasPrefix(first, "python") {
			return words[i+1] == "torch.distributed.run" || strings.HasPrefix(words[i+1], "accelerate.") || strings.HasPrefix(words[i+1], "deepspeed.")
		}
	}
	return false
}

// resolveSource pins the snapshot by what forged has of it; where it was taken, and of which commit, is the user's word.
func (d *Daemon) resolveSource(p forge.Principal, spec *forge.RunSpec, q api.SubmitRunRequest) error {
	if q.Source == nil {
		return nil
	}
	src := *q.Source
	if err := checkText("source.root", src.Root, maxPath); err != nil {
		return err
	}
	if err := checkText("source.commit", src.Commit, 64); err != nil {
		return err
	}
	if !q.DryRun { // for a dry run nothing is uploaded
		have, err := snapshots{d}.info(p.Tenant, src.SHA256)
		if err != nil {
			return asField(err, "source.sha256")
		}
		src.Bytes, src.Files = have.Bytes, have.Files
	}
	spec.Source = &src
	return nil
}

// bindProgram keeps a run that brings its program to clusters whose operator lets it. Under an account that all tenants
// share, and forged as well, a program can read what others left.
func (d *Daemon) bindProgram(spec *forge.RunSpec) error {
	live := d.live()
	var fit []forge.ClusterName
	for _, name := range live.order {
		if live.clusters[name].UserPrograms {
			fit = append(fit, name)
		}
	}
	const hint = "an operator allows it with user_programs: true for the cluster, where everybody may read what forged may, or gives each user's jobs an account with slurm.identity: as_user"
	switch {
	case spec.Cluster != "" && !slices.Contains(fit, spec.Cluster):
		return forge.Errorf(forge.KindForbidden, "run.submit", "cluster %s runs no programs of its users: they would run as forged's own account", spec.Cluster).WithHint(hint)
	case len(fit) == 0:
		return forge.Errorf(forge.KindForbidden, "run.submit", "no cluster runs programs of its users: they would run as forged's own account").WithHint(hint)
	case spec.Cluster != "" || len(fit) == len(live.order):
		return nil
	case len(fit) > 1:
		return forge.Invalidf("cluster", "is missing: not every cluster runs programs of its users; name one of %s", joined(fit))
	}
	spec.Cluster = fit[0]
	return nil
}

// maxCrossing is the largest archive that goes through the helper of identity as_user, which takes a whole submission at once.
const maxCrossing = 40 << 20

// checkCrossing refuses at submit what the helper would refuse at launch.
func (d *Daemon) checkCrossing(p forge.Principal, spec *forge.RunSpec, dry bool) error {
	c := d.live().clusters[spec.Cluster]
	if spec.Source == nil || dry || c == nil || !c.AsUser {
		return nil
	}
	if n := (snapshots{d}).size(p.Tenant, spec.Source.SHA256); n > maxCrossing {
		return forge.Invalidf("source", "the archive of the working directory has %d bytes; cluster %s, where jobs belong to their users, takes at most %d", n, c.Name, int64(maxCrossing)).
			WithHint("name in %s what the run does not need", workdir.IgnoreFile)
	}
	return nil
}

func joined(names []forge.ClusterName) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = string(n)
	}
	return strings.Join(words, ", ")
}
