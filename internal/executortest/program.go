package executortest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Program is what the ranks of a test do, as data: a real executor starts it through RankMain, the
// Fake acts it out.
type Program struct {
	Ranks []Act `json:"ranks"` // by global rank; the last one stands for all further ranks
}

// Act is what one rank does: it says "start" on stdout, writes what it should, and then exits or holds.
type Act struct {
	Exit   int    `json:"exit,omitempty"`
	Lines  int    `json:"lines,omitempty"`   // metrics lines, steps 1 to Lines
	Output bool   `json:"output,omitempty"`  // leave a file in output/
	Child  bool   `json:"child,omitempty"`   // leave a process in a session of its own; says "child PID"
	Hold   bool   `json:"hold,omitempty"`    // run until a signal ends it
	OnTerm string `json:"on_term,omitempty"` // while holding: TermDies, TermSaves or TermIgnored
}

// What a holding rank does at TERM.
const (
	TermDies    = ""       // the signal's default
	TermSaves   = "save"   // docs/run-contract.md: save and exit 85, or exit soon when cancelled
	TermIgnored = "ignore" // only KILL helps
)

// ExitOnCancel is the code of a saving rank that was cancelled.
const ExitOnCancel = 4

// holdAtMost ends a rank whose test forgot it.
const holdAtMost = 2 * time.Minute

const (
	programWord = "forge-test-rank"
	childWord   = "forge-test-child"
)

func (p Program) act(rank int) Act {
	if len(p.Ranks) == 0 {
		return Act{}
	}
	return p.Ranks[min(rank, len(p.Ranks)-1)]
}

// Command is the entry that runs p in the binary self, whose TestMain calls RankMain.
func Command(self string, p Program) []string {
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // plain data
	}
	return []string{self, programWord, string(data)}
}

// programOf reads a command back.
func programOf(command []string) (Program, bool) {
	var p Program
	if len(command) != 3 || command[1] != programWord {
		return p, false
	}
	return p, json.Unmarshal([]byte(command[2]), &p) == nil
}

// RankMain makes a test binary its own rank program. TestMain calls it first and exits with the code
// when it says true.
func RankMain() (code int, mine bool) {
	if len(os.Args) > 1 && os.Args[1] == childWord {
		time.Sleep(holdAtMost)
		return 0, true
	}
	p, ok := programOf(os.Args)
	if !ok {
		return 0, false
	}
	rank, err := strconv.Atoi(os.Getenv("RANK"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "RANK:", err)
		return 99, true
	}
	code, err = p.act(rank).run(rank)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99, true
	}
	return code, true
}

func (a Act) run(rank int) (int, error) {
	term := make(chan os.Signal, 1)
	switch a.OnTerm {
	case TermSaves:
		signal.Notify(term, syscall.SIGTERM)
	case TermIgnored:
		signal.Ignore(syscall.SIGTERM)
	}
	if a.Child {
		child := exec.Command("/proc/self/exe", childWord)
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return 0, err
		}
		fmt.Println("child", child.Process.Pid)
	}
	if a.Lines > 0 {
		f, err := os.OpenFile(os.Getenv("FORGE_METRICS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return 0, err
		}
		for step := 1; step <= a.Lines; step++ {
			if _, err := f.WriteString(MetricLine(int64(step), int64(a.Lines))); err != nil {
				return 0, err
			}
		}
		if err := f.Close(); err != nil {
			return 0, err
		}
	}
	if a.Output {
		if err := os.WriteFile(filepath.Join(os.Getenv("FORGE_OUTPUT_DIR"), "model.bin"), []byte("weights"), 0o640); err != nil {
			return 0, err
		}
	}
	fmt.Println("start") // from here on a signal finds the rank as it should be
	if !a.Hold {
		return a.Exit, nil
	}
	select {
	case <-term:
		return a.stopped(rank)
	case <-time.After(holdAtMost):
		return 98, nil
	}
}

// stopped follows the rank contract.
func (a Act) stopped(rank int) (int, error) {
	var stop struct {
		Signal forge.SignalKind `json:"signal"`
	}
	if data, err := os.ReadFile(os.Getenv("FORGE_STOP_FILE")); err == nil {
		if err := json.Unmarshal(data, &stop); err != nil {
			return 0, err
		}
	}
	if stop.Signal == forge.SignalCancel {
		return ExitOnCancel, nil
	}
	if rank == 0 {
		attempt, _ := strconv.Atoi(os.Getenv("FORGE_ATTEMPT"))
		world, _ := strconv.Atoi(os.Getenv("WORLD_SIZE"))
		s := Save{
			Run: forge.RunID(os.Getenv("FORGE_RUN_ID")), Attempt: attempt, Step: int64(max(1, a.Lines)), World: world,
			Files: map[string]string{"adapter.bin": "weights", "optimizer/state.bin": "momentum"},
		}
		if err := s.Write(os.Getenv("FORGE_CHECKPOINT_DIR")); err != nil {
			return 0, err
		}
	}
	return forge.ExitCheckpointed, nil
}

// MetricLine is one line of metrics.jsonl.
func MetricLine(step, total int64) string {
	return fmt.Sprintf(`{"step": %d, "total_steps": %d, "time": %q, "values": {"loss": %g}}`+"\n",
		step, total, time.Now().UTC().Format(time.RFC3339Nano), 1/float64(step))
}
