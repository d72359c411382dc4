package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

const later = 100 * 24 * time.Hour

// keeping is a daemon whose outputs are copied.
func keeping(t *testing.T) (r *rig, root string) {
	t.Helper()
	root = t.TempDir()
	return start(t, 4, func(o *Options) { o.Clusters[0].ArtifactRoot = root }), root
}

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// leaves has a run save at some steps and end, with what it leaves on the disk.
func (r *rig) leaves(t *testing.T, register string, steps ...int64) (run forge.Run, dir string) {
	t.Helper()
	run = r.submit(t, script(1, func(s *forge.RunSpec) { s.Register = register }))
	key := r.launched(t, run.ID, 1)
	dir = filepath.Join(r.live().clusters["local"].RunRoot, string(run.ID), "attempts", "0001")
	r.fake.Start(key)
	put(t, filepath.Join(dir, "metrics.jsonl"), "{}\n")
	for _, step := range steps {
		path := filepath.Join(dir, "checkpoints", fmt.Sprintf("checkpoint-%d", step))
		put(t, filepath.Join(path, "forge_manifest.json"), "{}")
		put(t, filepath.Join(path, "optimizer.pt"), strings.Repeat("o", 1<<16))
		r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: step, World: 1, Path: path})
	}
	m := output(t, adapterFiles)
	if err := os.CopyFS(filepath.Join(dir, "output"), os.DirFS(m.Root)); err != nil {
		t.Fatal(err)
	}
	m.Root = filepath.Join(dir, "output")
	r.fake.Exit(key, executortest.Ending{Output: m}, 0)
	return r.await(t, run.ID, "completed", inState(forge.RunCompleted)), dir
}

