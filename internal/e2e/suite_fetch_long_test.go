//go:build e2e && long

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// TestASuiteThatWasFetchedIsEvaluatedWithoutNetwork: `suite fetch default` from a hub on this host; then the hub is gone, and an eval has the scores.
func TestASuiteThatWasFetchedIsEvaluatedWithoutNetwork(t *testing.T) {
	home := t.TempDir()
	ctx, s, _ := openForTraining(t, func(o *forgedtest.Options) { o.Env = map[string]string{"HF_HOME": home} })
	python := os.Getenv("FORGE_PYTHON")
	script, err := filepath.Abs("../../recipes/python/tests/hub.py")
	must(t, err)
	hub := exec.CommandContext(ctx, python, "-B", script, "0")
	said, err := hub.StdoutPipe()
	must(t, err)
	must(t, hub.Start())
	gone := func() { _ = hub.Process.Kill(); _ = hub.Wait() }
	t.Cleanup(gone)
	line, err := bufio.NewReader(said).ReadString('\n')
	must(t, err)
	endpoint := strings.TrimSpace(line)

	fetch := func() (string, error) {
		cmd := s.Command(ctx, "suite", "fetch", "default", "--python", python)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(cmd.Env, "HF_ENDPOINT="+endpoint, "HF_HOME="+home)
		err := cmd.Run()
		return out.String(), err
	}
	out, err := fetch()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(out, "[2/4] arc_challenge: allenai/ai2_arc (ARC-Challenge)\n[2/4] arc_challenge: 6 samples are in the cache\n") {
		t.Fatal(err)
	}
	gone()
	if out, err = fetch(); forgedtest.ExitCode(err) != 8 || !strings.Contains(out, "cannot be reached from this host") {
		t.Errorf("%v: %s", err, out)
	}

	var asked api.Submitted
	must(t, s.CtlJSON(ctx, &asked, "run", "submit", "eval", "--model", "tiny", "--suite", "default"))
	r := until(t, ctx, s, string(asked.Run.ID), "ended", ended)
	if r.State != forge.RunCompleted {
		log, _ := s.Ctl(ctx, "run", "logs", string(asked.Run.ID))
		t.Fatalf("%s %s: %+v\n%s", r.State, r.Reason, r.Attempts, log)
	}
	var e api.EvalDetail
	must(t, s.CtlJSON(ctx, &e, "eval", "show", fmt.Sprint(r.Number)))
	if e.Suite != "default" || len(e.Benchmarks) != 4 || len(e.Scores) != 7 || e.Facts.Samples != 21 {
		t.Errorf("%+v", e)
	}
	table, err := s.Ctl(ctx, "eval", "show", fmt.Sprint(r.Number))
	must(t, err)
	t.Logf("%s", table)
}
