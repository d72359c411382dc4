package slurm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// The helper of these tests is this very program, installed as the real one is.
func init() {
	if filepath.Base(os.Args[0]) == HelperName {
		syscall.Exit(HelperMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
}

// people runs a test where there are some, with this program as the helper.
func people(t *testing.T) bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return slurmtest.AmongPeople(t, self)
}

// crowd is a cluster with people, and forged's hand among them.
type crowd struct {
	*AsUser
	slurm   *slurmtest.Cluster
	o       Options
	scratch string
	n       int
}

const probeShim = `#!/bin/bash
while (($#)); do case $1 in --run-dir) run=$2 ;; --attempt) attempt=$2 ;; esac; shift; done
dir=$run/attempts/$(printf %04d "$attempt")
{ id -un; id -gn; umask; env; } >"$dir/seen.tmp" && mv "$dir/seen.tmp" "$dir/seen"
sleep "${PROBE_SLEEP:-600}"
`

func gather(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{slurm: slurmtest.Up(t, slurmtest.Options{Nodes: 1})}
	var err error
	if c.scratch, err = os.MkdirTemp("/tmp", "fscratch"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(c.scratch) })
	shim := c.put(t, "shim", probeShim, 0o755)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(c.scratch, 0o755))
	for name, uid := range map[string]int{"alice": 4301, "bob": 4302} {
		must(os.Mkdir(filepath.Join(c.scratch, name), 0o700))
		must(os.Chown(filepath.Join(c.scratch, name), uid, uid))
	}
	must(os.Mkdir(filepath.Join(c.scratch, "shared"), 0o755))
	must(os.Chmod(filepath.Join(c.scratch, "shared"), 0o1777|os.ModeSticky))
	must(os.Mkdir(filepath.Join(c.scratch, "loose"), 0o755))
	must(os.Chmod(filepath.Join(c.scratch, "loose"), 0o777))
	c.configure(t, "allow: [comment]")
	// forged is not root: sudo is asked by its account.
	as := c.put(t, "sudo", "#!/bin/sh\nexec setpriv --reuid=forge --regid=forge --init-groups -- sudo \"$@\"\n", 0o755)
	c.AsUser = &AsUser{Cluster: "lab", Sudo: as}
	c.o = Options{Cluster: "lab", Tools: Tools{Bin: c.slurm.Bin, Conf: c.slurm.Conf}, Shim: shim}
	return c
}

