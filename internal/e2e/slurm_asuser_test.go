//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// asPeople is a site whose forged is an ordinary account and whose jobs belong to people.
type asPeople struct {
	*forgedtest.Site
	cluster *slurmtest.Cluster
	scratch string
}

// openAsPeople starts one; what before does is there before forged is.
func openAsPeople(t *testing.T, before ...func(*asPeople, *forgedtest.Options)) (context.Context, *asPeople) {
	t.Helper()
	p := &asPeople{cluster: slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2})}
	own := func(path string, uid int, mode os.FileMode) {
		t.Helper()
		must(t, errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, uid, uid), os.Chmod(path, mode)))
	}
	var err error
	p.scratch, err = os.MkdirTemp("/tmp", "fscratch")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(p.scratch) })
	must(t, os.Chmod(p.scratch, 0o755))
	own(filepath.Join(p.scratch, "alice"), slurmtest.AliceUID, 0o700)
	own(filepath.Join(p.scratch, "bob"), slurmtest.BobUID, 0o700)
	own(filepath.Join(p.scratch, "share"), slurmtest.ForgeUID, 0o755)
	site, bin := filepath.Join(p.scratch, "site"), filepath.Join(p.scratch, "bin")
	own(site, slurmtest.ForgeUID, 0o755)
	own(bin, 0, 0o755)
	for _, name := range []string{"forged", "forgectl", "proberank"} { // the build's directory is not everyone's to see
		b, err := os.ReadFile(filepath.Join(binDir(t), name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(bin, name), b, 0o755))
	}
	root := filepath.Join(p.scratch, "{account}", "forge")
	must(t, os.WriteFile("/etc/forge/forge-as.yaml", fmt.Appendf(nil, "clusters:\n  hpc:\n    run_roots: [%q]\n    artifact_roots: [%q]\n    bin: %s\n    conf: %s\n", root, filepath.Join(p.scratch, "kept", "{account}"), p.cluster.Bin, p.cluster.Conf), 0o644))
	ctx, s := openFor(t, 3*time.Minute, func(o *forgedtest.Options) {
		o.Bin, o.Dir, o.User = bin, site, &syscall.Credential{Uid: slurmtest.ForgeUID, Gid: slurmtest.ForgeUID}
		o.ServeEnv = []string{"PLANTED_SECRET=swordfish"}
		o.Clusters = fmt.Sprintf(`  - name: hpc
    kind: slurm
    run_root: %q
    slurm:
      bin: %s
      conf: %s
      share: %s
      identity: as_user
      poll_every: 1s
      nodes_every: 5s
`, root, p.cluster.Bin, p.cluster.Conf, filepath.Join(p.scratch, "share"))
		for _, f := range before {
			f(p, o)
		}
	})
	p.Site = s
	return ctx, p
}

// person makes a user of forge, and is the site for them.
func (p *asPeople) person(t *testing.T, ctx context.Context, name string, args ...string) *forgedtest.Site {
	t.Helper()
	_, err := p.Ctl(ctx, append([]string{"user", "create", name}, args...)...)
	must(t, err)
	var k api.CreatedKey
	must(t, p.CtlJSON(ctx, &k, "key", "create", name))
	return p.As(k.Secret)
}

