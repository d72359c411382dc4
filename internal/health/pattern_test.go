package health_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

// Lines as the programs print them: PyTorch 1.9 to 2.7, NCCL, CUDA, Python.
var samples = []struct {
	name   string
	action forge.PatternAction
	line   string
}{
	{"ecc_uncorrectable", forge.PatternExcludeNode, "RuntimeError: CUDA error: uncorrectable ECC error encountered"},
	{"ecc_uncorrectable", forge.PatternExcludeNode, "[rank3]: torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered"},
	{"ecc_uncorrectable", forge.PatternExcludeNode, "failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered"},
	{"ecc_uncorrectable", forge.PatternExcludeNode, "RuntimeError: cuda runtime error (39) : uncorrectable ECC error encountered at /pytorch/aten/src/THC/THCCachingHostAllocator.cpp:265"},
	{"ecc_uncorrectable", forge.PatternExcludeNode, "n1:4711:4799 [2] transport/p2p.cc:318 NCCL WARN Cuda failure 214 'uncorrectable ECC error encountered'"},
	{"gpu_unreachable", forge.PatternExcludeNode, "RuntimeError: No CUDA GPUs are available"},
	{"gpu_unreachable", forge.PatternExcludeNode, "RuntimeError: CUDA error: no CUDA-capable device is detected"},
	{"gpu_unreachable", forge.PatternExcludeNode, "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"},
	{"gpu_unreachable", forge.PatternExcludeNode, "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable"},
	{"gpu_unreachable", forge.PatternExcludeNode, "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU"},
	{"cuda_driver", forge.PatternExcludeNode, "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version"},
	{"cuda_driver", forge.PatternExcludeNode, "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading and installing a new version"},
	{"cuda_driver", forge.PatternExcludeNode, "Failed to initialize NVML: Driver/library version mismatch"},
	{"cuda_driver", forge.PatternExcludeNode, "RuntimeError: CUDA error: system not yet initialized"},
	{"cuda_oom", forge.PatternNoRetry, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 29.76 GiB. GPU 0 has a total capacity of 10.74 GiB of which 3.69 GiB is free."},
	{"cuda_oom", forge.PatternNoRetry, "[rank1]: torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.69 GiB (GPU 0; 14.56 GiB total capacity; 649.97 MiB already allocated)"},
	{"cuda_oom", forge.PatternNoRetry, "RuntimeError: CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total capacity; 8.57 MiB already allocated; 9.28 GiB free; 4.68 MiB cached)"},
	{"cuda_oom", forge.PatternNoRetry, "RuntimeError: CUDA error: out of memory"},
	{"cuda_oom", forge.PatternNoRetry, "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"},
	{"cuda_oom", forge.PatternNoRetry, "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes."},
	{"illegal_access", forge.PatternNoRetry, "RuntimeError: CUDA error: an illegal memory access was encountered"},
	{"illegal_access", forge.PatternNoRetry, "RuntimeError: CUDA error: device-side assert triggered"},
	{"illegal_access", forge.PatternNoRetry, "n1:88:99 [0] include/alloc.h:185 NCCL WARN Cuda failure 'an illegal memory access was encountered'"},
	{"disk_full", forge.PatternExcludeNode, "OSError: [Errno 28] No space left on device: '/scratch/x'"},
	{"files_gone", forge.PatternExcludeNode, "OSError: [Errno 116] Stale file handle: '/data/train.jsonl'"},
	{"files_gone", forge.PatternExcludeNode, "OSError: [Errno 5] Input/output error"},
	{"files_gone", forge.PatternExcludeNode, "OSError: [Errno 107] Transport endpoint is not connected: '/mnt/gcs'"},
	{"bus_error", forge.PatternExcludeNode, "RuntimeError: DataLoader worker (pid 46794) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. Please try to raise your shared memory limit."},
	{"bus_error", forge.PatternExcludeNode, "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm)."},
	{"bus_error", forge.PatternExcludeNode, "Fatal Python error: Bus error"},
	{"bus_error", forge.PatternExcludeNode, "[n1:21:0:21] Caught signal 7 (Bus error: nonexistent physical address)"},
	{"nccl_timeout", forge.PatternRetry, "[rank0]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, NumelIn=466119168, NumelOut=466119168, Timeout(ms)=600000) ran for 600060 milliseconds before timing out."},
	{"nccl_timeout", forge.PatternRetry, "[E ProcessGroupNCCL.cpp:737] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=469508, OpType=ALLREDUCE, Timeout(ms)=1800000) ran for 1802212 milliseconds before timing out."},
	{"nccl_system", forge.PatternExcludeNode, "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1333, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.18.6"},
	{"nccl_system", forge.PatternExcludeNode, "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error."},
	{"nccl_peer", forge.PatternRetry, "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, remote process exited or there was a network error, NCCL version 2.21.5"},
	{"nccl_peer", forge.PatternRetry, "[rank3]: ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."},
	{"nccl_peer", forge.PatternRetry, "what():  NCCL error: remote process exited or there was a network error, NCCL version 2.14.3"},
	{"nccl_peer", forge.PatternRetry, "n2:31:40 [3] transport/net_ib.cc:1295 NCCL WARN NET/IB : Got completion from peer 10.0.0.2<39138> with error 12, opcode 0, len 0, vendor err 129"},
}

func TestEachPatternMatchesWhatProgramsPrint(t *testing.T) {
	shown := map[string]bool{}
	for _, s := range samples {
		shown[s.name] = true
		hit := builtin().Match(3, []string{"step 17", s.line, "  File \"x.py\", line 3"})
		if hit == nil || hit.Name != s.name || hit.Action != s.action || hit.Rank != 3 || hit.Line == "" || !strings.Contains(s.line, hit.Line) {
			t.Errorf("%s: %+v", s.line, hit)
		}
	}
	for _, p := range builtin().Patterns() {
		if !shown[p.Name] {
			t.Errorf("%s has no sample", p.Name)
		}
		if p.Words == "" {
			t.Errorf("%s has no words", p.Name)
		}
	}
}

func TestEveryPatternOfOursCouldBeTheSites(t *testing.T) {
	var again []forge.LogPattern
	for _, p := range builtin().Patterns() {
		p.Name += "_x"
		again = append(again, p)
	}
	if _, err := health.New(forge.HealthRules{Patterns: again}); err != nil {
		t.Error(err)
	}
}

// What a training prints of itself, of its data, and of its tests, among it texts about such faults.
const ordinary = `
Loading checkpoint shards: 100%|##########| 7/7 [00:08<00:00,  1.27s/it]
{'loss': 3.5534, 'grad_norm': 1.4142135381698608, 'learning_rate': 2.0454545454545457e-06, 'epoch': 0.01}
Epoch 0:   6%|###   | 32040/500150 [6:28:43<94:39:17,  1.37it/s, loss=2.6]
n1:4711:4799 [2] NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>
n1:4711:4799 [2] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:10.0.0.1<0>
setting timeout of collective operations to 600000 ms; the watchdog runs
UserWarning: To avoid CUDA out of memory, consider a smaller batch size
sample 12: "Why do I get CUDA out of memory? Tried everything." -> "An out of memory error means that the GPU is full."
reward 0.31 completion: The bus error is usually caused by insufficient shared memory, so raise --shm-size.
eval doc 4: What does 'uncorrectable ECC error encountered' mean? It means that the memory is broken.
prompt: my NCCL run times out: Watchdog caught collective operation timeout. What now?
answer: an illegal memory access was encountered when you index past the end
No space left on device is an error that df explains.
ECC errors corrected: 0, uncorrectable: 0
checked: no CUDA-capable device is needed for this test
caught OutOfMemoryError, halving the batch
Stale file handles were not seen. Input/output error count: 0
ncclSystemError and ncclRemoteError are the names of two results
retrying after "remote process exited or there was a network error"
ValueError: too many values to unpack (expected 2)
KeyError: 'text'
Traceback (most recent call last):
AssertionError: CUDA version 12.4
The NVIDIA driver on your system is up to date
`

func TestAnOrdinaryTrainingLogMatchesNothing(t *testing.T) {
	for line := range strings.Lines(ordinary) {
		if hit := builtin().Match(0, []string{line}); hit != nil {
			t.Errorf("%q is taken for %s", line, hit.Name)
		}
	}
	if hit := builtin().Match(0, nil); hit != nil {
		t.Errorf("%+v", hit)
	}
}

func TestTheLineThatExplainsTheOthersIsTaken(t *testing.T) {
	oom := "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
	hit := builtin().Match(0, []string{
		"[rank0]:[E1 ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1)", oom, oom + " And again", "RuntimeError: x",
	})
	if hit == nil || hit.Name != forge.PatternCUDAOOM || hit.Line != oom {
		t.Errorf("%+v", hit)
	}
}

func TestASitesPatternGoesFirstAndOnesThatAreIgnoredDoNotGo(t *testing.T) {
	tb, err := health.New(forge.HealthRules{Patterns: []forge.LogPattern{
		{Name: "ours", Match: "RuntimeError", Action: forge.PatternNoRetry, Words: "ours"},
		{Name: "bus_error", Action: forge.PatternIgnore},
		{Name: "nccl_timeout", Action: forge.PatternNoRetry, Match: "late", Words: "late"},
		{Name: "theirs", Match: "gone", Action: forge.PatternIgnore},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if hit := tb.Match(0, []string{"RuntimeError: CUDA error: uncorrectable ECC error encountered"}); hit == nil || hit.Name != "ours" {
		t.Errorf("%+v", hit)
	}
	if hit := tb.Match(0, []string{"Fatal Python error: Bus error", "gone"}); hit != nil {
		t.Errorf("%+v", hit)
	}
	if hit := tb.Match(0, []string{"late"}); hit == nil || hit.Action != forge.PatternNoRetry {
		t.Errorf("%+v", hit)
	}
	ps := tb.Patterns()
	if ps[0].Name != "ours" || ps[1].Name != "theirs" || ps[2].Name != "ecc_uncorrectable" || len(ps) != len(builtin().Patterns())+2 {
		t.Errorf("%+v", ps)
	}
	for _, p := range ps {
		if p.Name == "nccl_timeout" && (p.Words != "late" || p.Match != "late") || p.Name == "bus_error" && p.Match == "" {
			t.Errorf("%+v", p)
		}
	}
	for _, p := range builtin().Patterns() {
		if p.Name == "bus_error" && p.Action == forge.PatternIgnore {
			t.Error("the change of one table is in another")
		}
	}
}

func TestWhatIsReadAndShownIsBounded(t *testing.T) {
	const ecc = "RuntimeError: CUDA error: uncorrectable ECC error encountered"
	match := func(lines ...string) *forge.PatternHit { return builtin().Match(0, lines) }
	if hit := match("  3%|#  | 24/1752 [01:08<1:22:56,  2.88s/it]\r" + ecc); hit == nil || hit.Line != ecc {
		t.Errorf("behind a progress bar: %+v", hit)
	}
	long := strings.Repeat("é", 200) + " " + ecc + strings.Repeat("ü", 400)
	if hit := match(long); hit == nil || len(hit.Line) > 300 || len(hit.Line) < 297 || !utf8.ValidString(hit.Line) || !strings.HasPrefix(hit.Line, "CUDA error: uncorrectable") {
		t.Errorf("far behind: %+v", hit)
	}
	if hit := match("\x1b[31m" + ecc + "\x1b[0m\xff\x00"); hit == nil || hit.Line != "[31m"+ecc+"[0m" {
		t.Errorf("with colours: %+v", hit)
	}
	if hit := match(strings.Repeat("x", 5000) + ecc); hit != nil {
		t.Errorf("beyond what is read of a line: %+v", hit)
	}
	old := append([]string{ecc}, make([]string, 400)...)
	if hit := match(old...); hit != nil {
		t.Errorf("before the last lines: %+v", hit)
	}
	if hit := match(old[:400]...); hit == nil {
		t.Error("among the last lines")
	}
	huge := make([]string, 400)
	for i := range huge {
		huge[i] = strings.Repeat("CUDA error: \r", 1<<14)
	}
	began := time.Now()
	if hit := match(huge...); hit != nil {
		t.Errorf("%+v", hit)
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
}
