package shim_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// meet is a rank that finds the others by what the shim told it: rank 0 listens, the others call.
func meet() int {
	addr := net.JoinHostPort(os.Getenv("MASTER_ADDR"), os.Getenv("MASTER_PORT"))
	world, _ := strconv.Atoi(os.Getenv("WORLD_SIZE"))
	if os.Getenv("RANK") == "0" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Println(err)
			return 89
		}
		for range world - 1 {
			conn, err := l.Accept()
			if err != nil {
				return 89
			}
			_, _ = conn.Write([]byte("hello"))
			_ = conn.Close()
		}
		return 0
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		said, _ := io.ReadAll(conn)
		fmt.Printf("%s over %s\n", said, os.Getenv("GLOO_SOCKET_IFNAME"))
		return 0
	}
	return 89
}

// sbatch submits the shims of an attempt as forged does, and returns the job's id.
func sbatch(t *testing.T, c *slurmtest.Cluster, a rundir.Attempt, nodes, gpus int, more ...string) string {
	t.Helper()
	dir := filepath.Dir(a.RunDir)
	script := filepath.Join(dir, "job.sh")
	text := fmt.Sprintf("#!/bin/bash\nexport SLURM_EXPORT_ENV=ALL\nexec %s --nodes=%d --ntasks-per-node=1 --kill-on-bad-exit=1 --mpi=none %s shim --run-dir %s --attempt %d --slurm\n",
		filepath.Join(c.Bin, "srun"), nodes, self(t), a.RunDir, a.Number)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "batch.log")
	t.Cleanup(func() {
		if t.Failed() {
			words, _ := os.ReadFile(log)
			t.Logf("%s", words)
		}
	})
	args := append([]string{"--parsable", "--export-file=/dev/null", "--open-mode=append", "--output=" + log, "--chdir=" + dir, fmt.Sprintf("--nodes=%d", nodes),
		"--ntasks-per-node=1", fmt.Sprintf("--gres=gpu:%d", gpus), "--time=10", "--no-requeue"}, more...)
	id := strings.TrimSpace(c.Must(t, "sbatch", append(args, script)...))
	t.Cleanup(func() { _, _ = c.Run("scancel", id) })
	return id
}

// words waits for the last word of every node.
func words(t *testing.T, a rundir.Attempt, nodes int) []rundir.Exit {
	t.Helper()
	out := make([]rundir.Exit, nodes)
	for n := range out {
		eventually(t, fmt.Sprintf("last word of node %d", n), func() bool {
			x, err := rundir.ReadExit(a, n)
			out[n] = x
			return err == nil
		})
	}
	return out
}

// liveRanks waits until every rank says that it started.
func liveRanks(t *testing.T, a rundir.Attempt, nodes, ranks int) []rundir.Live {
	t.Helper()
	out := make([]rundir.Live, nodes)
	for n := range out {
		eventually(t, fmt.Sprintf("node %d live", n), func() bool { l, err := rundir.ReadLive(a, n); out[n] = l; return err == nil })
	}
	for r := range ranks {
		eventually(t, fmt.Sprintf("rank %d started", r), func() bool { return strings.Contains(stdout(t, a, r), "start") })
	}
	return out
}

// ended waits until Slurm says that a job has ended with an exit code.
func ended(t *testing.T, c *slurmtest.Cluster, id, code string) {
	t.Helper()
	eventually(t, "job "+id+" ended with "+code, func() bool {
		out, err := c.Run("scontrol", "-o", "show", "job", id)
		return err == nil && strings.Contains(out, " ExitCode="+code+":0 ") && !strings.Contains(out, "JobState=RUNNING")
	})
}

func TestOnARealCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 3, GPUs: 2}, onARealCluster)
}