func (r *rig) gc(t *testing.T, remove bool) api.GCReport {
	t.Helper()
	out, err := collector{r.Daemon}.collect(t.Context(), r.op, api.GCQuery{}, remove, time.Now().Add(later))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func kinds(all []api.GCSum) (out []string) {
	for _, s := range all {
		out = append(out, fmt.Sprintf("%d %s: %s", s.Count, s.Kind, s.Why))
	}
	return out
}

func isThere(path string) bool { _, err := os.Lstat(path); return err == nil }

func TestARegisteredOutputIsTheCopyAndOldCheckpointsGo(t *testing.T) {
	r, root := keeping(t)
	run, dir := r.leaves(t, "bot", 10, 20, 30)
	v, err := r.db.ModelOfRun(t.Context(), run.ID)
	if err != nil || v.Manifest.Root != artefact.Place(root, string(r.op.Tenant), v.SHA256) {
		t.Fatalf("%+v, %v", v, err)
	}
	plan := r.gc(t, false)
	goes := []string{"2 checkpoint: a newer one of its run is verified", "1 output: its version has its bytes elsewhere"}
	if got := kinds(plan.Goes); !slices.Equal(got, goes) || plan.Bytes < 2<<16 || plan.Removed || len(plan.Failed) > 0 {
		t.Errorf("%q; %+v", got, plan)
	}
	stays := []string{"1 attempt: it completed: its logs and metrics", "1 checkpoint: the newest verified one of its run", "1 copy: a registered version lies there"}
	if got := kinds(plan.Stays); !slices.Equal(got, stays) {
		t.Errorf("%q", got)
	}
	if got := kinds(r.gc(t, true).Goes); !slices.Equal(got, goes) {
		t.Errorf("%q went", got)
	}
	for path, want := range map[string]bool{"checkpoints/checkpoint-10": false, "checkpoints/checkpoint-20": false, "checkpoints/checkpoint-30": true, "output": false, "metrics.jsonl": true} {
		if isThere(filepath.Join(dir, path)) != want {
			t.Errorf("%s is there: %v", path, !want)
		}
	}
	saves, err := r.db.CheckpointsOf(t.Context(), run.ID)
	if err != nil || len(saves) != 3 || !saves[0].Removed.IsZero() || saves[1].Removed.IsZero() || saves[2].Removed.IsZero() {
		t.Errorf("%+v, %v", saves, err)
	}
	f, err := r.rehash(t.Context(), r.op, v)
	if err != nil || f.OK || !strings.Contains(f.Words, "base") { // it was trained on none that is registered
		t.Errorf("%+v, %v", f, err)
	}
	if again := r.gc(t, true); again.Count != 0 || len(artefact.Trash(r.live().clusters["local"].RunRoot)) > 0 {
		t.Errorf("a second one: %+v", again)
	}
}

func TestWithoutAnArtefactRootTheOutputStaysWhereItIs(t *testing.T) {
	r := start(t, 4)
	_, dir := r.leaves(t, "bot", 10)
	_, bare := r.leaves(t, "", 10)
	if got := kinds(r.gc(t, true).Goes); len(got) > 0 {
		t.Errorf("%q went", got)
	}
	if !isThere(filepath.Join(dir, "output")) || !isThere(filepath.Join(bare, "output")) {
		t.Error("an output is gone")
	}
}

func TestWhatIsNeededBetweenThePlanAndTheRemovalStays(t *testing.T) {
	r, _ := keeping(t)
	begins := func(t *testing.T, change func(run forge.Run, dir string)) (gone bool) {
		run, dir := r.leaves(t, fmt.Sprintf("m%d", time.Now().UnixNano()), 10, 20)
		g := &gcPass{d: r.Daemon, p: r.op, tenant: r.op.Tenant, remove: true, now: time.Now().Add(later), cutoff: time.Now()}
		uses, err := r.db.UsesOf(t.Context(), "", g.branchesSince())
		if err != nil {
			t.Fatal(err)
		}
		o, err := r.db.OldRun(t.Context(), run.ID)
		if err != nil {
			t.Fatal(err)
		}
		change(run, dir)
		g.oldRun(t.Context(), r.live().clusters["local"], o, uses) // by what was known before
		return !isThere(filepath.Join(dir, "checkpoints/checkpoint-10"))
	}
	if !begins(t, func(forge.Run, string) {}) {
		t.Error("nothing happened, and it stays")
	}
	if begins(t, func(run forge.Run, _ string) {
		if _, err := (runs{r.Daemon}).RetryRun(t.Context(), r.op, fmt.Sprint(run.Number)); err != nil {
			t.Fatal(err)
		}
	}) {
		t.Error("its run was submitted again")
	}
	if begins(t, func(run forge.Run, dir string) {
		r.submit(t, script(1, func(s *forge.RunSpec) {
			s.ResumeFrom = &forge.BranchPoint{Run: run.ID, Number: run.Number, Attempt: 1, Step: 10, Path: dir + "/checkpoints/checkpoint-10", SHA256: "x"}
		}))
	}) {
		t.Error("another run begins there")
	}
	if begins(t, func(_ forge.Run, dir string) {
		m := output(t, wholeFiles)
		m.Root = filepath.Join(dir, "checkpoints/checkpoint-10")
		if _, err := r.db.For(r.op).AddModelVersion(t.Context(), forge.ModelVersion{Name: "saved", Kind: forge.ModelTrained, Manifest: *m}); err != nil {
			t.Fatal(err)
		}
	}) {
		t.Error("it was registered")
	}
	if begins(t, func(_ forge.Run, dir string) { // the purge of scratch was quicker: now it is the newest that there is
		if err := os.RemoveAll(filepath.Join(dir, "checkpoints/checkpoint-20")); err != nil {
			t.Fatal(err)
		}
	}) {
		t.Error("the newest one is gone from the disk")
	}
	old := usingPatience
	usingPatience = 0
	defer func() { usingPatience = old }()
	if begins(t, func(forge.Run, string) {
		r.using.RLock()
		t.Cleanup(r.using.RUnlock)
	}) {
		t.Error("somebody was about to use it")
	}
}

func TestARemovalThatWasCutOffIsFinished(t *testing.T) {
	r, _ := keeping(t)
	run, dir := r.leaves(t, "bot", 10, 20)
	root := r.live().clusters["local"].RunRoot
	rel, err := filepath.Rel(root, filepath.Join(dir, "checkpoints/checkpoint-10"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := artefact.Away(root, rel); err != nil { // and killed, before it was noted
		t.Fatal(err)
	}
	got := r.gc(t, true)
	if !slices.Contains(kinds(got.Goes), "1 incoming: a removal that was cut off") || len(artefact.Trash(root)) > 0 {
		t.Errorf("%+v", got)
	}
	if saves, err := r.db.CheckpointsOf(t.Context(), run.ID); err != nil || saves[1].Removed.IsZero() || !saves[0].Removed.IsZero() {
		t.Errorf("%+v, %v", saves, err)
	}
}

// lostFirst has a run lose its first attempt, which saved, and complete in the second, which saved, too.
func (r *rig) lostFirst(t *testing.T) (run forge.Run, runDir string) {
	t.Helper()
	run = r.submit(t, script(1))
	runDir = filepath.Join(r.live().clusters["local"].RunRoot, string(run.ID))
	for n := 1; n <= 2; n++ {
		key := r.launched(t, run.ID, n)
		path := filepath.Join(attemptDir(runDir, n), "checkpoints", fmt.Sprintf("checkpoint-%d", 10*n))
		put(t, filepath.Join(path, "forge_manifest.json"), "{}")
		r.fake.Start(key)
		r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: n, Step: int64(10 * n), World: 1, Path: path})
		if n == 1 {
			r.fake.Lose(key)
		} else {
			r.fake.Exit(key, executortest.Ending{Output: output(t, adapterFiles)}, 0)
		}
	}
	return r.await(t, run.ID, "completed", inState(forge.RunCompleted)), runDir
}

func TestTheCheckpointsOfAnAttemptThatWasMovedAwayAreMarkedByTheNextOne(t *testing.T) {
	r, _ := keeping(t)
	run, dir := r.lostFirst(t)
	root := r.live().clusters["local"].RunRoot
	marked := func() (steps []int64) {
		saves, err := r.db.CheckpointsOf(t.Context(), run.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range saves {
			if !c.Removed.IsZero() {
				steps = append(steps, c.Step)
			}
		}
		return steps
	}
	if err := os.Rename(dir, dir+".away"); err != nil { // its filesystem is not mounted
		t.Fatal(err)
	}
	if r.gc(t, true); len(marked()) > 0 {
		t.Errorf("%v are said to be removed, and nobody knows", marked())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := artefact.Away(root, string(run.ID)+"/attempts/0001"); err != nil { // and killed, before it was noted
		t.Fatal(err)
	}
	if r.gc(t, true); !slices.Equal(marked(), []int64{10}) {
		t.Errorf("%v are said to be removed, want 10", marked())
	}
}

func TestTheNewestCheckpointIsReadAgainBeforeOlderOnesGo(t *testing.T) {
	r, _ := keeping(t)
	run, dir := r.leaves(t, "bot", 10, 20, 30)
	at := func(step int) string { return filepath.Join(dir, "checkpoints", fmt.Sprintf("checkpoint-%d", step)) }
	r.fake.Silence(true) // whoever cannot be asked has not said that it is whole
	if got := r.gc(t, true); len(got.Failed) != 1 || !strings.Contains(got.Failed[0].Why, "could not be read again") || !isThere(at(10)) || !isThere(filepath.Join(dir, "output")) {
		t.Errorf("%+v", got)
	}
	r.fake.Silence(false)
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 30, World: 1, Path: at(30), Verdict: forge.VerdictTorn, Why: "optimizer.pt does not have the sha256 that the manifest says"})
	got := r.gc(t, true)
	if len(got.Failed) != 1 || got.Failed[0].Step != 30 || !strings.Contains(got.Failed[0].Why, "optimizer.pt does not have the sha256") || !strings.Contains(got.Failed[0].Why, "rm -r "+at(30)) {
		t.Errorf("%+v", got.Failed)
	}
	if isThere(at(10)) || !isThere(at(20)) || !isThere(at(30)) {
		t.Error("the newest that reads whole is gone, or the rotten one is, or an older one is not")
	}
}

func TestALinkInTheRunsDirectoryIsNotFollowed(t *testing.T) {
	r, _ := keeping(t)
	_, dir := r.leaves(t, "evil", 10, 20)
	victim := filepath.Join(t.TempDir(), "checkpoints")
	if err := os.Rename(filepath.Join(dir, "checkpoints"), victim); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "checkpoints")); err != nil {
		t.Fatal(err)
	}
	got := r.gc(t, true)
	if !slices.ContainsFunc(got.Failed, func(x api.GCItem) bool { return strings.Contains(x.Why, "symbolic link") }) || !isThere(filepath.Join(victim, "checkpoint-10")) {
		t.Errorf("%+v", got)
	}
}