func (c *crowd) put(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(c.scratch, name)
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *crowd) configure(t *testing.T, more string) {
	t.Helper()
	text := fmt.Sprintf("clusters:\n  lab:\n    run_roots: [\"%[1]s/{account}/forge\", %[1]s/shared, %[1]s/loose]\n    bin: %[2]s\n    conf: %[3]s\n    inputs: [%[1]s/data]\n    %[4]s\n",
		c.scratch, c.slurm.Bin, c.slurm.Conf, more)
	if err := errors.Join(os.WriteFile(HelperConfig, []byte(text), 0o644), os.Chmod(HelperConfig, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// attempt is a launch in a run root, and its job.
func (c *crowd) attempt(t *testing.T, account, root string) SubmitRequest {
	t.Helper()
	c.n++
	run := forge.RunID(fmt.Sprintf("01KASW%020d", c.n))
	l := forge.Launch{Key: forge.AttemptKey(run, 1), Run: run, Number: int64(c.n), Attempt: 1, RunDir: filepath.Join(root, string(run)), Account: account,
		Spec: forge.RunSpec{Recipe: "probe", Launch: forge.LaunchRank, Entry: forge.Entry{Command: []string{"true"}}, Gang: forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 1},
			TimeLimit: forge.Duration(10 * time.Minute)}}
	job, err := Render(l, c.o)
	if err != nil {
		t.Fatal(err)
	}
	return SubmitRequest{Launch: rundir.LaunchFile{Launch: l}, Job: job}
}

func (c *crowd) home(account string) string { return filepath.Join(c.scratch, account, "forge") }

func attemptOf(q SubmitRequest) rundir.Attempt { return rundir.At(q.Launch.RunDir, q.Launch.Attempt) }

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Uid
}

func TestJobsAndFilesBelongToThePerson(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	if !people(t) {
		return
	}
	c, ctx := gather(t), t.Context()
	if err := c.Installed(ctx, ""); err != nil {
		t.Errorf("as it is installed: %v", err)
	}
	p, err := c.Ping(ctx, "alice")
	if err != nil || p.UID != 4301 || !slices.Contains(p.RunRoots, c.home("alice")) {
		t.Fatalf("alice: %+v, %v", p, err)
	}
	t.Setenv("PLANTED_SECRET", "swordfish")
	t.Setenv("SBATCH_PARTITION", "low")
	q := c.attempt(t, "alice", c.home("alice"))
	q.Job.Args = append([]string{"--comment=of alice"}, q.Job.Args...)
	a, err := c.Submit(ctx, "alice", q)
	if err != nil || a.JobID == "" {
		t.Fatalf("submitted: %+v, %v", a, err)
	}
	if said := strings.TrimSpace(c.slurm.Must(t, "squeue", "-h", "-j", a.JobID, "-o", "%u|%j|%P|%k")); said != "alice|"+q.Job.Name+"|main|of alice" {
		t.Errorf("squeue says %s", said)
	}
	if uid := owner(t, attemptOf(q).LaunchPath()); uid != 4301 {
		t.Errorf("launch.json belongs to %d", uid)
	}
	seen := filepath.Join(attemptOf(q).Dir(), "seen")
	if err := c.slurm.Until("the job runs", func() bool { _, err := os.Stat(seen); return err == nil }); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(seen)
	if err != nil || !strings.HasPrefix(string(b), "alice\nalice\n") || owner(t, seen) != 4301 {
		t.Errorf("the rank saw %s, %v", b, err)
	}
	for _, leak := range []string{"swordfish", "PLANTED", "SUDO_", "SBATCH_PARTITION", "FORGE_TEST"} {
		if strings.Contains(string(b), leak) {
			t.Errorf("%s came through to the rank:\n%s", leak, b)
		}
	}

	t.Run("forged's own account reads none of it, and neither does another person", func(t *testing.T) {
		for _, who := range []string{"forge", "bob"} {
			if out, err := exec.CommandContext(ctx, "setpriv", "--reuid="+who, "--regid="+who, "--init-groups", "cat", seen).CombinedOutput(); err == nil {
				t.Errorf("%s read %s", who, out)
			}
		}
	})
	t.Run("what shims leave is read as the person, many at once", func(t *testing.T) {
		if err := c.Stop(ctx, "alice", attemptOf(q), rundir.Stop{Signal: forge.SignalCancel, At: time.Now().UTC()}); err != nil {
			t.Fatal(err)
		}
		other := c.attempt(t, "alice", c.home("alice"))
		claim, err := c.Revoke(ctx, "alice", attemptOf(other))
		if err != nil || !claim.Revoked {
			t.Fatalf("revoked: %+v, %v", claim, err)
		}
		rs, err := c.Records(ctx, "alice", []rundir.Attempt{attemptOf(q), attemptOf(other), attemptOf(q)})
		if err != nil || len(rs) != 3 || rs[0].Stop == nil || rs[0].Stop.Signal != forge.SignalCancel || rs[1].Claim == nil || !rs[1].Claim.Revoked || rs[2].Stop == nil {
			t.Errorf("got %+v, %v", rs, err)
		}
		if again, err := c.Submit(ctx, "alice", other); err != nil || !again.Revoked {
			t.Errorf("a submission after that: %+v, %v", again, err)
		}
		runs, err := c.Remains(ctx, "alice", c.home("alice"))
		if err != nil || len(runs) != 2 {
			t.Errorf("%d runs remain, %v", len(runs), err)
		}
		if _, err := c.Checkpoints(ctx, "alice", q.Launch.Run, q.Launch.RunDir, true); err != nil {
			t.Errorf("checkpoints: %v", err)
		}
		if err := os.WriteFile(attemptOf(q).MetricsPath(), []byte("{}\n"), 0o600); err != nil || os.Chown(attemptOf(q).MetricsPath(), 4301, 4301) != nil {
			t.Fatal(err)
		}
		if chunk, err := c.Read(ctx, "alice", attemptOf(q), forge.StreamMetrics, 0, 100); err != nil || string(chunk.Data) != "{}\n" || chunk.Next != 3 {
			t.Errorf("read %+v, %v", chunk, err)
		}
	})
	t.Run("an input that changed is told as forged would tell it", func(t *testing.T) {
		m := forge.Manifest{Root: filepath.Join(c.scratch, "data", "gone.jsonl"), Files: []forge.File{{Path: ".", Size: 3, SHA256: strings.Repeat("0", 64)}}}
		if err := c.CheckInputs(ctx, "alice", m); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("got %v (%s)", err, forge.KindOf(err))
		}
	})
	t.Run("only forge's jobs of the person are cancelled", func(t *testing.T) {
		theirs := strings.TrimSpace(c.asPerson(t, "bob", filepath.Join(c.slurm.Bin, "sbatch"), "--parsable", "--chdir=/tmp", "--output=/dev/null", "--wrap", "sleep 600"))
		mine := strings.TrimSpace(c.asPerson(t, "alice", filepath.Join(c.slurm.Bin, "sbatch"), "--parsable", "--chdir=/tmp", "--output=/dev/null", "--wrap", "sleep 600"))
		if _, err := c.Act(ctx, "alice", Action{Verb: ActCancel, JobIDs: []string{mine, a.JobID}}); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("a job of hers that is not forge's: %v", err)
		}
		if _, err := c.Act(ctx, "alice", Action{Verb: ActCancel, JobIDs: []string{theirs}}); err != nil {
			t.Errorf("a job of another person is as unknown as one that is gone: %v", err)
		}
		state := func(id string) string {
			return strings.TrimSpace(c.slurm.Must(t, "squeue", "-h", "-t", "all", "-j", id, "-o", "%T"))
		}
		for _, id := range []string{mine, theirs, a.JobID} {
			if s := state(id); s == "CANCELLED" || s == "COMPLETING" {
				t.Errorf("job %s is %s", id, s)
			}
		}
		if _, err := c.Act(ctx, "alice", Action{Verb: ActCancel, JobIDs: []string{a.JobID}}); err != nil {
			t.Fatal(err)
		}
		if err := c.slurm.Until("it is cancelled", func() bool { return strings.HasPrefix(state(a.JobID), "CANCELLED") }); err != nil {
			t.Error(err)
		}
	})
	t.Run("what Slurm refuses is said in its own words", func(t *testing.T) {
		q := c.attempt(t, "bob", c.home("bob"))
		q.Job.Args = append(slices.DeleteFunc(q.Job.Args, func(a string) bool { return strings.HasPrefix(a, "--partition") }), "--partition=nowhere")
		if a, err := c.Submit(ctx, "bob", q); err != nil || !strings.Contains(a.Refused, "partition") {
			t.Errorf("got %+v, %v", a, err)
		}
	})
	t.Run("what forged itself refuses is recorded as the person's, and Slurm is not asked", func(t *testing.T) {
		q := c.attempt(t, "bob", c.home("bob"))
		q.Job, q.Refuse = Job{}, "batch.partition: gone"
		if a, err := c.Submit(ctx, "bob", q); err != nil || a.Refused != q.Refuse {
			t.Errorf("got %+v, %v", a, err)
		}
		if uid := owner(t, attemptOf(q).BatchPath()); uid != 4302 {
			t.Errorf("batch.json belongs to %d", uid)
		}
		q = c.attempt(t, "bob", c.home("bob"))
		q.Refuse = "with a job beside it, which nobody has looked at"
		if _, err := c.Submit(ctx, "bob", q); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("got %v", err)
		}
	})
	t.Run("while the controller is away nothing is known", func(t *testing.T) {
		if err := c.slurm.FreezeController(); err != nil {
			t.Fatal(err)
		}
		q := c.attempt(t, "alice", c.home("alice"))
		a, err := c.Submit(ctx, "alice", q)
		if terr := c.slurm.ThawController(); terr != nil {
			t.Fatal(terr)
		}
		if err == nil && a.Unclear == "" || a.JobID != "" || a.Refused != "" {
			t.Errorf("got %+v, %v", a, err)
		}
	})
}

