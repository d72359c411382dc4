package shim_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// handedOver is an attempt of nodes × ranks that a queue of the cluster's own is to place: its launch has no placement.
func handedOver(t *testing.T, nodes, ranks int, command []string, change func(l *rundir.LaunchFile)) rundir.Attempt {
	t.Helper()
	return prepared(t, command, func(l *rundir.LaunchFile) {
		l.Spec.Gang = forge.Gang{Nodes: nodes, GPUsPerNode: ranks}
		l.Options.Batch = rundir.BatchSlurm
		if change != nil {
			change(l)
		}
	})
}

// planted is what srun of Slurm 22.05 gives to the one task of a node.
func planted(node, nodes int, gpus string) map[string]string {
	return map[string]string{
		"SLURM_JOB_ID": "71", "SLURM_NODEID": strconv.Itoa(node), "SLURM_PROCID": strconv.Itoa(node), "SLURM_LOCALID": "0",
		"SLURM_STEP_NUM_NODES": strconv.Itoa(nodes), "SLURM_JOB_NUM_NODES": strconv.Itoa(nodes), "SLURM_JOB_NODELIST": fmt.Sprintf("gpu-[1-%d]", nodes),
		"SLURMD_NODENAME": fmt.Sprintf("gpu-%d", node+1), "SLURM_JOB_GPUS": "6,7", "SLURM_STEP_GPUS": gpus, "CUDA_VISIBLE_DEVICES": gpus,
		"SLURM_JOB_PARTITION": "main", "SLURM_NTASKS": strconv.Itoa(nodes), "SLURM_SECRET": "leak",
	}
}

