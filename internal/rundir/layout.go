package rundir

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Layout is the version of the layout that this package writes.
const Layout = 1

// Attempt names the directory of one attempt; its methods are the layout below it.
type Attempt struct {
	RunDir string
	Number int
}

// At is the attempt n of the run that lives in runDir.
func At(runDir string, n int) Attempt { return Attempt{RunDir: runDir, Number: n} }

// SpecPath is the run's spec, written once.
func SpecPath(runDir string) string { return filepath.Join(runDir, "spec.json") }

// FencePath holds the highest attempt allowed.
func FencePath(runDir string) string { return filepath.Join(runDir, "fence") }

// SourcePath is the archive of the run's working directory, the same for all its attempts.
func SourcePath(runDir string) string { return filepath.Join(runDir, "source.tar.gz") }

func layoutPath(runDir string) string  { return filepath.Join(runDir, "layout") }
func attemptsDir(runDir string) string { return filepath.Join(runDir, "attempts") }

// Dir is the attempt's own directory, the only place that it writes to.
func (a Attempt) Dir() string {
	return filepath.Join(attemptsDir(a.RunDir), fmt.Sprintf("%04d", a.Number))
}

func (a Attempt) path(elem ...string) string {
	return filepath.Join(append([]string{a.Dir()}, elem...)...)
}

// The files of an attempt.
func (a Attempt) LaunchPath() string    { return a.path("launch.json") }
func (a Attempt) ConfigPath() string    { return a.path("config.json") }
func (a Attempt) ClaimPath() string     { return a.path("claim") }
func (a Attempt) StopPath() string      { return a.path("stop") }
func (a Attempt) ResumePath() string    { return a.path("resume.json") }
func (a Attempt) MasterPath() string    { return a.path("master.json") }
func (a Attempt) MetricsPath() string   { return a.path("metrics.jsonl") }
func (a Attempt) HeartbeatPath() string { return a.path("heartbeat") }
func (a Attempt) StatusPath() string    { return a.path("status.json") }
func (a Attempt) CheckpointDir() string { return a.path("checkpoints") }
func (a Attempt) WaitsPath() string     { return a.path("nodes", "waits") }
func (a Attempt) OutputDir() string     { return a.path("output") }
func (a Attempt) OutputPath() string    { return a.path("output.json") }
func (a Attempt) LoadTestLog() string   { return a.path("load_test.log") } // what the load test of the output printed
func (a Attempt) WorkDir() string       { return a.path("work") }          // where a command starts that came with its directory

// NodeDir belongs to the shim of the node with this index in the placement.
func (a Attempt) NodeDir(node int) string { return a.path("nodes", fmt.Sprintf("%04d", node)) }

// The files of a shim.
func (a Attempt) LockPath(node int) string { return filepath.Join(a.NodeDir(node), "shim.lock") }
func (a Attempt) LivePath(node int) string { return filepath.Join(a.NodeDir(node), "live.json") }
func (a Attempt) ExitPath(node int) string { return filepath.Join(a.NodeDir(node), "exit.json") }
func (a Attempt) BeatPath(node int) string { return filepath.Join(a.NodeDir(node), "beat") }
func (a Attempt) LogPath(node int) string  { return filepath.Join(a.NodeDir(node), "shim.log") }

// GPUDir holds what a shim sees of its GPUs. It is a directory of its own since it changes every few seconds: whoever looks at the times of
// NodeDir, or is woken by them, waits for records.
func (a Attempt) GPUDir(node int) string        { return filepath.Join(a.NodeDir(node), "gpus") }
func (a Attempt) GPUsPath(node int) string      { return filepath.Join(a.GPUDir(node), gpusName) }
func (a Attempt) GPUEventsPath(node int) string { return filepath.Join(a.GPUDir(node), gpuEventsName) }

const gpusName, gpuEventsName = "gpus.json", "gpu-events.jsonl"

// RankDir belongs to one global rank.
func (a Attempt) RankDir(rank int) string { return a.path("ranks", fmt.Sprintf("%04d", rank)) }

// The files of a rank.
func (a Attempt) StdoutPath(rank int) string   { return filepath.Join(a.RankDir(rank), "stdout") }
func (a Attempt) StderrPath(rank int) string   { return filepath.Join(a.RankDir(rank), "stderr") }
func (a Attempt) RankEnvPath(rank int) string  { return filepath.Join(a.RankDir(rank), "env.sh") }
func (a Attempt) RankExitPath(rank int) string { return filepath.Join(a.RankDir(rank), "exit.json") }

// wholeFiles are the streams that rank 0 writes by itself, beside what ranks print.
var wholeFiles = map[string]string{
	forge.StreamMetrics:  "metrics.jsonl",
	forge.StreamSamples:  "samples.jsonl",
	forge.StreamCard:     "output/README.md",
	forge.StreamTraining: "output/training.json",

	forge.StreamScores:      "output/scores.json",
	forge.StreamEvalSamples: "output/samples.jsonl",

	forge.StreamScanned:      "output/scanned.json",
	forge.StreamFingerprints: "output/fingerprints",
}

// StreamPath is the file, relative to Dir, behind a stream name of Files.Read: one of rank 0's files,
// "stdout.RANK" or "stderr.RANK", or a shim's "gpus.NODE" or "gpu_events.NODE". Anything else is an error: a name never becomes a path.
func StreamPath(stream string) (string, error) {
	if path, is := wholeFiles[stream]; is {
		return path, nil
	}
	for _, kind := range []string{"stdout", "stderr"} {
		num, ok := strings.CutPrefix(stream, kind+".")
		if !ok {
			continue
		}
		rank, err := strconv.ParseUint(num, 10, 16)
		if err != nil {
			break
		}
		return filepath.Join("ranks", fmt.Sprintf("%04d", rank), kind), nil
	}
	for kind, name := range map[string]string{forge.StreamGPUs: gpusName, forge.StreamGPUEvents: gpuEventsName} {
		if num, ok := strings.CutPrefix(stream, kind+"."); ok {
			if node, err := strconv.ParseUint(num, 10, 16); err == nil {
				return filepath.Join("nodes", fmt.Sprintf("%04d", node), "gpus", name), nil
			}
		}
	}
	return "", forge.Invalidf("stream", `%.40q is not a stream; want "metrics", "samples", "stdout.RANK" or "stderr.RANK"`, stream)
}

// Ranks is how many processes the attempt starts over all nodes, and how many on each: one per
// slot, or one per node where the entry is itself a launcher.
//
// An attempt that was handed to a cluster's own queue has no placement: the shape of its gang says the same.
func Ranks(l forge.Launch) (total int, perNode []int) {
	if len(l.Placement) == 0 {
		for range l.Spec.Gang.Nodes {
			n := l.Spec.Gang.GPUsPerNode
			if l.Spec.Launch == forge.LaunchNode {
				n = 1
			}
			perNode = append(perNode, n)
			total += n
		}
		return total, perNode
	}
	for _, share := range l.Placement {
		n := len(share.Slots)
		if l.Spec.Launch == forge.LaunchNode {
			n = 1
		}
		perNode = append(perNode, n)
		total += n
	}
	return total, perNode
}

// FirstRank is the global rank of the first process on a node.
func FirstRank(perNode []int, node int) int {
	first := 0
	for _, n := range perNode[:node] {
		first += n
	}
	return first
}
