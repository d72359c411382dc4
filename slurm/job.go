package slurm

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Job is what sbatch gets: its options, and the script on its standard input.
type Job struct {
	Name   string   `json:"name"`
	Args   []string `json:"args"` // without the name of the program; one element per option, nothing is ever split by a shell
	Script string   `json:"script"`
}

// maxName is what Slurm takes of a job's name.
const maxName = 1023

// JobName names the job of one attempt. It is the idempotency token: Slurm lists by name what it has accepted.
func JobName(cluster forge.ClusterName, run forge.RunID, attempt int) string {
	return fmt.Sprintf("forge-%s-%s.%d", cluster, run, attempt)
}

// ParseJobName is the inverse; ok is false for jobs that are not ours.
func ParseJobName(cluster forge.ClusterName, name string) (run forge.RunID, attempt int, ok bool) {
	rest, ok := strings.CutPrefix(name, "forge-"+string(cluster)+"-")
	if !ok || len(name) > maxName {
		return "", 0, false
	}
	run, attempt, err := forge.ParseAttemptKey(rest)
	return run, attempt, err == nil
}
