package forgedtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// writeProbe installs the recipe "probe": proberank, which trains a hash chain in milliseconds.
func (s *Site) writeProbe() error {
	text := fmt.Sprintf(`name: probe
doc: The rank contract without torch, for tests and benchmarks
launch: rank
entry:
  command: [%q]
datasets: []
needs_dataset: false
needs_base: false
output: true
gang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}
limits: {time_limit: 10m, start_timeout: 1m, stall_timeout: 1m, grace: 2s}
params:
  - {name: steps, type: int, default: 20, min: 0, max: 1000000, doc: Steps to take}
  - {name: step_ms, type: int, default: 10, min: 0, max: 60000, unit: ms, doc: Time of a step}
  - {name: save_every, type: int, default: 5, min: 0, max: 1000000, doc: Steps between checkpoints}
  - {name: fail_at, type: int, default: 0, min: 0, max: 1000000, doc: Step at which fail_rank exits with fail_code}
  - {name: fail_rank, type: int, default: 0, min: 0, max: 1024, doc: Rank that fails}
  - {name: fail_code, type: int, default: 1, min: 0, max: 255, doc: Its exit code}
  - {name: save_ms, type: int, default: 0, min: 0, max: 60000, unit: ms, doc: Time of a save}
  - {name: keep_last, type: int, default: 0, min: 0, max: 1000, doc: Checkpoints of an attempt that stay; 0 keeps all}
  - {name: deaf, type: int, default: 0, min: 0, max: 1, doc: 1 ignores the signal to save until it is killed}
`, filepath.Join(s.o.Bin, "proberank"))
	return os.WriteFile(filepath.Join(s.RecipesDir(), "probe.yaml"), []byte(text), 0o644)
}

// ProbeLoss is what proberank's hash chain gives after so many steps, undisturbed.
func ProbeLoss(steps int) float64 {
	var chain uint64
	for step := range steps {
		b := binary.LittleEndian.AppendUint64(nil, chain)
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(step+1)))
		chain = binary.LittleEndian.Uint64(sum[:8])
	}
	return float64(chain%1_000_000) / 1e6
}