// srunShim is a shim as srun starts it; what is changed to "-" is not set.
func srunShim(t *testing.T, a rundir.Attempt, env, change map[string]string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := shimCommand(t, a, 0)
	cmd.Args = []string{cmd.Path, "shim", "--run-dir", a.RunDir, "--attempt", strconv.Itoa(a.Number), "--slurm"}
	for k, v := range change {
		env[k] = v
	}
	for k, v := range env {
		if v != "-" {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	var log bytes.Buffer
	cmd.Stderr = &log
	return cmd, &log
}

// ranIn runs one shim to its end.
func ranIn(t *testing.T, a rundir.Attempt, env, change map[string]string) (code int, log string) {
	t.Helper()
	cmd, words := srunShim(t, a, env, change)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), words.String()
}

func TestSlurmGivesTheSeat(t *testing.T) {
	a := handedOver(t, 1, 2, []string{self(t), "print"}, nil)
	if code, log := ranIn(t, a, planted(0, 1, "1,3"), map[string]string{"TMPDIR": "/scratch/71", "SLURMD_NODENAME": "gpu-7"}); code != 0 {
		t.Fatalf("exit %d\n%s", code, log)
	}
	live, err := rundir.ReadLive(a, 0)
	if err != nil || live.Node != "gpu-7" || fmt.Sprint(live.Slots) != "[1 3]" || len(live.Ranks) != 2 {
		t.Errorf("live.json %+v, %v", live, err)
	}
	if c, err := rundir.ReadClaim(a); err != nil || c.Holder != "71.0" || c.By != "shim" {
		t.Errorf("claim %+v, %v", c, err)
	}
	x, err := rundir.ReadExit(a, 0)
	if err != nil || len(x.Ranks) != 2 || x.Ranks[1].Node != "gpu-7" {
		t.Errorf("exit.json %+v, %v", x, err)
	}
	out := stdout(t, a, 1)
	for _, want := range []string{
		"CUDA_VISIBLE_DEVICES=1,3", "NVIDIA_VISIBLE_DEVICES=1,3", "SLURM_JOB_ID=71", "SLURM_JOB_PARTITION=main", "TMPDIR=/scratch/71",
		"RANK=1", "WORLD_SIZE=2", "NNODES=1", "GPUS_PER_NODE=2", "MASTER_ADDR=127.0.0.1", "SLURMD_NODENAME=gpu-7",
	} {
		if !strings.Contains("\n"+out, "\n"+want+"\n") {
			t.Errorf("the rank does not see %s in\n%s", want, out)
		}
	}
	for _, never := range []string{"leak", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"} {
		if strings.Contains(out, never) {
			t.Errorf("the rank sees %s in\n%s", never, out)
		}
	}
}

func TestAScanIsForgedItselfOutsideOfAnyContainerAndHasNoGPU(t *testing.T) {
	a := handedOver(t, 1, 1, []string{"forged", "print"}, func(l *rundir.LaunchFile) {
		l.Spec.Launch, l.Spec.Scan, l.Options.Wrap = forge.LaunchNode, &forge.ScanAsk{Name: "chat"}, []string{"/nowhere/apptainer", "exec"}
	})
	none := map[string]string{"CUDA_VISIBLE_DEVICES": "-", "SLURM_STEP_GPUS": "-", "SLURM_JOB_GPUS": "-"}
	if code, log := ranIn(t, a, planted(0, 1, ""), none); code != 0 {
		t.Fatalf("exit %d\n%s", code, log)
	}
	live, err := rundir.ReadLive(a, 0)
	if err != nil || len(live.Slots) != 0 || len(live.Ranks) != 1 {
		t.Errorf("live.json %+v, %v", live, err)
	}
	if out := stdout(t, a, 0); !strings.Contains("\n"+out, "\nCUDA_VISIBLE_DEVICES=\n") {
		t.Errorf("the rank sees a GPU:\n%s", out)
	}
}

func TestSlurmsOwnListingsShowHowItEnded(t *testing.T) {
	for _, c := range []struct {
		act  executortest.Act
		code int
	}{{executortest.Act{}, 0}, {executortest.Act{Exit: 7}, 7}, {executortest.Act{Exit: forge.ExitCheckpointed}, 0}} {
		a := handedOver(t, 1, 1, program(t, c.act), nil)
		if code, log := ranIn(t, a, planted(0, 1, "0"), nil); code != c.code {
			t.Errorf("%+v: exit %d, want %d\n%s", c.act, code, c.code, log)
		}
		if x, err := rundir.ReadExit(a, 0); err != nil || len(x.Ranks) != 1 || x.Ranks[0].Code != c.act.Exit {
			t.Errorf("%+v: %+v, %v", c.act, x, err)
		}
	}
}

func TestOddWordsOfSlurmEndInARecordThatNamesThem(t *testing.T) {
	for _, c := range []struct {
		name   string
		change map[string]string
		words  string
	}{
		{"no node", map[string]string{"SLURM_NODEID": "-", "SLURM_PROCID": "-"}, "SLURM_NODEID or SLURM_PROCID is not set"},
		{"a node that is no number", map[string]string{"SLURM_NODEID": "n1", "SLURM_PROCID": "-"}, `SLURM_NODEID="n1": want a number`},
		{"another number of nodes", map[string]string{"SLURM_STEP_NUM_NODES": "3"}, "of 3 nodes (SLURM_STEP_NUM_NODES, SLURM_JOB_NUM_NODES); the run asked for 1"},
		{"no number of nodes", map[string]string{"SLURM_STEP_NUM_NODES": "-", "SLURM_JOB_NUM_NODES": "-"}, "SLURM_STEP_NUM_NODES or SLURM_JOB_NUM_NODES or SLURM_NNODES is not set"},
		{"GPUs that are allocated and not visible", map[string]string{"CUDA_VISIBLE_DEVICES": ""}, `CUDA_VISIBLE_DEVICES="" names 0 GPUs, and the run asked for 2`},
		{"no GPU at all", map[string]string{"CUDA_VISIBLE_DEVICES": "-", "SLURM_STEP_GPUS": "-", "SLURM_JOB_GPUS": "-"}, "CUDA_VISIBLE_DEVICES, SLURM_STEP_GPUS and SLURM_JOB_GPUS are not set"},
		{"a GPU too few", map[string]string{"CUDA_VISIBLE_DEVICES": "3"}, `CUDA_VISIBLE_DEVICES="3" names 1 GPUs`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := handedOver(t, 1, 2, program(t, executortest.Act{}), nil)
			_, log := ranIn(t, a, planted(0, 1, "0,1"), c.change)
			x, err := rundir.ReadExit(a, 0)
			if err != nil || x.Cause != forge.StopLaunch || len(x.Ranks) != 0 || !strings.Contains(x.Detail, c.words) {
				t.Errorf("%+v, %v; want launch, %q\n%s", x, err, c.words, log)
			}
		})
	}
	t.Run("outside of a job nothing is touched", func(t *testing.T) {
		a := handedOver(t, 1, 1, program(t, executortest.Act{}), nil)
		before := tree(t, a)
		for _, id := range []string{"-", "seven"} {
			if code, log := ranIn(t, a, planted(0, 1, "0"), map[string]string{"SLURM_JOB_ID": id}); code != 2 || !strings.Contains(log, "SLURM_JOB_ID") {
				t.Errorf("exit %d: %s", code, log)
			}
		}
		if after := tree(t, a); after != before {
			t.Errorf("the attempt was\n%s\nand is\n%s", before, after)
		}
	})
}

