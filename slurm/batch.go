package slurm

import (
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// mailTypes are what --mail-type takes, in any combination.
var mailTypes = []string{"NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50"}

const (
	letters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	nameChars   = letters + ".+-"
	hostChars   = letters + ".,[]-"
	featureExpr = letters + ".,:+-=&|*!()[]"
)

// CheckBatch holds what a user asks of Slurm against what the site allows and what forge relies on.
func (o Options) CheckBatch(w With, b *forge.BatchOptions) error {
	if b.Empty() {
		return nil
	}
	for _, f := range []struct{ field, v, chars string }{
		{"partition", b.Partition, nameChars}, {"account", b.Account, nameChars}, {"qos", b.QOS, nameChars},
		{"constraint", b.Constraint, featureExpr}, {"reservation", b.Reservation, nameChars + ","},
		{"exclude", b.Exclude, hostChars}, {"nodelist", b.Nodelist, hostChars},
	} {
		// A host list with a slash in it would be a file that sbatch opens in the owner's name.
		if len(f.v) > 1024 || strings.ContainsFunc(f.v, func(r rune) bool { return !strings.ContainsRune(f.chars, r) }) {
			return forge.Invalidf("batch."+f.field, "%.80q: want at most 1024 characters of %s", f.v, spelled(f.chars))
		}
	}
	if _, ok := w.Partition(b.Partition); !ok {
		names := make([]string, len(w.Partitions))
		for i, p := range w.Partitions {
			names[i] = p.Name
		}
		return forge.Invalidf("batch.partition", "%q is not one of cluster %s; it has %s", b.Partition, o.Cluster, strings.Join(names, ", "))
	}
	if b.Nodelist != "" && o.Binding == BindLate {
		return forge.Invalidf("batch.nodelist", "cluster %s is bound late: forge's own plan chooses the nodes", o.Cluster).WithHint("leave it out, or keep nodes away with --exclude")
	}
	for _, m := range strings.Split(b.MailType, ",") {
		if m != "" && !slices.Contains(mailTypes, strings.ToUpper(m)) {
			return forge.Invalidf("batch.mail_type", "%q is not a kind of mail; want some of %s", m, strings.Join(mailTypes, ", "))
		}
	}
	_, err := CheckRaw(b.Raw, w.Allow)
	return err
}

func spelled(chars string) string {
	return "letters, digits, _ " + strings.Join(strings.Split(strings.TrimPrefix(chars, letters), ""), " ")
}
