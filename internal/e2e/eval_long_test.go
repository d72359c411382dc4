//go:build e2e && long

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// lmEval runs lm_eval's own command over a model and the tasks of a built-in suite with its data, and gives the directory that it wrote.
func lmEval(t *testing.T, ctx context.Context, s *forgedtest.Site, model, suite string, tasks ...string) string {
	t.Helper()
	include, out := filepath.Join(s.Dir, "include"), filepath.Join(s.Dir, "out")
	from := filepath.Join("../../recipes/python/src/forge_train/suites", suite)
	must(t, os.CopyFS(include, os.DirFS(from)))
	must(t, os.Remove(filepath.Join(include, "suite.yaml")))
	data := regexp.MustCompile(`test: (\w+\.jsonl)`)
	own, err := filepath.Glob(filepath.Join(include, "*.yaml"))
	must(t, err)
	for _, file := range own {
		b, err := os.ReadFile(file)
		must(t, err)
		write(t, file, data.ReplaceAllString(string(b), "test: "+include+"/$1"))
	}
	args := append([]string{"-m", "lm_eval", "run", "--model", "hf", "--model_args", "pretrained=" + model, "--include_path", include, "--output_path", out,
		"--log_samples", "--device", "cpu", "--batch_size", "8", "--tasks"}, tasks...)
	c := exec.CommandContext(ctx, os.Getenv("FORGE_PYTHON"), args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "HF_HOME=" + filepath.Join(s.Dir, "hf"), "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "OMP_NUM_THREADS=1"}
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// TestOneModelEvaluatedTwiceIsNoWorseAndWhatLmEvalWroteItselfIsTakenOver, all of it real: the ranks, the harness, its own command.
func TestOneModelEvaluatedTwiceIsNoWorseAndWhatLmEvalWroteItselfIsTakenOver(t *testing.T) {
	ctx, s, tiny := openForTraining(t)
	var asked [2]api.Submitted
	for i := range asked {
		must(t, s.CtlJSON(ctx, &asked[i], "eval", "run", "tiny@1", "--suite", "reasoning-offline"))
	}
	wrote := lmEval(t, ctx, s, tiny, "reasoning-offline", "forge_logic", "forge_story") // while forge runs its own
	var number [2]string
	for i, a := range asked {
		number[i] = fmt.Sprint(a.Run.Number)
		if r := until(t, ctx, s, number[i], "ended", ended); r.State != forge.RunCompleted {
			log, _ := s.Ctl(ctx, "run", "logs", number[i])
			t.Fatalf("%s %s: %s", r.State, r.Reason, log)
		}
	}
	var c api.EvalComparison
	must(t, s.CtlJSON(ctx, &c, "eval", "compare", number[0], number[1])) // an exit code that is not 0 is an error
	if c.Verdict != forge.CompareNonInferior || len(c.Flips) != 0 || len(c.Benchmarks) != 2 || c.Benchmarks[0].Pairs != 30 || c.Benchmarks[0].Worse+c.Benchmarks[0].Better != 0 {
		t.Errorf("%+v", c)
	}

	_, err := s.Ctl(ctx, "eval", "import", wrote, "--model", "tiny@1", "--suite", "reasoning-offline")
	must(t, err)
	var mine, theirs api.EvalDetail
	must(t, s.CtlJSON(ctx, &mine, "eval", "show", number[0]))
	must(t, s.CtlJSON(ctx, &theirs, "eval", "show", "i1"))
	if theirs.Name != "i1" || theirs.Run != "" || theirs.Imported == nil || theirs.Imported.Called != tiny || theirs.Facts.Samples != 60 || theirs.ModelID != mine.ModelID || len(theirs.Scores) < 2 {
		t.Errorf("%+v", theirs)
	}
	value := map[string]float64{}
	for _, x := range mine.Scores {
		value[x.Task+" "+x.Metric+" "+x.Filter] = x.Value
	}
	for _, x := range theirs.Scores {
		if v, ok := value[x.Task+" "+x.Metric+" "+x.Filter]; !ok || v != x.Value {
			t.Errorf("lm_eval has %+v, and forge %v", x, value)
		}
	}
	list, err := s.Ctl(ctx, "eval", "list")
	must(t, err)
	t.Logf("%s", list)
	if lines := strings.Split(strings.TrimSpace(list), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "i1\ttiny@1\treasoning-offline\t") {
		t.Errorf("%s", list)
	}
	sound(t, ctx, s, asked[0].Run.ID, asked[1].Run.ID)
}
