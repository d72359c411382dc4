//go:build e2e && long

package e2e

import "testing"

// TestASitesFirstDay is `make demo-front`: tenants that cannot see each other, a run preempted and
// resumed with the same result, backup, wipe and restore.
func TestASitesFirstDay(t *testing.T) { tell(t, "front") }

// TestTrainingGoesOnExactly is `make demo-train`: DPO that is killed, preempted and stopped by its limit ends with the bytes of an undisturbed run; a
// program of one's own under torchrun resumes on two nodes of a real Slurm cluster.
func TestTrainingGoesOnExactly(t *testing.T) { tell(t, "train") }

// TestTheQueue is `make demo-queue`: short runs overtake a long gang that saves and resumes, a reservation is kept, a foretold start comes true.
func TestTheQueue(t *testing.T) { tell(t, "queue") }

// TestFromHumanFeedback is `make demo-rlhf`: SFT, a reward model, PPO and an eval in one file; PPO is killed twice and ends with the bytes of an
// undisturbed run, value model included.
func TestFromHumanFeedback(t *testing.T) { tell(t, "rlhf") }