func TestCopiesOfNoVersionGoWhenTheyAreOld(t *testing.T) {
	r, root := keeping(t)
	digest := strings.Repeat("a", 64)
	put(t, filepath.Join(root, string(r.op.Tenant), digest, "w"), "w")
	put(t, filepath.Join(root, string(r.op.Tenant), artefact.HalfPrefix+strings.Repeat("b", 64), "w"), "w")
	put(t, filepath.Join(root, string(r.op.Tenant), "somebodys", "w"), "w")
	put(t, filepath.Join(root, "01OTHER", digest, "w"), "w")
	young, err := collector{r.Daemon}.collect(t.Context(), r.op, api.GCQuery{}, true, time.Now())
	if err != nil || young.Count != 0 {
		t.Errorf("%+v, %v", young, err)
	}
	got := r.gc(t, true)
	if want := []string{"1 copy: no version has it", "1 incoming: a copy that was cut off"}; !slices.Equal(kinds(got.Goes), want) {
		t.Errorf("%q", kinds(got.Goes))
	}
	if !isThere(filepath.Join(root, string(r.op.Tenant), "somebodys")) || !isThere(filepath.Join(root, "01OTHER", digest)) || isThere(filepath.Join(root, string(r.op.Tenant), digest)) {
		t.Error("another's went, or its own stays")
	}
}