// tree is every file of an attempt with what it holds.
func tree(t *testing.T, a rundir.Attempt) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(a.RunDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintln(&all, path)
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %q\n", path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestAJobThatIsNotTheFirstTouchesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		arm    func(a rundir.Attempt) error
		change map[string]string
	}{
		{"when another job of the attempt was first", func(a rundir.Attempt) error { return rundir.ClaimForShim(a, "70.0", time.Now()) }, nil},
		{"when forged was first", func(a rundir.Attempt) error { _, err := rundir.Revoke(a, time.Now()); return err }, nil},
		{"when it was requeued after a start", func(a rundir.Attempt) error { return rundir.ClaimForShim(a, "71.0", time.Now()) }, map[string]string{"SLURM_RESTART_COUNT": "1"}},
		{"when it was requeued before a start", func(a rundir.Attempt) error { return nil }, map[string]string{"SLURM_RESTART_COUNT": "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := handedOver(t, 1, 1, program(t, executortest.Act{}), nil)
			if err := c.arm(a); err != nil {
				t.Fatal(err)
			}
			before := tree(t, a)
			if code, log := ranIn(t, a, planted(0, 1, "0"), c.change); code != forge.ExitSuperseded {
				t.Errorf("exit %d, want 86\n%s", code, log)
			}
			if after := tree(t, a); after != before {
				t.Errorf("the attempt was\n%s\nand is\n%s", before, after)
			}
		})
	}
	t.Run("and a second shim of the same job and node starts no rank again", func(t *testing.T) {
		a := handedOver(t, 1, 1, program(t, executortest.Act{}), nil)
		for _, want := range []int{0, 3} {
			if code, log := ranIn(t, a, planted(0, 1, "0"), nil); code != want {
				t.Errorf("exit %d, want %d\n%s", code, want, log)
			}
		}
		if got := strings.Count(stdout(t, a, 0), "start"); got != 1 {
			t.Errorf("the rank started %d times", got)
		}
	})
}

// started starts a shim and waits until its ranks run.
func started(t *testing.T, a rundir.Attempt, env, change map[string]string) *exec.Cmd {
	t.Helper()
	cmd, log := srunShim(t, a, env, change)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	eventually(t, "a rank said that it started", func() bool { return strings.Contains(stdout(t, a, 0), "start") })
	return cmd
}

func TestSlurmEndsAnAttempt(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of limits and graces")
	}
	saves := executortest.Act{Hold: true, OnTerm: executortest.TermSaves}
	for _, c := range []struct {
		name   string
		change func(l *rundir.LaunchFile)
		env    map[string]string
		end    func(t *testing.T, a rundir.Attempt, cmd *exec.Cmd)
		cause  forge.StopCause
		code   int // of the rank
	}{
		{name: "by its warning before the limit, which ranks that get it too survive", cause: forge.StopTimeLimit, code: forge.ExitCheckpointed,
			change: func(l *rundir.LaunchFile) { // a Go program would not mind it
				l.Spec.Entry.Command = []string{"sh", "-c", "trap 'exit 85' TERM; echo start; while :; do sleep 0.05; done"}
			},
			end: func(t *testing.T, a rundir.Attempt, cmd *exec.Cmd) {
				live, err := rundir.ReadLive(a, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, pid := range []int{live.Ranks[0].PID, cmd.Process.Pid} {
					if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
						t.Fatal(err)
					}
				}
			}},
		{name: "by TERM to every process of the step, as at a preemption", cause: forge.StopSignal, code: forge.ExitCheckpointed,
			end: func(t *testing.T, a rundir.Attempt, cmd *exec.Cmd) {
				live, err := rundir.ReadLive(a, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, sig := range []syscall.Signal{syscall.SIGCONT, syscall.SIGTERM} {
					for _, pid := range []int{cmd.Process.Pid, live.Ranks[0].PID} {
						if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
							t.Fatal(err)
						}
					}
				}
			}},
		{name: "by the limit, before it comes", cause: forge.StopTimeLimit, code: forge.ExitCheckpointed,
			change: func(l *rundir.LaunchFile) { l.Spec.TimeLimit = forge.Duration(2 * time.Second) }},
		{name: "by the end of the job that Slurm knows", cause: forge.StopTimeLimit, code: forge.ExitCheckpointed,
			change: func(l *rundir.LaunchFile) { l.Spec.TimeLimit = forge.Duration(time.Hour) },
			env:    map[string]string{"SLURM_JOB_END_TIME": strconv.FormatInt(time.Now().Add(6*time.Second).Unix(), 10)}},
		{name: "by nothing, when the run has gone on elsewhere: it does so itself", cause: forge.StopSuperseded, code: forge.ExitCheckpointed,
			end: func(t *testing.T, a rundir.Attempt, _ *exec.Cmd) {
				if err := rundir.RaiseFence(a.RunDir, a.Number+1); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := handedOver(t, 1, 1, program(t, saves), c.change)
			cmd := started(t, a, planted(0, 1, "0"), c.env)
			eventually(t, "live", func() bool { _, err := rundir.ReadLive(a, 0); return err == nil })
			if c.end != nil {
				c.end(t, a, cmd)
			}
			eventually(t, "last word", func() bool { _, err := rundir.ReadExit(a, 0); return err == nil })
			x, err := rundir.ReadExit(a, 0)
			if err != nil || x.Cause != c.cause || len(x.Ranks) != 1 || x.Ranks[0].Code != c.code {
				t.Errorf("%+v, %v; want %s and %d", x, err, c.cause, c.code)
			}
		})
	}
}
