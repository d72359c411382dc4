//go:build e2e && long

package e2e

import "testing"

// TestTrainingGoesOnExactly is `make demo-train`: DPO that is killed, preempted and stopped by its limit ends with the bytes of an undisturbed run; a
// program of one's own under torchrun resumes on two nodes of a real Slurm cluster.
func TestTrainingGoesOnExactly(t *testing.T) { tell(t, "train") }
