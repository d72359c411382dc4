package main

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// terminal opens a pseudo-terminal.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// forgectlOn is this binary as forgectl, against a site whose run 3 runs.
func forgectlOn(t *testing.T, seat api.RunSeat, args ...string) *exec.Cmd {
	t.Helper()
	f := apitest.New(scriptNow)
	seed(f)
	f.SetSeat(seat)
	ts := httptest.NewServer(server.New(f.Services(), server.Options{Version: "1.2.3"}))
	t.Cleanup(ts.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = append([]string{"forgectl"}, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "FORGE_SERVER=" + ts.URL, "FORGE_API_KEY=" + apitest.MemberSecret, "NO_COLOR=1", "TERM=dumb", "LC_ALL=C"}
	return cmd
}

func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func TestAShellBesideARankOnARealCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 2, GPUs: 2}, aShellBesideARank)
}

func aShellBesideARank(t *testing.T, c *slurmtest.Cluster) {
	dir := t.TempDir()
	env := filepath.Join(dir, "it's the env.sh")
	if err := os.WriteFile(env, []byte("export RANK='3'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	job := strings.TrimSpace(c.Must(t, "sbatch", "--parsable", "--nodes=2", "--gres=gpu:2", "--output=/dev/null", "--chdir=/", "--wrap=sleep 300"))
	t.Cleanup(func() { _, _ = c.Run("scancel", job) })
	if err := c.Until("the job runs", func() bool {
		out, err := c.Run("squeue", "-h", "-j", job, "-o", "%T")
		return err == nil && strings.TrimSpace(out) == "RUNNING"
	}); err != nil {
		t.Fatal(err)
	}
	ours, theirs := terminal(t)
	cmd := forgectlOn(t, api.RunSeat{Attempt: 1, Cluster: "hpc", Job: job, Owner: me(t), Node: "n2", Env: env}, "run", "shell", "3", "--rank", "3")
	cmd.Env = append(cmd.Env, append(c.Env(), "SLURM_JOB_ID=999", "SLURM_NTASKS=7")...) // as inside of another allocation
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	// What is typed is the line that forgectl prints, and a question whose answer the terminal does not echo by itself.
	if _, err := io.WriteString(ours, ". "+shellWord(env)+"; echo rank-$RANK node-$SLURMD_NODENAME job-$SLURM_JOB_ID; test -t 0 && echo on-$((1+1))-terminals; exit\n"); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(ours) // EIO when the other end is closed
		said <- string(all)
	}()
	var out string
	select {
	case out = <-said:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		out = <-said
		t.Error("the shell did not end")
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("forgectl: %v", err)
	}
	for _, want := range []string{"node n2, job " + job + "; for the environment of rank 3: . '" + strings.ReplaceAll(env, "'", `'\''`) + "'", "rank-3 node-n2 job-" + job, "on-2-terminals"} {
		if !strings.Contains(out, want) {
			t.Errorf("the terminal does not show %q:\n%s", want, out)
		}
	}
}

func TestAShellIsRefusedBeforeSlurmWould(t *testing.T) {
	t.Run("where there is no srun, with the command for where there is one", func(t *testing.T) {
		cmd := forgectlOn(t, api.RunSeat{Cluster: "hpc", Job: "71", Owner: me(t), Node: "gpu-1"}, "run", "shell", "3")
		cmd.Env = append(cmd.Env, "PATH=/nowhere")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), "srun is not in PATH") || !strings.Contains(string(out), "srun --jobid=71 --overlap --pty") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("where the job is somebody else's", func(t *testing.T) {
		err := mayEnter(api.RunSeat{Job: "71", Owner: "nobody-we-know"})
		if os.Getuid() == 0 {
			if err != nil {
				t.Errorf("root: %v", err)
			}
			return
		}
		if forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "job 71 belongs to nobody-we-know") {
			t.Error(err)
		}
	})
}

func TestAShellTakesNothingOfAnotherAllocationAlong(t *testing.T) {
	got := shellEnv([]string{"PATH=/bin", "SLURM_CONF=/etc/slurm.conf", "SLURM_NTASKS=7", "SLURMD_NODENAME=n1"})
	if want := []string{"PATH=/bin", "SLURM_CONF=/etc/slurm.conf", "SLURMD_NODENAME=n1"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
