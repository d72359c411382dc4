package slurm

import (
	"strings"
	"testing"
)

func TestACheckSaysWhetherForgedMayActAsWhoeverAsksAndWhatIsMissing(t *testing.T) {
	if !people(t) {
		return
	}
	c, ctx := gather(t), t.Context()
	o := c.o
	o.RunRoot = c.scratch + "/{account}/forge"
	for _, x := range []struct {
		account string
		change  func(*Options)
		status  FindingStatus
		says    string
	}{
		{"alice", nil, FindingOK, "as alice (uid 4301)"},
		{"", nil, FindingUnknown, "--unix-uid"},
		{"mallory", nil, FindingFail, "ALL=(%GROUP) NOPASSWD:NOSETENV: " + DefaultHelper + ", with mallory a member"},
		{"alice", func(o *Options) { o.RunRoot = "/elsewhere/{account}" }, FindingFail, "/elsewhere/alice"},
		{"alice", func(o *Options) { o.Tools.Conf = "/etc/slurm/other.conf" }, FindingWarn, "other.conf"},
	} {
		with := o
		if x.change != nil {
			x.change(&with)
		}
		if f := checkActing(ctx, c.AsUser, with, x.account, "no unix_uid"); f.Status != x.status || !strings.Contains(f.Found+f.Means+f.Fix, x.says) {
			t.Errorf("%s: %+v; want %s, and %q", x.account, f, x.status, x.says)
		}
	}
	other := &AsUser{Cluster: "nowhere", Sudo: c.Sudo}
	if f := checkActing(ctx, other, o, "alice", ""); f.Status != FindingFail || !strings.Contains(f.Fix, "does it name cluster nowhere") {
		t.Errorf("%+v", f)
	}
}
