//go:build e2e && long

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// forgeUsers is the group of the people that forged may act as: here it is the project's as well.
const forgeUsers = 4300

// learns is a recipe that needs no torch: first leaves weights, more reads those of its base and adds to them.
const learns = `name: %s
doc: Weights that show what they were made from
launch: rank
entry:
  command: [/bin/sh, -c, %q]
datasets: []
needs_dataset: false
needs_base: %t
output: true
gang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}
limits: {time_limit: 10m, grace: 2s}
params: []
`

// TestWhatAPersonTrainedIsKeptAsTheirsAndOutlivesScratch: the version of a person's run is the copy that the helper made as them; scratch is purged, it
// reads whole, another member of the project trains on it, and what its owner changes in it is found.
func TestWhatAPersonTrainedIsKeptAsTheirsAndOutlivesScratch(t *testing.T) {
	if !slurmtest.AmongPeople(t, filepath.Join(binDir(t), "forged")) {
		return
	}
	kept := ""
	ctx, p := openAsPeople(t, func(p *asPeople, o *forgedtest.Options) {
		kept = filepath.Join(p.scratch, "kept")
		for name, uid := range map[string]int{"alice": slurmtest.AliceUID, "bob": slurmtest.BobUID} {
			dir := filepath.Join(kept, name)
			must(t, os.MkdirAll(dir, 0o755))
			must(t, os.Chown(dir, uid, forgeUsers))
			must(t, os.Chmod(dir, 0o750|os.ModeSetgid))
		}
		o.Clusters = strings.Replace(o.Clusters, "    slurm:\n", fmt.Sprintf("    artifact_root: %q\n    slurm:\n", filepath.Join(kept, "{account}")), 1)
		recipes := filepath.Join(o.Dir, "recipes")
		must(t, os.MkdirAll(recipes, 0o755))
		write(t, filepath.Join(recipes, "first.yaml"), fmt.Sprintf(learns, "first", `mkdir -p "$FORGE_OUTPUT_DIR" && echo '{}' >"$FORGE_OUTPUT_DIR/config.json" && echo "by $(id -un)" >"$FORGE_OUTPUT_DIR/model.safetensors"`, false))
		write(t, filepath.Join(recipes, "more.yaml"), fmt.Sprintf(learns, "more",
			`base=$(grep -o '"[^"]*/kept/[^"]*"' "$FORGE_CONFIG" | head -1 | tr -d '"') && mkdir -p "$FORGE_OUTPUT_DIR" && echo '{}' >"$FORGE_OUTPUT_DIR/config.json" && { cat "$base/model.safetensors" && echo "then by $(id -un)"; } >"$FORGE_OUTPUT_DIR/model.safetensors"`, true))
	})
	if out, err := p.Daemon(ctx, "config", "check", "--state-dir", p.State()).CombinedOutput(); err != nil {
		t.Errorf("config check: %v %s", err, out)
	}
	alice, bob := p.person(t, ctx, "ina", "--unix-uid", fmt.Sprint(slurmtest.AliceUID)), p.person(t, ctx, "tom", "--unix-uid", fmt.Sprint(slurmtest.BobUID))

	var sub api.Submitted
	must(t, alice.CtlJSON(ctx, &sub, "run", "submit", "first", "--register", "bot"))
	d := until(t, ctx, alice, fmt.Sprint(sub.Run.Number), "over", ended)
	if d.State != forge.RunCompleted || d.Model != "bot@1" {
		out, _ := alice.Ctl(ctx, "run", "events", fmt.Sprint(sub.Run.Number))
		t.Fatalf("it ended %s, %s; registered %q\n%s", d.State, d.Reason, d.Model, out)
	}
	version := func(s *forgedtest.Site, name string) forge.ModelVersion {
		t.Helper()
		var m forge.Model
		must(t, s.CtlJSON(ctx, &m, "model", "show", name))
		return m.Versions[0]
	}
	v := version(alice, "bot")
	if in := filepath.Dir(filepath.Dir(v.Manifest.Root)); in != filepath.Join(kept, "alice") || filepath.Base(v.Manifest.Root) != v.SHA256 || v.Manifest.Digest() != v.SHA256 {
		t.Fatalf("%s is no copy of hers", v.Manifest.Root)
	}
	must(t, filepath.Walk(v.Manifest.Root, func(path string, st os.FileInfo, err error) error {
		if err == nil && (st.Sys().(*syscall.Stat_t).Uid != slurmtest.AliceUID || st.Sys().(*syscall.Stat_t).Gid != forgeUsers || st.Mode().Perm()&0o222 != 0 && !st.IsDir()) {
			t.Errorf("%s: %s of %+v", path, st.Mode(), st.Sys())
		}
		return err
	}))
	if out, err := p.asAccount(ctx, slurmtest.ForgeUID, "ls", v.Manifest.Root); err == nil {
		t.Errorf("forged's account sees %s", out)
	}

	must(t, os.RemoveAll(filepath.Join(p.scratch, "alice", "forge"))) // the purge of scratch
	if out, err := alice.Ctl(ctx, "model", "verify", "bot@1"); err != nil {
		t.Errorf("after the purge: %v %s", err, out)
	}
	if _, err := alice.Ctl(ctx, "model", "import", "mine", v.Manifest.Root); err == nil {
		t.Error("a path among the copies was imported")
	}
	must(t, bob.CtlJSON(ctx, &sub, "run", "submit", "more", "--base", "bot@1", "--register", "better"))
	d = until(t, ctx, bob, fmt.Sprint(sub.Run.Number), "over", ended)
	if d.State != forge.RunCompleted || d.Model != "better@1" {
		out, _ := bob.Ctl(ctx, "run", "logs", fmt.Sprint(sub.Run.Number))
		t.Fatalf("the next run ended %s, %s; registered %q\n%s", d.State, d.Reason, d.Model, out)
	}
	w := version(bob, "better")
	b, err := os.ReadFile(filepath.Join(w.Manifest.Root, "model.safetensors"))
	if err != nil || string(b) != "by alice\nthen by bob\n" || !strings.HasPrefix(w.Manifest.Root, filepath.Join(kept, "bob")+"/") {
		t.Errorf("%s has %q, %v", w.Manifest.Root, b, err)
	}
	var r api.GCReport
	must(t, p.CtlJSON(ctx, &r, "gc", "--site", "--dry-run", "--older-than", "1h"))
	if len(r.Failed) > 0 || !strings.Contains(fmt.Sprint(r.Stays), "a registered version lies there") {
		t.Errorf("gc: %+v", r)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.Pid(), fd.Name())); err == nil && strings.HasPrefix(to, kept) {
			t.Errorf("forged has %s", to)
		}
	}
	if out, err := p.asAccount(ctx, slurmtest.AliceUID, "/bin/sh", "-c", fmt.Sprintf("chmod u+w %[1]s/model.safetensors && echo 'by alicE' >%[1]s/model.safetensors", v.Manifest.Root)); err != nil {
		t.Fatal(out, err)
	}
	if out, err := alice.Ctl(ctx, "model", "verify", "bot@1"); err == nil || !strings.Contains(out+err.Error(), "its content is different") {
		t.Errorf("what she changed: %v %s", err, out)
	}
	if _, err := bob.Ctl(ctx, "run", "submit", "more", "--base", "bot@1"); err == nil || !strings.Contains(err.Error(), "model.safetensors") {
		t.Errorf("a run on it: %v", err)
	}
}
