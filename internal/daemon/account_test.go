package daemon

import (
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/slurm"
	"github.com/forge-ml/forge-ml/store"
)

// The accounts that every Debian has.
const (
	uidDaemon = int64(1)
	uidNobody = int64(3999999999)
)

func TestJobsOfAClusterMayBelongToPeople(t *testing.T) {
	root := ""
	r := start(t, 2, func(o *Options) {
		root = filepath.Join(o.Config.StateDir, "{account}", "runs")
		o.Clusters[0].AsUser, o.Clusters[0].RunRoot = true, root
	})
	user := func(name string, uid *int64) forge.Principal {
		t.Helper()
		p := r.as(t, r.op.Tenant, name, forge.RoleMember)
		if uid != nil {
			if _, err := r.db.For(r.op).UpdateUser(t.Context(), name, store.UserChange{UnixUID: uid}); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	ada, bare, strange := user("ada", new(uidDaemon)), user("bare", nil), user("strange", new(uidNobody))

	t.Run("who has no account is refused when submitting", func(t *testing.T) {
		for _, p := range []forge.Principal{bare, strange} {
			for _, cluster := range []forge.ClusterName{"", "local"} {
				if err := r.mayOwnJobs(t.Context(), p, cluster); forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(forge.HintOf(err), "--unix-uid") {
					t.Errorf("%s on %q: %v, %s", p.User, cluster, err, forge.HintOf(err))
				}
			}
		}
		if err := r.mayOwnJobs(t.Context(), ada, ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("a run lies where its owner's runs lie, and is launched as its owner", func(t *testing.T) {
		run, err := r.db.For(ada).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
		if err != nil {
			t.Fatal(err)
		}
		r.launched(t, run.ID, 1)
		want := strings.Replace(root, "{account}", "daemon", 1)
		got, err := r.db.For(ada).Attempts(t.Context(), run.ID)
		if err != nil || len(got) != 1 || got[0].RunDir != filepath.Join(want, string(run.ID)) {
			t.Fatalf("got %+v, %v", got, err)
		}
		l, err := r.launchOf(t.Context(), run, got[0])
		if err != nil || l.Account != "daemon" {
			t.Errorf("account %q, %v", l.Account, err)
		}
	})
	t.Run("an owner who has lost the account meanwhile has the run held, with the reason", func(t *testing.T) {
		run, err := r.db.For(bare).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
		if err != nil {
			t.Fatal(err)
		}
		held := r.await(t, run.ID, "held", func(x forge.Run) bool { return x.Hold != nil })
		if held.Hold.By != actorForged || !strings.Contains(held.Hold.Reason, "bare has no unix_uid") || held.Attempt != 0 {
			t.Errorf("got %+v", held.Hold)
		}
	})
	t.Run("an operator's run in another tenant is the operator's own", func(t *testing.T) {
		if _, err := r.accountOf(t.Context(), "T-other", r.op.User+forge.OperatorMark); forge.KindOf(err) != forge.KindPrecondition {
			t.Errorf("without a uid: %v", err)
		}
		uid := int64(2)
		if _, err := r.db.For(r.op).UpdateUser(t.Context(), r.op.User, store.UserChange{UnixUID: &uid}); err != nil {
			t.Fatal(err)
		}
		if name, err := r.accountOf(t.Context(), "T-other", r.op.User+forge.OperatorMark); err != nil || name != "bin" {
			t.Errorf("got %q, %v", name, err)
		}
	})
}

func TestTheAccountIsReadFromTheRunDirectory(t *testing.T) {
	for dir, want := range map[string]string{
		"/scratch/ada/forge/R1": "ada", "/scratch/ada/forge/R1/x": "", "/scratch/ada/R1": "", "/scratch//forge/R1": "", "/scratch/../forge/R1": "", "/home/ada/forge/R1": "", "/scratch/{account}/forge/R1": "",
	} {
		if got := slurm.AccountIn("/scratch/{account}/forge", dir); got != want {
			t.Errorf("%s: %q", dir, got)
		}
	}
}