func TestFilesOfPeopleAreNamedAndLeftToThem(t *testing.T) {
	r := start(t, 4)
	_, dir := r.leaves(t, "bot", 10, 20)
	r.live().clusters["local"].AsUser = true
	got := r.gc(t, true)
	if got.Count != 0 || !isThere(filepath.Join(dir, "checkpoints/checkpoint-10")) || !slices.ContainsFunc(got.Stays, func(s api.GCSum) bool {
		return s.Yours && s.Kind == api.GCCheckpoint && strings.Contains(s.Why, "belongs to the run's owner")
	}) {
		t.Errorf("%+v", got)
	}
}

func TestGCIsForAdminsAndTheSiteForOperators(t *testing.T) {
	r := start(t, 1)
	for role, site := range map[forge.Role]bool{forge.RoleMember: false, forge.RoleAdmin: true} {
		p := r.op
		p.Role = role
		if _, err := (collector{r.Daemon}).GCPlan(t.Context(), p, api.GCQuery{Site: site}); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("%s, site %v: %v", role, site, err)
		}
	}
	if _, err := (collector{r.Daemon}).GCPlan(t.Context(), r.op, api.GCQuery{Site: true, OlderThan: forge.Duration(time.Minute)}); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a minute: %v", err)
	}
	r.collecting.Lock()
	defer r.collecting.Unlock()
	if _, err := (collector{r.Daemon}).GCRun(t.Context(), r.op, api.GCQuery{}); forge.KindOf(err) != forge.KindConflict {
		t.Errorf("two at once: %v", err)
	}
}
