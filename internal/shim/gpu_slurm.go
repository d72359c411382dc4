package shim

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// ownGPUs finds the GPUs of a job among those that NVML lists: all of the host's, or only the job's where Slurm confines it to its devices.
// Slurm's numbers are N of /dev/nvidiaN. Confined, CUDA_VISIBLE_DEVICES is counted anew from 0; SLURM_STEP_GPUS is not. What
// cannot be told for sure is an error: to judge a run by another job's GPU is worse than not to judge it.
func (j *job) ownGPUs(seen []forge.GPUReading) ([]ownGPU, error) {
	words := splitList(j.visible)
	if named := slices.ContainsFunc(words, namesGPU); named {
		var out []ownGPU
		for i, w := range words {
			k := matchUUID(seen, w)
			if k < 0 {
				return nil, fmt.Errorf("CUDA_VISIBLE_DEVICES names %s, and NVML lists no such GPU, or several", w)
			}
			out = append(out, ownOf(j.slots[i], seen[k]))
		}
		return out, nil
	}
	byMinor := func(slot int) int {
		return slices.IndexFunc(seen, func(g forge.GPUReading) bool { return g.Minor == slot && g.MIG == "" })
	}
	if j.counted && !slices.ContainsFunc(j.slots, func(slot int) bool { return byMinor(slot) < 0 }) {
		var out []ownGPU
		for _, slot := range j.slots {
			out = append(out, ownOf(slot, seen[byMinor(slot)]))
		}
		return out, nil
	}
	if len(seen) == len(j.slots) { // nothing but ours, or a job that has the whole node
		var out []ownGPU
		for i, g := range seen {
			out = append(out, ownOf(j.slots[i], g))
		}
		return out, nil
	}
	return nil, fmt.Errorf("which GPUs of this node are the job's is not known: Slurm says %s, SLURM_STEP_GPUS is not set, and NVML lists %d GPUs", j.visible, len(seen))
}

// countedAnew says that numbers may be those that a confined job sees.
func countedAnew(slots []int) bool {
	for i, slot := range slots {
		if i != slot {
			return false
		}
	}
	return true
}

func namesGPU(word string) bool {
	return strings.HasPrefix(word, "GPU-") || strings.HasPrefix(word, "MIG-")
}

// matchUUID finds a GPU by its UUID or by the beginning of it, as CUDA takes it; -1: none, or several.
func matchUUID(seen []forge.GPUReading, word string) int {
	found := -1
	for i, g := range seen {
		switch {
		case g.UUID == word:
			return i
		case strings.HasPrefix(g.UUID, word) && found >= 0:
			return -1
		case strings.HasPrefix(g.UUID, word):
			found = i
		}
	}
	return found
}

func ownOf(slot int, g forge.GPUReading) ownGPU {
	return ownGPU{slot: slot, uuid: g.UUID, parent: g.Parent, mig: g.MIGID}
}