func onARealCluster(t *testing.T, c *slurmtest.Cluster) {
	saves := program(t, executortest.Act{Hold: true, OnTerm: executortest.TermSaves})

	t.Run("srun starts a gang whose ranks find each other", func(t *testing.T) {
		a := handedOver(t, 2, 2, []string{self(t), "meet"}, nil)
		id := sbatch(t, c, a, 2, 2)
		ranks := 0
		for n, x := range words(t, a, 2) {
			for _, r := range x.Ranks {
				if ranks++; r.Code != 0 || r.Rank/2 != n || string(r.Node) != fmt.Sprintf("n%d", n+1) {
					t.Errorf("node %d: %+v: %s", n, r, stdout(t, a, r.Rank))
				}
			}
		}
		if claim, err := rundir.ReadClaim(a); err != nil || claim.Holder != id+".0" || ranks != 4 {
			t.Errorf("claim %+v, %v; %d ranks", claim, err, ranks)
		}
		if l, err := rundir.ReadLive(a, 1); err != nil || l.Node != "n2" || len(l.Slots) != 2 {
			t.Errorf("live.json %+v, %v", l, err)
		}
	})
	t.Run("its warning before the limit is the limit, and every rank saves", func(t *testing.T) {
		a := handedOver(t, 2, 2, saves, nil)
		id := sbatch(t, c, a, 2, 2)
		liveRanks(t, a, 2, 4)
		c.Must(t, "scancel", "--signal=USR2", id)
		for n, x := range words(t, a, 2) {
			if x.Cause != forge.StopTimeLimit || len(x.Ranks) != 2 || x.Ranks[0].Code != 85 || x.Ranks[1].Code != 85 {
				t.Errorf("node %d: %+v", n, x)
			}
		}
	})
	t.Run("scancel is a signal from outside, and every rank saves", func(t *testing.T) {
		a := handedOver(t, 2, 2, saves, nil)
		id := sbatch(t, c, a, 2, 2)
		liveRanks(t, a, 2, 4)
		c.Must(t, "scancel", id)
		for n, x := range words(t, a, 2) {
			if x.Cause != forge.StopSignal || len(x.Ranks) != 2 || x.Ranks[0].Code != 85 || x.Ranks[1].Code != 85 {
				t.Errorf("node %d: %+v", n, x)
			}
		}
	})
	t.Run("a request to stop is carried out after Slurm has passed on a nudge", func(t *testing.T) {
		a := handedOver(t, 1, 1, saves, nil)
		id := sbatch(t, c, a, 1, 1)
		liveRanks(t, a, 1, 1)
		if err := rundir.WriteJSON(a.StopPath(), rundir.Stop{Signal: forge.SignalCheckpoint, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		c.Must(t, "scancel", "--signal=CONT", id)
		if x := words(t, a, 1)[0]; x.Cause != forge.StopIntent || x.Ranks[0].Code != 85 {
			t.Errorf("%+v", x)
		}
	})
	t.Run("a rank that fails ends the gang on every node, and every node leaves its word", func(t *testing.T) {
		stays := executortest.Act{Hold: true, OnTerm: executortest.TermIgnored}
		a := handedOver(t, 2, 1, program(t, stays, executortest.Act{Exit: 3}), func(l *rundir.LaunchFile) { l.Spec.Grace = forge.Duration(time.Second) })
		id := sbatch(t, c, a, 2, 1)
		x := words(t, a, 2)
		if x[1].Ranks[0].Code != 3 || !strings.Contains(x[0].Detail, "node 1 ended: rank 1 exited 3") || !x[0].Ranks[0].ByShim {
			t.Errorf("%+v", x)
		}
		ended(t, c, id, "3") // for people who look there
	})
	t.Run("a second job of the attempt touches nothing", func(t *testing.T) {
		a := handedOver(t, 1, 1, saves, nil)
		first := sbatch(t, c, a, 1, 1)
		liveRanks(t, a, 1, 1)
		before := tree(t, a)
		ended(t, c, sbatch(t, c, a, 1, 1), "86")
		if after := tree(t, a); after != before {
			t.Errorf("the attempt was\n%s\nand is\n%s", before, after)
		}
		c.Must(t, "scancel", first)
		words(t, a, 1)
	})
	t.Run("a requeued job touches nothing", func(t *testing.T) {
		a := handedOver(t, 1, 1, saves, nil)
		id := sbatch(t, c, a, 1, 1, "--requeue")
		liveRanks(t, a, 1, 1)
		c.Must(t, "scontrol", "requeue", id)
		words(t, a, 1)
		before := tree(t, a)
		ended(t, c, id, "86")
		if after := tree(t, a); after != before {
			t.Errorf("the attempt was\n%s\nand is\n%s", before, after)
		}
		if got := strings.Count(stdout(t, a, 0), "start"); got != 1 {
			t.Errorf("the rank started %d times", got)
		}
	})
	t.Run("what goes on on a node that Slurm has lost ends by itself once the run has gone on elsewhere", func(t *testing.T) {
		a := handedOver(t, 1, 2, saves, nil)
		id := sbatch(t, c, a, 1, 2, "--nodelist=n3")
		live := liveRanks(t, a, 1, 2)
		if err := c.KillNode("n3"); err != nil {
			t.Fatal(err)
		}
		c.Must(t, "scontrol", "update", "nodename=n3", "state=down", "reason=test")
		eventually(t, "the job has failed", func() bool {
			out, _ := c.Run("squeue", "-h", "-t", "all", "-j", id, "-o", "%T")
			return strings.Contains(out, "NODE_FAIL")
		})
		for _, r := range live[0].Ranks {
			if !isAlive(r.PID) {
				t.Fatal("the node is not cut off: its ranks have ended")
			}
		}
		if err := rundir.RaiseFence(a.RunDir, a.Number+1); err != nil {
			t.Fatal(err)
		}
		if x := words(t, a, 1)[0]; x.Cause != forge.StopSuperseded || !strings.Contains(x.Detail, "attempt 3 holds the fence") {
			t.Errorf("%+v", x)
		}
		for _, r := range live[0].Ranks {
			eventually(t, "rank ended", func() bool { return !isAlive(r.PID) })
		}
	})
}

func TestNodesWithNetworksOfTheirOwnFindEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 1, Netns: true}) // needs root
	a := handedOver(t, 2, 1, []string{self(t), "meet"}, nil)
	sbatch(t, c, a, 2, 1)
	for n, x := range words(t, a, 2) {
		if len(x.Ranks) != 1 || x.Ranks[0].Code != 0 {
			t.Errorf("node %d: %+v", n, x)
		}
	}
	m, err := rundir.ReadMaster(a)
	if err != nil || net.ParseIP(m.Addr) == nil || net.ParseIP(m.Addr).IsLoopback() {
		t.Errorf("master %+v, %v; want an address that the other node reaches", m, err)
	}
	if out := stdout(t, a, 1); !strings.Contains(out, "hello over ") || strings.Contains(out, "over lo\n") || strings.HasSuffix(out, "over \n") {
		t.Errorf("rank 1 said %q", out)
	}
}
