package daemon

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/workdir"
)

// archiveOf is the snapshot of a directory with one file.
func archiveOf(t *testing.T, body string) (forge.Source, []byte) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "train.py"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	taken, err := workdir.Take(t.Context(), workdir.Options{Dir: dir}, &b)
	if err != nil {
		t.Fatal(err)
	}
	return taken.Source, b.Bytes()
}

func startForPrograms(t *testing.T) *rig {
	t.Helper()
	r := start(t, 4, func(o *Options) { o.Clusters[0].UserPrograms = true })
	r.refreshNodes(t.Context())
	return r
}

func (r *rig) otherTenant(t *testing.T) forge.Principal {
	t.Helper()
	made, err := tenants{r.Daemon}.CreateTenant(t.Context(), r.op, api.CreateTenantRequest{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	p := r.op
	p.Tenant, p.Role = made.ID, forge.RoleMember
	return p
}

func scriptRun(src *forge.Source) api.SubmitRunRequest {
	return api.SubmitRunRequest{Recipe: "script", Command: []string{"python", "train.py"}, Source: src}
}

func TestASnapshotIsKeptByItsDigestAndStaysWithTheRunThatUsesIt(t *testing.T) {
	r := startForPrograms(t)
	ss := snapshots{r.Daemon}
	src, archive := archiveOf(t, "print(1)\n")
	for range 2 {
		got, err := ss.AddSnapshot(t.Context(), r.op, src.SHA256, bytes.NewReader(archive))
		if err != nil || got != (api.Snapshot{SHA256: src.SHA256, Bytes: 9, Files: 1}) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	lied := src
	lied.Bytes, lied.Files = 1, 99
	out, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, scriptRun(&lied))
	if err != nil || *out.Run.Spec.Source != src {
		t.Fatalf("%+v, %v", out.Run.Spec.Source, err)
	}
	unused, archive2 := archiveOf(t, "print(2)\n")
	if _, err := ss.AddSnapshot(t.Context(), r.op, unused.SHA256, bytes.NewReader(archive2)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		there bool
	}{{snapshotLife - time.Hour, true}, {snapshotLife + time.Hour, false}} {
		if err := r.forgetSnapshots(time.Now().Add(c.after)); err != nil {
			t.Fatal(err)
		}
		if _, err := ss.Snapshot(t.Context(), r.op, unused.SHA256); (err == nil) != c.there {
			t.Errorf("after %s: %v", c.after, err)
		}
		if _, err := ss.Snapshot(t.Context(), r.op, src.SHA256); err != nil {
			t.Errorf("the used one after %s: %v", c.after, err)
		}
	}
	if _, err := (runs{r.Daemon}).SubmitRun(t.Context(), r.op, scriptRun(&unused)); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "source.sha256") {
		t.Errorf("a run of one that is gone: %v", err)
	}
	st, err := os.Stat(ss.file(r.op.Tenant, src.SHA256))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}

	t.Run("another tenant has none of it", func(t *testing.T) {
		p := r.otherTenant(t)
		if _, err := (runs{r.Daemon}).SubmitRun(t.Context(), p, scriptRun(&src)); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%v", err)
		}
	})
}

