package slurm

import (
	"os"
	"strings"
	"testing"
)

func TestACheckSaysWhetherForgedMayActAsWhoeverAsksAndWhatIsMissing(t *testing.T) {
	if !people(t) {
		return
	}
	c, ctx := gather(t), t.Context()
	c.project(t, "alice")
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
		{"alice", keptIn(c.scratch + "/kept/{account}"), FindingOK, "as alice"},
		{"alice", keptIn(c.scratch + "/elsewhere/{account}"), FindingFail, "artifact_roots of cluster lab"},
		{"bob", keptIn(c.scratch + "/kept/{account}"), FindingWarn, "install -d -o bob -g GROUP -m 2750 " + c.scratch + "/kept/bob"},
	} {
		with := o
		if x.change != nil {
			x.change(&with)
		}
		if f := checkActing(ctx, c.AsUser, with, x.account, "no unix_uid"); f.Status != x.status || !strings.Contains(f.Found+f.Means+f.Fix, x.says) {
			t.Errorf("%s: %+v; want %s, and %q", x.account, f, x.status, x.says)
		}
	}
	o.With.ArtifactRoot = c.scratch + "/kept/{account}"
	for mode, says := range map[os.FileMode]string{0o700: "others cannot train on", 0o770 | os.ModeSetgid: "can be written by others"} {
		if err := os.Chmod(c.project(t, "alice"), mode); err != nil {
			t.Fatal(err)
		}
		if f := checkActing(ctx, c.AsUser, o, "alice", ""); f.Status == FindingOK || !strings.Contains(f.Means, says) {
			t.Errorf("%s: %+v; want %q", mode, f, says)
		}
	}
	other := &AsUser{Cluster: "nowhere", Sudo: c.Sudo}
	if f := checkActing(ctx, other, o, "alice", ""); f.Status != FindingFail || !strings.Contains(f.Fix, "does it name cluster nowhere") {
		t.Errorf("%+v", f)
	}
}

func keptIn(template string) func(*Options) {
	return func(o *Options) { o.With.ArtifactRoot = template }
}
