// Package slurmtest starts real Slurm clusters of several nodes on this machine, for tests, the benchmark and the demo:
// contrib/slurm-cluster with faults. Nothing in forged knows that the cluster is one of these.
//
//	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 4})
//	tools := slurm.Tools{Bin: c.Bin, Conf: c.Conf}
//	c.KillNode("n2")
package slurmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options says what kind of cluster it is. The zero value is four nodes with four GPUs each, of the machine's own version.
type Options struct {
	Nodes      int    // default 4
	GPUs       int    // of each node, default 4; negative: none
	CPUs       int    // of each node, default 16
	Version    string // "": the machine's own (22.05); "24.11": Debian 13's
	Accounting bool   // slurmdbd and MariaDB: sacct, QOS, associations
	Netns      bool   // a network namespace, an address and a hostname for each node; needs root
	// Conf are more lines for slurm.conf. A line replaces the one of the same key, or the partition of the same name:
	// "MinJobAge=2", "PartitionName=main Nodes=n1,n2 Default=YES MaxTime=1 State=UP".
	Conf []string
	User *syscall.Credential // the cluster is this user's; nil: of whoever runs the test
}

// Cluster is one that runs.
type Cluster struct {
	Dir   string   // everything of it
	Bin   string   // its client programs
	Conf  string   // SLURM_CONF
	Nodes []string // n1, n2 ...
	user  *syscall.Credential

	unwatch func()
}

// limits of one start and one take-down. The first start of a version may have to install it.
const (
	upLimit   = 5 * time.Minute
	downLimit = 30 * time.Second
	runLimit  = 60 * time.Second
)

// Up starts a cluster that lives as long as the test, and shows its logs if the test fails.
func Up(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Start(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// versions are those of Slurm that forge promises to run on; the newer one lies in a root of its own.
var versions = []struct{ name, option string }{{"22.05", ""}, {"24.11", "24.11"}}

// OnEachVersion runs a test on a cluster of each version of Slurm that forge promises to run on, one beside the other.
func OnEachVersion(t *testing.T, o Options, test func(t *testing.T, c *Cluster)) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			o := o
			o.Version = v.option
			test(t, Up(t, o))
		})
	}
}

// Start starts a cluster; whoever calls it takes it Down. If this process dies first, the cluster goes down by itself.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 4
	}
	if o.GPUs == 0 {
		o.GPUs = 4
	}
	dir, err := os.MkdirTemp("/tmp", "fslurm") // not TMPDIR: sockets lie in it, and other users look into it
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), chown(dir, o.User)); err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, user: o.User}
	c.Bin, c.Conf = filepath.Join(c.Dir, "bin"), filepath.Join(c.Dir, "etc", "slurm.conf")
	for i := range o.Nodes {
		c.Nodes = append(c.Nodes, fmt.Sprintf("n%d", i+1))
	}
	env := []string{
		fmt.Sprintf("NODES=%d", o.Nodes), fmt.Sprintf("GPUS=%d", max(0, o.GPUs)), "VERSION=" + o.Version, "CONF=" + strings.Join(o.Conf, "\n"),
		"ACCOUNTING=" + flag(o.Accounting), "NETNS=" + flag(o.Netns),
	}
	if o.CPUs > 0 {
		env = append(env, fmt.Sprintf("CPUS=%d", o.CPUs))
	}
	up, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	if o.Version != "" && o.User != nil { // who may have no home to install it in
		if _, err := (&Cluster{}).command(up, nil, script("debian13")); err != nil {
			return nil, errors.Join(err, c.Down())
		}
	}
	if _, err := c.command(up, env, script("up"), c.Dir); err != nil {
		return nil, errors.Join(err, c.Down())
	}
	// Not bound to ctx: it has to be there when everything here is gone.
	watch := exec.Command(script("down"), c.Dir, "-", strconv.Itoa(os.Getpid()))
	watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.user}
	if err := watch.Start(); err != nil {
		return nil, errors.Join(err, c.Down())
	}
	c.unwatch = func() {
		_ = syscall.Kill(-watch.Process.Pid, syscall.SIGKILL)
		_ = watch.Wait()
	}
	return c, nil
}

// Down ends every process of the cluster and removes its directory.
func (c *Cluster) Down() error {
	ctx, cancel := context.WithTimeout(context.Background(), downLimit)
	defer cancel()
	if c.unwatch != nil {
		c.unwatch()
		c.unwatch = nil
	}
	// A start that failed has taken itself down.
	if _, err := os.Stat(filepath.Join(c.Dir, "start")); err == nil {
		if _, err := c.command(ctx, nil, script("down"), c.Dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(c.Dir)
}

// Run runs a program of the cluster, with its configuration and nothing else of the caller's environment, and returns
// what it wrote on stdout.
func (c *Cluster) Run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	return c.command(ctx, c.Env(), filepath.Join(c.Bin, program), args...)
}

// Must is Run for tests: it fails the test if the program does.
func (c *Cluster) Must(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := c.Run(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Env is what a person's shell needs to use the cluster.
func (c *Cluster) Env() []string {
	return []string{"SLURM_CONF=" + c.Conf, "PATH=" + c.Bin + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "SLURM_TIME_FORMAT=%s", "TZ=UTC", "LC_ALL=C"}
}

func (c *Cluster) command(ctx context.Context, env []string, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "XDG_CACHE_HOME=" + os.Getenv("XDG_CACHE_HOME")}, env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// logTail bounds what is shown of each log.
const logTail = 4 << 10

// Logs are the ends of what the daemons said.
func (c *Cluster) Logs() string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(c.Dir, "log", "*"))
	for _, path := range logs {
		if _, err := os.Stat(strings.TrimSuffix(path, ".out") + ".log"); err == nil && strings.HasSuffix(path, ".out") {
			continue // the same again
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			continue
		}
		fmt.Fprintf(&all, "== %s\n%s\n", filepath.Base(path), b[max(0, len(b)-logTail):])
	}
	return all.String()
}

func script(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "contrib", "slurm-cluster", name)
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}

func chown(path string, to *syscall.Credential) error {
	if to == nil {
		return nil
	}
	return os.Chown(path, int(to.Uid), int(to.Gid))
}
