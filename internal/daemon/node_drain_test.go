package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/slurm"
)

// drainable is an executor whose batch system has drains and limits of its own.
type drainable struct {
	*executortest.Fake
	kept     string // somebody else's word on the node
	fault    error
	said     []string
	findings []slurm.Finding
}

func (d *drainable) DrainNode(_ context.Context, node forge.NodeName, reason string) (string, error) {
	d.said = append(d.said, "drain "+string(node)+": "+reason)
	return d.kept, d.fault
}

func (d *drainable) UndrainNode(_ context.Context, node forge.NodeName) (string, error) {
	d.said = append(d.said, "undrain "+string(node))
	return d.kept, d.fault
}

func (d *drainable) Admit(_ context.Context, spec forge.RunSpec) ([]string, error) {
	if spec.TimeLimit > 0 {
		return nil, forge.Invalidf("time_limit", "partition low: longer than its MaxTime")
	}
	return []string{"partition low gives whole nodes"}, nil
}

func (d *drainable) Check(context.Context, slurm.CheckedBy) []slurm.Finding { return d.findings }

func startDrainable(t *testing.T, drain slurm.Drain) (*rig, *drainable) {
	t.Helper()
	x := &drainable{}
	r := start(t, 2, func(o *Options) {
		x.Fake = o.Clusters[0].Executor.(*executortest.Fake)
		o.Clusters[0].Executor, o.Clusters[0].Slurm = x, &slurm.Options{Drain: drain}
	})
	r.refreshNodes(t.Context())
	return r, x
}

func TestNothingNewGoesToADrainedNodeUntilItIsUndrained(t *testing.T) {
	r := start(t, 2)
	r.refreshNodes(t.Context())
	ns := nodes{r.Daemon}
	if _, err := ns.DrainNode(t.Context(), forge.Principal{Role: forge.RoleAdmin}, "", "n1", "x"); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("an admin of a tenant: %v", err)
	}
	if _, err := ns.DrainNode(t.Context(), r.op, "", "n1", " "); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := ns.DrainNode(t.Context(), r.op, "", "n9", "x"); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("a node that is not there: %v", err)
	}
	n, err := ns.DrainNode(t.Context(), r.op, "", "n1", "a fan is loud")
	if err != nil || n.State != forge.NodeDrained || n.FreeGPUs != 0 || n.Drain == nil || len(n.Notes) != 0 {
		t.Fatalf("%+v, %v", n, err)
	}
	run := r.submit(t, script(1))
	r.refreshNodes(t.Context()) // what the executor says changes nothing
	why, err := rundata{r.Daemon}.Why(t.Context(), r.op, string(run.ID))
	if err != nil || why.Code != forge.HoldNoNodes && why.Code != forge.HoldNever || r.attemptsOf(t, run.ID) != 0 {
		t.Errorf("%+v, %v", why, err)
	}
	if n, err = ns.UndrainNode(t.Context(), r.op, "local", "n1"); err != nil || n.State != forge.NodeReady || n.Drain != nil {
		t.Fatalf("%+v, %v", n, err)
	}
	r.await(t, run.ID, "it is placed", func(x forge.Run) bool { return x.Attempt == 1 })
}

func (r *rig) attemptsOf(t *testing.T, id forge.RunID) int {
	t.Helper()
	x, err := r.db.RunByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return x.Attempt
}

func TestTheBatchSystemIsToldOfADrainOnlyWhereTheConfigurationSaysSo(t *testing.T) {
	r, x := startDrainable(t, slurm.DrainExclude)
	ns := nodes{r.Daemon}
	if _, err := ns.DrainNode(t.Context(), r.op, "", "n1", "quietly"); err != nil {
		t.Fatal(err)
	}
	if _, err := ns.UndrainNode(t.Context(), r.op, "", "n1"); err != nil || len(x.said) != 0 {
		t.Errorf("%v: %v", x.said, err)
	}

	r, x = startDrainable(t, slurm.DrainScontrol)
	ns = nodes{r.Daemon}
	n, err := ns.DrainNode(t.Context(), r.op, "", "n1", "a fan")
	if err != nil || !n.Drain.Outside || len(x.said) != 1 || x.said[0] != "drain n1: a fan (admin)" {
		t.Errorf("%+v, %v, %v", n.Drain, x.said, err)
	}
	x.fault = errors.New("no answer within 25s")
	if _, err := ns.UndrainNode(t.Context(), r.op, "", "n1"); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("no answer: %v", err)
	}
	if d, err := ns.Node(t.Context(), r.op, "", "n1"); err != nil || d.Drain == nil {
		t.Errorf("it stays drained: %+v, %v", d, err)
	}
	x.fault, x.kept = nil, "xid 79 [bob@now]"
	n, err = ns.UndrainNode(t.Context(), r.op, "", "n1")
	if err != nil || n.Drain != nil || !strings.Contains(strings.Join(n.Notes, " "), "xid 79 [bob@now]") {
		t.Errorf("somebody else's stays: %+v, %v", n, err)
	}
	n, err = ns.DrainNode(t.Context(), r.op, "", "n1", "again")
	if err != nil || n.Drain.Outside || !strings.Contains(strings.Join(n.Notes, " "), "xid 79 [bob@now]") {
		t.Errorf("drained by somebody before: %+v, %v, %v", n.Drain, n.Notes, err)
	}
}

func TestARunThatItsClusterWouldNeverStartIsRefusedAtSubmit(t *testing.T) {
	r, _ := startDrainable(t, slurm.DrainExclude)
	notes, err := r.admit(t.Context(), script(1))
	if err != nil || len(notes) != 1 {
		t.Errorf("one that fits: %v, %v", notes, err)
	}
	_, err = r.admit(t.Context(), script(1, func(s *forge.RunSpec) { s.TimeLimit = forge.Duration(1) }))
	if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "MaxTime") {
		t.Errorf("one that does not: %v", err)
	}
}

func TestAClusterIsCheckedByItsExecutorOrByTheDoctor(t *testing.T) {
	r, x := startDrainable(t, slurm.DrainExclude)
	x.findings = []slurm.Finding{{Name: "kill_wait", Status: slurm.FindingWarn, Found: "KillWait=3s", Means: "little time", Fix: "KillWait=30"}}
	cs := clusters{r.Daemon}
	got, err := cs.CheckCluster(t.Context(), r.op, "local", 7)
	want := api.Check{Name: "kill_wait", Status: api.CheckWarn, Found: "KillWait=3s", Means: "little time", Fix: "KillWait=30"}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := cs.CheckCluster(t.Context(), forge.Principal{Role: forge.RoleAdmin}, "local", 7); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("an admin: %v", err)
	}
	if _, err := cs.CheckCluster(t.Context(), r.op, "nowhere", 7); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("none: %v", err)
	}
	r.checking.begin("local")
	if _, err := cs.CheckCluster(t.Context(), r.op, "local", 7); forge.KindOf(err) != forge.KindConflict {
		t.Errorf("two at once: %v", err)
	}
	direct := start(t, 1)
	got, err = clusters{direct.Daemon}.CheckCluster(t.Context(), direct.op, "local", 7)
	if err != nil || len(got) < 2 || !strings.HasSuffix(got[0].Name, "/local") {
		t.Errorf("a direct cluster: %+v, %v", got, err)
	}
}