func (c *crowd) asPerson(t *testing.T, who string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "setpriv", append([]string{"--reuid=" + who, "--regid=" + who, "--init-groups"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "SLURM_CONF=" + c.slurm.Conf}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v as %s: %v\n%s", args, who, err, out)
	}
	return string(out)
}

// raw sends bytes to the helper as forged's account would, and gives back its exit code and what it said.
func (c *crowd) raw(t *testing.T, account string, verb []string, in string, env ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.Sudo, append([]string{"-n", "-u", account, "--", DefaultHelper}, verb...)...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	cmd.Stdin = strings.NewReader(in)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestTheHelperTrustsNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	if !people(t) {
		return
	}
	c, ctx := gather(t), t.Context()
	refused := func(t *testing.T, err error, says string) {
		t.Helper()
		if forge.KindOf(err) != forge.KindForbidden || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v (%s), want a refusal: … %s", err, forge.KindOf(err), says)
		}
	}
	t.Run("a path that is not directly in a run root of the account", func(t *testing.T) {
		q := c.attempt(t, "alice", c.home("alice"))
		run := string(q.Launch.Run)
		for _, dir := range []string{"/tmp/" + run, c.home("bob") + "/" + run, c.home("alice") + "/../forge/" + run, c.home("alice") + "//" + run, c.home("alice") + "/x/" + run,
			c.home("alice"), c.home("alice") + "/" + run + "/", "", "relative/" + run, "/" + run, c.home("alice") + "/..", filepath.Join(c.scratch, "{account}", "forge", run)} {
			_, err := c.Records(ctx, "alice", []rundir.Attempt{{RunDir: dir, Number: 1}})
			if forge.KindOf(err) != forge.KindForbidden {
				t.Errorf("%q: %v", dir, err)
			}
		}
		_, err := c.Remains(ctx, "alice", c.home("bob"))
		refused(t, err, "run_root")
		_, err = c.Records(ctx, "alice", []rundir.Attempt{{RunDir: q.Launch.RunDir, Number: -1}})
		refused(t, err, "attempt")
		_, err = c.Read(ctx, "alice", attemptOf(q), "../../../../etc/passwd", 0, 100)
		if err == nil {
			t.Error("a stream is no path")
		}
		_, err = c.Branch(ctx, "alice", q.Launch.Run, c.home("bob")+"/"+run, 1, 10, true)
		refused(t, err, "run_dir")
		_, err = c.Branch(ctx, "alice", q.Launch.Run, q.Launch.RunDir, 0, 10, true)
		refused(t, err, "attempt 0")
		_, err = c.PruneHeld(ctx, "alice", q.Launch.Run, c.home("bob")+"/"+run, nil)
		refused(t, err, "run_dir")
		_, err = c.Read(ctx, "alice", attemptOf(q), forge.StreamMetrics, 0, 1<<30)
		refused(t, err, "bytes")
	})
	t.Run("a link, or a directory of somebody else, in the place of a run directory", func(t *testing.T) {
		for _, plant := range []func(dir string) error{
			func(dir string) error { return os.Symlink("/etc", dir) },
			func(dir string) error { return os.Symlink(c.home("alice"), dir) },
			func(dir string) error { return os.Mkdir(dir, 0o777) },
			func(dir string) error { return os.WriteFile(dir, nil, 0o666) },
			func(dir string) error { return errors.Join(os.Mkdir(dir, 0o777), os.Lchown(dir, 4302, 4302)) },
		} {
			q := c.attempt(t, "alice", filepath.Join(c.scratch, "shared"))
			if err := plant(q.Launch.RunDir); err != nil {
				t.Fatal(err)
			}
			_, err := c.Submit(ctx, "alice", q)
			refused(t, err, "run_dir")
			_, err = c.Revoke(ctx, "alice", attemptOf(q))
			refused(t, err, "run_dir")
		}
		q := c.attempt(t, "alice", filepath.Join(c.scratch, "shared"))
		if a, err := c.Submit(ctx, "alice", q); err != nil || a.JobID == "" {
			t.Errorf("without any of it: %+v, %v", a, err)
		}
	})
	t.Run("a root in which others may rename what they like", func(t *testing.T) {
		_, err := c.Submit(ctx, "alice", c.attempt(t, "alice", filepath.Join(c.scratch, "loose")))
		refused(t, err, "sticky")
	})
	t.Run("a link inside of the run directory that leads out of it", func(t *testing.T) {
		q := c.attempt(t, "alice", c.home("alice"))
		if _, err := c.Revoke(ctx, "alice", attemptOf(q)); err != nil {
			t.Fatal(err)
		}
		secret := c.put(t, "bobs", "secret of bob", 0o644)
		if err := os.Symlink(secret, attemptOf(q).MetricsPath()); err != nil {
			t.Fatal(err)
		}
		if chunk, err := c.Read(ctx, "alice", attemptOf(q), forge.StreamMetrics, 0, 100); err == nil && len(chunk.Data) > 0 {
			t.Errorf("read %q", chunk.Data)
		}
		if err := errors.Join(os.RemoveAll(attemptOf(q).Dir()), os.Symlink(c.scratch, attemptOf(q).Dir())); err != nil {
			t.Fatal(err)
		}
		_, err := c.Records(ctx, "alice", []rundir.Attempt{attemptOf(q)})
		refused(t, err, "no directory of the user's")
	})
	t.Run("an option of sbatch that forge does not pass", func(t *testing.T) {
		for _, arg := range []string{"--wrap=id", "--wr=id", "--uid=0", "--uid=4302", "--gid=0", "--get-user-env=L", "--export=ALL", "--export-file=/etc/shadow", "--array=0-9", "--parsable=1",
			"--chdir=/", "--output=/etc/x", "--output=" + c.home("alice") + "/%j", "--input=/etc/passwd", "--job-name=x", "-J", "--", "script.sh", "--comment=a\nb", "--comm=x", "--mail-type=ALL --uid=0",
			"--clusters=other", "--dependency=afterok:1", "--requeue", "--signal=KILL@1", "--nice=-100", "--nodefile=/etc/passwd", "--bbf=/etc/passwd", "--container=/x", "--propagate"} {
			q := c.attempt(t, "alice", c.home("alice"))
			q.Job.Args = append(q.Job.Args, arg)
			_, err := c.Submit(ctx, "alice", q)
			if forge.KindOf(err) != forge.KindForbidden || !strings.Contains(err.Error(), "job.args") {
				t.Errorf("%s: %v", arg, err)
			}
		}
		for _, drop := range []string{"--export-file", "--job-name", "--parsable", "--chdir", "--no-requeue"} {
			q := c.attempt(t, "alice", c.home("alice"))
			q.Job.Args = slices.DeleteFunc(q.Job.Args, func(a string) bool { return strings.HasPrefix(a, drop) })
			_, err := c.Submit(ctx, "alice", q)
			refused(t, err, drop+" is missing")
		}
	})
	t.Run("a script that carries options, or is none of bash", func(t *testing.T) {
		for _, script := range []string{"", "#!/bin/sh\nid\n", "#!/bin/bash\n#SBATCH --uid=0\n", "#!/bin/bash\n#SBATCH --wrap=id\n", "#!/bin/bash\n#PBS -l x\n", "#!/bin/bash\n\x00", "#!/bin/bash\n" + strings.Repeat("#\n", 200_000)} {
			q := c.attempt(t, "alice", c.home("alice"))
			q.Job.Script = script
			_, err := c.Submit(ctx, "alice", q)
			refused(t, err, "job.script")
		}
	})
	t.Run("a submission that does not hold together", func(t *testing.T) {
		for name, change := range map[string]func(*SubmitRequest){
			"another cluster's job": func(q *SubmitRequest) { q.Job.Name = JobName("other", q.Launch.Run, 1) },
			"another run's job":     func(q *SubmitRequest) { q.Job.Name = JobName("lab", "01KASW99999999999999999999", 1) },
			"another key":           func(q *SubmitRequest) { q.Launch.Key = "x" },
			"another account":       func(q *SubmitRequest) { q.Launch.Account = "bob" },
			"another directory":     func(q *SubmitRequest) { q.Launch.RunDir = c.home("alice") + "/01KASW99999999999999999999" },
			"no run":                func(q *SubmitRequest) { q.Launch.Run = ".." },
		} {
			q := c.attempt(t, "alice", c.home("alice"))
			change(&q)
			if _, err := c.Submit(ctx, "alice", q); forge.KindOf(err) != forge.KindForbidden {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("inputs that lie elsewhere", func(t *testing.T) {
		secret := c.put(t, "private", "x", 0o644)
		for _, m := range []forge.Manifest{{Root: secret, Files: []forge.File{{Path: "."}}}, {Root: "/etc/passwd"}, {Root: ""}, {Root: filepath.Join(c.scratch, "data/../private")},
			{Root: filepath.Join(c.scratch, "data"), Files: []forge.File{{Path: "../private"}}}, {Root: filepath.Join(c.scratch, "data"), Files: []forge.File{{Path: "/etc/passwd"}}}} {
			refused(t, c.CheckInputs(ctx, "alice", m), "root")
		}
	})
	t.Run("an account that is not among the people, or is the system's", func(t *testing.T) {
		for _, who := range []string{"mallory", "root", "forge", "daemonic", "nobody", "#0", "-s", "alice bob", "", "ALL"} {
			if _, err := c.Ping(ctx, who); err == nil {
				t.Errorf("acted as %q", who)
			}
		}
	})
	t.Run("verbs, arguments and requests that are none", func(t *testing.T) {
		ping := `{"cluster":"lab","deadline":"5s","ask":{}}`
		if code, said := c.raw(t, "alice", []string{"ping"}, ping); code != 0 || !strings.Contains(said, `"uid":4301`) {
			t.Fatalf("exit %d: %s", code, said)
		}
		for name, call := range map[string]struct {
			verb []string
			in   string
		}{
			"no verb": {nil, ping}, "a verb that is not there": {[]string{"shell"}, ping}, "two": {[]string{"ping", "ping"}, ping}, "an option": {[]string{"--config=/tmp/x"}, ping},
			"nothing": {[]string{"ping"}, ""}, "no JSON": {[]string{"ping"}, "hello"}, "half": {[]string{"ping"}, ping[:10]}, "more": {[]string{"ping"}, ping + ping},
			"a field too many": {[]string{"ping"}, `{"cluster":"lab","deadline":"5s","ask":{},"config":"/tmp/x"}`}, "a huge one": {[]string{"ping"}, `{"cluster":"` + strings.Repeat("x", maxRequest+10) + `"}`},
		} {
			if code, said := c.raw(t, "alice", call.verb, call.in); code != helperUsage {
				t.Errorf("%s: exit %d: %.300s", name, code, said)
			}
		}
		for name, in := range map[string]string{"another cluster": `{"cluster":"other","deadline":"5s","ask":{}}`, "a field too many": `{"cluster":"lab","deadline":"5s","ask":{"x":1}}`} {
			if code, said := c.raw(t, "alice", []string{"ping"}, in); code != 0 || !strings.Contains(said, `"fault"`) || strings.Contains(said, `"answer"`) {
				t.Errorf("%s: exit %d: %s", name, code, said)
			}
		}
	})
	t.Run("an environment that sudo would have to let through", func(t *testing.T) {
		ping := `{"cluster":"lab","deadline":"5s","ask":{}}`
		if code, said := c.raw(t, "alice", []string{"ping"}, ping, "LD_PRELOAD=/tmp/evil.so", "FORGE_CONFIG=/tmp/x", "SLURM_CONF=/tmp/evil", "HOME=/tmp"); code != 0 || strings.Contains(said[strings.LastIndex(said, "{"):], "evil") {
			t.Errorf("exit %d: %s", code, said)
		}
		cmd := exec.CommandContext(ctx, c.Sudo, "-n", "-u", "alice", "SLURM_CONF=/tmp/evil", DefaultHelper, "ping")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "not allowed") {
			t.Errorf("a variable on sudo's command line: %v %s", err, out)
		}
		for _, args := range [][]string{{"-n", "-u", "alice", "/bin/sh"}, {"-n", "-u", "root", DefaultHelper, "ping"}, {"-n", "-u", "alice", "-g", "root", DefaultHelper, "ping"}} {
			if out, err := exec.CommandContext(ctx, c.Sudo, args...).CombinedOutput(); err == nil {
				t.Errorf("%v: %s", args, out)
			}
		}
	})
	t.Run("root", func(t *testing.T) {
		cmd := exec.CommandContext(ctx, DefaultHelper, "ping")
		cmd.Stdin = strings.NewReader(`{"cluster":"lab","deadline":"5s","ask":{}}`)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != helperRefuses {
			t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
		}
	})
	t.Run("a configuration that others than root can write", func(t *testing.T) {
		defer c.configure(t, "allow: []")
		ping := `{"cluster":"lab","deadline":"5s","ask":{}}`
		for name, spoil := range map[string]func() error{
			"of the group": func() error { return os.Chmod(HelperConfig, 0o664) },
			"of everyone":  func() error { return os.Chmod(HelperConfig, 0o646) },
			"somebody's":   func() error { return os.Chown(HelperConfig, 4301, 0) },
			"a link": func() error {
				return errors.Join(os.Rename(HelperConfig, HelperConfig+".x"), os.Symlink(HelperConfig+".x", HelperConfig))
			},
			"in a directory of everyone's":     func() error { return os.Chmod(filepath.Dir(HelperConfig), 0o777) },
			"one with a key that nobody knows": func() error { return os.WriteFile(HelperConfig, []byte("clusterz: {}\n"), 0o644) },
			"one with a root of /": func() error {
				return os.WriteFile(HelperConfig, []byte("clusters: {lab: {run_roots: [/], bin: /usr/bin}}\n"), 0o644)
			},
			"one that allows --uid": func() error {
				return os.WriteFile(HelperConfig, []byte("clusters: {lab: {run_roots: [/x], bin: /usr/bin, allow: [uid]}}\n"), 0o644)
			},
			"none": func() error { return os.Remove(HelperConfig) },
		} {
			_ = os.Remove(HelperConfig)
			c.configure(t, "allow: []")
			if err := errors.Join(os.Chown(HelperConfig, 0, 0), os.Chmod(filepath.Dir(HelperConfig), 0o755)); err != nil {
				t.Fatal(err)
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if code, said := c.raw(t, "alice", []string{"ping"}, ping); code != helperRefuses || strings.Contains(said, "uid") && !strings.Contains(said, "--uid") {
				t.Errorf("%s: exit %d: %s", name, code, said)
			}
		}
		_ = os.Remove(HelperConfig)
		_ = os.Chmod(filepath.Dir(HelperConfig), 0o755)
	})
}

func TestAHelperThatDoesNotComeBackIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	stuck, junk := filepath.Join(dir, "stuck"), filepath.Join(dir, "junk")
	for path, text := range map[string]string{stuck: "#!/bin/sh\ntrap '' TERM\nexec sleep 30\n", junk: "#!/bin/sh\necho '{\"answer\":'\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := &AsUser{Cluster: "lab", Sudo: stuck}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := h.Ping(ctx, "alice"); err == nil || time.Since(begun) > 20*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begun))
	}
	h.lane("alice", 1) // one that not even a kill ends, as a test cannot have it
	begun = time.Now()
	if _, err := h.Records(t.Context(), "alice", nil); forge.KindOf(err) != forge.KindUnavailable || time.Since(begun) > 5*time.Second {
		t.Errorf("while it hangs: %v after %s", err, time.Since(begun))
	}
	h = &AsUser{Cluster: "lab", Sudo: junk}
	if _, err := h.Ping(t.Context(), "bob"); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("another account: %v", err)
	}
	if _, err := h.Ping(t.Context(), "alice"); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("half an answer: %v", err)
	}
	h.Sudo = filepath.Join(dir, "none")
	if _, err := h.Ping(t.Context(), "alice"); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("no sudo: %v", err)
	}
}

func TestErrorsKeepTheirKindThroughThePipe(t *testing.T) {
	for _, err := range []error{
		forge.Invalidf("file", "changed").WithHint("register it again"),
		&ToolError{Program: "sbatch", Code: 1, Words: "Socket timed out", Trouble: TroubleAway},
		errors.New("plain"),
	} {
		b, jerr := json.Marshal(faultOf(err))
		var f fault
		if jerr != nil || json.Unmarshal(b, &f) != nil {
			t.Fatal(jerr)
		}
		back := f.err()
		if back.Error() != err.Error() || forge.KindOf(back) != forge.KindOf(err) || forge.HintOf(back) != forge.HintOf(err) || TroubleOf(back) != TroubleOf(err) {
			t.Errorf("%v came back as %v", err, back)
		}
	}
}

func TestAnAccountIsFoundByItsUid(t *testing.T) {
	if name, err := AccountOf(1); err != nil || name != "daemon" {
		t.Errorf("uid 1: %q, %v", name, err)
	}
	for _, uid := range []int64{0, 3999999999} {
		if name, err := AccountOf(uid); err == nil {
			t.Errorf("uid %d is %q", uid, name)
		}
	}
}
