package shim_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// delegated is a cgroup that an ordinary user was given, as systemd gives one with Delegate=yes; "" where this machine does not let the tests make one.
func delegated(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); strings.HasPrefix(after, "cgroup2 ") {
			dir := filepath.Join(f[4], fmt.Sprintf("forge-test-%d-%s", os.Getpid(), strings.ToLower(t.Name()[:8])))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Logf("not tested: %v", err)
				return ""
			}
			t.Cleanup(func() {
				_ = rundir.Cgroup(dir).Kill()
				eventually(t, "the cgroup is removed", func() bool { return rundir.Cgroup(dir).Remove() == nil })
			})
			for _, path := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
				if err := os.Chown(path, nobody, nobody); err != nil {
					t.Logf("not tested: %v", err)
					return ""
				}
			}
			return dir
		}
	}
	t.Log("not tested: there are no cgroups of version 2 here")
	return ""
}

// inside is a shim of an ordinary user that was given a cgroup, or nothing else.
func inside(t *testing.T, dir string, command []string) (rundir.Attempt, *exec.Cmd) {
	t.Helper()
	a := prepared(t, command, nil, 1)
	cmd := shimCommand(t, a, 0)
	cmd.Path = copySelf(t, filepath.Dir(a.RunDir))
	giveTo(t, filepath.Dir(a.RunDir), nobody)
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = group.Close() })
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	return a, cmd
}

// stray is a rank that leaves a process without a session and an environment of ours, and goes on.
var stray = []string{"/bin/sh", "-c", "env -i setsid sleep 600 & echo $!; exec sleep 600"}

func strayed(t *testing.T, a rundir.Attempt) (live rundir.Live, pid int) {
	t.Helper()
	eventually(t, "live", func() bool {
		l, err := rundir.ReadLive(a, 0)
		n, perr := strconv.Atoi(strings.TrimSpace(stdout(t, a, 0)))
		live, pid = l, n
		return err == nil && perr == nil
	})
	return live, pid
}

func TestRanksLiveInACgroupOfTheirOwnWhereOneIsDelegated(t *testing.T) {
	dir := delegated(t)
	if dir == "" {
		return
	}
	a, cmd := inside(t, dir, stray)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	live, pid := strayed(t, a)
	want := rundir.Cgroup(filepath.Join(dir, rundir.CgroupName(a, 0)))
	if live.Cgroup != want || !live.Cgroup.Is(a, 0) {
		t.Errorf("live.json says %q, want %q", live.Cgroup, want)
	}
	in, err := want.Processes()
	if err != nil || len(in) != 2 || in[0].PID != live.Ranks[0].PID && in[1].PID != live.Ranks[0].PID {
		t.Errorf("in it are %v, %v; want the rank %d and its child", in, err, live.Ranks[0].PID)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	x, err := rundir.ReadExit(a, 0)
	if err != nil || x.Leftovers != 1 || isAlive(pid) {
		t.Errorf("leftovers %d, the one is alive: %v; %v", x.Leftovers, isAlive(pid), err)
	}
	if _, err := os.Lstat(string(want)); !os.IsNotExist(err) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// TestWhatAKilledShimLeavesIsFoundByItsCgroup: neither a marker nor a parent tells of it.
func TestWhatAKilledShimLeavesIsFoundByItsCgroup(t *testing.T) {
	dir := delegated(t)
	if dir == "" {
		return
	}
	a, cmd := inside(t, dir, stray)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	live, pid := strayed(t, a)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "the rank ends with its shim", func() bool { return !isAlive(live.Ranks[0].PID) })
	if !isAlive(pid) {
		t.Fatal("what it left is gone by itself: nothing is shown")
	}
	x, err := direct.New(direct.Options{Cluster: "local", NodeName: "n0", RunRoot: filepath.Dir(a.RunDir), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	id := forge.ExternalID(fmt.Sprintf("direct:%s#%d", a.RunDir, a.Number))
	eventually(t, "released", func() bool {
		o, err := x.Poll(t.Context(), []forge.ExternalID{id})
		if err != nil {
			t.Fatal(err)
		}
		if o[0].Released && isAlive(pid) {
			t.Fatal("released while a process of the attempt lives")
		}
		return o[0].Released
	})
	if _, err := os.Lstat(string(live.Cgroup)); !os.IsNotExist(err) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

func TestAShimThatWasGivenNoCgroupStartsItsRanksAllTheSame(t *testing.T) {
	dir := delegated(t)
	if dir == "" {
		return
	}
	for _, path := range []string{"", "cgroup.procs"} { // not one file, as where only its parent may move processes; then nothing at all
		if err := os.Chown(filepath.Join(dir, path), 0, 0); err != nil {
			t.Fatal(err)
		}
		a, cmd := inside(t, dir, []string{"/bin/true"})
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		live, err := rundir.ReadLive(a, 0)
		if x, xerr := rundir.ReadExit(a, 0); err != nil || xerr != nil || live.Cgroup != "" || len(x.Ranks) != 1 || x.Ranks[0].Code != 0 {
			t.Errorf("%+v, %v; %+v, %v", live, err, x, xerr)
		}
	}
}
