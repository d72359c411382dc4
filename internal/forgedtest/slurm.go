package forgedtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// Slurm is a site whose only cluster is a real Slurm.
type Slurm struct {
	Cluster  *slurmtest.Cluster
	Name     string   // in forge; jobs are told apart by it, so two forgeds on one cluster need two
	Bin      string   // of Slurm's programs; empty: the cluster's
	Poll     string   // "1s"; empty: forged's default
	Settings []string // lines below slurm:
	Lines    []string // lines beside it
}

// OnSlurm makes the options those of a site on Slurm. Dir is made here, where the nodes can reach it too.
func (o *Options) OnSlurm(s Slurm) error {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("/tmp", "fhpc")
		if err != nil {
			return err
		}
		o.Dir = dir
	}
	if o.RunRoot == "" {
		o.RunRoot = filepath.Join(o.Dir, "scratch")
	}
	if err := os.MkdirAll(o.RunRoot, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{o.Dir, o.RunRoot} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		if o.User == nil {
			continue
		}
		if err := os.Chown(dir, int(o.User.Uid), int(o.User.Gid)); err != nil {
			return err
		}
	}
	if s.Bin == "" {
		s.Bin = s.Cluster.Bin
	}
	var y strings.Builder
	fmt.Fprintf(&y, "  - name: %s\n    kind: slurm\n    run_root: %q\n", s.Name, o.RunRoot)
	for _, line := range s.Lines {
		fmt.Fprintf(&y, "    %s\n", line)
	}
	fmt.Fprintf(&y, "    slurm:\n      bin: %q\n      conf: %q\n      shim: %q\n", s.Bin, s.Cluster.Conf, filepath.Join(o.Bin, "forged"))
	if s.Poll != "" {
		fmt.Fprintf(&y, "      poll_every: %s\n", s.Poll)
	}
	for _, line := range s.Settings {
		fmt.Fprintf(&y, "      %s\n", line)
	}
	o.Clusters = y.String()
	return nil
}

// Begun is one line of what the ranks of a run append to when they begin: their own word, not forged's.
type Begun struct {
	Attempt, Rank int
	At            time.Time
}

// Starts reads it. A run that never began has none.
func (s *Site) Starts(run string) ([]Begun, error) {
	b, err := os.ReadFile(filepath.Join(s.RunDir(run), "starts"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Begun
	for line := range bytes.Lines(b) {
		var x Begun
		var ns int64
		if _, err := fmt.Sscanf(string(line), "%d %d %d", &x.Attempt, &x.Rank, &ns); err != nil {
			return nil, fmt.Errorf("starts of run %s: %q: %w", run, line, err)
		}
		x.At = time.Unix(0, ns)
		all = append(all, x)
	}
	return all, nil
}