func (p *asPeople) asAccount(ctx context.Context, uid uint32, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func TestAPersonsRunIsThePersonsOnSlurm(t *testing.T) {
	if !slurmtest.AmongPeople(t, filepath.Join(binDir(t), "forged")) {
		return
	}
	ctx, p := openAsPeople(t)
	if out, err := p.Daemon(ctx, "config", "check", "--state-dir", p.State()).CombinedOutput(); err != nil {
		t.Errorf("config check: %v %s", err, out)
	}
	alice, nobody := p.person(t, ctx, "ina", "--unix-uid", fmt.Sprint(slurmtest.AliceUID)), p.person(t, ctx, "nouid")

	t.Run("who has no account is refused when submitting", func(t *testing.T) {
		_, err := nobody.Ctl(ctx, "run", "submit", "probe")
		if forgedtest.ExitCode(err) != 7 || !strings.Contains(err.Error(), "nouid has no unix_uid") || !strings.Contains(err.Error(), "--unix-uid") {
			t.Errorf("got %v", err)
		}
	})
	var sub api.Submitted
	must(t, alice.CtlJSON(ctx, &sub, "run", "submit", "probe", "--nodes", "2", "--gpus-per-node", "2", "--set", "steps=40", "--set", "step_ms=100"))
	run := fmt.Sprint(sub.Run.Number)
	dir := filepath.Join(p.scratch, "alice", "forge", string(sub.Run.ID))

	t.Run("Slurm says that the job is hers", func(t *testing.T) {
		name := "forge-hpc-" + string(sub.Run.ID) + ".1"
		var said string
		if err := p.cluster.Until("the job is there", func() bool {
			out, err := p.cluster.Run("squeue", "-h", "-t", "all", "--name="+name, "-o", "%u %T")
			said = strings.TrimSpace(out)
			return err == nil && said != ""
		}); err != nil || !strings.HasPrefix(said, "alice ") {
			t.Errorf("%q, %v", said, err)
		}
	})
	d := until(t, ctx, alice, run, "over", ended)
	if d.State != forge.RunCompleted || d.Step != 40 {
		t.Fatalf("it ended %s at step %d: %s", d.State, d.Step, d.Reason)
	}
	t.Run("its files are hers, and closed to forged's account", func(t *testing.T) {
		files := 0
		must(t, filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			files++
			if uid := st.Sys().(*syscall.Stat_t).Uid; uid != slurmtest.AliceUID {
				t.Errorf("%s belongs to %d", path, uid)
			}
			return nil
		}))
		if files < 10 {
			t.Errorf("only %d files", files)
		}
		if out, err := p.asAccount(ctx, slurmtest.ForgeUID, "ls", dir); err == nil {
			t.Errorf("forged's account sees %s", out)
		}
	})
	t.Run("what forged knows of it came through the helper", func(t *testing.T) {
		if out, err := alice.Ctl(ctx, "run", "logs", run); err != nil || out == "" {
			t.Errorf("logs: %q, %v", out, err)
		}
		if out, err := alice.Ctl(ctx, "run", "metrics", run); err != nil || !strings.HasPrefix(out, "loss\t") {
			t.Errorf("metrics: %q, %v", out, err)
		}
		if out, err := alice.Ctl(ctx, "run", "checkpoints", run); err != nil || !strings.Contains(out, "40") {
			t.Errorf("checkpoints: %q, %v", out, err)
		}
	})
	t.Run("a program of her own goes through the helper, too, and is hers where it runs", func(t *testing.T) {
		work := filepath.Join(p.scratch, "work")
		write(t, filepath.Join(work, "hello.sh"), "cat note.txt && id -un && stat -c 'of %U' hello.sh\n")
		write(t, filepath.Join(work, "note.txt"), "from a directory of mine\n")
		said, err := alice.Ctl(ctx, "run", "submit", "script", "--workdir", work, "--cpus-per-gpu", "1", "--mem-per-gpu", "64M", "--time", "5m", "--", "/bin/sh", "hello.sh")
		must(t, err)
		n, _, _ := strings.Cut(said, "\t")
		d := until(t, ctx, alice, n, "over", ended)
		out, err := alice.Ctl(ctx, "run", "logs", n)
		if err != nil || d.State != forge.RunCompleted || !strings.Contains(out, "from a directory of mine\nalice\nof alice\n") {
			t.Errorf("it ended %s (%s) and printed %q, %v", d.State, d.Reason, out, err)
		}
	})
	t.Run("no file of hers is open in forged", func(t *testing.T) {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
		must(t, err)
		for _, fd := range fds {
			if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.Pid(), fd.Name())); err == nil && strings.HasPrefix(to, filepath.Join(p.scratch, "alice")) {
				t.Errorf("forged has %s", to)
			}
		}
	})
	t.Run("a long one is cancelled, and its job is gone", func(t *testing.T) {
		var long api.Submitted
		must(t, alice.CtlJSON(ctx, &long, "run", "submit", "probe", "--set", "steps=1000000", "--set", "step_ms=100"))
		n := fmt.Sprint(long.Run.Number)
		until(t, ctx, alice, n, "running", func(r api.RunDetail) bool { return r.State == forge.RunRunning })
		p.ranks(t, long.Run.ID)
		_, err := alice.Ctl(ctx, "run", "cancel", n)
		must(t, err)
		if d := until(t, ctx, alice, n, "over", ended); d.State != forge.RunCancelled {
			t.Errorf("it is %s", d.State)
		}
		must(t, p.cluster.Until("the job is gone", func() bool {
			out, err := p.cluster.Run("squeue", "-h", "-o", "%j")
			return err == nil && !strings.Contains(out, string(long.Run.ID))
		}))
	})
}

// ranks looks at the environment of a run's processes: they are hers, and nothing of forged's is in it.
func (p *asPeople) ranks(t *testing.T, run forge.RunID) {
	t.Helper()
	found := 0
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, []byte("FORGE_RUN_ID="+string(run))) {
			continue // gone, or another's
		}
		found++
		if st, err := os.Stat(filepath.Dir(path)); err == nil && st.Sys().(*syscall.Stat_t).Uid != slurmtest.AliceUID {
			t.Errorf("%s belongs to %d", path, st.Sys().(*syscall.Stat_t).Uid)
		}
		for _, leak := range []string{"swordfish", "SUDO_", "FORGE_API_KEY"} {
			if bytes.Contains(b, []byte(leak)) {
				t.Errorf("%s has %s", path, leak)
			}
		}
	}
	if found == 0 {
		t.Error("no rank was found")
	}
}
