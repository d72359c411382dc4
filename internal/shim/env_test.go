package shim

import (
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func twoNodes() rundir.LaunchFile {
	gpu := func(slot int, uuid string) forge.GPU {
		return forge.GPU{Slot: slot, Kind: forge.GPUDevice, UUID: uuid, Type: "H100"}
	}
	return rundir.LaunchFile{
		Launch: forge.Launch{
			Run: "R", Number: 7, Attempt: 2, RunDir: "/runs/R",
			Spec:      forge.RunSpec{Gang: forge.Gang{Nodes: 2, GPUsPerNode: 2, CPUsPerGPU: 4}},
			Placement: []forge.Share{{Node: "a", Slots: []int{0, 1}}, {Node: "b", Slots: []int{2, 3}}},
			Devices:   []forge.GPU{gpu(0, "GPU-a0"), gpu(1, "GPU-a1"), gpu(2, "GPU-b2"), gpu(3, "GPU-b3")},
		},
		Options: rundir.LaunchOptions{PythonPath: "/opt/forge", Env: map[string]string{
			"NCCL_DEBUG": "WARN", "RANK": "99", "HF_HUB_OFFLINE": "0", "FORGE_RUN_ID": "other", "PATH": "/opt/bin",
		}},
	}
}

// TestEnvironmentIsTheContractAndNothingElse compares the whole list: a variable more is a leak.
func TestEnvironmentIsTheContractAndNothingElse(t *testing.T) {
	t.Setenv("FORGE_SECRET", "leak")
	got := environment(twoNodes(), seat{
		node: 1, local: 1, rank: 3, perNode: []int{2, 2}, master: rundir.Master{Addr: "a", Port: 29500}, resume: "/runs/R/c", home: "/home/u",
	})
	want := strings.Fields(`
CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=GPU-b2,GPU-b3
FORGE_ATTEMPT=2 FORGE_ATTEMPT_DIR=/runs/R/attempts/0002 FORGE_CHECKPOINT_DIR=/runs/R/attempts/0002/checkpoints
FORGE_CONFIG=/runs/R/attempts/0002/config.json FORGE_FENCE_FILE=/runs/R/fence FORGE_HEARTBEAT=/runs/R/attempts/0002/heartbeat
FORGE_METRICS=/runs/R/attempts/0002/metrics.jsonl FORGE_OUTPUT_DIR=/runs/R/attempts/0002/output
FORGE_RESUME_FROM=/runs/R/c FORGE_RUN_DIR=/runs/R FORGE_RUN_ID=R FORGE_RUN_NUMBER=7
FORGE_STATUS=/runs/R/attempts/0002/status.json FORGE_STOP_FILE=/runs/R/attempts/0002/stop
GPUS_PER_NODE=2 HF_DATASETS_OFFLINE=1 HF_HUB_OFFLINE=0 HOME=/home/u LANG=C.UTF-8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2
MASTER_ADDR=a MASTER_PORT=29500 NCCL_DEBUG=WARN NNODES=2 NODE_RANK=1 NVIDIA_VISIBLE_DEVICES=GPU-b2,GPU-b3
OMP_NUM_THREADS=4 PATH=/opt/bin PYTHONPATH=/opt/forge PYTHONUNBUFFERED=1 RANK=3 TMPDIR=/tmp TRANSFORMERS_OFFLINE=1 WORLD_SIZE=4`)
	if !slices.Equal(got, want) {
		for _, kv := range got {
			if !slices.Contains(want, kv) {
				t.Errorf("not expected: %s", kv)
			}
		}
		for _, kv := range want {
			if !slices.Contains(got, kv) {
				t.Errorf("missing: %s", kv)
			}
		}
	}
}

func TestEnvironmentOnCPUSlots(t *testing.T) {
	l := twoNodes()
	l.Placement, l.Devices = l.Placement[:1], []forge.GPU{{Kind: forge.GPUCPUSlot, Type: "cpu"}, {Slot: 1, Kind: forge.GPUCPUSlot, Type: "cpu"}}
	l.Spec.Gang.CPUsPerGPU = 0
	got := environment(l, seat{perNode: []int{2}, master: rundir.Master{Addr: "127.0.0.1", Port: 1}})
	for _, kv := range []string{"CUDA_VISIBLE_DEVICES=", "NVIDIA_VISIBLE_DEVICES=", "OMP_NUM_THREADS=1", "GLOO_SOCKET_IFNAME=lo", "FORGE_RESUME_FROM="} {
		if !slices.Contains(got, kv) {
			t.Errorf("missing: %s in %v", kv, got)
		}
	}
}

func TestAMIGInstanceIsNamedByItself(t *testing.T) {
	l := twoNodes()
	l.Placement = []forge.Share{{Node: "a", Slots: []int{3}}}
	l.Devices = []forge.GPU{{Slot: 3, Kind: forge.GPUDevice, UUID: "MIG-6a0f3c2e-1111-2222-3333-444455556666", Type: "H100 1g.10gb", MIG: "1g.10gb", Parent: "GPU-a0"}}
	l.Options.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST", "NVIDIA_VISIBLE_DEVICES": "all"} // a site's slip, which would undo the pinning
	got := environment(l, seat{perNode: []int{1}, master: rundir.Master{Addr: "127.0.0.1", Port: 1}})
	for _, kv := range []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=MIG-6a0f3c2e-1111-2222-3333-444455556666", "NVIDIA_VISIBLE_DEVICES=MIG-6a0f3c2e-1111-2222-3333-444455556666"} {
		if !slices.Contains(got, kv) {
			t.Errorf("missing: %s in %v", kv, got)
		}
	}
}

func TestOnSlurmTheGPUsAreCalledAsSlurmCallsThem(t *testing.T) {
	l := twoNodes()
	l.Devices = nil
	for _, visible := range []string{"0,1", ""} { // none: a job of CPUs
		got := environment(l, seat{perNode: []int{2, 2}, master: rundir.Master{Addr: "a", Port: 1}, job: &job{visible: visible}})
		for _, kv := range []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=" + visible, "NVIDIA_VISIBLE_DEVICES=" + visible} {
			if !slices.Contains(got, kv) {
				t.Errorf("missing: %s in %v", kv, got)
			}
		}
	}
}