func TestWhatIsNoSnapshotIsNotKept(t *testing.T) {
	r := startForPrograms(t)
	r.configure(func(c *Config) { c.Limits.MaxSnapshotBytes = 1 << 20 })
	ss := snapshots{r.Daemon}
	src, archive := archiveOf(t, "print(1)\n")
	big, bigArchive := archiveOf(t, strings.Repeat("x", 1<<20+1))
	junk := []byte("hello")
	for name, c := range map[string]struct {
		digest, says string
		body         []byte
	}{
		"another digest": {strings.Repeat("0", 64), "the archive has the digest " + src.SHA256, archive},
		"no digest":      {"../../etc", "want 64 hexadecimal digits", archive},
		"too large":      {big.SHA256, "more than the 1048576 bytes", bigArchive},
		"no archive":     {"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "no snapshot of a directory", junk},
	} {
		if _, err := ss.AddSnapshot(t.Context(), r.op, c.digest, bytes.NewReader(c.body)); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	viewer := r.op
	viewer.Role = forge.RoleViewer
	if _, err := ss.AddSnapshot(t.Context(), viewer, src.SHA256, bytes.NewReader(archive)); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a viewer: %v", err)
	}
	if left, _ := os.ReadDir(ss.dir(r.op.Tenant, "new")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for n := range maxNewSnapshots {
		if err := os.MkdirAll(ss.dir(r.op.Tenant, "new", strings.Repeat("a", n+1)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ss.AddSnapshot(t.Context(), r.op, src.SHA256, bytes.NewReader(archive)); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("one too many: %v", err)
	}
}

func TestARepeatedUploadIsAnsweredAsTheFirst(t *testing.T) {
	r := startForPrograms(t)
	src, archive := archiveOf(t, "print(1)\n")
	p := r.op
	p.Once = forge.Once{Op: "add-snapshot", Key: "k", Digest: "d"}
	if _, err := (snapshots{r.Daemon}).AddSnapshot(t.Context(), p, src.SHA256, bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	if ref, err := r.Earlier(t.Context(), p); err != nil || ref != src.SHA256 {
		t.Errorf("%q, %v", ref, err)
	}
	p.Once.Digest = "another"
	if _, err := r.Earlier(t.Context(), p); forge.KindOf(err) != forge.KindConflict {
		t.Errorf("%v", err)
	}
}

func TestWhoMayRunWhatProgram(t *testing.T) {
	r := start(t, 4)
	r.refreshNodes(t.Context())
	submit := func(change func(*api.SubmitRunRequest)) (forge.RunSpec, []string, error) {
		q := scriptRun(nil)
		change(&q)
		return r.resolveSpec(context.Background(), r.op, q)
	}
	if _, _, err := submit(func(*api.SubmitRunRequest) {}); forge.KindOf(err) != forge.KindForbidden || !strings.Contains(forge.HintOf(err), "user_programs: true") {
		t.Errorf("where no operator allows it: %v", err)
	}
	s := *r.live()
	c := *s.clusters["local"]
	c.UserPrograms = true
	s.clusters = map[forge.ClusterName]*Cluster{"local": &c}
	r.settings.Store(&s)
	spec, notes, err := submit(func(q *api.SubmitRunRequest) { q.Launch = forge.LaunchNode })
	if err != nil || spec.Launch != forge.LaunchNode || len(spec.Entry.Command) != 2 || spec.StallTimeout != 0 || len(notes) != 0 {
		t.Errorf("%+v, %q, %v", spec, notes, err)
	}
	_, notes, err = submit(func(q *api.SubmitRunRequest) { q.Command, q.GPUsPerNode = []string{"/venv/bin/torchrun", "x.py"}, 2 })
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "--launch node") {
		t.Errorf("a launcher for each GPU: %q, %v", notes, err)
	}
	for name, c := range map[string]struct {
		field  string
		change func(*api.SubmitRunRequest)
	}{
		"no command":                {"command", func(q *api.SubmitRunRequest) { q.Command = nil }},
		"an empty program":          {"command", func(q *api.SubmitRunRequest) { q.Command = []string{"", "x"} }},
		"bytes that are no text":    {"command", func(q *api.SubmitRunRequest) { q.Command = []string{"a\x00b"} }},
		"a novel":                   {"command", func(q *api.SubmitRunRequest) { q.Command = []string{strings.Repeat("x", maxWordsBytes)} }},
		"another launch":            {"launch", func(q *api.SubmitRunRequest) { q.Launch = "gang" }},
		"a source that is a path":   {"sha256", func(q *api.SubmitRunRequest) { q.Source = &forge.Source{SHA256: "../x"} }},
		"a root with control codes": {"source.root", func(q *api.SubmitRunRequest) { q.Source = &forge.Source{Root: "a\x1b[2J"} }},
	} {
		if _, _, err := submit(c.change); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rec, err := s.recipes.Get("lora_sft")
	if err != nil {
		t.Fatal(err)
	}
	var none forge.RunSpec
	if _, err := r.resolveProgram(r.op, &none, scriptRun(nil), rec); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(forge.HintOf(err), "run submit script") || !strings.Contains(forge.HintOf(err), "--comment=paper") {
		t.Errorf("a command for a recipe that has one: %v (%s)", err, forge.HintOf(err))
	}
}
